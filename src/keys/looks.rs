//! Which keys are to be looked at at their providers, and when: those that are in use, each every 3 to 5 minutes.
//!
//! A key is listed at its first call to a provider, and taken off once it is not in use any more. So the cost
//! follows the keys in use, of which there is a bound, and not the keys in memory.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use claviger_provider::{KeyId, TenantId, fill_random};
use parking_lot::Mutex;

/// How often a key that is in use is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);
/// The least time between two looks.
const LEAST: Duration = Duration::from_secs(60);
/// The most keys that are listed at once, and the most of one tenant.
const MOST: usize = 100_000;
const MOST_OF_TENANT: usize = 4_800;

/// The keys that are to be looked at.
#[derive(Default)]
pub(super) struct Looks(Mutex<Listed>);

#[derive(Default)]
struct Listed {
    tenants: HashMap<TenantId, OfTenant>,
    keys: usize,
}

/// One tenant's keys.
#[derive(Default)]
struct OfTenant {
    times: HashMap<KeyId, Times>,
    /// The same keys by their next look.
    order: BTreeSet<(Instant, KeyId)>,
    /// The last look at one of them.
    looked: Option<Instant>,
}

/// Of one key.
#[derive(Clone, Copy)]
struct Times {
    /// The last look, or the first call.
    looked: Instant,
    next: Instant,
}

impl OfTenant {
    fn put(&mut self, key: KeyId, times: Times) {
        self.remove(key);
        self.times.insert(key, times);
        self.order.insert((times.next, key));
    }

    fn remove(&mut self, key: KeyId) -> bool {
        let Some(times) = self.times.remove(&key) else { return false };
        self.order.remove(&(times.next, key));
        true
    }

    fn is_due(&self, now: Instant) -> bool {
        self.order.first().is_some_and(|(next, _)| *next <= now)
    }
}

impl Listed {
    fn remove(&mut self, tenant: TenantId, key: KeyId) {
        let Some(of_tenant) = self.tenants.get_mut(&tenant) else { return };
        self.keys -= usize::from(of_tenant.remove(key));
        if of_tenant.times.is_empty() {
            self.tenants.remove(&tenant);
        }
    }

    fn is_full(&self, tenant: TenantId) -> bool {
        let of_tenant = self.tenants.get(&tenant).map_or(0, |of_tenant| of_tenant.times.len());
        self.keys >= MOST || of_tenant >= MOST_OF_TENANT
    }
}

impl Looks {
    /// Lists a key that calls its provider for the first time. Without effect for one that is listed. `false` if
    /// there is no room.
    pub(super) fn enter(&self, tenant: TenantId, key: KeyId, now: Instant) -> bool {
        let mut listed = self.0.lock();
        if listed
            .tenants
            .get(&tenant)
            .is_some_and(|of_tenant| of_tenant.times.contains_key(&key))
        {
            return true;
        }
        if listed.is_full(tenant) {
            return false;
        }
        listed.keys += 1;
        let next = now + pause();
        listed.tenants.entry(tenant).or_default().put(key, Times { looked: now, next });
        true
    }

    /// The keys to look at now, at most `most` and at most `of_tenant` of each tenant, which are taken in turns:
    /// however many one tenant has, the others have theirs. First the tenants none of whose keys was looked at for the
    /// longest time, and of each the keys that wait longest. A key that `in_use` does not find is taken off the list.
    pub(super) fn due<T>(
        &self,
        now: Instant,
        most: usize,
        of_tenant: usize,
        in_use: impl Fn(TenantId, KeyId) -> Option<T>,
    ) -> Vec<(TenantId, Vec<T>)> {
        let mut listed = self.0.lock();
        let waiting = listed.tenants.iter().filter(|(_, keys)| keys.is_due(now));
        let mut tenants: Vec<(Option<Instant>, TenantId)> = waiting.map(|(tenant, keys)| (keys.looked, *tenant)).collect();
        tenants.sort_unstable();
        tenants.truncate(most);
        let (mut taken, mut left) = (Vec::with_capacity(tenants.len()), most);
        // Each tenant gets an equal part of what is left; what one does not need is left for those after it.
        for (waiting, (_, tenant)) in (1..=tenants.len()).rev().zip(tenants) {
            let share = of_tenant.min(left.div_ceil(waiting));
            let keys = listed.take(tenant, now, share, &in_use);
            left -= keys.len();
            if !keys.is_empty() {
                taken.push((tenant, keys));
            }
        }
        taken
    }

    /// Notes that a key was looked at, or could not be. If the list is full, the key makes room for another one, and
    /// `false` is returned.
    pub(super) fn looked(&self, tenant: TenantId, key: KeyId, now: Instant) -> bool {
        let mut listed = self.0.lock();
        let is_full = listed.is_full(tenant);
        let Some(of_tenant) = listed.tenants.get_mut(&tenant) else {
            return false;
        };
        of_tenant.looked = Some(now);
        if is_full {
            listed.remove(tenant, key);
            return false;
        }
        if of_tenant.times.contains_key(&key) {
            let next = now + pause();
            of_tenant.put(key, Times { looked: now, next });
        }
        true
    }

    /// Has a listed key looked at a minute after the last look.
    pub(super) fn look_soon(&self, tenant: TenantId, key: KeyId) {
        let mut listed = self.0.lock();
        if let Some(of_tenant) = listed.tenants.get_mut(&tenant)
            && let Some(times) = of_tenant.times.get(&key).copied()
        {
            let next = times.next.min(times.looked + LEAST);
            of_tenant.put(key, Times { next, ..times });
        }
    }
}

impl Listed {
    /// The first keys of a tenant that are due and in use. Takes those off the list that are not in use.
    fn take<T>(&mut self, tenant: TenantId, now: Instant, most: usize, in_use: impl Fn(TenantId, KeyId) -> Option<T>) -> Vec<T> {
        let Some(of_tenant) = self.tenants.get(&tenant) else {
            return Vec::new();
        };
        let (mut taken, mut unused) = (Vec::new(), Vec::new());
        for (_, key) in of_tenant.order.iter().take_while(|(next, _)| *next <= now) {
            if taken.len() >= most {
                break;
            }
            match in_use(tenant, *key) {
                Some(found) => taken.push(found),
                None => unused.push(*key),
            }
        }
        for key in unused {
            self.remove(tenant, key);
        }
        taken
    }
}

/// Until the next look: 3 to 5 minutes at random, so that the keys that are used after a start are not all
/// looked at at once.
fn pause() -> Duration {
    let mut draw = [0; 1];
    fill_random(&mut draw);
    LOOK_EVERY - LOOK_EVERY * 2 / 5 * u32::from(draw[0]) / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A list, and the moment when `keys` keys of a tenant were listed.
    fn listed(keys: usize) -> (Looks, TenantId, Vec<KeyId>, Instant) {
        let (looks, tenant, begin) = (Looks::default(), TenantId::random(), Instant::now());
        let keys: Vec<KeyId> = (0..keys).map(|_| KeyId::random()).collect();
        for key in &keys {
            assert!(looks.enter(tenant, *key, begin));
        }
        (looks, tenant, keys, begin)
    }

    /// The keys that are due, all of which are in use.
    fn due(looks: &Looks, now: Instant, most: usize, of_tenant: usize) -> Vec<(TenantId, Vec<KeyId>)> {
        looks.due(now, most, of_tenant, |_, key| Some(key))
    }

    fn count(looks: &Looks, now: Instant) -> usize {
        due(looks, now, usize::MAX, usize::MAX).iter().map(|(_, keys)| keys.len()).sum()
    }

    #[test]
    fn a_key_is_looked_at_every_5_minutes_while_it_is_in_use() {
        for _ in 0..100 {
            let (looks, tenant, keys, begin) = listed(1);
            let mut at = Vec::new();
            for second in 0..3600 {
                let now = begin + Duration::from_secs(second);
                // In use for half an hour.
                let found = looks.due(now, 10, 10, |_, key| (second < 1800).then_some(key));
                if !found.is_empty() {
                    at.push(second);
                    assert!(looks.looked(tenant, keys[0], now));
                }
                // What is listed already is not listed anew.
                if second < 1700 {
                    assert!(looks.enter(tenant, keys[0], now));
                }
            }
            assert!((180..=300).contains(&at[0]), "{at:?}");
            let pauses = at.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(pauses.clone().all(|pause| (180..=300).contains(&pause)), "{at:?}");
            assert!((1500..1800).contains(at.last().unwrap_or(&0)), "{at:?}");
            assert_eq!(looks.0.lock().keys, 0, "taken off the list");
            assert!(looks.0.lock().tenants.is_empty());
        }
    }

    #[test]
    fn looks_are_spread() {
        let (looks, _, _, begin) = listed(1000);
        let at = |second: u64| count(&looks, begin + Duration::from_secs(second));
        assert_eq!((at(179), at(300)), (0, 1000));
        assert!((300..700).contains(&at(240)), "{}", at(240));
    }

    #[test]
    fn a_look_can_be_brought_forward() {
        let (looks, tenant, keys, begin) = listed(1);
        looks.look_soon(tenant, KeyId::random());
        for now in [begin, begin + MINUTE] {
            looks.look_soon(tenant, keys[0]);
            assert_eq!(count(&looks, now + MINUTE - Duration::from_millis(1)), 0);
            assert_eq!(count(&looks, now + MINUTE), 1);
            looks.looked(tenant, keys[0], now + MINUTE);
        }
        assert_eq!(count(&looks, begin + 4 * MINUTE), 0);
    }

    #[test]
    fn a_tenant_of_many_keys_leaves_room_for_others() {
        let (looks, many, _, begin) = listed(MOST_OF_TENANT);
        assert!(!looks.enter(many, KeyId::random(), begin), "the list is full for this tenant");
        let (few, one) = (TenantId::random(), TenantId::random());
        for tenant in [few, few, one] {
            assert!(looks.enter(tenant, KeyId::random(), begin));
        }
        let now = begin + LOOK_EVERY;
        let taken = |most: usize| -> HashMap<TenantId, usize> {
            due(&looks, now, most, 80)
                .into_iter()
                .map(|(tenant, keys)| (tenant, keys.len()))
                .collect()
        };
        assert_eq!(taken(500), HashMap::from([(many, 80), (few, 2), (one, 1)]));
        // With little room each has its turn.
        let taken = taken(4);
        assert!(taken.len() == 3 && taken.values().sum::<usize>() <= 4, "{taken:?}");
    }

    #[test]
    fn tenants_that_were_looked_at_wait_for_those_that_were_not() {
        let (looks, first, keys, begin) = listed(100);
        let other = TenantId::random();
        assert!(looks.enter(other, KeyId::random(), begin));
        let now = begin + LOOK_EVERY;
        looks.looked(first, keys[0], now);
        for _ in 0..2 {
            let taken = due(&looks, now, 1, 80);
            assert_eq!((taken.len(), taken[0].0), (1, other), "however often, until it was looked at");
        }
    }

    #[test]
    fn where_the_list_is_full_keys_take_turns() {
        let (looks, tenant, keys, begin) = listed(MOST_OF_TENANT);
        let next = KeyId::random();
        assert!(!looks.enter(tenant, next, begin));
        assert!(!looks.looked(tenant, keys[0], begin), "it makes room");
        assert!(looks.enter(tenant, next, begin));
        assert!(!looks.enter(tenant, keys[0], begin));
        assert_eq!(looks.0.lock().keys, MOST_OF_TENANT);
    }

    #[test]
    fn the_list_has_a_bound() {
        let (looks, begin) = (Looks::default(), Instant::now());
        let entered = (0..MOST + 100).filter(|_| looks.enter(TenantId::random(), KeyId::random(), begin));
        assert_eq!(entered.count(), MOST);
    }
}
