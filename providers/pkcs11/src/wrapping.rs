//! Wrapping and unwrapping: AES-GCM and RSA-OAEP inside the token.

use std::collections::BTreeMap;

use claviger_pkcs11_host::messages::{KeyKind, Mechanism, OaepHash};
use claviger_provider::kit::lengths;
use claviger_provider::kit::probe::canary;
use claviger_provider::{
    Algorithm, BoundContext, Error, ErrorKind, GcmParts, Kek, KeySpec, OpContext, ProviderKind, Secret, Wrapped, fill_random, oaep,
};

use crate::client::{Client, Encrypted};
use crate::codes::NO_MECHANISM;
use crate::errors::{CallError, fault};
use crate::names::KeyName;

/// The length of the initialization vectors that the gateway gives, in bytes.
const IV: usize = 12;
/// The length of a tag, in bytes.
const TAG: usize = 16;

/// The ciphertext in an envelope, of what a token returned for this plaintext. Some tokens take no initialization vector:
/// they write their own over the parameter, or put it behind the tag. `zeros`: this one was given zeros, so it must.
fn ciphertext(encrypted: Encrypted, plaintext: &[u8], zeros: bool) -> Option<Vec<u8>> {
    let Encrypted { mut iv, mut output } = encrypted;
    if output.len().checked_sub(plaintext.len() + TAG)? > 0 {
        iv = output.split_off(plaintext.len() + TAG);
    }
    let tag = output.split_off(plaintext.len());
    let is_made = !zeros || iv.iter().any(|byte| *byte != 0);
    // A data key of one byte may well be encrypted as itself.
    let is_plain = plaintext.len() >= 16 && output == plaintext;
    let parts = GcmParts {
        iv: &iv,
        ciphertext: &output,
        tag: &tag,
        metadata: &[],
    };
    parts.encode().filter(|_| is_made && !is_plain)
}

/// The mechanism that opens a ciphertext of AES-GCM, and the bytes to decrypt.
fn opening(ciphertext: &[u8], context: &BoundContext) -> Result<(Mechanism, Vec<u8>), Error> {
    let parts = GcmParts::parse(ciphertext).filter(|parts| parts.metadata.is_empty());
    let parts = parts.ok_or_else(|| rejected("a malformed ciphertext of AES-GCM"))?;
    let mechanism = Mechanism::Gcm {
        iv: parts.iv.to_vec().into(),
        aad: context.bytes().to_vec().into(),
    };
    Ok((mechanism, [parts.ciphertext, parts.tag].concat()))
}

const fn of_hash(hash: OaepHash) -> Algorithm {
    match hash {
        OaepHash::Sha256 => Algorithm::RsaOaep256,
        OaepHash::Sha1 => Algorithm::RsaOaep1,
    }
}

fn rejected(context: &'static str) -> Error {
    fault(ErrorKind::CiphertextRejected, context)
}

/// A ciphertext of RSA-OAEP, which is as long as a modulus.
fn rsa_ciphertext(wrapped: &Wrapped) -> Result<Vec<u8>, Error> {
    let fits = KeySpec::ALL
        .into_iter()
        .any(|spec| oaep::bits(spec) == Some(wrapped.ciphertext.len() * 8));
    fits.then(|| wrapped.ciphertext.clone())
        .ok_or_else(|| rejected("a ciphertext of another length than RSA-OAEP's"))
}

/// Whether the module says that it lacks the mechanism, or its parameters.
fn lacks_mechanism(error: &CallError) -> bool {
    error.refusal().is_some_and(|refusal| NO_MECHANISM.contains(&refusal.code.as_str()))
}

impl Client {
    /// Wraps a data key.
    pub(crate) async fn wrap(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let name = self.name(cx, &kek.key).await?;
        let (algorithm, ciphertext) = match kek.spec {
            KeySpec::Aes256 => (Algorithm::CborGcm, self.wrap_aes(cx, &name, dek, context).await?),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let hash = self.oaep_hash(cx, &name).await?;
                let encrypted = self.encrypt(cx, (KeyKind::RsaPublic, &name), &Mechanism::Oaep(hash), dek).await;
                let ciphertext = encrypted.map_err(|error| error.into_error("wrap"))?.output;
                if Some(ciphertext.len() * 8) != oaep::bits(kek.spec) {
                    return Err(CallError::MalformedResponse("ciphertext").into_error("wrap"));
                }
                (of_hash(hash), ciphertext)
            }
        };
        Ok(Wrapped {
            key: kek.key.clone(),
            algorithm,
            ciphertext,
            key_material: None,
            upstream_request_id: None,
        })
    }

    async fn wrap_aes(&self, cx: &OpContext, name: &KeyName, dek: &Secret, context: &BoundContext) -> Result<Vec<u8>, Error> {
        let mut iv = vec![0; IV];
        if !self.token_iv {
            fill_random(&mut iv);
        }
        let mechanism = Mechanism::Gcm {
            iv: iv.into(),
            aad: context.bytes().to_vec().into(),
        };
        let encrypted = self.encrypt(cx, (KeyKind::Aes, name), &mechanism, dek).await;
        let encrypted = encrypted
            .and_then(|encrypted| ciphertext(encrypted, dek.expose(), self.token_iv).ok_or(CallError::MalformedResponse("ciphertext")));
        encrypted.map_err(|error| error.into_error("wrap"))
    }

    /// Unwraps a data key.
    pub(crate) async fn unwrap(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        if !wrapped.key.version.is_empty() {
            return Err(rejected("a version, which no key of this provider has"));
        }
        let (kind, (mechanism, ciphertext)) = match wrapped.algorithm {
            Algorithm::CborGcm => (KeyKind::Aes, opening(&wrapped.ciphertext, context)?),
            Algorithm::RsaOaep256 => (KeyKind::RsaPrivate, (Mechanism::Oaep(OaepHash::Sha256), rsa_ciphertext(wrapped)?)),
            Algorithm::RsaOaep1 => (KeyKind::RsaPrivate, (Mechanism::Oaep(OaepHash::Sha1), rsa_ciphertext(wrapped)?)),
            Algorithm::ProviderOpaque | Algorithm::A256Kw | Algorithm::A256Kwp | Algorithm::Aes256Gcm | Algorithm::Xaes256Gcm => {
                return Err(rejected("another algorithm's ciphertext"));
            }
        };
        let name = self.name(cx, &wrapped.key).await?;
        let decrypted = self.decrypt(cx, (kind, &name), &mechanism, &ciphertext).await;
        let fits = |plaintext: &[u8]| kind == KeyKind::RsaPrivate || plaintext.len() + TAG == ciphertext.len();
        match decrypted {
            Ok(plaintext) if !fits(&plaintext) => Err(CallError::MalformedResponse("plaintext").into_error("unwrap")),
            Ok(mut plaintext) => lengths::unwrapped(std::mem::take(&mut *plaintext)).map_err(|error: CallError| error.into_error("unwrap")),
            Err(error) => Err(self.refused_decryption(cx, &name, kind, error).await),
        }
    }

    /// What a refused decryption means. Many modules return the same value for a tag that does not fit and for a
    /// device that fails, so a canary shows whether the key works.
    async fn refused_decryption(&self, cx: &OpContext, name: &KeyName, kind: KeyKind, error: CallError) -> Error {
        let Some(refusal) = error.refusal() else {
            return error.into_error("unwrap");
        };
        let unclear = lacks_mechanism(&error) || (error.kind() == ErrorKind::UpstreamUnavailable && !refusal.is_of_helper());
        let other_key = error.kind() == ErrorKind::KeyNotFound;
        if !unclear && !other_key {
            return error.into_error("unwrap");
        }
        let key = match self.key(cx, name).await {
            Ok(key) => key,
            // The key is gone, or is none that unwraps.
            Err(why) if why.kind == ErrorKind::KeyNotFound => return why,
            // A handle led nowhere, and the token does not say whether the key is there.
            Err(why) if other_key => return why,
            Err(_) => return error.into_error("unwrap"),
        };
        let is_of_kind = match key.spec {
            KeySpec::Aes256 => kind == KeyKind::Aes,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => kind == KeyKind::RsaPrivate,
        };
        if !is_of_kind || self.works(cx, name, key.spec).await {
            return error.into_rejection("unwrap");
        }
        error.into_error("unwrap")
    }

    /// Whether a key works. A canary is a wrap that is not counted: what passed a moment ago is not tried again, so that
    /// callers with wrong wrapped keys do not use up the key's initialization vectors.
    async fn works(&self, cx: &OpContext, name: &KeyName, spec: KeySpec) -> bool {
        let id = name.to_string();
        if !self.passed.has(&id) {
            if self.canary(cx, name, spec).await.is_err() {
                return false;
            }
            self.passed.note(&id);
        }
        true
    }

    /// Wraps and unwraps random bytes with a key.
    ///
    /// # Errors
    /// Those of the calls; `UpstreamProtocol` if other bytes come back, or the token rejects its own ciphertext.
    pub(crate) async fn canary(&self, cx: &OpContext, name: &KeyName, spec: KeySpec) -> Result<(), Error> {
        // The empty map, which the gateway never uses as a context.
        let context = BoundContext::new(BTreeMap::new(), vec![0xa0]);
        let tried = canary(ProviderKind::Pkcs11, async |dek| match spec {
            KeySpec::Aes256 => {
                let (mechanism, ciphertext) = opening(&self.wrap_aes(cx, name, dek, &context).await?, &context)?;
                self.opened(cx, (KeyKind::Aes, name), &mechanism, &ciphertext).await
            }
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let hash = self.oaep_hash(cx, name).await?;
                self.rsa_round_trip(cx, name, hash, dek)
                    .await
                    .map_err(|error| error.into_error("canary"))
            }
        })
        .await;
        tried.map_err(|error| {
            // Its own ciphertext, which nobody had in between.
            let kind = match error.kind == ErrorKind::CiphertextRejected {
                true => ErrorKind::UpstreamProtocol,
                false => error.kind,
            };
            Error { kind, ..error }
        })
    }

    async fn opened(&self, cx: &OpContext, key: (KeyKind, &KeyName), mechanism: &Mechanism, ciphertext: &[u8]) -> Result<Secret, Error> {
        let opened = self.decrypt(cx, key, mechanism, ciphertext).await;
        let opened = opened.and_then(|mut plaintext| lengths::unwrapped(std::mem::take(&mut *plaintext)));
        opened.map_err(|error| error.into_error("canary"))
    }

    async fn rsa_round_trip(&self, cx: &OpContext, name: &KeyName, hash: OaepHash, dek: &Secret) -> Result<Secret, CallError> {
        let mechanism = Mechanism::Oaep(hash);
        let encrypted = self.encrypt(cx, (KeyKind::RsaPublic, name), &mechanism, dek).await?;
        let mut plaintext = self.decrypt(cx, (KeyKind::RsaPrivate, name), &mechanism, &encrypted.output).await?;
        lengths::unwrapped(std::mem::take(&mut *plaintext))
    }

    /// The hash that the token's RSA-OAEP takes: SHA-256, or SHA-1 where it has no other. No list of a token's
    /// mechanisms tells it, so the first use of an RSA key tries.
    async fn oaep_hash(&self, cx: &OpContext, name: &KeyName) -> Result<OaepHash, Error> {
        if let Some(known) = *self.oaep.lock() {
            return Ok(known);
        }
        let tried = self.rsa_round_trip(cx, name, OaepHash::Sha256, &Secret::random(32)).await;
        let hash = match tried {
            Ok(_) => OaepHash::Sha256,
            Err(error) if lacks_mechanism(&error) => OaepHash::Sha1,
            Err(error) => return Err(error.into_error("try RSA-OAEP")),
        };
        *self.oaep.lock() = Some(hash);
        Ok(hash)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::GcmParts;

    use super::{Encrypted, ciphertext};

    const PLAINTEXT: [u8; 32] = [9; 32];

    fn returned(iv: Vec<u8>, output: usize, zeros: bool) -> Option<Vec<u8>> {
        let output = (0..output).map(|at| u8::try_from(at).unwrap()).collect();
        ciphertext(Encrypted { iv, output }, &PLAINTEXT, zeros)
    }

    #[test]
    fn the_vector_is_the_parameter_or_behind_the_tag() {
        let plain = returned(vec![1; 12], 48, false).unwrap();
        let parts = GcmParts::parse(&plain).unwrap();
        assert_eq!((parts.iv, parts.ciphertext.len(), parts.tag[0]), (&[1; 12][..], 32, 32));
        for appended in [12, 16] {
            let gcm = returned(vec![1; 12], 48 + appended, false).unwrap();
            let parts = GcmParts::parse(&gcm).unwrap();
            assert_eq!((parts.iv.len(), parts.iv[0], parts.tag.len()), (appended, 48, 16));
        }
        for output in [0, 32, 47, 49, 59, 61, 65] {
            assert_eq!(returned(vec![1; 12], output, false), None, "{output}");
        }
        assert_eq!(returned(vec![1; 13], 48, false), None);
    }

    #[test]
    fn a_vector_of_zeros_and_a_plaintext_are_refused() {
        assert_eq!(returned(vec![0; 12], 48, true), None, "it used what it was given");
        assert!(returned(vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 48, true).is_some());
        assert!(returned(vec![0; 12], 64, true).is_some());
        let encrypted = Encrypted {
            iv: vec![1; 12],
            output: [&PLAINTEXT[..], &[0; 16]].concat(),
        };
        assert_eq!(ciphertext(encrypted, &PLAINTEXT, false), None);
    }
}
