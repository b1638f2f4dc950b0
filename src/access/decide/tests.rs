//! The whole table of decisions.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;

use claviger_provider::{ConnectionId, KeyId, PrincipalId, TenantId, TokenId};
use proptest::prelude::*;

use super::{AccessError, Target, decide};
use crate::access::permit::Object;
use crate::access::{Action, ActionSet, Caller, Credential, Grants, KeySet, op};

const MINE: KeyId = KeyId::from_bytes([1; 16]);
const OTHER: KeyId = KeyId::from_bytes([2; 16]);
const CONNECTION: ConnectionId = ConnectionId::from_bytes([3; 16]);
const TENANT: TenantId = TenantId::from_bytes([4; 16]);

fn caller(home: TenantId, acting: TenantId, operations: ActionSet, keys: KeySet) -> Arc<Caller> {
    Arc::new(Caller {
        principal: PrincipalId::random(),
        home,
        acting,
        credential: Credential::Token(TokenId::random()),
        grants: Grants::new(operations, keys).unwrap().into(),
        source: None,
    })
}

/// What comes of `Unwrap` on each target, in the order of [`TARGETS`].
fn outcomes(caller: &Arc<Caller>) -> [Result<Object, AccessError>; 7] {
    TARGETS.map(|target| decide::<op::Unwrap>(caller, target).map(|permit| permit.object()))
}

const TARGETS: [Target; 7] = [
    Target::Installation,
    Target::Tenant,
    Target::NewKey,
    Target::Key(Some(MINE)),
    Target::Key(Some(OTHER)),
    Target::Key(None),
    Target::Connection(None),
];

const DENIED: Result<Object, AccessError> = Err(AccessError::Denied);
const NOT_FOUND: Result<Object, AccessError> = Err(AccessError::NotFound);

#[test]
fn the_table() {
    let unwrap: ActionSet = [Action::Unwrap].into_iter().collect();
    let wrap: ActionSet = [Action::Wrap].into_iter().collect();
    let only = || KeySet::Only([MINE].into());
    let (tenant, installation) = (Ok(Object::Tenant), Ok(Object::Installation));
    let (mine, other) = (Ok(Object::Key(MINE)), Ok(Object::Key(OTHER)));
    let operator = TenantId::INSTALLATION;
    for (home, acting, keys, expected) in [
        // A tenant's credential: every key, or those named. A missing key shows as missing
        // only to one who would reach every key.
        (
            TENANT,
            TENANT,
            KeySet::All,
            [DENIED, tenant, tenant, mine, other, NOT_FOUND, NOT_FOUND],
        ),
        (TENANT, TENANT, only(), [DENIED, tenant, DENIED, mine, DENIED, DENIED, NOT_FOUND]),
        // An operator for a tenant.
        (
            operator,
            TENANT,
            KeySet::All,
            [installation, tenant, tenant, mine, other, NOT_FOUND, NOT_FOUND],
        ),
        (
            operator,
            TENANT,
            only(),
            [installation, tenant, DENIED, mine, DENIED, DENIED, NOT_FOUND],
        ),
        // An operator who named no tenant has no keys and connections, known or not.
        (
            operator,
            operator,
            KeySet::All,
            [installation, tenant, DENIED, DENIED, DENIED, DENIED, DENIED],
        ),
        (
            operator,
            operator,
            only(),
            [installation, tenant, DENIED, DENIED, DENIED, DENIED, DENIED],
        ),
    ] {
        let permitted = caller(home, acting, unwrap, keys.clone());
        assert_eq!(outcomes(&permitted), expected, "{home} for {acting} with {keys:?}");
        // Without the operation nothing is told, of what is there and of what is not.
        assert_eq!(outcomes(&caller(home, acting, wrap, keys)), [DENIED; 7]);
    }
}

#[test]
fn a_permit_says_for_whom_on_what_and_by_which_policy() {
    let sever: ActionSet = [Action::Sever].into_iter().collect();
    let caller = caller(TENANT, TENANT, sever, KeySet::All);
    let permit = decide::<op::Sever>(&caller, Target::Connection(Some(CONNECTION))).unwrap();
    assert_eq!(permit.object(), Object::Connection(CONNECTION));
    assert_eq!(permit.tenant(), TENANT);
    assert!(Arc::ptr_eq(permit.caller(), &caller));
    assert_eq!((permit.policy().id, permit.policy().version), ("builtin/token", 1));
}

proptest! {
    /// A token with fewer operations or fewer keys is never permitted more.
    #[test]
    fn narrower_grants_permit_no_more(wide in any::<u64>(), narrow in any::<u64>(), named in 0u8..4, operator: bool, at in 0usize..7) {
        let set = |bits: u64| -> ActionSet {
            Action::ALL.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, action)| *action).collect()
        };
        let keys = |named: u8| match named {
            0 => KeySet::All,
            1 => KeySet::Only([MINE].into()),
            2 => KeySet::Only([OTHER].into()),
            _ => KeySet::Only([MINE, OTHER].into()),
        };
        let home = if operator { TenantId::INSTALLATION } else { TENANT };
        let unwrap: ActionSet = [Action::Unwrap].into_iter().collect();
        prop_assume!(!set(wide & narrow).is_empty());
        let wider = caller(home, TENANT, set(wide), KeySet::All);
        let narrower = caller(home, TENANT, set(wide & narrow), keys(named));
        prop_assert!(wider.grants().covers(narrower.grants()));
        let (more, less) = (decide::<op::Unwrap>(&wider, TARGETS[at]), decide::<op::Unwrap>(&narrower, TARGETS[at]));
        prop_assert!(less.is_err() || more.is_ok());
        // Nor is it told that something is missing that the wider one is not told.
        let told = |outcome: &Result<_, AccessError>| matches!(outcome, Err(AccessError::NotFound));
        prop_assert!(!told(&less.map(|_| ())) || told(&more.map(|_| ())));
        prop_assert_eq!(set(wide).contains(Action::Unwrap), set(wide).covers(unwrap));
    }
}
