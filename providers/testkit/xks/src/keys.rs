//! The keys of the key manager, with their versions. The version is in the metadata of each ciphertext.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::crypto::{self, KEY, Parts};
use crate::responses::{Refusal, Result};

/// The metadata of a ciphertext begins with it; the version's number in four bytes follows.
const MARK: u8 = b'v';

/// The only specification whose keys encrypt.
const SPEC: &str = "AES_256";

/// A key, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// What it may be used for: `ENCRYPT`, `DECRYPT`.
    pub usage: Vec<String>,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Its specification, as its metadata tell it.
    pub spec: String,
    versions: Vec<[u8; KEY]>,
}

impl Key {
    /// A new key for these uses.
    pub fn new(usage: &[&str]) -> Self {
        Self {
            usage: usage.iter().map(ToString::to_string).collect(),
            enabled: true,
            spec: SPEC.to_owned(),
            versions: vec![crypto::random()],
        }
    }

    /// New material for further encryptions. Older ciphertexts open.
    pub fn rotate(&mut self) {
        self.versions.push(crypto::random());
    }

    fn permit(&self, usage: &str) -> Result<()> {
        if !self.enabled {
            return Err(Refusal::state());
        }
        if self.spec != SPEC || !self.usage.iter().any(|permitted| permitted == usage) {
            return Err(Refusal::usage());
        }
        Ok(())
    }

    /// Encrypts with the newest version. With `verified`, decrypts to see that it opens.
    pub(crate) fn encrypt(&self, plaintext: Vec<u8>, aad: &[u8], verified: bool) -> Result<Parts> {
        self.permit("ENCRYPT")?;
        if verified {
            self.permit("DECRYPT")?;
        }
        let newest = self.versions.len() - 1;
        let number = u32::try_from(newest).map_err(|_| Refusal::internal())?;
        let metadata = [&[MARK], &number.to_be_bytes()[..]].concat();
        let length = plaintext.len();
        let parts = crypto::encrypt(&self.versions[newest], plaintext, aad, metadata).ok_or_else(Refusal::internal)?;
        if verified && self.decrypt(&parts, aad)?.len() != length {
            return Err(Refusal::internal());
        }
        Ok(parts)
    }

    /// Decrypts with the version that the metadata names.
    pub(crate) fn decrypt(&self, parts: &Parts, aad: &[u8]) -> Result<Vec<u8>> {
        self.permit("DECRYPT")?;
        let number = match parts.metadata.as_slice() {
            [MARK, number @ ..] => <[u8; 4]>::try_from(number).ok(),
            _ => None,
        };
        let number = number.and_then(|number| usize::try_from(u32::from_be_bytes(number)).ok());
        let material = number.and_then(|number| self.versions.get(number));
        let opened = material.and_then(|material| crypto::decrypt(material, parts, aad));
        opened.ok_or_else(Refusal::ciphertext)
    }
}

/// All keys, by their ids.
#[derive(Debug, Default)]
pub struct Keys(Mutex<BTreeMap<String, Key>>);

impl Keys {
    /// Adds a key for both uses, in place of the one with this id.
    pub fn make(&self, id: &str) {
        self.put(id, Key::new(&["ENCRYPT", "DECRYPT"]));
    }

    /// Makes a key of a new id, and returns the id.
    pub fn make_another(&self) -> String {
        let id = format!("key-{}", hex::encode(crypto::random::<8>()));
        self.make(&id);
        id
    }

    /// Adds a key, in place of the one with this id.
    pub fn put(&self, id: &str, key: Key) {
        self.0.lock().insert(id.to_owned(), key);
    }

    /// Changes a key; without effect if there is none.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Key)) {
        if let Some(key) = self.0.lock().get_mut(id) {
            change(key);
        }
    }

    /// Removes a key for good.
    pub fn remove(&self, id: &str) {
        self.0.lock().remove(id);
    }

    pub(crate) fn get(&self, id: &str) -> Result<Key> {
        self.0.lock().get(id).cloned().ok_or_else(Refusal::not_found)
    }
}
