//! Who is let in, and that no race with a revocation lets anybody in.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

mod gates;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use claviger_provider::{PrincipalId, TenantId, TokenId};
use futures::future::Either;

use super::{Authenticator, Caller, Unauthenticated};
use crate::access::token::with_checksum;
use crate::access::{Action, ApiToken, Credential, Grants, KeySet, NewToken};
use crate::keys::fixture::{PLAIN, World, new_tenant};
use crate::store::model::{Principal, PrincipalKind, Token, TokenKind};
use crate::store::pausing::PausingStore;
use crate::store::{Refused, Store};

/// From then on the tokens of these tests are refused.
const EXPIRES: i64 = 1_000;

struct SwappableRouter {
    world: World,
    store: Arc<PausingStore>,
    authenticator: Arc<Authenticator>,
}

/// A token in the store, with its text.
struct Issued {
    row: Token,
    text: String,
}

impl SwappableRouter {
    async fn new() -> Self {
        let world = World::new().await;
        let store = PausingStore::new(world.store.clone());
        let authenticator = Arc::new(Authenticator::new(store.clone(), 1_000));
        Self {
            world,
            store,
            authenticator,
        }
    }

    async fn issue_with(&self, tenant: TenantId, grants: &str) -> Issued {
        self.issue_below(tenant, grants, None).await
    }

    /// A token that another one issued, or a standing one.
    async fn issue_below(&self, tenant: TenantId, grants: &str, parent: Option<&Token>) -> Issued {
        let principal = Principal {
            id: PrincipalId::random(),
            tenant,
            name: TokenId::random().to_string(),
            kind: PrincipalKind::ServiceAccount,
            created: 1,
        };
        self.world.store.create_principal(&principal, &PLAIN).await.unwrap();
        let drawn = NewToken::draw();
        let row = Token {
            id: TokenId::random(),
            tenant,
            principal: principal.id,
            public_id: drawn.public_id,
            secret_sha256: drawn.secret_sha256,
            grants: grants.to_owned(),
            kind: parent.map_or(TokenKind::Standing, |_| TokenKind::Delegated),
            parent: parent.map(|parent| parent.id),
            depth: parent.map_or(0, |parent| parent.depth + 1),
            lifts: 0,
            created: 1,
            expires: EXPIRES,
            revoked: None,
        };
        self.world.store.create_token(&row, &PLAIN).await.unwrap();
        let text = String::from_utf8(drawn.text.expose().to_vec()).unwrap();
        Issued { row, text }
    }

    async fn issue(&self, tenant: TenantId) -> Issued {
        self.issue_with(tenant, r#"{"operations":["Unwrap"],"keys":"all"}"#).await
    }

    /// Revokes as the broker does.
    async fn revoke(&self, token: &Token) {
        let (_, ended) = self.world.store.revoke_token(token.tenant, token.id, 5, &PLAIN).await.unwrap();
        self.authenticator.forget_tokens(ended.iter().map(String::as_str));
    }

    async fn enter(&self, text: &str, tenant: Option<&str>, now: i64) -> Result<Caller, Unauthenticated> {
        self.authenticator.bearer(text, tenant, None, now).await
    }

    async fn is_invalid(&self, text: &str) -> bool {
        matches!(self.enter(text, None, 1).await, Err(Unauthenticated::Invalid))
    }
}

#[tokio::test]
async fn a_good_token_tells_who_calls() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for _ in ["from the store", "from memory"] {
        let caller = door
            .authenticator
            .bearer(&issued.text, None, Some(source), EXPIRES - 1)
            .await
            .unwrap();
        assert_eq!(caller.principal(), issued.row.principal);
        assert_eq!(caller.tenant(), door.world.tenant);
        assert!(!caller.is_operator());
        assert_eq!(caller.credential(), Credential::Token(issued.row.id));
        assert_eq!(
            *caller.grants,
            Grants::new([Action::Unwrap].into_iter().collect(), KeySet::All).unwrap()
        );
        assert_eq!(caller.source(), Some(source));
    }
}

#[tokio::test]
async fn a_known_token_is_not_read_again() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    door.enter(&issued.text, None, 1).await.unwrap();
    // A read would panic: nobody waits for it.
    drop(door.store.pause_next("token_by_public_id"));
    door.enter(&issued.text, None, 1).await.unwrap();
}

#[tokio::test]
async fn a_tenant_with_many_tokens_pushes_out_its_own() {
    let door = SwappableRouter::new().await;
    let small = Authenticator::new(door.store.clone(), 16);
    let hostile = new_tenant(door.world.store.as_ref(), "hostile", false).await;
    let (mut many, mut quiet) = (Vec::new(), Vec::new());
    for _ in 0..64 {
        many.push(door.issue(hostile).await);
    }
    for _ in 0..5 {
        quiet.push(door.issue(door.world.tenant).await);
    }
    let enter = async |issued: &Issued| small.bearer(&issued.text, None, None, 1).await.unwrap();
    let (new, known) = quiet.split_last().unwrap();
    for issued in known {
        enter(issued).await;
    }
    // Each often enough to count as one that is used much.
    for issued in many.iter().chain(&many) {
        for _ in 0..20 {
            enter(issued).await;
        }
    }
    assert!(door.store.reads().len() >= known.len() + 2 * many.len() - 16);
    for issued in known {
        enter(issued).await;
    }
    assert_eq!(door.store.reads(), [""; 0], "it still knows them");
    for _ in 0..3 {
        enter(new).await;
    }
    assert_eq!(door.store.reads(), ["token_by_public_id"], "there is room for one more");
}

#[tokio::test]
async fn requests_that_come_at_once_with_one_token_read_it_once() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    let paused = door.store.pause_next("token_by_public_id");
    let mut requests: Vec<_> = (0..100).map(|_| Box::pin(door.enter(&issued.text, None, 1))).collect();
    for request in &mut requests {
        assert!(futures::poll!(request.as_mut()).is_pending());
    }
    // The one that reads goes away: another one reads.
    let reads = requests.remove(0);
    let reached = Box::pin(paused.reached());
    assert!(matches!(futures::future::select(reached, reads).await, Either::Left(_)));
    for entered in futures::future::join_all(requests).await {
        assert_eq!(entered.unwrap().principal(), issued.row.principal);
    }
    assert_eq!(door.store.reads(), ["token_by_public_id"; 2]);
    assert!(door.authenticator.loads.is_empty());
}

#[tokio::test]
async fn what_is_no_valid_token_is_refused_alike() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    let unknown = NewToken::draw();
    assert!(
        door.is_invalid(std::str::from_utf8(unknown.text.expose()).unwrap()).await,
        "unknown"
    );
    assert!(door.is_invalid("").await && door.is_invalid("clv_").await, "no token");

    // The right id with another token's secret, before and after the right one was seen.
    let other = door.issue(door.world.tenant).await;
    let body = format!("clv_{}_{}", issued.row.public_id, &other.text[17..60]);
    let forged = with_checksum(&body);
    assert!(ApiToken::parse(&forged).is_ok());
    assert!(door.is_invalid(&forged).await, "wrong secret");
    door.enter(&issued.text, None, 1).await.unwrap();
    assert!(door.is_invalid(&forged).await, "wrong secret of a known token");

    door.enter(&issued.text, None, EXPIRES - 1).await.unwrap();
    assert!(matches!(
        door.enter(&issued.text, None, EXPIRES).await,
        Err(Unauthenticated::Invalid)
    ));
    assert!(matches!(
        door.enter(&issued.text, None, i64::MAX).await,
        Err(Unauthenticated::Invalid)
    ));
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_the_next_request() {
    let door = SwappableRouter::new().await;
    let (known, unknown, other) = (
        door.issue(door.world.tenant).await,
        door.issue(door.world.tenant).await,
        door.issue(door.world.tenant).await,
    );
    door.enter(&known.text, None, 1).await.unwrap();
    for token in [&known, &unknown] {
        door.revoke(&token.row).await;
        assert!(door.is_invalid(&token.text).await);
        assert!(door.is_invalid(&token.text).await);
    }
    door.enter(&other.text, None, 1).await.unwrap();
}

#[tokio::test]
async fn a_load_that_read_before_a_revocation_lets_nobody_in() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    let pause = door.store.pause_next("token_by_public_id");
    let late = tokio::spawn({
        let (authenticator, text) = (Arc::clone(&door.authenticator), issued.text.clone());
        async move { authenticator.bearer(&text, None, None, 1).await }
    });
    let reached = pause.reached().await;
    door.revoke(&issued.row).await;
    reached.resume();
    assert!(matches!(late.await.unwrap(), Err(Unauthenticated::Invalid)));
    assert!(door.is_invalid(&issued.text).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_after_a_revocation_is_let_in_by_a_load_from_before_it() {
    let door = Arc::new(SwappableRouter::new().await);
    for _ in 0..20 {
        let issued = Arc::new(door.issue(door.world.tenant).await);
        let revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let callers: tokio::task::JoinSet<_> = (0..4)
            .map(|_| {
                let (door, issued, revoked) = (Arc::clone(&door), Arc::clone(&issued), Arc::clone(&revoked));
                async move {
                    loop {
                        let was_revoked = revoked.load(std::sync::atomic::Ordering::SeqCst);
                        let entered = door.enter(&issued.text, None, 1).await;
                        if was_revoked {
                            assert!(matches!(entered, Err(Unauthenticated::Invalid)));
                            return;
                        }
                        // Makes the loads race with the revocation, not only the looks.
                        door.authenticator.forget_all();
                    }
                }
            })
            .collect();
        tokio::task::yield_now().await;
        door.revoke(&issued.row).await;
        revoked.store(true, std::sync::atomic::Ordering::SeqCst);
        callers.join_all().await;
    }
}

#[tokio::test]
async fn a_token_that_the_store_could_not_revoke_is_refused_too() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    door.enter(&issued.text, None, 1).await.unwrap();
    door.authenticator.refuse(Refused::Token(issued.row.id));
    assert!(door.is_invalid(&issued.text).await);
}

#[tokio::test]
async fn what_the_store_could_not_revoke_ends_its_descendants_too() {
    let door = SwappableRouter::new().await;
    const GRANTS: &str = r#"{"operations":["Unwrap"],"keys":"all"}"#;
    for by_principal in [false, true] {
        let operator = door.issue(TenantId::INSTALLATION).await;
        let child = door.issue_below(door.world.tenant, GRANTS, Some(&operator.row)).await;
        let known = door.issue_below(door.world.tenant, GRANTS, Some(&child.row)).await;
        let unknown = door.issue_below(door.world.tenant, GRANTS, Some(&child.row)).await;
        door.enter(&known.text, None, 1).await.unwrap();
        door.authenticator.refuse(if by_principal {
            Refused::Principal(operator.row.principal)
        } else {
            Refused::Token(operator.row.id)
        });
        for token in [&operator, &child, &known, &unknown] {
            assert!(door.is_invalid(&token.text).await);
        }
        let other = door.issue(door.world.tenant).await;
        door.enter(&other.text, None, 1).await.unwrap();
    }
}

#[tokio::test]
async fn a_load_that_read_before_an_ancestor_s_revocation_lets_nobody_in() {
    let door = SwappableRouter::new().await;
    let parent = door.issue(door.world.tenant).await;
    let child = door
        .issue_below(door.world.tenant, r#"{"operations":["Unwrap"],"keys":"all"}"#, Some(&parent.row))
        .await;
    let pause = door.store.pause_next("token_by_public_id");
    let late = tokio::spawn({
        let (authenticator, text) = (Arc::clone(&door.authenticator), child.text.clone());
        async move { authenticator.bearer(&text, None, None, 1).await }
    });
    let reached = pause.reached().await;
    door.revoke(&parent.row).await;
    reached.resume();
    assert!(matches!(late.await.unwrap(), Err(Unauthenticated::Invalid)));
    assert!(door.is_invalid(&child.text).await);
}

#[tokio::test]
async fn a_deleted_principals_token_is_refused_at_the_next_request() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    door.enter(&issued.text, None, 1).await.unwrap();
    door.world
        .store
        .delete_principal(issued.row.tenant, issued.row.principal, 5, &PLAIN)
        .await
        .unwrap();
    door.authenticator.forget_all();
    assert!(door.is_invalid(&issued.text).await);
}

#[tokio::test]
async fn a_load_that_read_before_everything_was_forgotten_is_made_again() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    let pause = door.store.pause_next("token_by_public_id");
    let late = tokio::spawn({
        let (authenticator, text) = (Arc::clone(&door.authenticator), issued.text.clone());
        async move { authenticator.bearer(&text, None, None, 1).await }
    });
    let reached = pause.reached().await;
    door.world
        .store
        .delete_principal(issued.row.tenant, issued.row.principal, 5, &PLAIN)
        .await
        .unwrap();
    door.authenticator.forget_all();
    reached.resume();
    assert!(matches!(late.await.unwrap(), Err(Unauthenticated::Invalid)));
}

#[tokio::test]
async fn only_an_operator_names_a_tenant() {
    let door = SwappableRouter::new().await;
    let operator = door.issue(TenantId::INSTALLATION).await;
    let tenants_own = door.issue(door.world.tenant).await;
    new_tenant(door.world.store.as_ref(), "asleep", true).await;

    let unnamed = door.enter(&operator.text, None, 1).await.unwrap();
    assert!(unnamed.is_operator());
    assert_eq!(unnamed.tenant(), TenantId::INSTALLATION);
    let named = door.enter(&operator.text, Some("acme"), 1).await.unwrap();
    assert!(named.is_operator());
    assert_eq!(named.tenant(), door.world.tenant);

    for tenant in ["nobody", ""] {
        let refused = door.enter(&operator.text, Some(tenant), 1).await;
        assert!(matches!(refused, Err(Unauthenticated::UnknownTenant)), "{tenant:?}");
    }
    for tenant in ["acme", "asleep", "nobody", ""] {
        let refused = door.enter(&tenants_own.text, Some(tenant), 1).await;
        assert!(matches!(refused, Err(Unauthenticated::TenantNamed)), "{tenant:?}");
    }
    // A suspended one is told apart, for the broker to decide what an operator may do in it.
    assert!(!named.tenant_suspended());
    assert!(door.enter(&operator.text, Some("asleep"), 1).await.unwrap().tenant_suspended());
    // Who is not authenticated learns nothing of tenants.
    let unknown = NewToken::draw();
    let unknown = std::str::from_utf8(unknown.text.expose()).unwrap();
    assert!(matches!(door.enter(unknown, Some("acme"), 1).await, Err(Unauthenticated::Invalid)));
}

#[tokio::test]
async fn a_tenants_name_is_read_once_and_again_after_everything_was_forgotten() {
    let door = SwappableRouter::new().await;
    let operator = door.issue(TenantId::INSTALLATION).await;
    assert!(matches!(
        door.enter(&operator.text, Some("new"), 1).await,
        Err(Unauthenticated::UnknownTenant)
    ));
    // A refusal is not kept: a tenant is served as soon as it exists.
    let new = new_tenant(door.world.store.as_ref(), "new", false).await;
    assert_eq!(door.enter(&operator.text, Some("new"), 1).await.unwrap().tenant(), new);
    let pause = door.store.pause_next("tenant_by_name");
    assert_eq!(door.enter(&operator.text, Some("new"), 1).await.unwrap().tenant(), new);

    door.authenticator.forget_all();
    let late = tokio::spawn({
        let (authenticator, text) = (Arc::clone(&door.authenticator), operator.text.clone());
        async move { authenticator.bearer(&text, Some("new"), None, 1).await }
    });
    let reached = pause.reached().await;
    // What it read may be from before this: it must read again.
    door.authenticator.forget_all();
    let second = door.store.pause_next("tenant_by_name");
    reached.resume();
    second.reached().await.resume();
    assert_eq!(late.await.unwrap().unwrap().tenant(), new);
}

#[tokio::test]
async fn a_suspended_tenants_token_is_refused_only_as_such_to_who_holds_it() {
    let door = SwappableRouter::new().await;
    let tenant = new_tenant(door.world.store.as_ref(), "asleep", true).await;
    let issued = door.issue(tenant).await;
    assert!(matches!(door.enter(&issued.text, None, 1).await, Err(Unauthenticated::Suspended)));
    // Expiry comes first: the credential is worth nothing, whoever's it was.
    assert!(matches!(
        door.enter(&issued.text, None, EXPIRES).await,
        Err(Unauthenticated::Invalid)
    ));
}

#[tokio::test]
async fn a_tenant_that_the_store_could_not_suspend_is_refused_until_it_is_readmitted() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    let operator = door.issue(TenantId::INSTALLATION).await;
    door.enter(&issued.text, None, 1).await.unwrap();
    let suspended = async || {
        let own = matches!(door.enter(&issued.text, None, 1).await, Err(Unauthenticated::Suspended));
        (own, door.enter(&operator.text, Some("acme"), 1).await.unwrap().tenant_suspended())
    };
    assert_eq!(suspended().await, (false, false));
    door.authenticator.refuse(Refused::Tenant(door.world.tenant));
    assert_eq!(suspended().await, (true, true));
    door.authenticator.readmit(Refused::Tenant(door.world.tenant));
    assert_eq!(suspended().await, (false, false));
}

#[tokio::test]
async fn grants_that_cannot_be_read_are_our_fault() {
    let door = SwappableRouter::new().await;
    for grants in [
        "{}",
        "",
        r#"{"operations":[],"keys":"all"}"#,
        r#"{"operations":["Fly"],"keys":"all"}"#,
    ] {
        let issued = door.issue_with(door.world.tenant, grants).await;
        assert!(
            matches!(door.enter(&issued.text, None, 1).await, Err(Unauthenticated::Store(_))),
            "{grants}"
        );
    }
}
