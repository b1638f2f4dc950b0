//! The whole table of decisions.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;

use claviger_provider::{KeyId, PrincipalId, ProviderKind, TenantId, TokenId};
use proptest::prelude::*;

use crate::access::{
    AccessRequest, Action, ActionSet, Ancestry, Authorizer, Caller, Credential, Deciding, Decision, Grants, GrantsAuthorizer, KeySet,
    NewGrant, Resource,
};
use crate::keys::fixture;
use crate::store::model::{Connection, Key, TokenKind};

const MINE: KeyId = KeyId::from_bytes([1; 16]);
const OTHER: KeyId = KeyId::from_bytes([2; 16]);
const TENANT: TenantId = TenantId::from_bytes([4; 16]);

fn caller(home: TenantId, acting: TenantId, operations: ActionSet, keys: KeySet) -> Arc<Caller> {
    Arc::new(Caller {
        principal: PrincipalId::random(),
        home,
        acting,
        suspended: false,
        credential: Credential::Token(TokenId::random()),
        grants: Grants::new(operations, keys).unwrap().into(),
        ancestry: Ancestry {
            kind: TokenKind::Standing,
            depth: 0,
            ends: None,
        },
        source: None,
        gates: None,
    })
}

/// Objects of the tenant: a connection, and two keys.
struct Objects {
    connection: Connection,
    mine: Key,
    other: Key,
}

impl Objects {
    fn new() -> Self {
        let connection = fixture::connection(TENANT, "main");
        let key = |id| Key {
            id,
            ..fixture::row(&connection, "key").0
        };
        Self {
            mine: key(MINE),
            other: key(OTHER),
            connection,
        }
    }

    fn resources(&self) -> [Resource<'_>; 12] {
        [
            Resource::Installation,
            Resource::Tenant,
            Resource::Principals,
            Resource::OwnToken,
            Resource::NewKey {
                connection: Some(&self.connection),
            },
            Resource::NewKey { connection: None },
            Resource::Key(Some(&self.mine)),
            Resource::Key(Some(&self.other)),
            Resource::Key(None),
            Resource::Connection(Some(&self.connection)),
            Resource::Connection(None),
            Resource::NewConnection {
                provider: ProviderKind::Vault,
            },
        ]
    }
}

fn decide(caller: &Caller, action: Action, resource: Resource<'_>) -> Decision {
    let request = AccessRequest {
        caller,
        action,
        resource,
        justification: None,
    };
    match GrantsAuthorizer.decide(request) {
        Deciding::Now(decision) => decision,
        Deciding::Later(_) => unreachable!("grants are in memory"),
    }
}

fn allowed(caller: &Caller, resource: Resource<'_>) -> bool {
    decide(caller, Action::Unwrap, resource) != Decision::Deny
}

/// A list shows a key if, and only if, the caller may read it.
fn agrees_on_every_key(caller: &Caller, objects: &Objects) {
    for key in [&objects.mine, &objects.other] {
        let listed = GrantsAuthorizer.keys(caller, Action::Unwrap).contains(key.id);
        assert_eq!(listed, allowed(caller, Resource::Key(Some(key))), "{caller:?}");
    }
}

#[test]
fn the_table() {
    let objects = Objects::new();
    let unwrap: ActionSet = [Action::Unwrap].into_iter().collect();
    let wrap: ActionSet = [Action::Wrap].into_iter().collect();
    let only = || KeySet::Only([MINE].into());
    let operator = TenantId::INSTALLATION;
    let (y, n) = (true, false);
    for (home, acting, keys, expected) in [
        // A tenant's credential: every key, or those named. A missing key is reported as missing
        // only to a caller who would reach every key. What concerns the whole tenant needs every key.
        (TENANT, TENANT, KeySet::All, [n, y, y, y, y, y, y, y, y, y, y, y]),
        (TENANT, TENANT, only(), [n, y, n, y, n, n, y, n, n, n, n, n]),
        // An operator for a tenant.
        (operator, TENANT, KeySet::All, [y, y, y, y, y, y, y, y, y, y, y, y]),
        (operator, TENANT, only(), [n, y, n, y, n, n, y, n, n, n, n, n]),
        // An operator who named no tenant has no keys and connections, known or not.
        (operator, operator, KeySet::All, [y, y, y, y, n, n, n, n, n, n, n, n]),
        (operator, operator, only(), [n, y, n, y, n, n, n, n, n, n, n, n]),
    ] {
        let granted = caller(home, acting, unwrap, keys.clone());
        assert_eq!(
            objects.resources().map(|resource| allowed(&granted, resource)),
            expected,
            "{home} for {acting} with {keys:?}"
        );
        assert!(GrantsAuthorizer.could_allow(&granted, Action::Unwrap));
        agrees_on_every_key(&granted, &objects);
        // Without the operation nothing is told, of what exists and of what does not.
        let without = caller(home, acting, wrap, keys);
        assert_eq!(objects.resources().map(|resource| allowed(&without, resource)), [false; 12]);
        assert!(!GrantsAuthorizer.could_allow(&without, Action::Unwrap));
        agrees_on_every_key(&without, &objects);
    }
}

#[test]
fn a_token_s_holder_may_manage_that_token_and_look_at_connections() {
    let objects = Objects::new();
    let unwrap: ActionSet = [Action::Unwrap, Action::ReadConnection, Action::Sever].into_iter().collect();
    let holder = caller(TENANT, TENANT, unwrap, KeySet::Only([MINE].into()));
    let own = |action| decide(&holder, action, Resource::OwnToken);
    assert!(matches!(own(Action::ManageTokens), Decision::Allow(policy) if policy.id == "builtin/own-token"));
    assert_eq!(own(Action::ManagePrincipals), Decision::Deny);
    for (action, expected) in [(Action::ReadConnection, true), (Action::Sever, false)] {
        let on = |connection| decide(&holder, action, Resource::Connection(connection)) != Decision::Deny;
        assert_eq!([on(Some(&objects.connection)), on(None)], [expected; 2], "{action}");
    }
}

#[test]
fn only_a_standing_token_on_every_key_issues_standing_ones() {
    let all = Grants::everything();
    let may = |caller: &Caller, kind| GrantsAuthorizer.may_issue(caller, NewGrant { grants: &all, kind });
    let mut issuer = Caller::clone(&caller(TENANT, TENANT, ActionSet::all(), KeySet::All));
    assert!(may(&issuer, TokenKind::Standing) && may(&issuer, TokenKind::Delegated));
    issuer.ancestry.kind = TokenKind::Delegated;
    assert!(!may(&issuer, TokenKind::Standing) && may(&issuer, TokenKind::Delegated));
    // The configuration has no token that a delegated one could end with.
    let configuration = Caller::configuration(TENANT);
    assert!(may(&configuration, TokenKind::Standing) && !may(&configuration, TokenKind::Delegated));
}

#[test]
fn a_decision_names_the_policy_that_made_it() {
    let objects = Objects::new();
    let sever: ActionSet = [Action::Sever].into_iter().collect();
    let caller = caller(TENANT, TENANT, sever, KeySet::All);
    let named = |caller: &Caller| match decide(caller, Action::Sever, Resource::Connection(Some(&objects.connection))) {
        Decision::Allow(policy) => (policy.id.into_owned(), policy.version),
        Decision::Deny => unreachable!("it is granted"),
    };
    assert_eq!(named(&caller), ("builtin/token".to_owned(), 1));
    assert_eq!(named(&Caller::configuration(TENANT)), ("builtin/configuration".to_owned(), 1));
}

proptest! {
    /// A token with fewer operations or fewer keys is never allowed more.
    #[test]
    fn narrower_grants_allow_no_more(wide in any::<u64>(), narrow in any::<u64>(), named in 0u8..4, operator: bool, at in 0usize..12) {
        let objects = Objects::new();
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
        for kind in [TokenKind::Standing, TokenKind::Delegated] {
            let new = NewGrant { grants: &narrower.grants, kind };
            let manages = kind == TokenKind::Delegated || set(wide).contains(Action::ManageTokens);
            prop_assert_eq!(GrantsAuthorizer.may_issue(&wider, new), manages);
        }
        prop_assert!(GrantsAuthorizer.may_end(&wider, &narrower.grants));
        // A missing object counts as well: the narrower one is not told more of what is missing.
        let resource = objects.resources()[at];
        prop_assert!(!allowed(&narrower, resource) || allowed(&wider, resource));
        prop_assert_eq!(set(wide).contains(Action::Unwrap), set(wide).covers(unwrap));
    }
}
