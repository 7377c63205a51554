//! Giving back memory that nobody needs: replicas that nobody asks any more, and code that no run needs.
//!
//! It sleeps only while there is something that may go: a host whose code is all routed has no timer for it.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use crate::version::loaded::{Rest, Unused};

/// How often it is looked for what may go.
const PAUSE: Duration = Duration::from_secs(15);

/// Looks after what is in memory for as long as the host lives.
pub(super) async fn sweep_for_ever(parts: Arc<Parts>) {
    loop {
        let replicas = parts.replicas.expire(parts.clock.now());
        let rest = unload(&parts, Unused::ForAMinute).await;
        if replicas == 0 && rest == Rest::Routed {
            parts.versions.loaded().changed().await;
        } else {
            let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
            parts.clock.rest_until(parts.clock.now().plus_ms(pause)).await;
        }
    }
}

/// Unloads code; what cannot be decided now is decided later.
pub(super) async fn unload(parts: &Parts, which: Unused) -> Rest {
    match parts.versions.loaded().unload(which).await {
        Ok(rest) => rest,
        Err(error) => {
            tracing::warn!(%error, "the routes cannot be read: no code is unloaded");
            Rest::More
        }
    }
}
