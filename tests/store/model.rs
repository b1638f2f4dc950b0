//! Random sequences of operations on keys, against a model in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use claviger::store::model::Labels;
use claviger::store::{Store, StoreError};
use claviger_provider::KeyId;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{cases, labels};
use world::World;

mod world;

/// Sequences tried, and operations in each at most.
const SEQUENCES: u32 = 48;
const LENGTH: usize = 40;
/// So few of each that they meet often. The last connection's keys are claimed for the installation.
const TENANTS: usize = 2;
const CONNECTIONS: usize = 2;
const IDS: u8 = 3;
const NAMES: u8 = 3;
const PROVIDER_KEYS: u8 = 4;
const VERSIONS: u32 = 4;

cases! { contract:random_sequences_do_what_the_model_does}

#[derive(Debug, Clone)]
enum Op {
    Create {
        tenant: usize,
        connection: usize,
        id: u8,
        name: u8,
        label: u8,
        versions: Vec<(u32, u8, u8)>,
        primary: u32,
    },
    Update {
        tenant: usize,
        id: u8,
        stale: bool,
        name: Option<u8>,
        label: Option<u8>,
        cached: Option<bool>,
    },
    Disable {
        tenant: usize,
        id: u8,
        disabled: bool,
    },
    Add {
        tenant: usize,
        id: u8,
        versions: Vec<(u32, u8, u8)>,
        primary: u32,
    },
    Detach {
        tenant: usize,
        id: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let versions = || prop::collection::vec((1..=VERSIONS, 0..PROVIDER_KEYS, 0..3u8), 0..3);
    prop_oneof![
        6 => (0..TENANTS, 0..CONNECTIONS, 0..IDS, 0..NAMES, 0..2u8, versions(), 1..=VERSIONS).prop_map(
            |(tenant, connection, id, name, label, versions, primary)| Op::Create { tenant, connection, id, name, label, versions, primary }
        ),
        3 => (0..TENANTS, 0..IDS, any::<bool>(), prop::option::of(0..NAMES), prop::option::of(0..2u8), any::<Option<bool>>()).prop_map(
            |(tenant, id, stale, name, label, cached)| Op::Update { tenant, id, stale, name, label, cached }
        ),
        2 => (0..TENANTS, 0..IDS, any::<bool>()).prop_map(|(tenant, id, disabled)| Op::Disable { tenant, id, disabled }),
        4 => (0..TENANTS, 0..IDS, versions(), 1..=VERSIONS)
            .prop_map(|(tenant, id, versions, primary)| Op::Add { tenant, id, versions, primary }),
        3 => (0..TENANTS, 0..IDS).prop_map(|(tenant, id)| Op::Detach { tenant, id }),
    ]
}

/// A key as the model has it. Provider key and version are by number; version 0 is unnamed.
#[derive(Debug, Clone)]
struct Modelled {
    name: u8,
    label: u8,
    disabled: bool,
    detached: bool,
    cached: Option<bool>,
    epoch: u64,
    revision: u64,
    primary: u32,
    /// Provider key, version and connection of each.
    versions: BTreeMap<u32, (u8, u8, usize)>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    NotFound,
    AlreadyExists,
    ProviderKeyTaken,
    ClaimedElsewhere,
    Precondition,
}

/// The model: by tenant and id.
#[derive(Debug, Default, Clone)]
struct Model {
    keys: BTreeMap<(usize, u8), Modelled>,
}

impl Model {
    fn attached(&mut self, tenant: usize, id: u8) -> Option<&mut Modelled> {
        self.keys.get_mut(&(tenant, id)).filter(|key| !key.detached)
    }

    fn name_taken(&self, tenant: usize, id: u8, name: u8) -> bool {
        self.keys
            .iter()
            .any(|(at, key)| at.0 == tenant && at.1 != id && key.name == name && !key.detached)
    }

    /// The key of a tenant that is based on a provider key, or was.
    fn holder(&self, tenant: usize, provider_key: u8) -> Option<(u8, bool)> {
        let based = |key: &Modelled| key.versions.values().any(|is| is.0 == provider_key);
        let mut of_tenant = self.keys.iter().filter(|(at, key)| at.0 == tenant && based(key));
        of_tenant.next().map(|(at, key)| (at.1, key.detached))
    }

    /// What keeps a key from its claims.
    fn check_claims(&self, at: (usize, u8), wrong: &mut BTreeSet<Refusal>) {
        let lent = |key: &Modelled, provider_key| key.versions.values().any(|is| (is.0, is.2) == (provider_key, CONNECTIONS - 1));
        let key = &self.keys[&at];
        for (provider_key, _, _) in key.versions.values() {
            for (other, is) in self.keys.iter().filter(|(other, _)| **other != at) {
                if other.0 == at.0 && is.versions.values().any(|is| is.0 == *provider_key) {
                    wrong.insert(Refusal::ProviderKeyTaken);
                }
                if other.0 != at.0 && !is.detached && lent(key, *provider_key) && lent(is, *provider_key) {
                    wrong.insert(Refusal::ClaimedElsewhere);
                }
            }
        }
    }

    /// Adds versions to a key, or says all that is wrong with them.
    fn add(&mut self, at: (usize, u8), versions: &[(u32, u8, u8)], connection: usize, primary: u32, wrong: &mut BTreeSet<Refusal>) -> bool {
        let mut all = self.keys[&at].versions.clone();
        let before = all.len();
        for (number, provider_key, name) in versions {
            let version = (*provider_key, *name, connection);
            let diverted = |is: &(u8, u8, usize)| (is.0, is.1) == (*provider_key, *name) && is.2 != connection;
            if all.values().any(diverted) {
                wrong.insert(Refusal::ProviderKeyTaken);
            }
            let named_elsewhere = *name != 0 && all.iter().any(|(other, is)| other != number && *is == version);
            if named_elsewhere || *all.entry(*number).or_insert(version) != version {
                wrong.insert(Refusal::AlreadyExists);
            }
        }
        if !all.contains_key(&primary) {
            wrong.insert(Refusal::NotFound);
        }
        let added = all.len() > before;
        let key = self.keys.get_mut(&at).unwrap();
        let moved = key.primary != primary;
        key.versions = all;
        key.primary = primary;
        self.check_claims(at, wrong);
        added || moved
    }

    /// Does it, or tells every refusal that would be right and changes nothing.
    fn apply(&mut self, op: &Op) -> Result<(), BTreeSet<Refusal>> {
        let mut next = self.clone();
        let mut wrong = BTreeSet::new();
        match op {
            Op::Create {
                tenant,
                connection,
                id,
                name,
                label,
                versions,
                primary,
            } => {
                let at = (*tenant, *id);
                // The key names the provider key of the first version that is the primary one.
                if !versions.iter().any(|version| version.0 == *primary) {
                    return Err([Refusal::NotFound].into());
                }
                let old = next.keys.get(&at);
                if old.is_some_and(|key| !key.detached) || self.name_taken(*tenant, *id, *name) {
                    return Err([Refusal::AlreadyExists].into());
                }
                let mut old_versions = old.map(|key| key.versions.clone()).unwrap_or_default();
                let comes_back = |provider_key: u8| versions.iter().any(|version| version.1 == provider_key);
                for is in old_versions.values_mut().filter(|is| comes_back(is.0)) {
                    is.2 = *connection;
                }
                let key = Modelled {
                    name: *name,
                    label: *label,
                    // A disable outlives the detach.
                    disabled: old.is_some_and(|key| key.disabled),
                    detached: false,
                    cached: old.and_then(|key| key.cached),
                    epoch: old.map_or(1, |key| key.epoch + 1),
                    revision: old.map_or(1, |key| key.revision + 1),
                    primary: *primary,
                    versions: old_versions,
                };
                next.keys.insert(at, key);
                next.add(at, versions, *connection, *primary, &mut wrong);
            }
            Op::Update {
                tenant,
                id,
                stale,
                name,
                label,
                cached,
            } => {
                let taken = name.is_some_and(|name| self.name_taken(*tenant, *id, name));
                let key = next.attached(*tenant, *id).ok_or([Refusal::NotFound])?;
                if *stale {
                    wrong.insert(Refusal::Precondition);
                } else if taken {
                    wrong.insert(Refusal::AlreadyExists);
                }
                key.name = name.unwrap_or(key.name);
                key.label = label.unwrap_or(key.label);
                if cached.is_some() && *cached != key.cached {
                    key.cached = *cached;
                    key.epoch += 1;
                }
                key.revision += 1;
            }
            Op::Disable { tenant, id, disabled } => {
                let key = next.attached(*tenant, *id).ok_or([Refusal::NotFound])?;
                if key.disabled != *disabled {
                    key.disabled = *disabled;
                    key.epoch += 1;
                    key.revision += 1;
                }
            }
            Op::Add {
                tenant,
                id,
                versions,
                primary,
            } => {
                let key = next.attached(*tenant, *id).ok_or([Refusal::NotFound])?;
                let connection = key.versions[&key.primary].2;
                if next.add((*tenant, *id), versions, connection, *primary, &mut wrong) {
                    next.keys.get_mut(&(*tenant, *id)).unwrap().revision += 1;
                }
            }
            Op::Detach { tenant, id } => {
                let key = next.attached(*tenant, *id).ok_or([Refusal::NotFound])?;
                key.detached = true;
                key.epoch += 1;
                key.revision += 1;
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        *self = next;
        Ok(())
    }
}

fn id_of(id: u8) -> KeyId {
    KeyId::from_bytes([id; 16])
}

fn name_of(name: u8) -> String {
    format!("k{name}")
}

fn label_of(label: u8) -> Labels {
    labels([("stage", if label == 0 { "test" } else { "live" })])
}

async fn follow(world: World, ops: Vec<Op>) {
    let mut model = Model::default();
    for op in ops {
        let expected = model.apply(&op);
        let got = world.apply(&op).await.map_err(|error| match error {
            StoreError::NotFound => Refusal::NotFound,
            StoreError::AlreadyExists => Refusal::AlreadyExists,
            StoreError::ProviderKeyTaken => Refusal::ProviderKeyTaken,
            StoreError::ClaimedElsewhere => Refusal::ClaimedElsewhere,
            StoreError::Precondition => Refusal::Precondition,
            StoreError::InUse(_)
            | StoreError::IdempotencyTaken
            | StoreError::CredentialEnded
            | StoreError::TenantSuspended
            | StoreError::Damaged(_)
            | StoreError::OverQuota(..)
            | StoreError::Busy
            | StoreError::FilesLost
            | StoreError::CommitFailed(_)
            | StoreError::Database(_) => panic!("{error:?}"),
        });
        match (expected, got) {
            (Ok(()), Ok(())) => {}
            (Err(right), Err(refusal)) if right.contains(&refusal) => {}
            (expected, got) => panic!("{op:?}: {got:?} instead of {expected:?}"),
        }
        world.compare(&model).await;
    }
}

async fn random_sequences_do_what_the_model_does(store: Arc<dyn Store>) {
    let runtime = tokio::runtime::Handle::current();
    let tried = tokio::task::spawn_blocking(move || {
        let number = std::cell::Cell::new(0);
        let config = Config {
            cases: SEQUENCES,
            failure_persistence: None,
            max_shrink_iters: 200,
            ..Config::default()
        };
        TestRunner::new(config).run(&prop::collection::vec(op(), 1..LENGTH), |ops| {
            number.set(number.get() + 1);
            runtime.block_on(async {
                follow(World::new(Arc::clone(&store), number.get()).await, ops).await;
            });
            Ok(())
        })
    });
    if let Err(error) = tried.await.unwrap() {
        panic!("{error}");
    }
}
