//! Generates a data key, has it wrapped, and returns it in plaintext if the request asks for that.
//! The envelope contains the data key directly (suite 1 of `docs/format.md`).

use std::sync::Arc;

use claviger_provider::{Error, ErrorKind, How, Secret};

use super::{Authorized, Broker, Failure, Guarded, Operation, op};
use crate::envelope::{Context, DataKeyLength, Pending};
use crate::keys::KeyEntry;

/// A generated data key.
#[derive(Debug)]
pub struct DataKey {
    /// The plaintext, if the request asked for it.
    pub plaintext: Option<Secret>,
    /// The wrapped key: the text form of its envelope.
    pub wrapped: String,
    /// The key's name.
    pub key: String,
    /// The number of the key's version that wrapped.
    pub version: u32,
}

/// The operations that generate a data key, with or without the plaintext in the response.
pub trait Generates: Operation<Object = Arc<KeyEntry>> {
    /// Whether the plaintext is answered.
    const PLAINTEXT: bool;
}

impl Generates for op::GenerateDataKey {
    const PLAINTEXT: bool = true;
}

impl Generates for op::GenerateDataKeyWithoutPlaintext {
    const PLAINTEXT: bool = false;
}

impl Broker {
    /// Generates a data key inside the provider if it can, and here otherwise. Without plaintext in
    /// the answer, the plaintext is dropped once the commitment is made.
    ///
    /// # Errors
    /// See [`super::Code`].
    pub async fn generate_data_key<O: Generates>(
        &self,
        authorized: Authorized<O>,
        length: DataKeyLength,
        context: &Context,
    ) -> Result<Guarded<DataKey>, Failure> {
        let cx = authorized.cx();
        let _turn = authorized.turn(&authorized.object().view()?.key.primary).await?;
        let ready = self.ready(cx, authorized.object()).await?;
        let pending = Pending::new(ready.origin(None, self.now()), length, context);
        let inside = ready.can()?.generate_data_key == How::InsideProvider;
        cx.note(|fields| fields.inside_provider = Some(inside));
        let (draft, wrapped_key) = if inside {
            let made = ready.generate_data_key(cx, self, length.bytes(), pending.context()).await?;
            let draft = pending.commit(made.plaintext).map_err(wrong_length)?;
            let wrapped_key = ready.finish(cx, self, &draft, &made.wrapped).await?;
            (draft, wrapped_key)
        } else {
            let draft = pending.commit(Secret::random(length.bytes())).map_err(wrong_length)?;
            let wrapped_key = ready.wrap(cx, self, &draft).await?;
            (draft, wrapped_key)
        };
        let answer = DataKey {
            plaintext: O::PLAINTEXT.then(|| draft.into_data_key()),
            wrapped: wrapped_key.envelope.as_text().to_owned(),
            key: ready.view.key.name.clone(),
            version: wrapped_key.version,
        };
        Ok(Guarded::new(answer, vec![ready.epoch_guard]))
    }
}

/// The failure for a provider's data key of another length than requested.
fn wrong_length(_: crate::envelope::LengthError) -> Failure {
    Error::new(ErrorKind::UpstreamProtocol, "a data key of another length than requested").into()
}
