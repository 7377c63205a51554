//! CBOR of what an event and the run's state share: written as the value itself.

use std::sync::Arc;

use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};
use minicbor::{Decode, Encode};

/// Writes the value.
pub(crate) fn encode<C, T: Encode<C>, W: Write>(
    value: &Arc<T>,
    encoder: &mut Encoder<W>,
    context: &mut C,
) -> Result<(), EncodeError<W::Error>> {
    value.as_ref().encode(encoder, context)
}

/// Reads a value.
pub(crate) fn decode<'b, C, T: Decode<'b, C>>(
    decoder: &mut Decoder<'b>,
    context: &mut C,
) -> Result<Arc<T>, DecodeError> {
    T::decode(decoder, context).map(Arc::new)
}
