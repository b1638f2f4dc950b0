//! `claviger restore`: puts a backup into an empty data folder.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use claviger_provider::{InstallationId, Node, TenantId};

use super::backup::is_empty;
use super::manifest::{Manifest, ManifestError, at};
use super::registry::DATABASE;
use crate::audit::{self, LogCopy, Timestamp};
use crate::config::Config;
use crate::store::lock::{DataDir, LOCK_FILE, LockError};

/// The newest record of the installation that is known outside of the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewestKnown {
    /// None is known.
    Nothing,
    /// The time of a record or of an answer.
    Time(Timestamp),
    /// The `Claviger-Audit-Index` of an answer.
    Record {
        /// The installation.
        installation: InstallationId,
        /// The node that answered.
        node: Node,
        /// The tenant.
        tenant: TenantId,
        /// The record's number in the tenant's log.
        number: u64,
    },
}

impl FromStr for NewestKnown {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let index = || {
            let (origin, number) = text.split_once('#')?;
            let mut parts = origin.split('/');
            Some(Self::Record {
                installation: parts.next()?.parse().ok()?,
                node: parts.next()?.parse().ok()?,
                tenant: parts.next()?.parse().ok()?,
                number: number.parse().ok()?,
            })
            .filter(|_| parts.next().is_none())
        };
        let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc));
        match text {
            "none" => Ok(Self::Nothing),
            _ => time()
                .map(|time| Self::Time(Timestamp::from_micros(time.timestamp_micros())))
                .or_else(index)
                .ok_or("expected a time such as 2026-11-28T09:15:00Z, a Claviger-Audit-Index, or none"),
        }
    }
}

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant wraps the error of the step that it names")]
pub enum RestoreError {
    #[error(
        "the data folder {} is not empty. Nothing was changed. Move it away: what it still has, such as the newest audit log, may be \
         worth keeping", .0.display()
    )]
    NotEmpty(PathBuf),
    #[error("{} lacks {DATABASE} or its audit log", .0.display())]
    Incomplete(PathBuf),
    #[error("the backup is of the installation {installation} and its node {node}, and the newest known record is another's")]
    Another { installation: InstallationId, node: Node },
    #[error(
        "the backup is older than what is known: {0}. Look for a newer backup. If there is none, repeat the command with \
         --accept-rollback; everything since then is lost, also revocations. Nothing was changed"
    )]
    Older(String),
    #[error("the audit log in the backup: {0}")]
    Log(#[from] audit::OpenError),
    #[error(transparent)]
    Folder(#[from] LockError),
    #[error(transparent)]
    File(#[from] ManifestError),
    #[error("a step was aborted")]
    Ended(#[from] tokio::task::JoinError),
}

/// Verifies a backup and copies it to the configured data folder, which must be empty or missing.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(config: &Config, from: &Path, known: NewestKnown, accept_rollback: bool) -> Result<Manifest, RestoreError> {
    let (from, folder) = (from.to_owned(), config.storage.data_dir.clone());
    tokio::task::spawn_blocking(move || restore_to(&folder, &from, &known, accept_rollback)).await?
}

fn restore_to(folder: &Path, from: &Path, known: &NewestKnown, accept_rollback: bool) -> Result<Manifest, RestoreError> {
    let manifest = Manifest::verified(from)?;
    let log_files = audit::log_files(from).map_err(at(from))?;
    if !manifest.has(DATABASE) || log_files.is_empty() || !log_files.iter().all(|part| manifest.has(&part.name)) {
        return Err(RestoreError::Incomplete(from.to_owned()));
    }
    // A start that was refused has left the lock.
    match is_empty(folder, &[LOCK_FILE]) {
        Ok(true) => {}
        Ok(false) => return Err(RestoreError::NotEmpty(folder.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(folder)(error).into()),
    }
    let log = audit::read_copy(from)?;
    if let Some(missing) = missing(&log, known)?
        && !accept_rollback
    {
        return Err(RestoreError::Older(missing));
    }
    // It makes the folder, and its name durable.
    let _lock = DataDir::lock(folder)?;
    // The store last: a folder with a log and without a store is refused by every start.
    let (store, others): (Vec<_>, Vec<_>) = manifest.files.iter().partition(|file| file.name == DATABASE);
    for file in others.into_iter().chain(store) {
        file.copy(from, folder)?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
    Ok(manifest)
}

/// What the log lacks of what is known; `None` if it has all of it.
fn missing(log: &LogCopy, known: &NewestKnown) -> Result<Option<String>, RestoreError> {
    match known {
        NewestKnown::Nothing => Ok(None),
        NewestKnown::Time(time) => Ok(match log.last_time {
            Some(last) if last.micros() >= time.micros() => None,
            Some(last) => Some(format!("its last record is of {last}")),
            None => Some("it has no record".to_owned()),
        }),
        NewestKnown::Record {
            installation,
            node,
            tenant,
            number,
        } => {
            if (*installation, node) != (log.origin.installation, &log.origin.node) {
                return Err(RestoreError::Another {
                    installation: log.origin.installation,
                    node: log.origin.node.clone(),
                });
            }
            let has = log.records(*tenant);
            Ok((*number >= has).then(|| {
                format!(
                    "of this tenant it has {has} records, and at least {} more existed",
                    number - has + 1
                )
            }))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_a_time_an_index_or_nothing() {
        let parse = |text: &str| text.parse::<NewestKnown>();
        assert_eq!(parse("none"), Ok(NewestKnown::Nothing));
        let time = Timestamp::from_micros(1_764_321_300_000_000);
        assert_eq!(parse(&time.to_string()), Ok(NewestKnown::Time(time)));
        let (installation, tenant) = (InstallationId::random(), TenantId::random());
        let record = NewestKnown::Record {
            installation,
            node: "n1".parse().unwrap(),
            tenant,
            number: 7,
        };
        assert_eq!(parse(&format!("{installation}/n1/{tenant}#7")), Ok(record));
        for wrong in ["", "yesterday", "2026-11-28", &format!("{installation}/n1/{tenant}/x#7"), "a/b/c#1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
