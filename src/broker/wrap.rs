//! Wrap: encrypts the caller's bytes under a new data key, which the provider wraps (suite 2 of
//! `docs/format.md`).

use claviger_provider::Secret;

use super::{Authorized, Broker, Code, Failure, Guarded, op};
use crate::envelope::{Context, Draft};

/// The longest plaintext of one wrap, in bytes (`docs/format.md`, Header).
pub const MAX_PLAINTEXT: usize = 4096;

/// A wrapped key.
#[derive(Debug)]
pub struct Wrapped {
    /// The envelope's text.
    pub wrapped: String,
    /// The key's name.
    pub key: String,
    /// The number of the key's version that wrapped.
    pub version: u32,
}

impl Broker {
    /// Wraps 1 to 4096 bytes under the key's primary version.
    ///
    /// # Errors
    /// See [`Code`]; `invalid_request` when there are none or too many bytes.
    pub async fn wrap(&self, authorized: Authorized<op::Wrap>, plaintext: &Secret, context: &Context) -> Result<Guarded<Wrapped>, Failure> {
        let cx = authorized.cx();
        if plaintext.is_empty() || plaintext.len() > MAX_PLAINTEXT {
            return Err(Failure::invalid("/plaintext", "base64 of 1 to 4096 bytes"));
        }
        let _turn = authorized.turn(&authorized.object().view()?.key.primary).await?;
        let ready = self.ready(cx, authorized.object()).await?;
        let draft = Draft::sealed(ready.origin(None, self.now()), plaintext, context)
            .map_err(|_| Failure::new(Code::InvalidRequest, "The plaintext is empty or too long."))?;
        let wrapped_key = ready.wrap(cx, self, &draft).await?;
        let answer = Wrapped {
            wrapped: wrapped_key.envelope.as_text().to_owned(),
            key: ready.view.key.name.clone(),
            version: wrapped_key.version,
        };
        Ok(Guarded::new(answer, vec![ready.epoch_guard]))
    }
}
