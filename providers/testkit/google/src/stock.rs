//! RSA keys drawn ahead of their use, so that a test does not wait for them on a busy machine.
//! One stock for all fakes of a process; no key is given out twice.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;

use parking_lot::Mutex;

use crate::material::{Broken, Material, generate};
use crate::wire::Algorithm;

/// The most keys of an algorithm that lie ready, beside one in the hands of each thread.
const READY: usize = 4;
/// The threads that draw keys of an algorithm.
const THREADS: usize = 2;

type Shelf = Arc<Mutex<Receiver<Material>>>;

static SHELVES: LazyLock<Mutex<HashMap<Algorithm, Shelf>>> = LazyLock::new(Mutex::default);

fn shelf(algorithm: Algorithm) -> Shelf {
    let fill = || {
        let (put, take) = sync_channel(READY);
        for _ in 0..THREADS {
            let put = put.clone();
            // They end with the process, or when nobody can take any more.
            thread::spawn(move || while generate(algorithm).is_ok_and(|key| put.send(key).is_ok()) {});
        }
        Arc::new(Mutex::new(take))
    };
    Arc::clone(SHELVES.lock().entry(algorithm).or_insert_with(fill))
}

/// Takes a key of an RSA algorithm; waits while there is none.
pub(crate) fn take(algorithm: Algorithm) -> Result<Material, Broken> {
    let shelf = shelf(algorithm);
    let shelf = shelf.lock();
    shelf.recv().map_err(|_| Broken)
}
