//! Calls of the token: the one place that sends a call and reports it.

use std::sync::Arc;
use std::time::Duration;

use claviger_pkcs11_host::messages::{KeyKind, KeyObject, Mechanism, NewKey, OaepHash, Output, Request, Sensitive, Token};
use claviger_provider::kit::passed_canaries::PassedCanaries;
use claviger_provider::kit::session::Session;
use claviger_provider::{CallResult, CallSink, Error, ErrorKind, OpContext, ProviderKeyRef, Secret, SeverSwitch};
use parking_lot::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::errors::{CallError, fault};
use crate::helper::GENERATION;
use crate::names::KeyName;
use crate::session::{HelperSource, LoggedIn};

/// Whether the helper has ended or is no longer logged in, so that another one can serve the call.
fn is_of_helper(error: &CallError) -> bool {
    error.refusal().is_some_and(crate::errors::Refusal::is_of_helper)
}

/// One call of the module.
#[derive(Clone, Copy)]
struct Call {
    /// The function's name in the standard.
    operation: &'static str,
    /// Whether it generates a key.
    generates: bool,
}

/// What a module returned from an encryption.
pub(crate) struct Encrypted {
    /// The initialization vector after the call.
    pub(crate) iv: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

/// The token of one connection.
pub(crate) struct Client {
    pub(crate) session: Session<HelperSource>,
    pub(crate) switch: SeverSwitch,
    /// The longest time of a call that generates no key.
    pub(crate) budget: Duration,
    /// The serial number in the ids of keys, if it is not the token's own.
    pub(crate) known_as: Option<String>,
    /// Whether the token makes the initialization vectors, and wants zeros as the parameter.
    pub(crate) token_iv: bool,
    pub(crate) passed: PassedCanaries,
    /// Whether all keys of the token may be adopted.
    pub(crate) adopt_any: bool,
    /// The hash that the token's RSA-OAEP takes, once it is known.
    pub(crate) oaep: Mutex<Option<OaepHash>>,
}

impl Client {
    /// The token, as it was when the connection logged in to it.
    pub(crate) async fn token(&self, cx: &OpContext) -> Result<Token, CallError> {
        Ok(self.session.current(cx.login()).await?.token.clone())
    }

    /// The serial number in the ids of the connection's keys.
    pub(crate) async fn serial(&self, cx: &OpContext) -> Result<String, Error> {
        // Also where it is known: a key of a token that is not there is no key.
        let token = self.token(cx).await.map_err(|error| error.into_error("find the token"))?;
        Ok(self.known_as.clone().unwrap_or(token.serial))
    }

    /// Reads a provider key id. One of another token is none of this connection's.
    pub(crate) async fn name(&self, cx: &OpContext, key: &ProviderKeyRef) -> Result<KeyName, Error> {
        let missing = || fault(ErrorKind::KeyNotFound, "no key of this token");
        let name = KeyName::parse(&key.id).filter(|_| key.version.is_empty()).ok_or_else(missing)?;
        match name.serial == self.serial(cx).await? {
            true => Ok(name),
            false => Err(missing()),
        }
    }

    async fn call(&self, cx: &OpContext, call: Call, request: impl Fn() -> Request) -> Result<Output, CallError> {
        let request = &request;
        let longest = if call.generates { GENERATION } else { self.budget };
        let send = |logged_in: Arc<LoggedIn>| async move {
            let attempt = CallSink::from(cx).begin(call.operation);
            let attempt = if call.generates { attempt.changing() } else { attempt };
            let time = longest.min(cx.remaining());
            let called = timeout(time, logged_in.helper.call(request(), time, longest));
            let sent = self.switch.pass(async { called.await.unwrap_or(Err(CallError::Timeout)) }).await;
            let sent = sent.unwrap_or_else(|severed| Err(severed.into()));
            attempt.finish(None, CallResult::of(&sent, CallError::result));
            sent
        };
        self.session.call(cx.login(), is_of_helper, send).await
    }

    /// The keys with this `CKA_ID`.
    pub(crate) async fn find(&self, cx: &OpContext, name: &KeyName) -> Result<Vec<KeyObject>, CallError> {
        let call = Call {
            operation: "C_FindObjects",
            generates: false,
        };
        let request = || Request::Find {
            id: name.id.clone().into(),
        };
        let Output::Keys(keys) = self.call(cx, call, request).await? else {
            return Err(CallError::MalformedResponse("keys"));
        };
        Ok(keys)
    }

    /// Generates a key.
    pub(crate) async fn generate(&self, cx: &OpContext, name: &KeyName, label: &str, key: NewKey) -> Result<(), CallError> {
        let call = Call {
            operation: match key {
                NewKey::Aes256 => "C_GenerateKey",
                NewKey::Rsa(_) => "C_GenerateKeyPair",
            },
            generates: true,
        };
        let request = || Request::Generate {
            id: name.id.clone().into(),
            label: label.to_owned(),
            key,
        };
        let Output::Done = self.call(cx, call, request).await? else {
            return Err(CallError::MalformedResponse("generation"));
        };
        Ok(())
    }

    /// Encrypts a data key.
    pub(crate) async fn encrypt(
        &self,
        cx: &OpContext,
        (kind, name): (KeyKind, &KeyName),
        mechanism: &Mechanism,
        plaintext: &Secret,
    ) -> Result<Encrypted, CallError> {
        let call = Call {
            operation: "C_Encrypt",
            generates: false,
        };
        let request = || Request::Encrypt {
            kind,
            id: name.id.clone().into(),
            mechanism: mechanism.clone(),
            plaintext: Sensitive::new(Zeroizing::new(plaintext.expose().to_vec())),
        };
        let Output::Encrypted { iv, output } = self.call(cx, call, request).await? else {
            return Err(CallError::MalformedResponse("ciphertext"));
        };
        Ok(Encrypted {
            iv: iv.into(),
            output: output.into(),
        })
    }

    /// Decrypts a data key.
    pub(crate) async fn decrypt(
        &self,
        cx: &OpContext,
        (kind, name): (KeyKind, &KeyName),
        mechanism: &Mechanism,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CallError> {
        let call = Call {
            operation: "C_Decrypt",
            generates: false,
        };
        let request = || Request::Decrypt {
            kind,
            id: name.id.clone().into(),
            mechanism: mechanism.clone(),
            ciphertext: ciphertext.to_vec().into(),
        };
        let Output::Decrypted(plaintext) = self.call(cx, call, request).await? else {
            return Err(CallError::MalformedResponse("plaintext"));
        };
        Ok(plaintext.into_inner())
    }
}
