//! Records of background calls: calls to a provider that serve no request, such as logins,
//! renewals, polling and recovery.
//!
//! A provider that fails for a day must not fill the log. So equal calls share a record: the
//! same operation of the same connection with the same result has at most one record in
//! [`REPEAT_EVERY`]. The record has the first calls with their request ids and counts the rest.
//! A call whose operation or result is new is recorded within a second. Nothing is dropped
//! without being counted.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use claviger_provider::{BackgroundCalls, CallResult, ConnectionId, MAX_TRACED_CALLS, OpContext, ProviderCall, TenantId, TracedCalls};

use super::action::{Internal, Operation};
use super::class::{Class, Refusal};
use super::fields::{Authn, Kind, Outcome, Window};
use super::health::{Reason, Unavailable};
use super::log::Log;
use super::record::Record;
use super::scalar::{Number, Text, Timestamp};

/// The time between two records of equal calls.
pub const REPEAT_EVERY: Duration = Duration::from_secs(60);

/// The most series of equal calls in memory. The calls of further ones, and of those beyond a tenant's share, are only
/// counted, by result, in one record of the installation.
const MAX_SERIES: usize = 4096;
/// The most series of one tenant, so that one whose connections fail in many ways leaves room for the others.
const MAX_OF_TENANT: usize = MAX_SERIES / 8;

/// How long a flush waits for the log. Calls whose record has an unknown result by then are
/// not recorded again.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3600);

/// The class of these records: what the log refuses is kept here.
const CALLS: Class = Class {
    reserve: false,
    refusal: Refusal::Harmless,
};

/// Equal calls: the same operation of the same connection, with the same result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Series {
    tenant: TenantId,
    connection: ConnectionId,
    operation: &'static str,
    /// [`CallResult::as_str`].
    result: &'static str,
}

/// Calls that are not recorded yet.
#[derive(Debug)]
struct Unrecorded {
    first: Timestamp,
    last: Timestamp,
    calls: Vec<ProviderCall>,
    omitted: u64,
}

impl Unrecorded {
    fn new() -> Self {
        let now = Timestamp::now();
        Self {
            first: now,
            last: now,
            calls: Vec::new(),
            omitted: 0,
        }
    }

    fn add(&mut self, call: ProviderCall) {
        self.last = Timestamp::now();
        if self.calls.len() < MAX_TRACED_CALLS {
            self.calls.push(call);
        } else {
            self.omitted += 1;
        }
    }

    /// Adds later calls.
    fn append(&mut self, later: Self) {
        for call in later.calls {
            self.add(call);
        }
        self.omitted += later.omitted;
        self.last = later.last;
    }

    fn record(&self, log: &Log, series: Series) -> Record {
        let mut record = log.entry(series.tenant, Operation::Internal(Internal::Background));
        record.authn = Some(Authn::Gateway);
        record.connection = Some(series.connection);
        record.set_provider_calls(self.calls.clone(), self.omitted);
        record.window = Some(Window {
            from: self.first,
            to: self.last,
        });
        record.with_outcome(if series.result == CallResult::Ok.as_str() {
            Outcome::Success
        } else if series.result == CallResult::Abandoned.as_str() {
            Outcome::Interrupted
        } else {
            Outcome::Failed(series.result)
        })
    }
}

/// A series of equal calls that are not recorded yet.
#[derive(Debug, Default)]
struct Entry {
    /// When the series last had a record.
    recorded: Option<Instant>,
    unrecorded: Option<Unrecorded>,
}

impl Entry {
    fn is_due(&self) -> bool {
        self.recorded.is_none_or(|at| at.elapsed() >= REPEAT_EVERY)
    }
}

/// The calls beyond [`MAX_SERIES`] and [`MAX_OF_TENANT`], by result.
#[derive(Debug, Default)]
struct Overflow {
    since: Option<Timestamp>,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct State {
    series: HashMap<Series, Entry>,
    overflow: Overflow,
}

impl State {
    fn add(&mut self, series: Series, add: impl FnOnce(&mut Unrecorded), count: u64) {
        let of_tenant = || self.series.keys().filter(|known| known.tenant == series.tenant).count();
        let has_room = || self.series.len() < MAX_SERIES && of_tenant() < MAX_OF_TENANT;
        if self.series.contains_key(&series) || has_room() {
            let entry = self.series.entry(series).or_default();
            add(entry.unrecorded.get_or_insert_with(Unrecorded::new));
        } else {
            self.overflow.since.get_or_insert_with(Timestamp::now);
            *self.overflow.counts.entry(series.result).or_default() += count;
        }
    }

    /// Takes what is due, or everything, and forgets series that have been quiet.
    fn take(&mut self, everything: bool) -> Vec<(Series, Unrecorded)> {
        let mut taken = Vec::new();
        self.series.retain(|series, entry| {
            if everything || entry.is_due() {
                match entry.unrecorded.take() {
                    Some(unrecorded) => taken.push((*series, unrecorded)),
                    None => return false,
                }
            }
            true
        });
        taken
    }

    /// Puts back calls that could not be recorded, before those that came meanwhile.
    fn put_back(&mut self, taken: Vec<(Series, Unrecorded)>, overflow: Overflow) {
        for (series, mut older) in taken {
            let entry = self.series.entry(series).or_default();
            if let Some(later) = entry.unrecorded.take() {
                older.append(later);
            }
            entry.unrecorded = Some(older);
        }
        self.overflow.since = overflow.since.or(self.overflow.since);
        for (result, count) in overflow.counts {
            *self.overflow.counts.entry(result).or_default() += count;
        }
    }
}

/// Gathers background calls and records them. [`super::open`] makes the only one.
#[derive(Debug, Default)]
pub struct BackgroundLog {
    state: Mutex<State>,
}

impl BackgroundCalls for BackgroundLog {
    /// Keeps the call in memory; [`BackgroundLog::flush`] records it.
    fn called(&self, tenant: TenantId, connection: ConnectionId, call: ProviderCall) {
        let series = Series {
            tenant,
            connection,
            operation: call.operation,
            result: call.result.as_str(),
        };
        self.state.lock().add(series, |unrecorded| unrecorded.add(call), 1);
    }
}

impl BackgroundLog {
    /// Begins an operation at a provider that serves no request. `name` takes the place of the
    /// request id; the operation ends after `patience`.
    pub fn operation(&self, name: &str, tenant: TenantId, connection: ConnectionId, patience: Duration) -> BackgroundOperation<'_> {
        BackgroundOperation {
            log: self,
            connection,
            context: OpContext::for_system(name, tenant, patience),
        }
    }

    /// Keeps the calls of one operation.
    pub fn add(&self, tenant: TenantId, connection: ConnectionId, traced: TracedCalls) {
        let TracedCalls { calls, omitted } = traced;
        // The omitted calls followed the last one that was traced: count them with it.
        let last = calls.last().map(|call| Series {
            tenant,
            connection,
            operation: call.operation,
            result: call.result.as_str(),
        });
        for call in calls {
            self.called(tenant, connection, call);
        }
        if let Some(series) = last
            && omitted > 0
        {
            let omitted = u64::from(omitted);
            self.state.lock().add(series, |unrecorded| unrecorded.omitted += omitted, omitted);
        }
    }

    /// Records the calls that are due, or all of them, with one sync. To be called every second,
    /// and for all of them before the log is closed.
    ///
    /// # Errors
    /// [`Unavailable`]; the calls are kept for the next flush.
    pub async fn flush(&self, log: &Log, everything: bool) -> Result<(), Unavailable> {
        let (taken, overflow) = {
            let mut state = self.state.lock();
            (state.take(everything), std::mem::take(&mut state.overflow))
        };
        let mut records: Vec<Record> = taken.iter().map(|(series, unrecorded)| unrecorded.record(log, *series)).collect();
        records.extend(overflow_record(log, &overflow));
        if records.is_empty() {
            return Ok(());
        }
        let appended = log.append(records, CALLS, Instant::now() + FLUSH_TIMEOUT).await.map(drop);
        let mut state = self.state.lock();
        match &appended {
            Err(unavailable) if unavailable.reason() != Reason::Deadline => state.put_back(taken, overflow),
            Ok(()) | Err(_) => {
                let now = Instant::now();
                for (series, _) in taken {
                    if let Some(entry) = state.series.get_mut(&series) {
                        entry.recorded = Some(now);
                    }
                }
            }
        }
        appended
    }
}

/// The context of an operation that serves no request. Its calls are kept for the log when it
/// is dropped, so also when the operation is aborted.
#[derive(Debug)]
pub struct BackgroundOperation<'a> {
    log: &'a BackgroundLog,
    connection: ConnectionId,
    context: OpContext,
}

impl Deref for BackgroundOperation<'_> {
    type Target = OpContext;
    fn deref(&self) -> &OpContext {
        &self.context
    }
}

impl Drop for BackgroundOperation<'_> {
    fn drop(&mut self) {
        self.log.add(self.context.tenant, self.connection, self.context.take_calls());
    }
}

fn overflow_record(log: &Log, overflow: &Overflow) -> Option<Record> {
    let since = overflow.since?;
    let mut record = log.entry(TenantId::INSTALLATION, Operation::Internal(Internal::Background));
    record.kind = Kind::Aggregate;
    record.authn = Some(Authn::Gateway);
    record.window = Some(Window {
        from: since,
        to: Timestamp::now(),
    });
    let counts = overflow.counts.iter();
    record.counts = Some(
        counts
            .map(|(result, count)| (Text::new(*result), Number::saturating(*count)))
            .collect(),
    );
    Some(record)
}
