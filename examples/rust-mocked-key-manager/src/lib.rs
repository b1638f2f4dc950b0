//! Notes on the disk, each encrypted with a data key of its own.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_client::{Client, ErrorKind, Secret};
use serde::{Deserialize, Serialize};

/// The key that wraps the data keys of all notes.
pub const KEY: &str = "notes";

/// The notes in a folder.
pub struct Notes {
    claviger: Client,
    folder: PathBuf,
}

/// A note as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The note's data key, wrapped.
    wrapped: String,
    /// A nonce, and what AES-256-GCM made of the text, in base64.
    sealed: String,
}

/// Why a note was not written or read: what somebody has to do about it differs.
#[derive(Debug)]
pub enum Failure {
    /// The key is switched off: disabled at the gateway, or denied by its owner. Only they can change that.
    KeyIsOff(claviger_client::Error),
    /// The same may succeed later. The client has repeated it already.
    Later(claviger_client::Error),
    /// This note does not open, now and later. The others are not concerned.
    Refused(String),
    /// Everything else: the settings, the disk, a proxy in between.
    Other(String),
}

impl From<claviger_client::Error> for Failure {
    fn from(error: claviger_client::Error) -> Self {
        match error.kind() {
            ErrorKind::KeyUnusable | ErrorKind::ProviderDenied => Self::KeyIsOff(error),
            ErrorKind::CiphertextRejected | ErrorKind::InvalidEnvelope => Self::Refused(error.to_string()),
            // The client has waited for a token file that is being replaced. This one is missing.
            ErrorKind::Token => Self::Other(error.to_string()),
            // Not by kinds: a later gateway has some that this program does not know.
            _ if error.is_retryable() => Self::Later(error),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl Notes {
    pub fn new(claviger: Client, folder: impl Into<PathBuf>) -> Self {
        Self {
            claviger,
            folder: folder.into(),
        }
    }

    /// Encrypts a text, and stores it in the place of a note of this name.
    pub async fn write(&self, name: &str, text: &[u8]) -> Result<(), Failure> {
        let path = self.path(name)?;
        // The context binds the data key to the name: a note that is renamed does not open.
        let data_key = self.claviger.generate_data_key(KEY).context([("note", name)]).await?;
        let plaintext = data_key.plaintext.ok_or_else(|| other("the data key has no plaintext"))?;
        let mut sealed = text.to_vec();
        let nonce = cipher(&plaintext)?
            .seal_in_place_append_tag(Aad::empty(), &mut sealed)
            .map_err(|_| other("the note is too long"))?;
        sealed.splice(0..0, *nonce.as_ref());
        let stored = Stored {
            wrapped: data_key.wrapped,
            sealed: STANDARD.encode(sealed),
        };
        // A reader sees all of a note, or the one before.
        let part = path.with_extension("part");
        fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&part, serde_json::to_vec(&stored)?))
            .and_then(|()| fs::rename(&part, &path))
            .map_err(|error| other(&format!("{}: {error}", path.display())))
    }

    /// The text of a note. It asks the gateway each time: a data key that is kept would outlive its key.
    pub async fn read(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let path = self.path(name)?;
        let file = fs::read(&path).map_err(|error| other(&format!("{}: {error}", path.display())))?;
        let refused = || Failure::Refused(format!("{}: the file was changed", path.display()));
        let stored: Stored = serde_json::from_slice(&file).map_err(|_| refused())?;
        let data_key = self.claviger.unwrap(&stored.wrapped).context([("note", name)]).await?;
        let mut sealed = STANDARD.decode(&stored.sealed).map_err(|_| refused())?;
        let (nonce, sealed) = sealed.split_at_mut_checked(NONCE_LEN).ok_or_else(refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
        let text = cipher(&data_key.plaintext)?.open_in_place(nonce, Aad::empty(), sealed);
        Ok(text.map_err(|_| refused())?.to_vec())
    }

    fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        match !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
            true => Ok(self.folder.join(name).with_extension("json")),
            false => Err(other("a name has small letters and dashes")),
        }
    }
}

fn cipher(data_key: &Secret) -> Result<RandomizedNonceKey, Failure> {
    RandomizedNonceKey::new(&AES_256_GCM, data_key.expose()).map_err(|_| other("the data key has not 32 bytes"))
}

fn other(detail: &str) -> Failure {
    Failure::Other(detail.to_owned())
}
