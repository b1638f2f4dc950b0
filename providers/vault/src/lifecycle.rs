//! Creates, adopts, describes and rotates keys.

use claviger_provider::kit::appearance::until_found;
use claviger_provider::{Error, ErrorKind, KeyDescription, KeyRequest, OpContext};

use crate::client::{ApiResponse, Ignored, Request};
use crate::errors::fault;
use crate::key_type::KeyType;
use crate::keys::Create;
use crate::names::KeyName;
use crate::transit::Transit;

impl Transit {
    /// The description of a key, which must be of this type.
    pub(crate) async fn described(&self, cx: &OpContext, name: &KeyName, kind: KeyType) -> Result<KeyDescription, Error> {
        let key = self.existing(cx, name).await?;
        key.usable(kind)?;
        if kind.binds_context() {
            // A key of another type may have had the name meanwhile.
            self.forget_unbound(name);
        }
        key.describe(&self.engine, name, kind)
    }

    /// Creates the key of a logical key, named after the request's id. Where the request is a repetition,
    /// a key of that name is the one that an earlier attempt created.
    pub(crate) async fn create(&self, cx: &OpContext, request: &KeyRequest, kind: KeyType) -> Result<KeyDescription, Error> {
        let operation = "transit/keys";
        let name = KeyName::made(request.made_as);
        // The server responds to a second creation with success.
        match (self.read(cx, &name).await?, request.repeated) {
            (None, _) => {}
            (Some(key), true) => {
                key.usable(kind)?;
                key.available()?;
                return key.describe(&self.engine, &name, kind);
            }
            (Some(_), false) => return Err(fault(ErrorKind::Conflict, operation)),
        }
        let body = Create {
            key_type: kind.as_str(),
            derived: false,
            exportable: false,
            allow_plaintext_backup: false,
        };
        let path = self.path(&["keys", name.as_str()]);
        let call = Request::post(operation, &path, &body).map_err(|error| error.into_error(operation))?;
        let response = self.session.call(cx, call.changing()).await;
        let response: ApiResponse<Ignored> = response.map_err(|error| error.into_error(operation))?;
        // Another request created the key between the two calls.
        let existed = response
            .warnings
            .is_some_and(|warnings| warnings.iter().any(|warning| warning.ends_with("already existed")));
        if existed && !request.repeated {
            return Err(fault(ErrorKind::Conflict, operation));
        }
        // A standby that serves reads, or another server behind the same address, has the key a moment later.
        until_found(cx, || self.described(cx, &name, kind)).await
    }

    /// The key that is named after the request's id, if there is one.
    pub(crate) async fn find_made(&self, cx: &OpContext, request: &KeyRequest, kind: KeyType) -> Result<Option<KeyDescription>, Error> {
        let name = KeyName::made(request.made_as);
        let Some(key) = self.read(cx, &name).await? else { return Ok(None) };
        key.usable(kind)?;
        key.describe(&self.engine, &name, kind).map(Some)
    }

    /// Adopts a key that exists in the engine.
    pub(crate) async fn adopt(&self, cx: &OpContext, name: &str, taken: bool, kind: KeyType) -> Result<KeyDescription, Error> {
        let name = self.engine.adopted(name).ok_or_else(|| {
            fault(ErrorKind::InvalidInput, "adopt a key")
                .advice("provider_key is the Transit key's name alone, or namespace/mount/name of this connection's own engine.")
        })?;
        let key = self.read(cx, &name).await?.ok_or_else(|| {
            fault(ErrorKind::KeyNotFound, "adopt a key").advice("The connection's Transit engine has no key of that name.")
        })?;
        key.usable(kind)?;
        if taken {
            return Err(fault(ErrorKind::ProviderDenied, "adopt a key"));
        }
        key.available()?;
        let described = key.describe(&self.engine, &name, kind)?;
        self.canary(cx, &described.id, kind).await.map_err(|error| match error.kind {
            ErrorKind::ProviderDenied => error.advice(
                "Allow the connection's identity to \"update\" encrypt/NAME and decrypt/NAME of the key below the engine's mount, then \
                 repeat the adoption, or the rotation to it.",
            ),
            _ => error,
        })?;
        Ok(described)
    }

    /// Makes a new version.
    pub(crate) async fn rotate(&self, cx: &OpContext, name: &KeyName, kind: KeyType) -> Result<KeyDescription, Error> {
        let operation = "transit/keys/rotate";
        let _alone = self.rotating.lock().await;
        self.existing(cx, name).await?.rotatable()?;
        let path = self.path(&["keys", name.as_str(), "rotate"]);
        let request = Request::post(operation, &path, &serde_json::json!({})).map_err(|error| error.into_error(operation))?;
        let _: ApiResponse<Ignored> = self
            .session
            .call(cx, request.changing())
            .await
            .map_err(|error| error.into_error(operation))?;
        self.described(cx, name, kind).await
    }
}
