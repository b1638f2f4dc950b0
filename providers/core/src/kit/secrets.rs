//! The secrets of a connection as they are at a login: given ones, or the contents of the operator's files,
//! which other processes replace (Kubernetes' projected tokens live minutes).

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::settings::Secrets;
use crate::{Secret, SecretFiles};

/// The secrets of one connection.
pub struct ConnectionSecrets {
    files: Option<Arc<dyn SecretFiles>>,
    latest: Mutex<Arc<Secrets>>,
}

/// Why the files cannot be used, without any of their content.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SecretsError(String);

impl SecretsError {
    /// What to do about it.
    pub const ADVICE: &'static str =
        "A file that the operator's configuration names for this connection's secrets cannot be read or used; the gateway's log names it.";
}

impl ConnectionSecrets {
    /// With the secrets of the connection's parts.
    pub fn new(given: Secrets, files: Option<Arc<dyn SecretFiles>>) -> Self {
        Self {
            files,
            latest: Mutex::new(Arc::new(given)),
        }
    }

    /// The files that are read at each login.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.as_ref().map(|files| files.paths()).unwrap_or_default()
    }

    /// The secrets as they were read last.
    pub fn latest(&self) -> Arc<Secrets> {
        Arc::clone(&self.latest.lock())
    }

    /// The secrets as they are now: reads the files. Returns the same value as before if nothing has changed.
    ///
    /// # Errors
    /// Why the files cannot be used.
    pub async fn read(&self) -> Result<Arc<Secrets>, SecretsError> {
        let Some(files) = self.files.clone() else {
            return Ok(self.latest());
        };
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let read = read.map_err(|error| SecretsError(error.to_string()))?.map_err(SecretsError)?;
        let mut latest = self.latest.lock();
        if **latest != read {
            *latest = Arc::new(read);
        }
        Ok(Arc::clone(&latest))
    }
}

/// The secret of this name, copied.
pub fn secret(secrets: &Secrets, wanted: &str) -> Option<Secret> {
    let (_, value) = secrets.iter().find(|(name, _)| name == wanted)?;
    Some(Secret::copy_from(value.expose()))
}

/// The identity of some files' contents, without reading them: it changes when one of them is replaced or
/// written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp(Vec<Option<[i64; 7]>>);

impl Stamp {
    /// Looks at the files. A file that cannot be looked at has an identity of its own.
    pub async fn of(paths: &[PathBuf]) -> Self {
        let mut stamps = Vec::with_capacity(paths.len());
        for path in paths {
            // Follows links: Kubernetes replaces a link to the folder.
            let metadata = tokio::fs::metadata(path).await.ok();
            stamps.push(metadata.map(|file| {
                let [device, inode, length] = [file.dev(), file.ino(), file.len()].map(u64::cast_signed);
                [
                    device,
                    inode,
                    length,
                    file.mtime(),
                    file.mtime_nsec(),
                    file.ctime(),
                    file.ctime_nsec(),
                ]
            }));
        }
        Self(stamps)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::{ConnectionSecrets, Stamp, secret};
    use crate::{Secret, SecretFiles, fill_random};

    struct Scratch(PathBuf);

    impl SecretFiles for Scratch {
        fn paths(&self) -> Vec<PathBuf> {
            vec![self.0.clone()]
        }

        fn read(&self) -> Result<Vec<(String, Secret)>, String> {
            let content = std::fs::read(&self.0).map_err(|error| error.kind().to_string())?;
            Ok(vec![("token".to_owned(), Secret::new(content))])
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    fn scratch() -> Scratch {
        let mut name = [0; 8];
        fill_random(&mut name);
        Scratch(std::env::temp_dir().join(format!("claviger-secrets-{}", u64::from_le_bytes(name))))
    }

    #[tokio::test]
    async fn files_are_read_each_time() {
        let file = Arc::new(scratch());
        let secrets = ConnectionSecrets::new(Vec::new(), Some(Arc::clone(&file) as Arc<dyn SecretFiles>));
        assert!(secrets.read().await.is_err());
        let absent = Stamp::of(&secrets.paths()).await;
        std::fs::write(&file.0, "one").unwrap();
        let first = secrets.read().await.unwrap();
        let present = Stamp::of(&secrets.paths()).await;
        assert!(Arc::ptr_eq(&first, &secrets.read().await.unwrap()), "nothing has changed");
        assert_eq!(present, Stamp::of(&secrets.paths()).await);
        std::fs::write(&file.0, "second").unwrap();
        assert_eq!(secret(&secrets.read().await.unwrap(), "token").unwrap().expose(), b"second");
        let changed = Stamp::of(&secrets.paths()).await;
        assert!(absent != present && present != changed);
    }

    #[tokio::test]
    async fn a_file_that_is_written_in_place_within_a_second_has_another_stamp() {
        let file = scratch();
        let written = |content: &str| {
            std::fs::write(&file.0, content).unwrap();
            let file = std::fs::metadata(&file.0).unwrap();
            (file.mtime(), file.mtime_nsec())
        };
        // The clock of files moves in steps, and the second may end in between.
        loop {
            let (second, begin) = written("1111");
            let first = Stamp::of(std::slice::from_ref(&file.0)).await;
            let (mut again, mut end) = written("2222");
            while (again, end) == (second, begin) {
                (again, end) = written("2222");
            }
            assert_ne!(Stamp::of(std::slice::from_ref(&file.0)).await, first);
            if again == second {
                break;
            }
        }
    }
}
