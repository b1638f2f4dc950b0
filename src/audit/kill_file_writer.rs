//! Writes revocations to the kill file on a thread that exists from the start. A revocation must depend on no new
//! thread, of which the system may have none left, and wait for none of the threads for blocking work.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use super::kill_file::{KillEntry, KillFile, KillFileError};

/// A revocation, and where the result of its push goes.
type Push = (KillEntry, oneshot::Sender<Result<(), KillFileError>>);

/// The kill file with its thread, which ends with this value.
pub struct KillFileWriter {
    file: Arc<KillFile>,
    pushes: mpsc::Sender<Push>,
}

impl KillFileWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives it none.
    pub fn start(file: KillFile) -> io::Result<Self> {
        let file = Arc::new(file);
        let (pushes, queue) = mpsc::channel::<Push>();
        let to = Arc::clone(&file);
        let write = move || {
            for (entry, pushed) in queue {
                // One that panics must not keep the later ones from the file.
                if let Ok(result) = catch_unwind(AssertUnwindSafe(|| to.push(entry))) {
                    // Without a receiver the caller is gone, and the revocation counts all the same.
                    let _ = pushed.send(result);
                }
            }
        };
        thread::Builder::new().name("kill_file".to_owned()).spawn(write)?;
        Ok(Self { file, pushes })
    }

    /// The file.
    pub const fn file(&self) -> &Arc<KillFile> {
        &self.file
    }

    /// [`KillFile::push`] on the thread. Pushes are carried out one after another.
    ///
    /// # Errors
    /// See [`KillFile::push`].
    pub async fn push(&self, entry: KillEntry) -> Result<(), KillFileError> {
        let (result, pushed) = oneshot::channel();
        self.pushes
            .send((entry, result))
            .map_err(|_| io::Error::other("the thread has ended"))?;
        pushed.await.map_err(io::Error::other)?
    }
}
