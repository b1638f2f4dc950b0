//! The public halves of RSA keys: fetched once in a while, used here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::Error;
use claviger_provider::oaep::OaepPublic;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::errors::Failed;
use crate::names::KeyArn;

/// How long a public half is used before KMS is asked again: so long a key that its owner
/// disabled at AWS still wraps, though it unwraps no more.
const KEPT: Duration = Duration::from_secs(60);
/// The most public halves of one connection.
const MAX_KEPT: usize = 1024;

/// Public halves by key.
#[derive(Default)]
pub(crate) struct PublicHalves(Mutex<HashMap<KeyArn, (Instant, Arc<OaepPublic>)>>);

impl PublicHalves {
    pub(crate) fn get(&self, key: &KeyArn) -> Option<Arc<OaepPublic>> {
        let kept = self.0.lock();
        let (fetched, half) = kept.get(key)?;
        (fetched.elapsed() < KEPT).then(|| Arc::clone(half))
    }

    pub(crate) fn put(&self, key: KeyArn, half: &Arc<OaepPublic>) {
        let mut kept = self.0.lock();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (fetched, _)| fetched.elapsed() < KEPT);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(key, (Instant::now(), Arc::clone(half)));
        }
    }

    pub(crate) fn forget(&self, key: &KeyArn) {
        self.0.lock().remove(key);
    }
}

/// A public key that is none, or one of another size than the key has.
pub(crate) fn nonsense() -> Error {
    Failed::Nonsense("public key").into_error("get the public key")
}
