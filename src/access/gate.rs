//! What answers pass on their way to a caller, and what a revocation of the caller's credential closes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use claviger_provider::{Id, PrincipalId, TokenId};
use parking_lot::{Mutex, RwLock};

/// With fewer gates than this, nobody looks for dropped ones.
const SWEPT_FROM: usize = 1024;

/// Open until a revocation closes it, and closed from then on. An answer takes it shared while it is
/// handed over, a revocation takes it exclusively.
#[derive(Debug, Default)]
pub(super) struct Gate {
    closed: RwLock<bool>,
}

/// The gate of one token, with what closes it.
#[derive(Debug)]
pub(super) struct TokenGate {
    pub(super) public_id: Box<str>,
    /// The token and those above it, with their principals.
    line: Box<[(TokenId, PrincipalId)]>,
    gate: Gate,
    /// The gate of the token's tenant, which all its tokens share.
    tenant: Arc<Gate>,
}

impl TokenGate {
    pub(super) const fn new(public_id: Box<str>, line: Box<[(TokenId, PrincipalId)]>, tenant: Arc<Gate>) -> Self {
        Self {
            public_id,
            line,
            gate: Gate {
                closed: parking_lot::const_rwlock(false),
            },
            tenant,
        }
    }

    /// The ids of the token, of those above it, and of their principals.
    pub(super) fn ids(&self) -> impl Iterator<Item = [u8; 16]> {
        self.line.iter().flat_map(|(token, principal)| [*token.bytes(), *principal.bytes()])
    }

    /// Whether one of the token's line, itself included, is such a token or such a principal's.
    pub(super) fn descends(&self, is: impl Fn(TokenId, PrincipalId) -> bool) -> bool {
        self.line.iter().any(|(token, principal)| is(*token, *principal))
    }
}

/// What a table of gates is made of.
pub(super) trait Gated {
    /// Closes it. Once this returns, no answer passes: it waits for those that are being handed over.
    fn close(&self);
    /// Whether it lets no answer through any more.
    fn is_closed(&self) -> bool;
}

impl Gated for Gate {
    fn close(&self) {
        *self.closed.write() = true;
    }

    fn is_closed(&self) -> bool {
        *self.closed.read()
    }
}

impl Gated for TokenGate {
    fn close(&self) {
        self.gate.close();
    }

    // After a suspension the token's next gate is one of the tenant's next gate.
    fn is_closed(&self) -> bool {
        self.gate.is_closed() || self.tenant.is_closed()
    }
}

/// Every gate that something holds, found by what it belongs to, whatever other memories have evicted.
/// At most one of each is open; a closed one lets no answer through.
pub(super) struct Gates<K, G>(Mutex<Table<K, G>>);

struct Table<K, G> {
    by_key: HashMap<K, Weak<G>>,
    /// At this size the dropped ones are removed.
    full: usize,
}

impl<K: Eq + Hash, G: Gated> Gates<K, G> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Table {
            by_key: HashMap::new(),
            full: SWEPT_FROM,
        }))
    }

    /// The open gate of this key: the one that something holds, or a new one.
    pub(super) fn open(&self, key: K, new: impl FnOnce() -> G) -> Arc<G> {
        let mut table = self.0.lock();
        if let Some(gate) = table.by_key.get(&key).and_then(Weak::upgrade)
            && !gate.is_closed()
        {
            return gate;
        }
        if table.by_key.len() >= table.full {
            table.by_key.retain(|_, gate| gate.strong_count() > 0);
            table.full = SWEPT_FROM.max(table.by_key.len() * 2);
        }
        let gate = Arc::new(new());
        table.by_key.insert(key, Arc::downgrade(&gate));
        gate
    }

    /// Closes the gate of this key, if something holds it.
    pub(super) fn close<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        // Not under the table's lock: closing waits for answers.
        let gate = self.0.lock().by_key.get(key).and_then(Weak::upgrade);
        if let Some(gate) = gate {
            gate.close();
        }
    }

    /// Closes all gates that match.
    pub(super) fn close_all(&self, matches: impl Fn(&G) -> bool) {
        let held: Vec<Arc<G>> = self.0.lock().by_key.values().filter_map(Weak::upgrade).collect();
        for gate in held.into_iter().filter(|gate| matches(gate)) {
            gate.close();
        }
    }
}

/// Why a credential is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was revoked or deleted, one above it was, or it has expired.
    Credential,
    /// Its tenant, or the one that it acts for, was suspended.
    Tenant,
}

/// The gates that the answers to one caller pass.
///
/// Today there are those of the token and of the tenants. A client certificate and the version of a
/// policy will have theirs here.
#[derive(Debug, Clone)]
pub(super) struct CallerGates {
    pub(super) token: Arc<TokenGate>,
    /// The gate of another tenant, which an operator acts for.
    pub(super) acting: Option<Arc<Gate>>,
}

impl CallerGates {
    /// Those of the token alone, without the tenant that an operator acts for.
    pub(super) fn of_token(&self) -> Self {
        Self {
            token: Arc::clone(&self.token),
            acting: None,
        }
    }

    /// Runs `hand_over` while all gates are held shared, if none is closed. `while_suspended`: it may
    /// pass also when the tenant that an operator acts for is suspended.
    ///
    /// Gates are always taken in this order, before those of keys and connections, and a revocation
    /// takes one only, so readers and waiting revocations cannot deadlock.
    pub(super) fn pass<R>(&self, while_suspended: bool, hand_over: impl FnOnce() -> R) -> Result<R, Ended> {
        let token = self.token.gate.closed.read();
        if *token {
            return Err(Ended::Credential);
        }
        let home = self.token.tenant.closed.read();
        let acting = self.acting.as_ref().filter(|_| !while_suspended).map(|gate| gate.closed.read());
        if *home || acting.as_ref().is_some_and(|closed| **closed) {
            return Err(Ended::Tenant);
        }
        Ok(hand_over())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Gate, Gated, Gates};

    #[test]
    fn a_key_has_one_open_gate_while_something_holds_it() {
        let gates = Gates::<u8, Gate>::new();
        let first = gates.open(1, Gate::default);
        assert!(Arc::ptr_eq(&first, &gates.open(1, Gate::default)));
        assert!(!Arc::ptr_eq(&first, &gates.open(2, Gate::default)));
        gates.close(&1);
        assert!(first.is_closed());
        let second = gates.open(1, Gate::default);
        assert!(!second.is_closed() && first.is_closed(), "a closed one never opens again");
        gates.close_all(|_| true);
        assert!(second.is_closed());
    }

    #[test]
    fn gates_that_nothing_holds_take_no_room() {
        let gates = Gates::<u32, Gate>::new();
        let held = gates.open(0, Gate::default);
        for key in 1..100_000 {
            drop(gates.open(key, Gate::default));
        }
        assert!(gates.0.lock().by_key.len() <= super::SWEPT_FROM);
        assert!(Arc::ptr_eq(&held, &gates.open(0, Gate::default)));
    }
}
