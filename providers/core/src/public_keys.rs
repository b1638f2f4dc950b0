//! The public keys of RSA keys that a provider holds: fetched once in a while, used here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::oaep::OaepPublic;

/// How long a public key is used before the provider is asked again: so long a key that its
/// owner disabled there still wraps, though it unwraps no more.
const KEPT: Duration = Duration::from_secs(60);
/// The most public keys of one connection.
const MAX_KEPT: usize = 1024;

/// Public keys by key, each for a minute, at most 1,024 at once. For adapters.
pub struct PublicKeys<K>(Mutex<HashMap<K, (Instant, Arc<OaepPublic>)>>);

impl<K> Default for PublicKeys<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> PublicKeys<K> {
    /// The one that is kept.
    pub fn get(&self, key: &K) -> Option<Arc<OaepPublic>> {
        let kept = self.0.lock();
        let (fetched, public_key) = kept.get(key)?;
        (fetched.elapsed() < KEPT).then(|| Arc::clone(public_key))
    }

    /// Keeps one.
    pub fn put(&self, key: K, public_key: &Arc<OaepPublic>) {
        let mut kept = self.0.lock();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (fetched, _)| fetched.elapsed() < KEPT);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(key, (Instant::now(), Arc::clone(public_key)));
        }
    }

    /// Drops those of the keys that match.
    pub fn forget(&self, matches: impl Fn(&K) -> bool) {
        self.0.lock().retain(|key, _| !matches(key));
    }
}
