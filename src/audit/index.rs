//! What the log knows of itself at one place of the file, and the sidecar that keeps it,
//! so that a start reads only what was written since.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use claviger_provider::{InstallationId, TenantId};

use super::fields::{Node, Origin, Position, Timestamp};
use super::file::{replace, sync_folder};
use super::record::Role;

/// The sidecar's name in the log's folder.
const NAME: &str = "audit.index";

/// What begins its first line; the CRC-32C of the rest follows.
const MAGIC: &str = "claviger-audit-index/1 ";

/// The sums over all records up to one place of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct State {
    /// The next number of each tenant.
    pub(super) next: HashMap<TenantId, u64>,
    /// Intents without an outcome: tenant and number, and where they stand.
    pub(super) open: HashMap<(TenantId, u64), Position>,
    /// The last change that took effect, or may have: its intent's place, or its own where
    /// it had none. Open intents do not count here.
    pub(super) last_effective: Option<Position>,
    /// When the last record was written.
    pub(super) last_time: Option<Timestamp>,
}

impl State {
    /// The number that the tenant's next record gets.
    pub(super) fn next(&self, tenant: TenantId) -> u64 {
        self.next.get(&tenant).copied().unwrap_or(0)
    }

    /// Adds a durable record.
    pub(super) fn add(&mut self, tenant: TenantId, number: u64, role: Role, position: Position, time: Timestamp) {
        self.next.insert(tenant, number + 1);
        self.last_time = Some(time);
        match role {
            Role::Plain => {}
            Role::Opens => {
                self.open.insert((tenant, number), position);
            }
            Role::Closes { intent, effective } => {
                let opened = self.open.remove(&(tenant, intent));
                if effective {
                    self.last_effective = self.last_effective.max(opened);
                }
            }
            Role::Effective => self.last_effective = self.last_effective.max(Some(position)),
        }
    }
}

/// The sidecar's content, a JSON object after its first line.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    /// The log was closed here in good order.
    clean: bool,
    installation: InstallationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_effective: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_time: Option<Timestamp>,
    node: Node,
    /// Everything before this place of the file is summed up here, and was durable.
    offset: u64,
    open: Vec<(TenantId, u64, u64)>,
    tenants: Vec<(TenantId, u64)>,
}

/// What a sidecar tells.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) state: State,
    pub(super) offset: u64,
    pub(super) clean: bool,
}

/// What stands where the sidecar should be.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole one of this log.
    Known(Known),
    /// Something else. It is never trusted: the log is read from its begin.
    Unusable,
    /// Nothing.
    Missing,
}

/// The sidecar file of one log.
#[derive(Debug, Clone)]
pub(super) struct Index {
    path: PathBuf,
}

impl Index {
    pub(super) fn of(folder: &Path) -> Self {
        Self { path: folder.join(NAME) }
    }

    /// Reads it.
    ///
    /// # Errors
    /// What the file system failed with, but for a missing file.
    pub(super) fn read(&self, origin: &Origin) -> io::Result<Found> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(error),
        };
        Ok(decode(&bytes, origin).map_or(Found::Unusable, Found::Known))
    }

    /// Puts the bytes of [`encode`] in its place.
    ///
    /// # Errors
    /// What the file system failed with; the one before is still there then.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        replace(&self.path, bytes)
    }

    /// Takes it away, so that the next start reads everything.
    ///
    /// # Errors
    /// What the file system failed with.
    pub(super) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => sync_folder(&self.path),
        }
    }
}

/// The sidecar's bytes for a state at `offset`.
pub(super) fn encode(origin: &Origin, state: &State, offset: u64, clean: bool) -> Vec<u8> {
    let snapshot = Snapshot {
        clean,
        installation: origin.installation,
        last_effective: state.last_effective.map(|position| position.0),
        last_time: state.last_time,
        node: origin.node.clone(),
        offset,
        open: state
            .open
            .iter()
            .map(|((tenant, number), position)| (*tenant, *number, position.0))
            .collect(),
        tenants: state.next.iter().map(|(tenant, next)| (*tenant, *next)).collect(),
    };
    // Ids, numbers and names: serialising them cannot fail, and an empty rest would be
    // read back as unusable, never as a state.
    let rest = serde_json::to_vec(&snapshot).unwrap_or_default();
    let mut bytes = format!("{MAGIC}{:08x}\n", crc32c::crc32c(&rest)).into_bytes();
    bytes.extend_from_slice(&rest);
    bytes
}

fn decode(bytes: &[u8], origin: &Origin) -> Option<Known> {
    let (check, rest) = bytes.strip_prefix(MAGIC.as_bytes())?.split_first_chunk::<8>()?;
    let rest = rest.strip_prefix(b"\n")?;
    if format!("{:08x}", crc32c::crc32c(rest)).as_bytes() != check {
        return None;
    }
    let snapshot: Snapshot = serde_json::from_slice(rest).ok()?;
    if snapshot.installation != origin.installation || snapshot.node != origin.node {
        return None;
    }
    Some(Known {
        state: State {
            next: snapshot.tenants.into_iter().collect(),
            open: snapshot
                .open
                .into_iter()
                .map(|(tenant, number, at)| ((tenant, number), Position(at)))
                .collect(),
            last_effective: snapshot.last_effective.map(Position),
            last_time: snapshot.last_time,
        },
        offset: snapshot.offset,
        clean: snapshot.clean,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    fn state() -> State {
        let tenant = TenantId::random();
        let mut state = State::default();
        let time = Timestamp::now();
        state.add(tenant, 0, Role::Opens, Position(100), time);
        state.add(tenant, 1, Role::Opens, Position(200), time);
        state.add(
            tenant,
            2,
            Role::Closes {
                intent: 0,
                effective: true,
            },
            Position(300),
            time,
        );
        state.add(TenantId::INSTALLATION, 0, Role::Plain, Position(400), time);
        state
    }

    fn origin() -> Origin {
        Origin {
            installation: InstallationId::random(),
            node: "n1".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (folder, origin, state) = (tempfile::tempdir().unwrap(), origin(), state());
        let index = Index::of(folder.path());
        assert!(matches!(index.read(&origin).unwrap(), Found::Missing));
        index.write(&encode(&origin, &state, 512, true)).unwrap();
        let Found::Known(known) = index.read(&origin).unwrap() else {
            panic!("not read")
        };
        assert_eq!((known.state, known.offset, known.clean), (state, 512, true));
        index.remove().unwrap();
        index.remove().unwrap();
        assert!(matches!(index.read(&origin).unwrap(), Found::Missing));
    }

    #[test]
    fn a_change_counts_when_it_took_effect_and_not_before() {
        let state = state();
        assert_eq!(state.last_effective, Some(Position(100)));
        assert_eq!(state.open.values().collect::<Vec<_>>(), [&Position(200)]);
    }

    #[test]
    fn a_flipped_bit_or_a_cut_or_another_log_makes_it_unusable() {
        let (origin, state) = (origin(), state());
        let good = encode(&origin, &state, 512, false);
        assert!(decode(&good, &origin).is_some());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad, &origin).is_none(), "bit at {at}");
            assert!(decode(&good[..at], &origin).is_none(), "cut at {at}");
        }
        assert!(decode(&good, &self::origin()).is_none());
    }
}
