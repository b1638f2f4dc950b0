//! Counts of requests that have no record each: failures before authentication, and requests over a
//! rate limit or the quota of the log's bytes. With a record each, those clients could fill the log.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use claviger_provider::{PrincipalId, TenantId};

use super::action::Internal;
use super::class::{Class, Refusal};
use super::fields::{Kind, Source, Window};
use super::health::{Reason, Unavailable};
use super::log::Log;
use super::record::Record;
use super::recorded::Recorded;
use super::scalar::{Number, Text, Timestamp};

/// The most sources, and the most principals and tenants, that have a count of their own in one second.
/// All others together have one count more.
pub const MAX_SEPARATE: usize = 1000;

/// How long a flush waits for the log. Counts whose record has an unknown result by then are not
/// recorded again, because counting a failure twice is worse than missing one second of counts.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3600);

/// The class of counts: the counters keep what the log refuses.
const COUNTS: Class = Class {
    reserve: false,
    refusal: Refusal::Harmless,
};

type Codes = BTreeMap<&'static str, u64>;

#[derive(Debug, Default)]
struct Sums {
    since: Option<Timestamp>,
    sources: HashMap<Source, Codes>,
    other_sources: Codes,
    /// By tenant and principal; without a principal what a tenant has one count of.
    principals: HashMap<(TenantId, Option<PrincipalId>), Codes>,
    other_principals: Codes,
}

impl Sums {
    fn add_source(&mut self, source: Source, code: &'static str, count: u64) {
        let has_room = self.sources.len() < MAX_SEPARATE;
        let codes = match self.sources.get_mut(&source) {
            Some(codes) => codes,
            None if has_room => self.sources.entry(source).or_default(),
            None => &mut self.other_sources,
        };
        *codes.entry(code).or_default() += count;
    }

    fn add_principal(&mut self, of: (TenantId, Option<PrincipalId>), code: &'static str, count: u64) {
        let has_room = self.principals.len() < MAX_SEPARATE;
        let codes = match self.principals.get_mut(&of) {
            Some(codes) => codes,
            None if has_room => self.principals.entry(of).or_default(),
            None => &mut self.other_principals,
        };
        *codes.entry(code).or_default() += count;
    }

    /// Adds counts that could not be recorded.
    fn add(&mut self, older: Self) {
        self.since = older.since.or(self.since);
        for (source, codes) in older.sources {
            for (code, count) in codes {
                self.add_source(source, code, count);
            }
        }
        for (code, count) in older.other_sources {
            *self.other_sources.entry(code).or_default() += count;
        }
        for (of, codes) in older.principals {
            for (code, count) in codes {
                self.add_principal(of, code, count);
            }
        }
        for (code, count) in older.other_principals {
            *self.other_principals.entry(code).or_default() += count;
        }
    }

    fn records(&self, log: &Log) -> Vec<Record> {
        let now = Timestamp::now();
        let window = Window {
            from: self.since.unwrap_or(now),
            to: now,
        };
        let aggregate = |tenant, operation: Internal, codes: &Codes| {
            let mut record = log.entry(tenant, super::Operation::Internal(operation));
            record.kind = Kind::Aggregate;
            record.window = Some(window);
            record.counts = Some(
                codes
                    .iter()
                    .map(|(code, count)| (Text::new(*code), Number::saturating(*count)))
                    .collect(),
            );
            record
        };
        let mut records = Vec::new();
        for (source, codes) in &self.sources {
            let mut record = aggregate(TenantId::INSTALLATION, Internal::Authenticate, codes);
            record.source = Some(*source);
            records.push(record);
        }
        if !self.other_sources.is_empty() {
            records.push(aggregate(TenantId::INSTALLATION, Internal::Authenticate, &self.other_sources));
        }
        for ((tenant, principal), codes) in &self.principals {
            let mut record = aggregate(*tenant, Internal::Limit, codes);
            record.principal = *principal;
            records.push(record);
        }
        if !self.other_principals.is_empty() {
            records.push(aggregate(TenantId::INSTALLATION, Internal::Limit, &self.other_principals));
        }
        records
    }
}

/// Lets authentication and the limiter respond without a record, and counts their responses.
/// [`super::open`] makes the only one, which boot gives to these two.
#[derive(Debug)]
pub struct Counters {
    sums: Mutex<Sums>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            sums: Mutex::new(Sums::default()),
        }
    }

    /// Counts a request that failed before authentication, by the source's network (/24 or
    /// /64) and the code. Returns `value` as one that may be answered.
    pub fn failed<T>(&self, source: IpAddr, code: &'static str, value: T) -> Recorded<T> {
        let mut sums = self.sums.lock();
        sums.since.get_or_insert_with(Timestamp::now);
        sums.add_source(Source::network_of(source), code, 1);
        Recorded::counted(value)
    }

    /// Counts a request that was over a limit, by the code. `principal`: whose it was, or `None` for one count of the
    /// tenant. Returns `value` as one that may be answered.
    pub fn limited<T>(&self, tenant: TenantId, principal: Option<PrincipalId>, code: &'static str, value: T) -> Recorded<T> {
        let mut sums = self.sums.lock();
        sums.since.get_or_insert_with(Timestamp::now);
        sums.add_principal((tenant, principal), code, 1);
        Recorded::counted(value)
    }

    /// Records the counts since the last flush, with one sync.
    ///
    /// # Errors
    /// [`Unavailable`]; the counts are kept for the next flush.
    pub async fn flush(&self, log: &Log) -> Result<(), Unavailable> {
        let taken = std::mem::take(&mut *self.sums.lock());
        let records = taken.records(log);
        if records.is_empty() {
            return Ok(());
        }
        let appended = log.append(records, COUNTS, Instant::now() + FLUSH_TIMEOUT).await.map(drop);
        if let Err(unavailable) = appended
            && unavailable.reason() != Reason::Deadline
        {
            self.sums.lock().add(taken);
        }
        appended
    }
}
