//! The vectors of `tests/vectors`: opened, refused, and made anew byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use claviger_provider::xaes::XaesKey;
use claviger_provider::{Algorithm, Secret};
use serde::Deserialize;

use super::copy;
use crate::envelope::{Context, DataKeyLength, Draft, Envelope, Origin, ParseError, Pending, Recipient, SealKey, SealStatus, Suite};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vector {
    #[serde(skip)]
    name: String,
    #[serde(rename = "description")]
    _description: String,
    pub(super) blob: String,
    context: BTreeMap<String, String>,
    seal_keys: Vec<String>,
    k: String,
    kek: Option<String>,
    plaintext: Option<String>,
    seal: Option<String>,
    usable: Option<Vec<bool>>,
    error: Option<String>,
}

/// What opening a vector gives: plaintext in hex, status of the seal, usable recipients.
type Outcome = Result<(String, &'static str, Vec<bool>), &'static str>;

impl Vector {
    fn context(&self) -> Result<Context, &'static str> {
        Context::from_pairs(self.context.clone()).map_err(|_| "invalid_request")
    }

    fn seal_keys(&self) -> Vec<SealKey> {
        let key = |key: &String| SealKey::from_secret(&Secret::new(hex::decode(key).unwrap())).unwrap();
        self.seal_keys.iter().map(key).collect()
    }

    fn k(&self) -> Secret {
        Secret::new(hex::decode(&self.k).unwrap())
    }

    fn outcome(&self) -> Outcome {
        let envelope = Envelope::parse(&self.blob).map_err(|error| match error {
            ParseError::Invalid => "invalid_envelope",
            ParseError::VersionUnsupported => "envelope_version_unsupported",
            ParseError::TooLarge => "too_large",
        })?;
        let context = self.context()?.bind(envelope.header());
        let seal = match envelope.seal_status(&self.seal_keys()) {
            SealStatus::Sealed(_) => "sealed",
            SealStatus::Unsealed => "unsealed",
            SealStatus::Forged => return Err("ciphertext_rejected"),
        };
        let usable: Vec<bool> = envelope.recipients().iter().map(Recipient::is_usable).collect();
        if !usable.contains(&true) {
            return Err("ciphertext_rejected");
        }
        if let Some(kek) = &self.kek {
            let kek = XaesKey::new(&Secret::new(hex::decode(kek).unwrap())).unwrap();
            for (_, wrapped) in envelope.recipients().iter().filter_map(Recipient::wrapped) {
                if wrapped.algorithm == Algorithm::Xaes256Gcm {
                    let k = kek.open(context.bytes(), &wrapped.ciphertext).map_err(|_| "ciphertext_rejected")?;
                    assert_eq!(k, self.k(), "{}", self.name);
                }
            }
        }
        let opened = envelope.open(self.k(), &context).map_err(|_| "ciphertext_rejected")?;
        Ok((hex::encode(opened.plaintext().expose()), seal, usable))
    }
}

/// All vectors of one folder.
pub(super) fn load(folder: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let mut vectors = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let mut vector: Vector = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        vector.name = path.file_stem().unwrap().to_string_lossy().into_owned();
        vectors.push(vector);
    }
    assert!(!vectors.is_empty(), "no vectors in {folder}");
    vectors
}

#[test]
fn every_good_vector_opens() {
    for vector in load("good") {
        let (plaintext, seal, usable) = vector.outcome().unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        assert_eq!(Some(&plaintext), vector.plaintext.as_ref(), "{}", vector.name);
        assert_eq!(Some(seal), vector.seal.as_deref(), "{}", vector.name);
        assert_eq!(Some(&usable), vector.usable.as_ref(), "{}", vector.name);
    }
}

#[test]
fn every_bad_vector_is_refused_for_its_reason() {
    for vector in load("bad") {
        assert_eq!(vector.outcome().err(), vector.error.as_deref(), "{}", vector.name);
    }
}

/// K, ids, time and seal key determine every byte, so what wrote a vector is held as well as
/// what reads it.
#[test]
fn every_good_vector_is_made_anew_byte_for_byte() {
    for vector in load("good") {
        let envelope = Envelope::parse(&vector.blob).unwrap();
        let header = envelope.header();
        let origin = Origin {
            tenant: header.tenant(),
            key: header.key(),
            scope: header.scope().cloned(),
            created: header.created(),
        };
        let context = vector.context().unwrap();
        let plaintext = Secret::new(hex::decode(vector.plaintext.as_ref().unwrap()).unwrap());
        let draft = match header.suite() {
            Suite::Direct => {
                let length = DataKeyLength::from_bytes(plaintext.len()).unwrap();
                Pending::with_id(header.dek_id(), origin, length, &context)
                    .commit(copy(&plaintext))
                    .unwrap()
            }
            Suite::Sealed => Draft::sealed_with(header.dek_id(), vector.k(), origin, &plaintext, &context).unwrap(),
        };
        let key = vector
            .seal_keys()
            .into_iter()
            .find(|key| matches!(envelope.seal_status([key]), SealStatus::Sealed(_)));
        let again = draft.finish_with(envelope.recipients(), key.as_ref()).unwrap();
        if key.is_some() || !envelope.has_seal() {
            assert_eq!(again.as_text(), vector.blob, "{}", vector.name);
        } else {
            // The vector's seal is of a key that it does not tell; all else is the same.
            let before = again.as_binary().len() - 1;
            assert_eq!(again.as_binary()[..before], envelope.as_binary()[..before], "{}", vector.name);
        }
    }
}

#[test]
fn both_forms_are_kept_as_they_came() {
    for vector in load("good") {
        let envelope = Envelope::parse(&vector.blob).unwrap();
        assert_eq!(envelope.as_text(), vector.blob);
        let again = Envelope::parse_binary(envelope.as_binary()).unwrap();
        assert_eq!(again.as_text(), vector.blob);
        assert_eq!(again.as_binary(), envelope.as_binary());
        assert_eq!(again.fingerprint(), envelope.fingerprint());
    }
}
