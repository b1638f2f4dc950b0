//! Cached public keys of RSA key pairs at a provider, used to wrap in this process.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::oaep::OaepPublic;

/// How long a public key is used before it is fetched again. If the owner disables the key at the
/// provider, it still wraps for this long, although it no longer unwraps.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Maximum number of public keys in a connection's cache.
const CAPACITY: usize = 1024;

/// A cache of public keys: each for a minute, at most 1,024 at once. For adapters.
pub struct PublicKeys<K>(Mutex<HashMap<K, (Instant, Arc<OaepPublic>)>>);

impl<K> Default for PublicKeys<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> PublicKeys<K> {
    /// The cached public key, if it is not too old.
    pub fn get(&self, key: &K) -> Option<Arc<OaepPublic>> {
        let kept = self.0.lock();
        let (fetched, public_key) = kept.get(key)?;
        (fetched.elapsed() < MAX_AGE).then(|| Arc::clone(public_key))
    }

    /// Caches a public key, if there is room.
    pub fn put(&self, key: K, public_key: &Arc<OaepPublic>) {
        let mut kept = self.0.lock();
        if kept.len() >= CAPACITY {
            kept.retain(|_, (fetched, _)| fetched.elapsed() < MAX_AGE);
        }
        if kept.len() < CAPACITY {
            kept.insert(key, (Instant::now(), Arc::clone(public_key)));
        }
    }

    /// Removes the public keys whose keys match.
    pub fn forget(&self, matches: impl Fn(&K) -> bool) {
        self.0.lock().retain(|key, _| !matches(key));
    }
}
