//! The model: what keys are after a sequence of operations, and which refusals are right.

use std::collections::{BTreeMap, BTreeSet};

use super::Op;

/// A key as the model has it. Provider key and version are by number; version 0 is unnamed.
#[derive(Debug, Clone)]
pub(super) struct Modelled {
    pub(super) name: u8,
    pub(super) label: u8,
    pub(super) disabled: bool,
    pub(super) detached: bool,
    pub(super) cached: Option<bool>,
    pub(super) epoch: u64,
    pub(super) revision: u64,
    pub(super) primary: u32,
    /// Provider key, version and connection of each.
    pub(super) versions: BTreeMap<u32, (u8, u8, usize)>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    NotFound,
    AlreadyExists,
    ProviderKeyTaken,
    Precondition,
}

/// The model: by tenant and id; and who holds each provider key.
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<(usize, u8), Modelled>,
    pub(super) holders: BTreeMap<u8, (usize, u8)>,
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

    /// Adds versions to a key, or says all that is wrong with them.
    fn add(&mut self, at: (usize, u8), versions: &[(u32, u8, u8)], connection: usize, primary: u32, wrong: &mut BTreeSet<Refusal>) -> bool {
        let mut all = self.keys[&at].versions.clone();
        let before = all.len();
        for (number, provider_key, name) in versions {
            if *self.holders.entry(*provider_key).or_insert(at) != at {
                wrong.insert(Refusal::ProviderKeyTaken);
            }
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
        added || moved
    }

    /// Does it, or tells every refusal that would be right and changes nothing.
    pub(super) fn apply(&mut self, op: &Op) -> Result<(), BTreeSet<Refusal>> {
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
                let left: BTreeSet<usize> = old_versions.values().filter(|is| comes_back(is.0)).map(|is| is.2).collect();
                for is in old_versions.values_mut().filter(|is| left.contains(&is.2)) {
                    is.2 = *connection;
                }
                let key = Modelled {
                    name: *name,
                    label: *label,
                    disabled: false,
                    detached: false,
                    cached: None,
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
