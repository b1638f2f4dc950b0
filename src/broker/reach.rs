//! How a key's version is reached: its provider's connection, which must not be severed.

use std::sync::Arc;

use claviger_provider::Pipeline;

use super::{Broker, Code, Failure};
use crate::keys::{ConnectionEntry, ConnectionView, EpochGuard, KeyEntry, KeyView};
use crate::store::model::{KeyState, KeyVersion};

/// A connection that is not severed, with its row and its pipeline as they were at one moment.
pub struct Reach {
    /// The connection.
    pub connection: Arc<ConnectionEntry>,
    /// Its row.
    pub row: ConnectionView,
    /// The calls to the provider.
    pub pipeline: Pipeline,
}

impl Reach {
    /// The way through a connection.
    ///
    /// # Errors
    /// `connection_severed`.
    pub fn through(connection: Arc<ConnectionEntry>) -> Result<Self, Failure> {
        let row = connection.view();
        if row.severed {
            return Err(severed());
        }
        Ok(Self {
            pipeline: connection.pipeline(),
            row,
            connection,
        })
    }

    /// The epoch guard of a response that is made with these rows of a key through this connection.
    pub fn epoch_guard(&self, key: &Arc<KeyEntry>, view: &KeyView) -> EpochGuard {
        EpochGuard::new(key, view, &self.connection, &self.row)
    }
}

impl Broker {
    /// The way to a version of a key.
    ///
    /// # Errors
    /// `connection_severed`; `key_state` where the connection was deleted, `not_found` if the key
    /// was detached with it; and what a connection that cannot be used fails with.
    pub(super) async fn reach(&self, key: &Arc<KeyEntry>, version: &KeyVersion) -> Result<Reach, Failure> {
        match self.directory().reach(key, version).await? {
            Some(connection) => Reach::through(connection),
            None => {
                key.view()?;
                Err(
                    Failure::new(Code::KeyState, "The connection of this version of the key was deleted.")
                        .advice("Make a connection to its provider, and detach and adopt the key through it."),
                )
            }
        }
    }
}

/// The failure for a connection that is severed.
pub fn severed() -> Failure {
    Failure::new(Code::ConnectionSevered, "The connection of the key's version is severed.")
        .advice("Restore the connection; the key's versions name theirs.")
}

/// Refuses a key whose state does not permit the use that `permits` asks about.
///
/// # Errors
/// `key_disabled`, and `key_state` for every other state.
pub fn permitted(view: &KeyView, permits: impl Fn(KeyState) -> bool) -> Result<(), Failure> {
    match view.key.state {
        state if permits(state) => Ok(()),
        KeyState::Disabled => Err(Failure::new(Code::KeyDisabled, "The key is disabled.").advice("Enable the key, or use another one.")),
        KeyState::Unrecognized => Err(Failure::new(
            Code::KeyState,
            "A newer release of the gateway gave the key a state that this release does not know, so the key is not used.",
        )
        .advice("Run the release that wrote the state, or use another key.")),
        state => Err(Failure::new(
            Code::KeyState,
            format!("The key's state is `{}`, which does not permit this.", state.as_str()),
        )
        .advice("Use an enabled key: `claviger keys list --state enabled` shows them.")),
    }
}

/// Refuses a key that must not wrap: its own state forbids it, or that of its primary version.
///
/// # Errors
/// As [`permitted`].
pub fn may_wrap(view: &KeyView) -> Result<(), Failure> {
    permitted(view, KeyState::wraps)?;
    match view.key.primary.state.wraps() {
        true => Ok(()),
        false => Err(forbidden(&view.key.primary)),
    }
}

/// The failure for a version whose own state forbids its use.
pub fn forbidden(version: &KeyVersion) -> Failure {
    let number = version.number;
    match version.state {
        KeyState::Unrecognized => Failure::new(
            Code::KeyState,
            format!("A newer release of the gateway gave version {number} of the key a state that this release does not know."),
        )
        .advice("Run the release that wrote the state. To wrap, rotate the key: the new version is enabled."),
        state => Failure::new(
            Code::KeyState,
            format!(
                "The state of version {number} of the key is `{}`, which does not permit this.",
                state.as_str()
            ),
        )
        .advice("To wrap, rotate the key: the new version is enabled."),
    }
}
