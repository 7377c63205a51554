//! The order workflows as a component. All of them are in the library `workflows` beside it, which the
//! components of later versions share.

order_workflows::export!(order_workflows::processing::process_order);
