//! The state of one fake.

use std::sync::Arc;

use claviger_fake::Switches;
use parking_lot::Mutex;

use crate::access::Access;
use crate::vaults::Vaults;

/// The state that all requests share.
pub(crate) struct Service {
    pub(crate) vaults: Mutex<Vaults>,
    pub(crate) access: Arc<Access>,
    pub(crate) switches: Switches,
}
