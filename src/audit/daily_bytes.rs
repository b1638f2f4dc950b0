//! How many bytes of records each tenant's log got on the current day (UTC), for the quota on them. The store keeps
//! the numbers, so that a restart does not begin with none.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger_provider::TenantId;
use parking_lot::{Mutex, MutexGuard};

use super::frame::PREFIX;
use super::observer::{Commit, CommitObserver};
use super::scalar::Timestamp;

/// The most numbers that are given to the store at once: its other changes wait meanwhile.
const KEPT_AT_ONCE: usize = 512;

/// The part of a quota that records of requests beyond their credential's permissions may take, and what one of them
/// counts as there: no less than it has, with a justification that is escaped.
const DENIED_PART: u64 = 8;
const DENIED_BYTES: u64 = 1280;

/// Microseconds of a day.
const DAY: i64 = 24 * 3600 * 1_000_000;

/// The metric of tenants at the quota.
const AT_QUOTA: &str = "claviger_audit_tenants_at_quota";

/// Counts the bytes of records, and knows who is at the quota. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct DailyBytes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    quota: u64,
    /// Whether a tenant is at the quota: while none is, a request reads only this.
    any: AtomicBool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// In days since 1970-01-01. It does not step back with the clock, which would let the next midnight clear the
    /// counts of a day twice.
    day: i64,
    tenants: Vec<Count>,
    places: HashMap<TenantId, usize>,
    /// The place of the last record's tenant, whose next record needs no look-up.
    last: usize,
}

#[derive(Debug)]
struct Count {
    tenant: TenantId,
    bytes: u64,
    /// What the store has of it.
    kept: u64,
    /// What requests beyond their credential's permissions may have of it.
    denied: u64,
    /// Whether the log of the gateway says that it is at the quota.
    told: bool,
}

/// The numbers of one day that the store lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnkeptBytes {
    /// In days since 1970-01-01.
    pub day: i64,
    /// The bytes of each tenant so far.
    pub tenants: Vec<(TenantId, u64)>,
}

fn today() -> i64 {
    Timestamp::now().micros().div_euclid(DAY)
}

impl Counts {
    fn count(&mut self, tenant: TenantId) -> &mut Count {
        if self.tenants.get(self.last).is_none_or(|last| last.tenant != tenant) {
            self.last = *self.places.entry(tenant).or_insert(self.tenants.len());
            if self.last == self.tenants.len() {
                self.tenants.push(Count {
                    tenant,
                    bytes: 0,
                    kept: 0,
                    denied: 0,
                    told: false,
                });
            }
        }
        &mut self.tenants[self.last]
    }

    fn bytes(&self, tenant: TenantId) -> u64 {
        self.places.get(&tenant).map_or(0, |place| self.tenants[*place].bytes)
    }
}

impl DailyBytes {
    /// Counts for a quota of so many bytes a day. `kept`: the bytes of each tenant that the store has of a day. Those of
    /// a later day than today, which the clock was set back from, count as today's.
    pub fn new(quota: u64, kept: impl IntoIterator<Item = (i64, TenantId, u64)>) -> Self {
        let day = today();
        let mut counts = Counts { day, ..Counts::default() };
        let mut any = false;
        for (of, tenant, bytes) in kept.into_iter().filter(|(of, ..)| *of >= day) {
            let count = counts.count(tenant);
            // Of a later day the store lacks that they are today's.
            (count.bytes, count.kept) = (bytes, if of == day { bytes } else { 0 });
            any |= bytes >= quota;
        }
        Self(Arc::new(Shared {
            quota,
            any: AtomicBool::new(any),
            counts: Mutex::new(counts),
        }))
    }

    /// The quota, in bytes a day.
    pub fn quota(&self) -> u64 {
        self.0.quota
    }

    /// Whether the tenant's records of today have as many bytes as the quota.
    pub fn is_at_quota(&self, tenant: TenantId) -> bool {
        self.0.any.load(Ordering::Relaxed) && self.of_today().bytes(tenant) >= self.0.quota
    }

    /// Counts a request beyond its credential's permissions, before its record. Returns whether the tenant's records of
    /// those have room for it today: otherwise a token that permits nothing could use up the quota of all others. A
    /// restart forgets the count.
    pub fn take_denied(&self, tenant: TenantId) -> bool {
        let mut counts = self.of_today();
        let count = counts.count(tenant);
        let has_room = count.denied + DENIED_BYTES <= self.0.quota / DENIED_PART;
        count.denied += if has_room { DENIED_BYTES } else { 0 };
        has_room
    }

    /// The numbers, which begin anew with each day.
    fn of_today(&self) -> MutexGuard<'_, Counts> {
        let mut counts = self.0.counts.lock();
        let day = today();
        if counts.day < day {
            *counts = Counts { day, ..Counts::default() };
            self.0.any.store(false, Ordering::Relaxed);
        }
        counts
    }

    /// What the store lacks of today's numbers: those that grew most, if they are many. Reports who is at the quota.
    /// Call it every second.
    pub fn unkept(&self) -> UnkeptBytes {
        let (mut grown, mut reached, mut at_quota) = (Vec::new(), Vec::new(), 0_u32);
        let mut counts = self.of_today();
        let day = counts.day;
        for count in &mut counts.tenants {
            if count.bytes > count.kept {
                grown.push((count.bytes - count.kept, count.tenant, count.bytes));
            }
            if count.bytes >= self.0.quota && count.tenant != TenantId::INSTALLATION {
                at_quota += 1;
                if !std::mem::replace(&mut count.told, true) {
                    reached.push(count.tenant);
                }
            }
        }
        // The log's thread waits for the lock, and every response for that thread. A line of the log waits for whoever
        // reads standard error.
        drop(counts);
        for tenant in reached {
            tracing::warn!(
                %tenant,
                "a tenant has reached its quota `quotas.log_bytes_per_day`: its requests are refused until the next day (UTC)"
            );
        }
        metrics::gauge!(AT_QUOTA).set(at_quota);
        grown.sort_unstable_by_key(|(growth, ..)| Reverse(*growth));
        grown.truncate(KEPT_AT_ONCE);
        UnkeptBytes {
            day,
            tenants: grown.into_iter().map(|(_, tenant, bytes)| (tenant, bytes)).collect(),
        }
    }

    /// The store has these numbers.
    pub fn note_kept(&self, kept: &UnkeptBytes) {
        let mut counts = self.of_today();
        if counts.day == kept.day {
            for (tenant, bytes) in &kept.tenants {
                counts.count(*tenant).kept = *bytes;
            }
        }
    }
}

impl CommitObserver for DailyBytes {
    fn committed(&mut self, commit: &Commit<'_>) {
        let mut counts = self.0.counts.lock();
        for frame in commit.frames() {
            let count = counts.count(frame.tenant);
            count.bytes = count.bytes.saturating_add((PREFIX + frame.json.len()) as u64);
            if count.bytes >= self.0.quota {
                self.0.any.store(true, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(daily: &DailyBytes, tenant: TenantId, bytes: u64) {
        let mut counts = daily.0.counts.lock();
        counts.count(tenant).bytes += bytes;
        daily.0.any.store(true, Ordering::Relaxed);
    }

    #[test]
    fn a_tenant_is_at_its_quota_until_the_day_ends() {
        let (one, other) = (TenantId::random(), TenantId::random());
        let today = today();
        let daily = DailyBytes::new(100, [(today, one, 60), (today - 1, other, 1000)]);
        assert!(!daily.is_at_quota(one) && !daily.is_at_quota(other));
        write(&daily, one, 40);
        assert!(daily.is_at_quota(one) && !daily.is_at_quota(other));

        let unkept = daily.unkept();
        assert_eq!((unkept.day, &unkept.tenants[..]), (today, &[(one, 100)][..]));
        daily.note_kept(&unkept);
        assert_eq!(daily.unkept().tenants, []);
        assert!(DailyBytes::new(100, [(today, one, 100)]).is_at_quota(one), "after a restart");

        daily.0.counts.lock().day -= 1;
        assert!(!daily.is_at_quota(one));
        // What was kept of the day before is not today's.
        daily.note_kept(&UnkeptBytes { day: today - 1, ..unkept });
        assert_eq!(daily.unkept().tenants, []);
    }

    #[test]
    fn a_clock_that_is_set_back_frees_nobody() {
        let (tenant, today) = (TenantId::random(), today());
        let daily = DailyBytes::new(100, [(today + 1, tenant, 100)]);
        assert!(daily.is_at_quota(tenant), "after a restart");
        let unkept = daily.unkept();
        assert_eq!((unkept.day, &unkept.tenants[..]), (today, &[(tenant, 100)][..]));
        daily.0.counts.lock().day += 1;
        assert!(daily.is_at_quota(tenant), "while it runs");
        assert_eq!(daily.unkept().day, today + 1);
        daily.0.counts.lock().day = today - 1;
        assert!(!daily.is_at_quota(tenant), "a day later");
    }

    #[test]
    fn denied_requests_have_an_eighth_of_each_day() {
        let daily = DailyBytes::new(DENIED_PART * 3 * DENIED_BYTES, []);
        let (one, other) = (TenantId::random(), TenantId::random());
        assert_eq!((0..5).filter(|_| daily.take_denied(one)).count(), 3);
        assert!(daily.take_denied(other) && !daily.is_at_quota(one));
        daily.0.counts.lock().day -= 1;
        assert!(daily.take_denied(one));
    }

    #[test]
    fn the_counts_are_free_while_a_line_of_the_log_is_written() {
        let tenant = TenantId::random();
        let daily = DailyBytes::new(100, [(today(), tenant, 100)]);
        let free = Arc::new(Mutex::new(Vec::new()));
        let (counts, seen) = (daily.clone(), Arc::clone(&free));
        let writer = move || {
            seen.lock().push(counts.0.counts.try_lock().is_some());
            std::io::sink()
        };
        let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || daily.unkept());
        assert_eq!(*free.lock(), [true], "one line, and no lock");
    }

    #[test]
    fn many_numbers_are_kept_in_pieces_and_those_that_grew_most_first() {
        let daily = DailyBytes::new(u64::MAX, []);
        let tenants: Vec<TenantId> = (0..=KEPT_AT_ONCE).map(|_| TenantId::random()).collect();
        for (bytes, tenant) in (1..).zip(&tenants) {
            write(&daily, *tenant, bytes);
        }
        let first = daily.unkept();
        assert_eq!(first.tenants.len(), KEPT_AT_ONCE);
        daily.note_kept(&first);
        assert_eq!(daily.unkept().tenants, [(tenants[0], 1)]);
    }
}
