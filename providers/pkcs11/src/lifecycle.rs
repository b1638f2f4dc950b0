//! Creating, adopting and describing keys.

use claviger_pkcs11_host::messages::NewKey;
use claviger_provider::{Error, ErrorKind, Kek, KeyDescription, KeyId, KeyRequest, KeySpec, OpContext, ProviderKind};

use crate::client::Client;
use crate::errors::{CallError, fault};
use crate::keys::Key;
use crate::names::{KeyName, label_of};

const fn new_key(spec: KeySpec) -> NewKey {
    match spec {
        KeySpec::Aes256 => NewKey::Aes256,
        KeySpec::Rsa3072 => NewKey::Rsa(3072),
        KeySpec::Rsa4096 => NewKey::Rsa(4096),
    }
}

/// The error of an adoption that does not prove whose the key is, and of one of a key that does not exist: nobody
/// learns from it which keys others have.
pub(crate) fn unproven() -> Error {
    Error::new(ErrorKind::ProviderDenied, "prove the key's owner")
        .provider(ProviderKind::Pkcs11)
        .advice(
            "The token has no such key, or its label does not begin with `claviger-` and the tenant's id: the key's owner can set the label \
             (`pkcs11-tool --set-label`, or the vendor's tool). If all keys of the token are the tenant's, the operator sets `adopt_any`.",
        )
}

impl Client {
    /// Describes a key.
    ///
    /// # Errors
    /// `KeyNotFound`, and those of [`Key::of`].
    pub(crate) async fn key(&self, cx: &OpContext, name: &KeyName) -> Result<Key, Error> {
        let objects = self.find(cx, name).await.map_err(|error| error.into_error("describe a key"))?;
        Key::of(&objects)
    }

    /// Describes a key of the connection.
    pub(crate) async fn described(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let name = self.name(cx, &kek.key).await?;
        Ok(self.key(cx, &name).await?.description(&name))
    }

    /// Adopts a key, once it has opened a canary.
    pub(crate) async fn adopt(&self, cx: &OpContext, given: &str) -> Result<KeyDescription, Error> {
        let serial = self.serial(cx).await?;
        let name = KeyName::to_adopt(given, &serial).filter(|name| name.serial == serial);
        let name = name.ok_or_else(|| {
            fault(ErrorKind::InvalidInput, "no name of a key of this token")
                .advice("Name the key by its CKA_ID in hex, as `pkcs11-tool --list-objects` shows it.")
        })?;
        let must_prove = cx.claimant().filter(|_| !self.adopt_any);
        let key = match (self.key(cx, &name).await, must_prove) {
            (Ok(key), Some(tenant)) if !key.label.starts_with(&label_of(tenant)) => return Err(unproven()),
            (Err(error), Some(_)) if matches!(error.kind, ErrorKind::KeyNotFound | ErrorKind::InvalidInput | ErrorKind::KeyState) => {
                return Err(unproven());
            }
            (key, _) => key?,
        };
        key.usable()?;
        self.canary(cx, &name, key.spec).await?;
        Ok(key.description(&name))
    }

    /// The key that an earlier attempt of a creation made, once it has opened a canary; `None` if there is none.
    pub(crate) async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        let name = KeyName::made(&self.serial(cx).await?, request.made_as);
        match self.made(cx, &name, request.spec).await {
            Ok(made) => Ok(Some(made)),
            Err(error) if error.kind == ErrorKind::KeyNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a key, or finds the one that an earlier attempt made.
    pub(crate) async fn create(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        let name = KeyName::made(&self.serial(cx).await?, request.made_as);
        match self.generate_named(cx, &name, request.spec).await {
            Err(error) if error.kind() == ErrorKind::Conflict && request.repeated => {}
            generated => generated.map_err(|error| error.into_error("generate a key"))?,
        }
        self.made(cx, &name, request.spec).await
    }

    /// Makes the key that takes the place of another one.
    pub(crate) async fn replacement(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let old = self.name(cx, &kek.key).await?;
        let spec = self.key(cx, &old).await?.spec;
        let name = KeyName::made(&old.serial, KeyId::random());
        let generated = self.generate_named(cx, &name, spec).await;
        generated.map_err(|error| error.into_error("generate a key"))?;
        self.made(cx, &name, spec).await
    }

    async fn generate_named(&self, cx: &OpContext, name: &KeyName, spec: KeySpec) -> Result<(), CallError> {
        self.generate(cx, name, &label_of(cx.tenant), new_key(spec)).await
    }

    /// Describes a key that was made, once it has opened a canary.
    async fn made(&self, cx: &OpContext, name: &KeyName, spec: KeySpec) -> Result<KeyDescription, Error> {
        let key = self.key(cx, name).await?;
        if key.spec != spec {
            return Err(fault(ErrorKind::Conflict, "a key of another specification has the name"));
        }
        key.usable()?;
        self.canary(cx, name, spec).await?;
        Ok(key.description(name))
    }
}
