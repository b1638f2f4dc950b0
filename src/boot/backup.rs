//! `claviger backup`: a copy of a data folder that may be in use.
//!
//! Store and log of the copy must agree, although both grow meanwhile. The store's copy is its state at
//! one moment. The log's copy ends where the log ended just before that moment, or later: after the
//! last intent that the store's copy has applied. So each change in the store has its intent in the log:
//! an intent is durable before its effect. And each outcome in the log has its effect in the store: the
//! outcome follows the effect. Either end keeps that order.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use claviger_provider::Node;

use super::log_position::from_store;
use super::manifest::{MANIFEST, Manifest, ManifestError, at, write_synced};
use super::node::{self, NodeNameError};
use super::registry::{self, DATABASE, STORE_RUN, StoreOpenError};
use crate::audit::{self, LastRecord, Position};
use crate::config::Config;
use crate::parent_folder;

/// How long a running gateway may take to bring back a file of its log.
const BRING_BACK: Duration = Duration::from_secs(5);

/// Why a backup cannot be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant wraps the error of the step that it names")]
pub enum BackupError {
    #[error("there is no store in {}: nothing to back up", .0.display())]
    NoStore(PathBuf),
    #[error(
        "{} is not empty: name a folder that is empty or does not exist. If it has no {MANIFEST}, it is a backup that was not finished: \
         remove it", .0.display()
    )]
    NotEmpty(PathBuf),
    #[error("{} is in the data folder, with which it would be lost: name a folder elsewhere", .0.display())]
    Inside(PathBuf),
    #[error("the log and the store in {} are not of one node", .0.display())]
    NotOne(PathBuf),
    #[error(transparent)]
    Node(#[from] NodeNameError),
    #[error("{0}. If this release has not opened the store yet, start the gateway once, then back up")]
    Store(#[from] StoreOpenError),
    #[error("the audit log: {0}")]
    Log(#[from] audit::OpenError),
    #[error(transparent)]
    File(#[from] ManifestError),
    #[error("a step was aborted")]
    Ended(#[from] tokio::task::JoinError),
}

/// Copies the data folder to an empty or new folder, with a manifest. The gateway may run, and is not
/// delayed. Needs no root key: what is sealed stays sealed, and the root key is not in the copy.
///
/// # Errors
/// See [`BackupError`]. What was made of the copy is removed.
pub async fn backup(config: &Config, to: &Path) -> Result<Manifest, BackupError> {
    let folder = config.storage.data_dir.clone();
    let database = folder.join(DATABASE);
    if !registry::store_exists(&database).map_err(at(&database))? {
        return Err(BackupError::NoStore(folder));
    }
    let node = node::name_in(&folder)?;
    if is_inside(to, &folder).map_err(at(to))? {
        return Err(BackupError::Inside(to.to_owned()));
    }
    let made = prepare(to)?;
    let copied = copy(folder, &database, node, to).await;
    if copied.is_err() {
        remove(to, made);
    }
    copied
}

/// Copies store and log to an empty folder, and writes the manifest.
async fn copy(folder: PathBuf, database: &Path, node: Node, to: &Path) -> Result<Manifest, BackupError> {
    // What the log begins with must stay until it is copied, and the records of its removals be in the copy.
    // The gateway removes what store and log have from the kill file, so that is copied first: what an old entry says is in
    // a later copy of them.
    let (hold, has_kill_file) = {
        let (folder, to) = (folder.clone(), to.to_owned());
        let first = move || {
            let hold = audit::hold_files(&folder).map_err(at(&folder))?;
            Ok::<_, BackupError>((hold, copy_if_exists(&folder, &to, audit::KILL_FILE)?))
        };
        tokio::task::spawn_blocking(first).await??
    };
    let last = registry::last_record_beside(database, &node).await?.map(from_store);
    let until = end_of_log(&folder, last).await?;
    let target = to.join(DATABASE);
    write_synced(&target, &mut io::empty()).map_err(at(&target))?;
    let store = registry::copy_store(database, &target, &node).await?;
    let to = to.to_owned();
    let rest = move || {
        // The next start looks for both in the log.
        let log = audit::copy_log(
            &folder,
            &to,
            until,
            store.last_applied.map(Position),
            store.last_record.map(from_store),
        )?;
        drop(hold);
        if log.origin.node != node || log.origin.installation != store.installation {
            return Err(BackupError::NotOne(folder));
        }
        let mut names = vec![DATABASE.to_owned(), STORE_RUN.to_owned()];
        names.extend(audit::log_files(&to).map_err(at(&to))?.into_iter().map(|part| part.name));
        if copy_if_exists(&folder, &to, node::FILE)? {
            names.push(node::FILE.to_owned());
        }
        if has_kill_file {
            names.push(audit::KILL_FILE.to_owned());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let manifest = Manifest::new(store.installation, node, log.bytes, log.last_time);
        let manifest = Manifest::write(&to, &names, manifest)?;
        File::open(&to).and_then(|folder| folder.sync_all()).map_err(at(&to))?;
        Ok(manifest)
    };
    tokio::task::spawn_blocking(rest).await?
}

/// The position after the log's last record. A gateway brings back what something else took from its log: that is
/// waited for.
async fn end_of_log(folder: &Path, last: Option<LastRecord>) -> Result<u64, BackupError> {
    let begun = Instant::now();
    loop {
        let folder = folder.to_owned();
        match tokio::task::spawn_blocking(move || audit::end_of_log(&folder, last)).await? {
            Err(audit::OpenError::PutBack { .. }) if begun.elapsed() < BRING_BACK => tokio::time::sleep(BRING_BACK / 20).await,
            end => return Ok(end?),
        }
    }
}

/// Whether a path, which need not exist, is in a folder.
fn is_inside(path: &Path, folder: &Path) -> io::Result<bool> {
    let found = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.canonicalize(),
            Some(_) | None => Path::new(".").canonicalize(),
        },
        found => found,
    };
    Ok(found?.starts_with(folder.canonicalize()?))
}

/// Removes what a failed backup left, so that it can be repeated; and the folder, if the backup `made` it. Leaves
/// every other file.
fn remove(to: &Path, made: bool) {
    let parts = audit::log_files(to).unwrap_or_default();
    let fixed = [STORE_RUN, node::FILE, audit::KILL_FILE, MANIFEST].map(str::to_owned);
    let of_store = ["", "-journal", "-wal", "-shm"].map(|end| format!("{DATABASE}{end}"));
    for name in parts.into_iter().map(|part| part.name).chain(fixed).chain(of_store) {
        // What cannot be removed is reported by the next backup, which finds the folder in use.
        let _ = std::fs::remove_file(to.join(name));
    }
    if made {
        let _ = std::fs::remove_dir(to);
    }
}

/// Makes the target, or checks that it is empty. Returns whether it was made.
fn prepare(to: &Path) -> Result<bool, BackupError> {
    match DirBuilder::new().mode(0o700).create(to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if is_empty(to, &[]).map_err(at(to))? {
                Ok(false)
            } else {
                Err(BackupError::NotEmpty(to.to_owned()))
            }
        }
        made => {
            made.map_err(at(to))?;
            // Without its name nothing in it is durable.
            parent_folder::sync(to).map_err(at(to))?;
            Ok(true)
        }
    }
}

/// Whether a folder has no files but these. `lost+found` of a file system's top folder does not count.
pub(super) fn is_empty(folder: &Path, but: &[&str]) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name != "lost+found" && !but.iter().any(|but| name == *but) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy_if_exists(from: &Path, to: &Path, name: &str) -> Result<bool, ManifestError> {
    let (source, target) = (from.join(name), to.join(name));
    match File::open(&source) {
        Ok(mut file) => write_synced(&target, &mut file).map_err(at(&target)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(&source)(error)),
    }
}
