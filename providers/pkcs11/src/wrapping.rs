//! Wrapping and unwrapping: AES-GCM and RSA-OAEP inside the token.

use claviger_pkcs11_host::messages::{KeyKind, Mechanism, OaepHash};
use claviger_provider::kit::lengths;
use claviger_provider::kit::probe::canary;
use claviger_provider::{
    Algorithm, BoundContext, Error, ErrorKind, KeySpec, OpContext, ProviderKeyRef, ProviderKind, Secret, Wrapped, fill_random, oaep,
};
use minicbor::bytes::{ByteSlice, ByteVec};

use crate::client::{Client, Encrypted};
use crate::codes::NO_MECHANISM;
use crate::errors::{CallError, fault};
use crate::names::KeyName;

/// The length of the initialization vectors that the gateway draws, in bytes.
const IV: usize = 12;
/// The lengths that a token may use instead.
const IVS: [usize; 2] = [12, 16];
/// The length of a tag, in bytes.
const TAG: usize = 16;

/// The parts of a ciphertext of AES-GCM.
#[derive(Debug, PartialEq, Eq)]
struct Gcm {
    iv: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
}

impl Gcm {
    /// Reads what a token returned for a plaintext of this length. Some tokens take no initialization vector: they
    /// write their own over the parameter, or put it behind the tag.
    fn of(encrypted: Encrypted, plaintext: usize) -> Option<Self> {
        let Encrypted { mut iv, mut output } = encrypted;
        let appended = output.len().checked_sub(plaintext + TAG)?;
        if appended > 0 {
            iv = output.split_off(plaintext + TAG);
        }
        let tag = output.split_off(plaintext);
        IVS.contains(&iv.len()).then_some(Self {
            iv,
            ciphertext: output,
            tag,
        })
    }

    /// The form in an envelope: CBOR of `[iv, ct, tag, metadata]` with empty metadata.
    fn encode(&self) -> Option<Vec<u8>> {
        let parts: [&ByteSlice; 4] = [
            (&*self.iv).into(),
            (&*self.ciphertext).into(),
            (&*self.tag).into(),
            (&[][..]).into(),
        ];
        minicbor::to_vec(parts).ok()
    }

    /// Reads that form, and no other encoding of it.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let [iv, ciphertext, tag, metadata]: [ByteVec; 4] = minicbor::decode(bytes).ok()?;
        let gcm = Self {
            iv: iv.into(),
            ciphertext: ciphertext.into(),
            tag: tag.into(),
        };
        let fits = IVS.contains(&gcm.iv.len()) && gcm.tag.len() == TAG && metadata.is_empty();
        (fits && !gcm.ciphertext.is_empty() && gcm.encode()? == bytes).then_some(gcm)
    }

    /// The mechanism to decrypt with, and the bytes to decrypt.
    fn opening(self, context: &BoundContext) -> (Mechanism, Vec<u8>) {
        let mechanism = Mechanism::Gcm {
            iv: self.iv.into(),
            aad: context.bytes().to_vec().into(),
        };
        (mechanism, [self.ciphertext, self.tag].concat())
    }
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
    pub(crate) async fn wrap(
        &self,
        cx: &OpContext,
        name: &KeyName,
        spec: KeySpec,
        dek: &Secret,
        context: &BoundContext,
    ) -> Result<Wrapped, Error> {
        let (algorithm, ciphertext) = match spec {
            KeySpec::Aes256 => (Algorithm::CborGcm, self.wrap_aes(cx, name, dek, context).await?),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let hash = self.oaep_hash(cx, name).await?;
                let encrypted = self.encrypt(cx, (KeyKind::RsaPublic, name), &Mechanism::Oaep(hash), dek).await;
                let ciphertext = encrypted.map_err(|error| error.into_error("wrap"))?.output;
                if Some(ciphertext.len() * 8) != oaep::bits(spec) {
                    return Err(CallError::MalformedResponse("ciphertext").into_error("wrap"));
                }
                (of_hash(hash), ciphertext)
            }
        };
        Ok(Wrapped {
            key: ProviderKeyRef {
                id: name.to_string(),
                version: String::new(),
            },
            algorithm,
            ciphertext,
            key_material: None,
            upstream_request_id: None,
        })
    }

    async fn wrap_aes(&self, cx: &OpContext, name: &KeyName, dek: &Secret, context: &BoundContext) -> Result<Vec<u8>, Error> {
        let mut iv = vec![0; IV];
        fill_random(&mut iv);
        let mechanism = Mechanism::Gcm {
            iv: iv.into(),
            aad: context.bytes().to_vec().into(),
        };
        let encrypted = self.encrypt(cx, (KeyKind::Aes, name), &mechanism, dek).await;
        let encrypted = encrypted.and_then(|encrypted| {
            let gcm = Gcm::of(encrypted, dek.len()).ok_or(CallError::MalformedResponse("ciphertext"))?;
            gcm.encode().ok_or(CallError::MalformedResponse("ciphertext"))
        });
        encrypted.map_err(|error| error.into_error("wrap"))
    }

    /// Unwraps a data key.
    pub(crate) async fn unwrap(&self, cx: &OpContext, name: &KeyName, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let (kind, mechanism, ciphertext) = match wrapped.algorithm {
            Algorithm::CborGcm => {
                let gcm = Gcm::decode(&wrapped.ciphertext).ok_or_else(|| rejected("a malformed ciphertext of AES-GCM"))?;
                let (mechanism, ciphertext) = gcm.opening(context);
                (KeyKind::Aes, mechanism, ciphertext)
            }
            Algorithm::RsaOaep256 => (KeyKind::RsaPrivate, Mechanism::Oaep(OaepHash::Sha256), rsa_ciphertext(wrapped)?),
            Algorithm::RsaOaep1 => (KeyKind::RsaPrivate, Mechanism::Oaep(OaepHash::Sha1), rsa_ciphertext(wrapped)?),
            Algorithm::ProviderOpaque | Algorithm::A256Kw | Algorithm::A256Kwp | Algorithm::Aes256Gcm | Algorithm::Xaes256Gcm => {
                return Err(rejected("another algorithm's ciphertext"));
            }
        };
        match self.decrypt(cx, (kind, name), &mechanism, &ciphertext).await {
            Ok(mut plaintext) => lengths::unwrapped(std::mem::take(&mut *plaintext)).map_err(|error: CallError| error.into_error("unwrap")),
            Err(error) => Err(self.refused_decryption(cx, name, kind, error).await),
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
            Err(_) => return error.into_error("unwrap"),
        };
        let is_of_kind = match key.spec {
            KeySpec::Aes256 => kind == KeyKind::Aes,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => kind == KeyKind::RsaPrivate,
        };
        if !is_of_kind || self.canary(cx, name, key.spec).await.is_ok() {
            return error.into_rejection("unwrap");
        }
        error.into_error("unwrap")
    }

    /// Wraps and unwraps random bytes with a key.
    ///
    /// # Errors
    /// Those of the calls; `UpstreamProtocol` if other bytes come back, or the token rejects its own ciphertext.
    pub(crate) async fn canary(&self, cx: &OpContext, name: &KeyName, spec: KeySpec) -> Result<(), Error> {
        let context = BoundContext::new(Default::default(), b"claviger canary".to_vec());
        let tried = canary(ProviderKind::Pkcs11, async |dek| match spec {
            KeySpec::Aes256 => {
                let bytes = self.wrap_aes(cx, name, dek, &context).await?;
                let gcm = Gcm::decode(&bytes).ok_or_else(|| rejected("a malformed ciphertext of AES-GCM"))?;
                let (mechanism, ciphertext) = gcm.opening(&context);
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
    use super::{Encrypted, Gcm};

    fn returned(iv: usize, output: usize) -> Option<Gcm> {
        let encrypted = Encrypted {
            iv: vec![1; iv],
            output: (0..output).map(|at| u8::try_from(at).unwrap()).collect(),
        };
        Gcm::of(encrypted, 32)
    }

    #[test]
    fn the_vector_is_the_parameter_or_behind_the_tag() {
        let plain = returned(12, 48).unwrap();
        assert_eq!((plain.iv, plain.ciphertext.len(), plain.tag[0]), (vec![1; 12], 32, 32));
        for appended in [12, 16] {
            let gcm = returned(12, 48 + appended).unwrap();
            assert_eq!((gcm.iv.len(), gcm.iv[0], gcm.tag.len()), (appended, 48, 16));
        }
        for output in [0, 32, 47, 49, 59, 61, 65] {
            assert_eq!(returned(12, output), None, "{output}");
        }
        assert_eq!(returned(13, 48), None);
    }

    #[test]
    fn the_form_in_an_envelope_has_one_encoding() {
        let bytes = returned(12, 64).unwrap().encode().unwrap();
        assert_eq!(bytes[..2], [0x84, 0x50]);
        assert_eq!(Gcm::decode(&bytes).unwrap().iv.len(), 16);
        for cut in 0..bytes.len() {
            assert_eq!(Gcm::decode(&bytes[..cut]), None);
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Gcm::decode(&longer), None);
        // The length of the vector in two bytes instead of one.
        let other = [&[0x84, 0x58, 16], &bytes[2..]].concat();
        assert_eq!(Gcm::decode(&other), None);
        let metadata = [&bytes[..bytes.len() - 1], &[0x41, 0]].concat();
        assert_eq!(Gcm::decode(&metadata), None);
    }
}
