//! Makes, adopts, describes and replaces keys.

use claviger_provider::kit::appearance::until_found;
use claviger_provider::{Error, ErrorKind, KeyDescription, KeyId, KeyRequest, OpContext};

use crate::attributes::Attribute;
use crate::errors::{CallError, fault};
use crate::key_manager::KeyManager;
use crate::keys::{BITS, Key, USAGE};
use crate::names::{is_sound, key_ref, made};
use crate::tags::{AES, Operation};

const AMBIGUOUS: &str = "Several keys at the key manager have this name: give the key's Unique Identifier.";

impl KeyManager {
    /// The description of a key.
    pub(crate) async fn described(&self, cx: &OpContext, id: &str) -> Result<KeyDescription, Error> {
        let key = self.read(cx, id).await?;
        key.fits()?;
        Ok(key.describe())
    }

    async fn read(&self, cx: &OpContext, id: &str) -> Result<Key, Error> {
        let read = self.client.attributes(cx, id).await;
        read.map_err(|error| error.into_error(Operation::GetAttributes.as_str()))
    }

    /// The Unique Identifier of the only key with a name; `None` if there is none.
    async fn named(&self, cx: &OpContext, name: &str) -> Result<Option<String>, Error> {
        let operation = Operation::Locate.as_str();
        let found = self.client.locate(cx, name).await.map_err(|error| error.into_error(operation))?;
        match <[String; 1]>::try_from(found) {
            Ok([id]) => Ok(Some(id)),
            Err(found) if found.is_empty() => Ok(None),
            Err(_) => Err(fault(ErrorKind::InvalidInput, operation).advice(AMBIGUOUS)),
        }
    }

    /// Makes the key of a logical key, named after the request's id. Where the request is a repetition, a key of that
    /// name is the one that an earlier attempt made.
    pub(crate) async fn create(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        let name = made(request.made_as);
        let id = match (self.named(cx, &name).await?, request.repeated) {
            (None, _) => self.make(cx, &name).await?,
            (Some(id), true) => id,
            (Some(_), false) => return Err(fault(ErrorKind::Conflict, Operation::Create.as_str())),
        };
        self.ready(cx, &id).await
    }

    /// The key that is named after the request's id, if there is one. One that an earlier attempt made and did not
    /// activate is activated now: nobody else does.
    pub(crate) async fn look_for(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        match self.named(cx, &made(request.made_as)).await? {
            Some(id) if self.read(cx, &id).await?.is_pre_active() => self.ready(cx, &id).await.map(Some),
            Some(id) => self.described(cx, &id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Adopts a key by its Unique Identifier; where the server has none of that identifier, by its name. After any other
    /// refusal, a key of that name is not the one that was meant. The gateway never activates one that it did not make.
    pub(crate) async fn adopt(&self, cx: &OpContext, wanted: &str, taken: bool) -> Result<KeyDescription, Error> {
        let operation = "adopt a key";
        if !is_sound(wanted) {
            return Err(fault(ErrorKind::InvalidInput, operation)
                .advice("provider_key is the key's Unique Identifier at the key manager, or its name: 1 to 512 bytes of one line."));
        }
        let key = match self.read(cx, wanted).await {
            Ok(key) => key,
            Err(error) if error.kind == ErrorKind::KeyNotFound => {
                let Some(id) = self.named(cx, wanted).await? else {
                    return Err(error.advice("The key manager has no key with this Unique Identifier or name that the connection may see."));
                };
                self.read(cx, &id).await?
            }
            Err(error) => return Err(error),
        };
        key.usable()?;
        if taken {
            return Err(fault(ErrorKind::ExternalDenied, operation));
        }
        self.canary(cx, &key_ref(&key.id)).await?;
        Ok(key.describe())
    }

    /// Makes the replacement of a key: with Re-key where the server offers it, otherwise another key.
    pub(crate) async fn replace(&self, cx: &OpContext, id: &str) -> Result<KeyDescription, Error> {
        self.read(cx, id).await?.usable()?;
        let about = self
            .client
            .about(cx)
            .await
            .map_err(|error| error.into_error(Operation::Query.as_str()))?;
        let new = match about.value.offers(Operation::ReKey) {
            true => {
                let made = self.client.rekey(cx, id).await;
                made.map_err(|error| error.into_error(Operation::ReKey.as_str()))?
            }
            false => self.make(cx, &made(KeyId::random())).await?,
        };
        self.ready(cx, &new).await
    }

    /// Makes a key that is not active yet.
    async fn make(&self, cx: &OpContext, name: &str) -> Result<String, Error> {
        let needed = [
            Attribute::Algorithm(AES),
            Attribute::Length(BITS),
            Attribute::UsageMask(USAGE),
            Attribute::Name(name),
        ];
        let confined = [Attribute::Sensitive(true), Attribute::Extractable(false)];
        // A server may refuse an attribute that it does not know. A refusal makes nothing.
        for confined in [&confined[..], &confined[..1]] {
            match self.client.create(cx, &[&needed[..], confined].concat()).await {
                Ok(id) => return Ok(id),
                Err(error) if is_of_an_attribute(&error) => {}
                Err(error) => return Err(error.into_error(Operation::Create.as_str())),
            }
        }
        let made = self.client.create(cx, &needed).await;
        made.map_err(|error| error.into_error(Operation::Create.as_str()))
    }

    /// Activates a key that the gateway made, and tries it.
    async fn ready(&self, cx: &OpContext, id: &str) -> Result<KeyDescription, Error> {
        // A cluster's other servers may have it a moment later.
        let key = until_found(cx, || self.read(cx, id)).await?;
        key.fits()?;
        let key = match key.is_pre_active() {
            true => {
                let activated = self.client.activate(cx, id).await;
                activated.map_err(|error| error.into_error(Operation::Activate.as_str()))?;
                self.read(cx, id).await?
            }
            false => key,
        };
        key.usable()?;
        self.canary(cx, &key_ref(id)).await?;
        Ok(key.describe())
    }
}

/// Whether a refused creation can be one of an attribute that the server does not know. Some do not parse it.
fn is_of_an_attribute(error: &CallError) -> bool {
    use claviger_provider::kit::call_error::Refusal as _;
    error.refusal().is_some_and(|refusal| {
        let kind = refusal.meaning().kind;
        let is_of_form = matches!(kind, ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::UpstreamProtocol);
        is_of_form && refusal.rules_out_effect()
    })
}
