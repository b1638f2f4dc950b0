//! RSA keys generated ahead of their use, so that a test on a busy machine does not wait for
//! them. All fakes of a process share one pool; no key is handed out twice.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;

use parking_lot::Mutex;

use crate::json::Algorithm;
use crate::material::{CryptoError, Material, generate};

/// How many keys of one algorithm the pool holds, besides one in each generating thread.
const POOLED: usize = 4;
/// How many threads generate keys of one algorithm.
const THREADS: usize = 2;

type Queue = Arc<Mutex<Receiver<Material>>>;

static QUEUES: LazyLock<Mutex<HashMap<Algorithm, Queue>>> = LazyLock::new(Mutex::default);

fn queue(algorithm: Algorithm) -> Queue {
    let fill = || {
        let (put, take) = sync_channel(POOLED);
        for _ in 0..THREADS {
            let put = put.clone();
            // The threads end with the process, or when the receiver is gone.
            thread::spawn(move || while generate(algorithm).is_ok_and(|key| put.send(key).is_ok()) {});
        }
        Arc::new(Mutex::new(take))
    };
    Arc::clone(QUEUES.lock().entry(algorithm).or_insert_with(fill))
}

/// Takes a key of an RSA algorithm; blocks while the pool is empty.
pub(crate) fn take(algorithm: Algorithm) -> Result<Material, CryptoError> {
    let queue = queue(algorithm);
    let queue = queue.lock();
    queue.recv().map_err(|_| CryptoError)
}
