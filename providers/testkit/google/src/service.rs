//! The state of one fake.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use claviger_fake::{Appearance, Clock};
use parking_lot::Mutex;

use crate::access::AccessControl;
use crate::resources::Resources;

/// The state that all calls share.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) resources: Mutex<Resources>,
    pub(crate) access: AccessControl,
    pub(crate) clock: Arc<Clock>,
    pub(crate) appearance: Arc<Appearance>,
    /// For how many seconds a disabled version still works.
    pub(crate) lag: AtomicI64,
}
