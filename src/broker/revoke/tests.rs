//! Revocations that are repeated, where memory and store differ.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;

use claviger_provider::{PrincipalId, TokenId};
use claviger_test_support::records;

use crate::access::{Action, Caller, Grants, GrantsAuthorizer, NewToken};
use crate::broker::fixture::{broker, request_info};
use crate::broker::{Broker, KeyNamed, RequestContext, TokenNamed, op};
use crate::keys::fixture::{PLAIN, World};
use crate::store::model::{Key, Principal, PrincipalKind, Token, TokenKind};
use crate::store::{Reads, Store};

const NOW: i64 = 1;

fn request(world: &World, action: Action) -> RequestContext {
    RequestContext::new(Caller::configuration(world.tenant), action, request_info(None))
}

/// Disables the key; returns how many intents the log has then.
async fn disable(broker: &Broker, world: &World, folder: &tempfile::TempDir) -> usize {
    let cx = request(world, Action::Disable);
    let authorized = broker.admit::<op::Disable>(&cx, KeyNamed::Name("orders")).await.unwrap();
    let disabled = broker.disable(authorized, false).await;
    let recorded = broker.conclude(&cx, disabled, &|value, _| value.is_ok(), &mut |_| ()).await;
    assert!(recorded.is_ok_and(|answer| answer.into_value()));
    let all = records(folder.path());
    all.iter().filter(|record| record["kind"] == "intent").count()
}

/// An enable counts its lift in memory before its commit. Where that failed, the store still has the key as disabled, and
/// a crash may bring the enable back: only a disable with the higher number outlives it.
#[tokio::test]
async fn a_disable_is_repeated_with_an_intent_where_an_enable_may_come_back() {
    let world = World::new().await;
    let (broker, folder) = broker(&world, Arc::new(GrantsAuthorizer));
    let key = world.key("orders").await;
    let entry = broker.directory().key(world.tenant, key.id).await.unwrap().unwrap();
    assert_eq!(disable(&broker, &world, &folder).await, 1);
    assert_eq!(disable(&broker, &world, &folder).await, 1);
    let row = Key::clone(&entry.view().unwrap().key);
    entry.put(
        Key {
            lifts: row.lifts + 1,
            ..row
        },
        None,
    );
    assert_eq!(disable(&broker, &world, &folder).await, 2);
    let last = records(folder.path()).pop().unwrap();
    assert_eq!(
        (&last["change"]["verb"], &last["change"]["lifts"]),
        (&"disable".into(), &1.into()),
        "{last}"
    );
    assert!(world.store.key(world.tenant, key.id).await.unwrap().state.is_disabled());
}

/// A token of a new principal, in the store, and its text.
async fn token(world: &World, parent: Option<&Token>) -> (Token, String) {
    let principal = Principal {
        id: PrincipalId::random(),
        tenant: world.tenant,
        name: if parent.is_some() { "below" } else { "app" }.to_owned(),
        kind: PrincipalKind::ServiceAccount,
        created: NOW,
    };
    world.store.create_principal(&principal, &PLAIN).await.unwrap();
    let drawn = NewToken::draw();
    let token = Token {
        id: TokenId::random(),
        tenant: world.tenant,
        principal: principal.id,
        public_id: drawn.public_id,
        secret_sha256: drawn.secret_sha256,
        grants: Grants::everything().to_kept(),
        kind: parent.map_or(TokenKind::Standing, |_| TokenKind::Delegated),
        parent: parent.map(|parent| parent.id),
        depth: parent.map_or(0, |parent| parent.depth + 1),
        lifts: 0,
        created: NOW,
        expires: i64::MAX,
        revoked: None,
    };
    world.store.create_token(&token, &PLAIN).await.unwrap();
    (token, String::from_utf8(drawn.text.expose().to_vec()).unwrap())
}

/// Between the commit of a revocation and its end in memory, a repetition may come: it is answered once all that
/// descends from the token is refused.
#[tokio::test]
async fn a_repeated_revocation_of_a_token_ends_what_the_first_one_has_not_yet_ended_in_memory() {
    let world = World::new().await;
    let (broker, folder) = broker(&world, Arc::new(GrantsAuthorizer));
    let (parent, _) = token(&world, None).await;
    let (_, below) = token(&world, Some(&parent)).await;
    let enter = async || broker.authenticator().bearer(&below, None, None, NOW).await.is_ok();
    assert!(enter().await);
    world.store.revoke_token(world.tenant, parent.id, NOW, &PLAIN).await.unwrap();
    assert!(enter().await, "from memory");
    let cx = request(&world, Action::ManageTokens);
    let named = TokenNamed {
        principal: "app",
        token: parent.id,
    };
    let authorized = broker.admit::<op::RevokeToken>(&cx, named).await.unwrap();
    assert!(broker.revoke_token(authorized).await.is_ok());
    assert!(!enter().await);
    assert!(records(folder.path()).is_empty(), "no intent");
}
