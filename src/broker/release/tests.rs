//! A credential that ends between the intent of a release and its transaction.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

use std::pin::pin;
use std::sync::Arc;

use claviger_provider::{PrincipalId, TenantId, TokenId};
use claviger_test_support::records;

use crate::access::{Action, Grants, GrantsAuthorizer, NewToken};
use crate::broker::connections::MANAGED_BY;
use crate::broker::fixture::{broker, request_info};
use crate::broker::{Code, ReleaseNamed, RequestContext, op};
use crate::keys::fixture::{PLAIN, World, connection, row};
use crate::store::model::{Principal, PrincipalKind, Releasable, Token, TokenKind};
use crate::store::{Reads, Store};

const NOW: i64 = 1;

/// A token of a platform operator, with its text.
async fn operators_token(world: &World) -> (Token, String) {
    let principal = Principal {
        id: PrincipalId::random(),
        tenant: TenantId::INSTALLATION,
        name: "thief".to_owned(),
        kind: PrincipalKind::ServiceAccount,
        created: NOW,
    };
    world.store.create_principal(&principal, &PLAIN).await.unwrap();
    let drawn = NewToken::draw();
    let token = Token {
        id: TokenId::random(),
        tenant: principal.tenant,
        principal: principal.id,
        public_id: drawn.public_id,
        secret_sha256: drawn.secret_sha256,
        grants: Grants::everything().to_kept(),
        kind: TokenKind::Standing,
        parent: None,
        depth: 0,
        lifts: 0,
        created: NOW,
        expires: i64::MAX,
        revoked: None,
    };
    world.store.create_token(&token, &PLAIN).await.unwrap();
    (token, String::from_utf8(drawn.text.expose().to_vec()).unwrap())
}

#[tokio::test]
async fn a_release_is_not_committed_once_the_operators_token_is_revoked() {
    let world = World::new().await;
    let mut declared = connection(world.tenant, "lent");
    declared.managed_by = Some(MANAGED_BY.to_owned());
    world.store.create_connection(&declared, Vec::new(), &PLAIN).await.unwrap();
    let (mut key, version) = row(&declared, "orders");
    key.managed_by = Some(MANAGED_BY.to_owned());
    world.store.create_key(&key, &[version], &PLAIN).await.unwrap();
    let (broker, folder) = broker(&world, Arc::new(GrantsAuthorizer));
    for (kind, name) in [(Releasable::Key, "orders"), (Releasable::Connection, "lent")] {
        let key = broker.directory().key(world.tenant, key.id).await.unwrap().unwrap();
        let connection = broker.directory().connection(world.tenant, declared.id).await.unwrap().unwrap();
        let (token, text) = operators_token(&world).await;
        let caller = broker.authenticator().bearer(&text, None, None, NOW).await.unwrap();
        let info = request_info(None);
        let cx = RequestContext::new(caller, Action::ManageTenants, info);
        let authorized = broker.admit::<op::ReleaseDeclared>(&cx, ()).await.ok().unwrap();
        let held = (key.change().lock().await, connection.change().lock().await);
        let before = records(folder.path()).len();
        let named = ReleaseNamed {
            kind,
            tenant: "acme",
            name,
        };
        let mut release = pin!(broker.release(authorized, named));
        let announced = async {
            while records(folder.path()).len() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut release => panic!("it did not wait for its turn"),
            () = announced => {}
        }
        // At the store alone: the transaction must see it, whatever the gates do.
        world.store.revoke_token(token.tenant, token.id, NOW, &PLAIN).await.unwrap();
        drop(held);
        let failure = release.await.err().unwrap();
        assert_eq!(failure.code, Code::Unauthenticated, "{kind:?}");
        world
            .store
            .delete_principal(token.tenant, token.principal, NOW, &PLAIN)
            .await
            .unwrap();
    }
    let stored = world.store.key(world.tenant, key.id).await.unwrap();
    assert_eq!(stored.managed_by.as_deref(), Some(MANAGED_BY));
    let stored = world.store.connection(world.tenant, declared.id).await.unwrap();
    assert_eq!(stored.managed_by.as_deref(), Some(MANAGED_BY));
}
