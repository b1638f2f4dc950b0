//! One key and one connection in memory, with the gates that answers pass.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claviger_provider::{ConnectionId, Error, KeyId, Pipeline, SeverSwitch, TenantId};
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::in_use::{Allowance, KeyUse};
use super::places::KeyPlaces;
use super::unusable::Reason;
use super::view::KeyView;
use super::wraps::ReservedWraps;
use crate::loading_cache::{Loads, Room};
use crate::store::model::{Connection, Key, KeyVersion};

/// A connection's row as it was at one moment.
pub type ConnectionView = Arc<Connection>;

/// A connection's row, and the pipeline that was made from it.
pub(super) struct Reach {
    pub(super) row: ConnectionView,
    pipeline: Pipeline,
    /// Why each call through the pipeline fails, if no provider can be made of the row.
    unusable: Option<Reason>,
}

impl Reach {
    /// Stops the traffic of a severed connection. In the same step as the row: once the gate is free,
    /// nothing is sent any more.
    fn stop_if_severed(&self) {
        if self.row.severed {
            self.pipeline.sever();
        }
    }
}

/// A connection in memory.
pub struct ConnectionEntry {
    id: ConnectionId,
    tenant: TenantId,
    gate: RwLock<Reach>,
    change: Mutex<()>,
    looks: Allowance,
    revocations: RevocationCounter,
    /// What stops the calls of a restore that tries the connection.
    trial: parking_lot::Mutex<Option<SeverSwitch>>,
    loads: Arc<Loads<ConnectionId>>,
}

/// A restore that tries a severed connection. Dropped, it stops what the trial still sends.
pub struct Trial<'c> {
    connection: &'c ConnectionEntry,
    switch: Option<SeverSwitch>,
}

impl Trial<'_> {
    /// Ends the trial: the connection has its pipeline now.
    pub fn taken_over(mut self) {
        self.switch = None;
    }

    /// Ends the trial, and waits until nothing of it is under way any more, at most for `at_most`.
    pub async fn stop(self, at_most: Duration) {
        let switch = self.switch.clone();
        drop(self);
        if let Some(switch) = switch {
            let _stopped = tokio::time::timeout(at_most, switch.stopped()).await;
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        *self.connection.trial.lock() = None;
        if let Some(switch) = &self.switch {
            switch.sever();
        }
    }
}

/// How many checks of a connection look at its keys one after another, and in which time one more: a provider that
/// describes its keys otherwise each time must not fill store and log.
const LOOKS_AT_ONCE: u32 = 8;
const LOOKS_EVERY: Duration = Duration::from_secs(10);

/// How often an object was revoked since it was loaded, repeated revocations included. An
/// enable or a restore compares it to find a revocation that arrived after it began.
#[derive(Default)]
pub struct RevocationCounter(AtomicU64);

impl RevocationCounter {
    /// The number so far.
    pub fn seen(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Counts one, with the gate held exclusively.
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl ConnectionEntry {
    pub(super) fn new(connection: Connection, pipeline: Pipeline, loads: Arc<Loads<ConnectionId>>) -> Self {
        Self {
            id: connection.id,
            tenant: connection.tenant,
            gate: RwLock::new(Reach {
                row: Arc::new(connection),
                pipeline,
                unusable: None,
            }),
            change: Mutex::new(()),
            looks: Allowance::new(LOOKS_AT_ONCE, LOOKS_EVERY),
            revocations: RevocationCounter::default(),
            trial: parking_lot::Mutex::new(None),
            loads,
        }
    }

    /// Whether a check may look at the connection's keys now.
    pub fn may_look(&self) -> bool {
        self.looks.take(Instant::now())
    }

    /// An entry whose pipeline fails each call for this reason.
    pub(super) fn unusable(mut self, reason: Reason) -> Self {
        self.gate.get_mut().unusable = Some(reason);
        self
    }

    /// Why no provider can be made of the connection; `None` if one was.
    pub(super) fn why_unusable(&self) -> Option<Error> {
        let reach = self.gate.read();
        reach.unusable.as_ref().map(|reason| reason.error(reach.row.provider))
    }

    /// The connection's id.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The connection's tenant.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The pipeline to the provider. In-flight calls keep using the old pipeline when it is
    /// replaced.
    pub fn pipeline(&self) -> Pipeline {
        self.gate.read().pipeline.clone()
    }

    /// The switch that stops the connection's traffic.
    pub fn switch(&self) -> SeverSwitch {
        self.gate.read().pipeline.switch().clone()
    }

    /// The row as it is now.
    pub fn view(&self) -> ConnectionView {
        Arc::clone(&self.gate.read().row)
    }

    /// Serialises the changes of this connection's row. Hold it while the store commits, and
    /// never while waiting for the log or a provider: a sever waits for it.
    pub const fn change(&self) -> &Mutex<()> {
        &self.change
    }

    /// Counts the severs.
    pub const fn revocations(&self) -> &RevocationCounter {
        &self.revocations
    }

    pub(super) const fn reach(&self) -> &RwLock<Reach> {
        &self.gate
    }

    /// Puts a committed row in place, with the gate held exclusively. Once this returns, no answer
    /// made under another epoch is handed over. Loads under way read the row again.
    ///
    /// A severed connection stays severed, since memory may have a sever that the store could not take.
    pub fn put(&self, connection: Connection) {
        let mut reach = self.gate.write();
        reach.row = Arc::new(keeping_a_sever(connection, &reach.row));
        reach.stop_if_severed();
        drop(reach);
        self.loads.note_change(&self.id);
    }

    /// Puts the row that a sever committed in place, unless the row in memory is newer. Counts the
    /// sever in both cases, so that a restore that began before the sever fails.
    pub(super) fn put_revoked(&self, row: &Connection) {
        let mut reach = self.gate.write();
        if reach.row.revision <= row.revision {
            reach.row = Arc::new(row.clone());
        }
        reach.stop_if_severed();
        self.revocations.count();
        if let Some(trial) = &*self.trial.lock() {
            trial.sever();
        }
    }

    /// Begins to try a severed connection through a pipeline with this switch, which the next sever closes, too.
    /// `None` while another restore tries it.
    pub fn begin_trial(&self, switch: SeverSwitch) -> Option<Trial<'_>> {
        let mut trial = self.trial.lock();
        if trial.is_some() {
            return None;
        }
        *trial = Some(switch.clone());
        Some(Trial {
            connection: self,
            switch: Some(switch),
        })
    }

    /// Waits until no call through a severed connection is under way any more, at most for `at_most`.
    pub async fn calls_stopped(&self, at_most: Duration) {
        let (switch, trial) = (self.switch(), self.trial.lock().clone());
        let stopped = async {
            switch.stopped().await;
            if let Some(trial) = trial {
                trial.stopped().await;
            }
        };
        if tokio::time::timeout(at_most, stopped).await.is_err() {
            tracing::warn!(connection = %self.id, "calls through a severed connection have not ended yet");
        }
    }

    /// As [`ConnectionEntry::put`], with a new pipeline, which the next call uses. It has the
    /// connection's own switch, so that a sever also ends the calls that use the old one.
    pub fn put_with(&self, connection: Connection, pipeline: Pipeline) {
        let mut reach = self.gate.write();
        *reach = Reach {
            row: Arc::new(keeping_a_sever(connection, &reach.row)),
            pipeline,
            unusable: None,
        };
        reach.stop_if_severed();
        drop(reach);
        self.loads.note_change(&self.id);
    }

    /// As [`ConnectionEntry::put`], with the row that a restore committed and a new pipeline, because that of
    /// a severed connection never sends again.
    pub fn put_restored(&self, connection: Connection, pipeline: Pipeline) {
        let mut reach = self.gate.write();
        // If the store could not take the sever, only the epoch in memory grew. It must grow again.
        let epoch = connection.epoch.max(reach.row.epoch + u64::from(reach.row.severed));
        *reach = Reach {
            row: Arc::new(Connection { epoch, ..connection }),
            pipeline,
            unusable: None,
        };
        drop(reach);
        self.loads.note_change(&self.id);
    }
}

/// A key in memory: its rows, and the locks that its changes take. There is at most one open entry
/// for a key; a closed one lets no answer through.
///
/// The entry contains no connection. Each version has its own, which [`super::Directory::reach`]
/// finds, so that a connection that cannot be used does not affect the versions on other
/// connections.
pub struct KeyEntry {
    id: KeyId,
    tenant: TenantId,
    /// `None` once the key was detached. The gate is closed then.
    rows: RwLock<Option<KeyView>>,
    change: Mutex<()>,
    at_provider: Mutex<()>,
    /// The last questions to providers about the state of one of the key's provider keys, by connection.
    asked: parking_lot::Mutex<HashMap<(ConnectionId, String), Asked>>,
    in_use: KeyUse,
    learning: Allowance,
    wraps: ReservedWraps,
    revocations: RevocationCounter,
    loads: Arc<Loads<(TenantId, KeyId)>>,
    places: KeyPlaces,
}

/// How many versions wraps of one key may bring to light one after another, and in which time one more: a
/// provider that names another version with every wrap must not fill store and log.
const LEARNED_AT_ONCE: u32 = 32;
const LEARNED_EVERY: Duration = Duration::from_secs(10);

/// A question to a provider about the state of a provider key.
struct Asked {
    at: Instant,
    answered: Option<Instant>,
}

/// Whether a provider may be asked about the state of a provider key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayAsk {
    /// It may.
    Now,
    /// It was asked a moment ago, and what it answered was stored at this time; `None` if it did not answer.
    Asked(Option<Instant>),
}

/// The key was detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl KeyEntry {
    pub(super) fn new(view: KeyView, loads: Arc<Loads<(TenantId, KeyId)>>, room: Arc<Room>) -> Self {
        Self {
            places: KeyPlaces::new(room, &view),
            id: view.key.id,
            tenant: view.key.tenant,
            rows: RwLock::new(Some(view)),
            change: Mutex::new(()),
            at_provider: Mutex::new(()),
            asked: parking_lot::Mutex::default(),
            in_use: KeyUse::default(),
            learning: Allowance::new(LEARNED_AT_ONCE, LEARNED_EVERY),
            wraps: ReservedWraps::default(),
            revocations: RevocationCounter::default(),
            loads,
        }
    }

    /// The key's id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key's tenant.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// How many places the entry takes in memory.
    pub(super) fn places(&self) -> usize {
        self.places.count()
    }

    pub(super) const fn rows(&self) -> &RwLock<Option<KeyView>> {
        &self.rows
    }

    /// The rows as they are now.
    ///
    /// # Errors
    /// When the key was detached.
    pub fn view(&self) -> Result<KeyView, Gone> {
        self.rows.read().clone().ok_or(Gone)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.rows.read().is_none()
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.rows.read().as_ref().is_some_and(|view| view.key.name == name)
    }

    /// Serialises the changes of this key's row. Hold it while the store commits, and never
    /// while waiting for the log or a provider: a disable waits for it.
    pub const fn change(&self) -> &Mutex<()> {
        &self.change
    }

    /// Serialises the changes of this key at its providers. Taken before [`KeyEntry::change`].
    pub const fn at_provider(&self) -> &Mutex<()> {
        &self.at_provider
    }

    /// Asks to ask a provider for the state of one of the key's provider keys, which is permitted once in `every`. If
    /// it is, the provider key counts as asked.
    pub fn may_ask(&self, connection: ConnectionId, provider_key: &str, every: Duration) -> MayAsk {
        let mut asked = self.asked.lock();
        // Forget older entries, so that the map does not grow.
        asked.retain(|_, last| last.at.elapsed() < every);
        let of = (connection, provider_key.to_owned());
        if let Some(last) = asked.get(&of) {
            return MayAsk::Asked(last.answered);
        }
        let at = Instant::now();
        asked.insert(of, Asked { at, answered: None });
        MayAsk::Now
    }

    /// Notes that what a provider answered about a provider key is stored now.
    pub fn answered(&self, connection: ConnectionId, provider_key: &str) {
        if let Some(last) = self.asked.lock().get_mut(&(connection, provider_key.to_owned())) {
            last.answered = Some(Instant::now());
        }
    }

    /// Lets a provider be asked about the state of a provider key at once: it was changed from here.
    pub fn ask_again(&self, connection: ConnectionId, provider_key: &str) {
        self.asked.lock().remove(&(connection, provider_key.to_owned()));
    }

    /// The use of the key at its providers.
    pub const fn in_use(&self) -> &KeyUse {
        &self.in_use
    }

    /// Whether a version that a provider has named may be looked up and stored now.
    pub fn may_learn(&self) -> bool {
        self.learning.take(Instant::now())
    }

    /// The wraps that are reserved for this entry.
    pub const fn wraps(&self) -> &ReservedWraps {
        &self.wraps
    }

    /// Counts the disables.
    pub const fn revocations(&self) -> &RevocationCounter {
        &self.revocations
    }

    /// Puts committed rows in place, with the gate held exclusively. Once this returns, no answer
    /// made under another epoch is handed over. Loads under way read the row again. A detached key
    /// stays detached, and a disabled one disabled, since memory may have a disable that the store
    /// could not take. `versions` is `None` when none was added.
    pub fn put(&self, key: Key, versions: Option<Vec<KeyVersion>>) {
        if let Some(view) = self.rows.write().as_mut() {
            view.key = Arc::new(keeping_a_disable(key, &view.key));
            if let Some(versions) = versions {
                view.versions = versions.into();
            }
            self.places.recount(view);
        }
        self.loads.note_change(&(self.tenant, self.id));
    }

    /// As [`KeyEntry::put`], with the row that an enable committed.
    pub fn put_enabled(&self, key: Key) {
        if let Some(view) = self.rows.write().as_mut() {
            // If the store could not take the disable, only the epoch in memory grew. It must grow
            // again.
            let epoch = key.epoch.max(view.key.epoch + u64::from(view.key.state.is_disabled()));
            view.key = Arc::new(Key { epoch, ..key });
            self.places.recount(view);
        }
        self.loads.note_change(&(self.tenant, self.id));
    }

    /// Puts the row that a disable committed in place, unless the row in memory is newer. Counts
    /// the disable in both cases, so that an enable that began before the disable fails.
    pub(super) fn put_revoked(&self, row: &Key) {
        let mut rows = self.rows.write();
        if let Some(view) = rows.as_mut()
            && view.key.revision <= row.revision
        {
            view.key = Arc::new(row.clone());
            self.places.recount(view);
        }
        self.revocations.count();
    }

    /// Takes the gate exclusively and marks the key as detached.
    pub(super) fn close(&self) {
        *self.rows.write() = None;
        self.loads.note_change(&(self.tenant, self.id));
    }
}

/// The committed row, but disabled if the row in memory is. Only an enable ends a disable.
fn keeping_a_disable(key: Key, before: &Key) -> Key {
    if before.state.is_disabled() && !key.state.is_disabled() {
        return Key {
            state: before.state,
            epoch: key.epoch.max(before.epoch),
            ..key
        };
    }
    key
}

/// The committed row, but severed if the row in memory is. Only a restore ends a sever.
fn keeping_a_sever(connection: Connection, before: &Connection) -> Connection {
    if before.severed && !connection.severed {
        return Connection {
            severed: true,
            epoch: connection.epoch.max(before.epoch),
            ..connection
        };
    }
    connection
}

#[cfg(test)]
mod tests;
