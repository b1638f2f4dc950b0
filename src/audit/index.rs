//! The sidecar `audit.index`: the log's state at one offset of the file, so that a start reads
//! only what was written after it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use claviger_provider::{InstallationId, Node, TenantId};

use super::fields::Lost;
use super::file::{Disk, named, remove_durably};
use super::numbers::Numbers;
use super::origin::{Origin, Position};
use super::scalar::Timestamp;
use super::state::{Begun, EffectivePositions, Loss, State};

/// The sidecar's name in the log's folder.
pub(super) const NAME: &str = "audit.index";

/// The beginning of its first line. The CRC-32C of the rest follows.
const MAGIC: &str = "claviger-audit-index/1 ";

/// The sidecar's content: a JSON object after the first line.
#[derive(Debug, Serialize, Deserialize)]
struct Snapshot {
    /// The last complete removal: where the log begins, the place of its records, and the last change
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<(u64, u64, u64)>,
    /// Whether records may follow the offset of a broken log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    behind: bool,
    /// Whether the log's files were being brought back, or what is lost of them marked: it may lack a part before this
    /// offset.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    broken: bool,
    /// Whether the log was closed at this offset, with every record written.
    clean: bool,
    /// From where whole frames lead to the offset. Absent in sidecars of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<u64>,
    /// The positions of changes that took effect, and since where they are complete. Absent in
    /// sidecars of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effective: Option<(u64, Vec<u64>)>,
    /// The first number of a tenant that is not among `tenants`.
    #[serde(default, skip_serializing_if = "is_zero")]
    first: u64,
    installation: InstallationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_effective: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_time: Option<Timestamp>,
    /// The lost parts of the file, each with whether it was reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    losses: Vec<(Lost, bool)>,
    /// Where lost parts begin, and the last position in each that the store has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost_changes: Vec<(u64, u64)>,
    node: Node,
    /// The state covers all records before this offset, which were durable.
    offset: u64,
    open: Vec<(TenantId, u64, u64)>,
    /// As `begun`, of a removal that is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removing: Option<(u64, u64, u64)>,
    tenants: Vec<(TenantId, u64)>,
    /// Those of `effective` that the store may never get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    uncertain: Vec<u64>,
}

/// The content of a valid sidecar.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) state: State,
    pub(super) tip: Tip,
    pub(super) standing: Standing,
}

impl Known {
    /// Whether a part before the offset may be missing.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.standing, Standing::Broken { .. })
    }

    /// Up to where each tenant's next number is known, beside a store that knows a log of at least this length.
    pub(super) fn knows_numbers_until(&self, stored: u64) -> u64 {
        let is_last = match self.standing {
            Standing::Clean | Standing::Broken { behind: false } => self.tip.end >= stored,
            // The log went on after its sidecar was written.
            Standing::InUse | Standing::Broken { behind: true } => false,
        };
        self.tip.end.saturating_sub(u64::from(!is_last))
    }
}

/// The end of what is durable, and how to find out whether the log still has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tip {
    /// The position behind the last whole frame.
    pub(super) end: u64,
    /// The position of the last commit, or of the header or skip behind it: whole frames lead from
    /// there to the end. `None` if it is not known.
    pub(super) commit: Option<u64>,
}

/// What a sidecar says of the log beside its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Closed, with every record written.
    Clean,
    /// In use, or closed without some records.
    InUse,
    /// A file of it was removed, replaced or cut: it may lack a part before the offset.
    Broken {
        /// Whether records may follow the offset.
        behind: bool,
    },
}

/// The result of reading the sidecar.
#[derive(Debug)]
pub(super) enum Found {
    /// A valid sidecar of this log.
    Known(Box<Known>),
    /// A damaged file, or one of another log. It is never trusted: the log is read from its
    /// beginning.
    Unusable,
    /// The file does not exist.
    Missing,
}

/// The sidecar file of one log.
#[derive(Clone)]
pub(super) struct Index {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Index {
    /// The sidecar of the log in that folder.
    pub(super) fn of(folder: &Path, disk: Arc<dyn Disk>) -> Self {
        let path = folder.join(NAME);
        Self { disk, path }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Errors of the file system, except for a missing file.
    pub(super) fn read(&self, origin: &Origin) -> io::Result<Found> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(named(&self.path, &error)),
        };
        Ok(decode(&bytes, origin).map_or(Found::Unusable, |known| Found::Known(Box::new(known))))
    }

    /// Says that the log may lack parts, before any is marked: a start that comes after a crash in between must look for
    /// them, and read what is marked.
    ///
    /// # Errors
    /// Errors of the file system; nothing may be marked then.
    pub(super) fn mark_broken(&self, origin: &Origin, found: &Found) -> io::Result<()> {
        let Found::Known(known) = found else { return Ok(()) };
        if known.is_broken() {
            return Ok(());
        }
        let behind = known.standing == Standing::InUse;
        self.write(&encode(origin, &known.state, known.tip, Standing::Broken { behind }))
    }

    /// Replaces the file with the bytes of [`encode`].
    ///
    /// # Errors
    /// Errors of the file system; the old file is unchanged then.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.disk.replace(&self.path, bytes)
    }

    /// Removes the file, so that the next start reads the whole log.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove_durably(&*self.disk, &self.path)
    }
}

/// Writes the sidecar while the log runs.
pub(super) struct IndexWriter {
    index: Index,
    /// How far the log grows between two writes of the sidecar, in bytes
    /// ([`super::Options::snapshot_bytes`]).
    every: u64,
    /// The log's length at the last write.
    written_at: u64,
    thread: Option<JoinHandle<()>>,
}

impl IndexWriter {
    /// A writer for a log of that length, whose sidecar is up to date.
    pub(super) fn new(index: Index, every: u64, length: u64) -> Self {
        Self {
            index,
            every,
            written_at: length,
            thread: None,
        }
    }

    /// Writes the sidecar on a thread of its own, if the log has grown enough since the last
    /// time and that thread has finished.
    pub(super) fn update(&mut self, origin: &Origin, state: &State, tip: Tip) {
        if tip.end - self.written_at < self.every || self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.written_at = tip.end;
        let bytes = encode(origin, state, tip, Standing::InUse);
        let index = self.index.clone();
        self.thread = Some(std::thread::spawn(move || {
            write_or_warn(&index, &bytes);
        }));
    }

    /// Writes the sidecar now. Returns whether that was possible; the old one stays otherwise.
    pub(super) fn write(&mut self, origin: &Origin, state: &State, tip: Tip, standing: Standing) -> bool {
        self.written_at = tip.end;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        write_or_warn(&self.index, &encode(origin, state, tip, standing))
    }
}

fn write_or_warn(index: &Index, bytes: &[u8]) -> bool {
    let written = index.write(bytes);
    if let Err(error) = &written {
        tracing::warn!(%error, "the audit log's sidecar could not be written; the next start reads more of the log");
    }
    written.is_ok()
}

/// The sidecar's bytes for a state at that tip.
pub(super) fn encode(origin: &Origin, state: &State, tip: Tip, standing: Standing) -> Vec<u8> {
    let snapshot = Snapshot {
        begun: state.begun.map(parts),
        behind: standing == (Standing::Broken { behind: true }),
        broken: matches!(standing, Standing::Broken { .. }),
        clean: standing == Standing::Clean,
        commit: tip.commit,
        effective: Some((
            state.effective.since.0,
            state.effective.positions.iter().map(|position| position.0).collect(),
        )),
        first: state.numbers.first,
        installation: origin.installation,
        last_effective: state.last_effective.map(|position| position.0),
        last_time: state.last_time,
        losses: state.losses.iter().map(|loss| (loss.lost, loss.reported)).collect(),
        lost_changes: state
            .losses
            .iter()
            .filter_map(|loss| Some((loss.lost.from.get(), loss.changed?.0)))
            .collect(),
        node: origin.node.clone(),
        offset: tip.end,
        open: state
            .open
            .iter()
            .map(|((tenant, number), position)| (*tenant, *number, position.0))
            .collect(),
        removing: state.removing.map(parts),
        tenants: state.numbers.next.iter().map(|(tenant, next)| (*tenant, *next)).collect(),
        uncertain: state.effective.uncertain.iter().map(|position| position.0).collect(),
    };
    // Serializing ids, numbers and names cannot fail. If it did, the empty rest would be read
    // as unusable, never as a state.
    let rest = serde_json::to_vec(&snapshot).unwrap_or_default();
    let mut bytes = format!("{MAGIC}{:08x}\n", crc32c::crc32c(&rest)).into_bytes();
    bytes.extend_from_slice(&rest);
    bytes
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn parts(begun: Begun) -> (u64, u64, u64) {
    (begun.to, begun.records.0, begun.changed)
}

fn begun((to, records, changed): (u64, u64, u64)) -> Begun {
    Begun {
        to,
        records: Position(records),
        changed,
    }
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
    let changed = |lost: Lost| {
        let found = snapshot.lost_changes.iter().find(|(from, _)| *from == lost.from.get());
        found.map(|(_, changed)| Position(*changed))
    };
    let losses = snapshot.losses.iter().map(|(lost, reported)| Loss {
        lost: *lost,
        changed: changed(*lost),
        reported: *reported,
    });
    let losses = losses.collect();
    let (since, positions) = snapshot.effective.unwrap_or((snapshot.offset, Vec::new()));
    Some(Known {
        state: State {
            numbers: Numbers {
                next: snapshot.tenants.into_iter().collect(),
                first: snapshot.first,
            },
            open: snapshot
                .open
                .into_iter()
                .map(|(tenant, number, at)| ((tenant, number), Position(at)))
                .collect(),
            last_effective: snapshot.last_effective.map(Position),
            effective: EffectivePositions {
                since: Position(since),
                positions: positions.into_iter().map(Position).collect(),
                uncertain: snapshot.uncertain.into_iter().map(Position).collect(),
            },
            stored: None,
            last_time: snapshot.last_time,
            losses,
            begun: snapshot.begun.map(begun),
            removing: snapshot.removing.map(begun),
        },
        tip: Tip {
            end: snapshot.offset,
            commit: snapshot.commit,
        },
        standing: match (snapshot.broken, snapshot.clean) {
            (true, _) => Standing::Broken { behind: snapshot.behind },
            (false, true) => Standing::Clean,
            (false, false) => Standing::InUse,
        },
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]
mod tests {
    use super::super::file::RealDisk;
    use super::super::role::{Effect, Role};
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
                effect: Effect::Certain,
            },
            Position(300),
            time,
        );
        state.add(TenantId::INSTALLATION, 0, Role::Effective, Position(400), time);
        state
    }

    fn origin() -> Origin {
        Origin {
            installation: InstallationId::random(),
            node: "n1".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (folder, origin, mut state) = (tempfile::tempdir().unwrap(), origin(), state());
        let index = Index::of(folder.path(), Arc::new(RealDisk));
        assert!(matches!(index.read(&origin).unwrap(), Found::Missing));
        state.lose(Lost::new(50, 150));
        assert_eq!(state.losses[0].changed, Some(Position(100)));
        assert_eq!(state.effective.uncertain, [Position(400)]);
        state.numbers.first = 7;
        let tip = Tip {
            end: 512,
            commit: Some(400),
        };
        for behind in [false, true] {
            let standing = Standing::Broken { behind };
            index.write(&encode(&origin, &state, tip, standing)).unwrap();
            let Found::Known(known) = index.read(&origin).unwrap() else {
                panic!("not read")
            };
            assert_eq!((&known.state, known.tip, known.standing), (&state, tip, standing));
        }
        index.remove().unwrap();
        index.remove().unwrap();
        assert!(matches!(index.read(&origin).unwrap(), Found::Missing));
    }

    #[test]
    fn a_flipped_bit_a_missing_end_or_another_log_makes_it_unusable() {
        let (origin, state) = (origin(), state());
        let tip = Tip { end: 512, commit: None };
        let good = encode(&origin, &state, tip, Standing::InUse);
        assert!(decode(&good, &origin).is_some());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad, &origin).is_none(), "bit at {at}");
            assert!(decode(&good[..at], &origin).is_none(), "truncated at {at}");
        }
        assert!(decode(&good, &self::origin()).is_none());
    }
}
