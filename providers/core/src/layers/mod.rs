//! What stands between the gateway and an adapter, outermost first.
use crate::Call;
use std::sync::Arc;
/// Placeholder while the layers are written.
pub struct Pipeline(#[allow(dead_code)] Arc<dyn Call>);
