//! Sums of what is not recorded one by one: failures before authentication and requests
//! that the limiter turned away. Otherwise a stranger could fill the log.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use claviger_provider::{PrincipalId, TenantId};

use super::action::Internal;
use super::fields::{Kind, Number, Source, Text, Timestamp, Window};
use super::health::{Reason, Unavailable};
use super::log::Log;
use super::record::Record;
use super::recorded::Recorded;

/// At most so many sources, and so many principals, have a record of their own in one
/// second; the rest is one sum each.
pub const MOST_APART: usize = 1000;

/// How long a flush waits for the log. A sum whose fate is unknown by then is not recorded
/// again, since a failure counted twice is worse than one second of sums that is missing.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The code under which the limiter answers.
const RATE_LIMITED: &str = "rate_limited";

type Codes = BTreeMap<&'static str, u64>;

#[derive(Debug, Default)]
struct Sums {
    since: Option<Timestamp>,
    sources: HashMap<Source, Codes>,
    other_sources: Codes,
    principals: HashMap<(TenantId, PrincipalId), u64>,
    other_principals: u64,
}

impl Sums {
    fn add_source(&mut self, source: Source, code: &'static str, count: u64) {
        let has_room = self.sources.len() < MOST_APART;
        let codes = match self.sources.get_mut(&source) {
            Some(codes) => codes,
            None if has_room => self.sources.entry(source).or_default(),
            None => &mut self.other_sources,
        };
        *codes.entry(code).or_default() += count;
    }

    fn add_principal(&mut self, tenant: TenantId, principal: PrincipalId, count: u64) {
        let has_room = self.principals.len() < MOST_APART;
        match self.principals.get_mut(&(tenant, principal)) {
            Some(sum) => *sum += count,
            None if has_room => {
                self.principals.insert((tenant, principal), count);
            }
            None => self.other_principals += count,
        }
    }

    /// Takes back what could not be recorded.
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
        for ((tenant, principal), count) in older.principals {
            self.add_principal(tenant, principal, count);
        }
        self.other_principals += older.other_principals;
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
        for ((tenant, principal), count) in &self.principals {
            let mut record = aggregate(*tenant, Internal::Limit, &Codes::from([(RATE_LIMITED, *count)]));
            record.principal = Some(*principal);
            records.push(record);
        }
        if self.other_principals > 0 {
            let codes = Codes::from([(RATE_LIMITED, self.other_principals)]);
            records.push(aggregate(TenantId::INSTALLATION, Internal::Limit, &codes));
        }
        records
    }
}

/// Counts, and in return lets authentication and the limiter answer without a record of
/// their own. [`super::open`] makes the only one; boot gives it to these two.
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

    /// A request failed before anybody was authenticated: counts it under the source's
    /// network (/24 or /64) and its code, and lets `value` be answered.
    pub fn failed<T>(&self, source: IpAddr, code: &'static str, value: T) -> Recorded<T> {
        let mut sums = self.sums.lock();
        sums.since.get_or_insert_with(Timestamp::now);
        sums.add_source(Source::network_of(source), code, 1);
        Recorded::counted(value)
    }

    /// The limiter turned a principal's request away with `rate_limited`.
    pub fn limited<T>(&self, tenant: TenantId, principal: PrincipalId, value: T) -> Recorded<T> {
        let mut sums = self.sums.lock();
        sums.since.get_or_insert_with(Timestamp::now);
        sums.add_principal(tenant, principal, 1);
        Recorded::counted(value)
    }

    /// Records what was counted since the last time, with one sync.
    ///
    /// # Errors
    /// [`Unavailable`]; what was counted is kept for the next time.
    pub async fn flush(&self, log: &Log) -> Result<(), Unavailable> {
        let taken = std::mem::take(&mut *self.sums.lock());
        let records = taken.records(log);
        if records.is_empty() {
            return Ok(());
        }
        let appended = log.append_sums(records, Instant::now() + PATIENCE).await;
        if let Err(unavailable) = appended
            && unavailable.reason() != Reason::Deadline
        {
            self.sums.lock().add(taken);
        }
        appended
    }
}
