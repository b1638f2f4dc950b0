//! A change needs a credential that is in force in its transaction.

use std::sync::Arc;

use claviger::store::model::{ConnectionPatch, KeyPatch, Liftable, Principal, Token, TokenKind};
use claviger::store::{Change, CredentialRef, Refusals, Refused, Store, StoreError};
use claviger_provider::{TenantId, TokenId};

use crate::support::{
    NONE, cases, connection, first, idempotency, key, new_connection, new_key, new_tenant, now, principal, refused, tenant, token, version,
};

cases! { contract:
    a_change_is_made_by_a_credential_in_force,
    no_change_is_made_by_a_credential_that_has_ended,
    a_change_in_a_suspended_tenant_is_refused_where_it_matters,
    what_is_refused_beside_the_rows_makes_no_change,
    every_change_looks_at_the_credential,
}

/// The intent's place of every change here.
const INTENT: u64 = 7;
const HOUR: i64 = 3_600_000_000;

fn asked_with(public_id: &str, acting: Option<TenantId>) -> Change {
    let credential = CredentialRef {
        public_id: public_id.to_owned(),
        acting,
    };
    Change::announced(INTENT).asked_with(Some(credential), &Arc::default())
}

/// A principal with a standing token that lives an hour.
async fn issue(store: &dyn Store, tenant: TenantId, name: &str) -> (Principal, Token) {
    let owner = principal(tenant, name);
    store.create_principal(&owner, &NONE).await.unwrap();
    let mut row = token(&owner, name);
    row.expires = now() + HOUR;
    store.create_token(&row, &NONE).await.unwrap();
    (owner, row)
}

/// A token that this one issued.
async fn issue_below(store: &dyn Store, parent: &Token, owner: &Principal, public_id: &str) -> Token {
    let row = Token {
        id: TokenId::random(),
        tenant: owner.tenant,
        principal: owner.id,
        public_id: public_id.to_owned(),
        kind: TokenKind::Delegated,
        parent: Some(parent.id),
        depth: parent.depth + 1,
        ..parent.clone()
    };
    store.create_token(&row, &NONE).await.unwrap();
    row
}

async fn a_change_is_made_by_a_credential_in_force(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let (_, operator) = issue(&*store, TenantId::INSTALLATION, "operator").await;
    let (owner, _) = issue(&*store, ours, "p").await;
    let below = issue_below(&*store, &operator, &owner, "below").await;
    for (made, change) in [
        ("a", asked_with("p", None)),
        ("b", asked_with(&below.public_id, None)),
        ("c", asked_with("operator", Some(ours))),
    ] {
        store.create_principal(&principal(ours, made), &change).await.unwrap();
        store.principal_by_name(ours, made).await.unwrap();
    }
    assert!(store.is_applied(INTENT).await.unwrap());
}

async fn no_change_is_made_by_a_credential_that_has_ended(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let (_, revoked) = issue(&*store, ours, "revoked").await;
    let (parent_s, parent) = issue(&*store, ours, "parent").await;
    let below = issue_below(&*store, &parent, &parent_s, "below").await;
    let (deleted, _) = issue(&*store, ours, "deleted").await;
    let expired = principal(ours, "expired");
    store.create_principal(&expired, &NONE).await.unwrap();
    let mut row = token(&expired, "expired");
    row.expires = now() - 1;
    store.create_token(&row, &NONE).await.unwrap();
    store.revoke_token(ours, revoked.id, now(), &NONE).await.unwrap();
    store.revoke_token(ours, parent.id, now(), &NONE).await.unwrap();
    store.delete_principal(ours, deleted.id, now(), &NONE).await.unwrap();
    for public_id in ["revoked", below.public_id.as_str(), "deleted", "expired", "unheard-of"] {
        let change = asked_with(public_id, None).keeping(Some(idempotency(ours, public_id, now())));
        let made = store.create_principal(&principal(ours, "made"), &change).await;
        refused!(made, StoreError::CredentialEnded);
        let key = idempotency(ours, public_id, now()).key;
        assert_eq!(store.idempotent(&key).await.unwrap(), None, "{public_id}");
        // Its effect is somewhere else already, so the rows follow.
        store.mark_applied(theirs, &change.already_effective()).await.unwrap();
        store.rewind_applied(None).await.unwrap();
    }
    refused!(store.principal_by_name(ours, "made").await, StoreError::NotFound);
    assert!(!store.is_applied(INTENT).await.unwrap());
}

async fn a_change_in_a_suspended_tenant_is_refused_where_it_matters(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    issue(&*store, ours, "own").await;
    issue(&*store, TenantId::INSTALLATION, "operator").await;
    store.set_tenant_suspended(ours, true, &NONE).await.unwrap();
    for change in [asked_with("own", None), asked_with("operator", Some(ours))] {
        let made = store.create_principal(&principal(ours, "made"), &change).await;
        refused!(made, StoreError::TenantSuspended);
    }
    // A revocation by an operator.
    store.mark_applied(ours, &asked_with("operator", None)).await.unwrap();
    store.set_tenant_suspended(ours, false, &NONE).await.unwrap();
    store
        .create_principal(&principal(ours, "made"), &asked_with("own", None))
        .await
        .unwrap();
}

async fn what_is_refused_beside_the_rows_makes_no_change(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let (owner, parent) = issue(&*store, ours, "parent").await;
    let (other, _) = issue(&*store, ours, "other").await;
    let _below = issue_below(&*store, &parent, &other, "below").await;
    issue(&*store, theirs, "theirs").await;
    issue(&*store, TenantId::INSTALLATION, "operator").await;
    let refusals = Arc::new(Refusals::default());
    let makes = async |public_id: &str, acting| {
        let credential = CredentialRef {
            public_id: public_id.to_owned(),
            acting,
        };
        let change = Change::unannounced().asked_with(Some(credential), &refusals);
        store.mark_applied(ours, &change).await
    };
    for (refused, ends) in [
        (Refused::Token(parent.id), vec!["parent", "below"]),
        (Refused::Principal(owner.id), vec!["parent", "below"]),
        (Refused::Principal(other.id), vec!["below", "other"]),
    ] {
        refusals.add(refused);
        for public_id in ["parent", "below", "other", "theirs", "operator"] {
            let made = makes(public_id, None).await;
            match ends.contains(&public_id) {
                true => refused!(made, StoreError::CredentialEnded),
                false => made.unwrap(),
            }
        }
        refusals.remove(refused);
        makes("below", None).await.unwrap();
    }
    refusals.add(Refused::Tenant(ours));
    refused!(makes("other", None).await, StoreError::TenantSuspended);
    refused!(makes("operator", Some(ours)).await, StoreError::TenantSuspended);
    makes("operator", Some(theirs)).await.unwrap();
    makes("operator", None).await.unwrap();
    makes("theirs", None).await.unwrap();
}

async fn every_change_looks_at_the_credential(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let (owner, row) = issue(&*store, ours, "p").await;
    let through = new_connection(&*store, ours, "c").await;
    let there = new_key(&*store, &through, "k").await;
    store.revoke_token(ours, row.id, now(), &NONE).await.unwrap();
    let change = &asked_with("p", None);
    let (at, id) = (now(), there.id);
    let new = key(&through, "new", "provider/new");
    let more = [version(&there, 2, "provider/more", "")];
    let patch = KeyPatch {
        expected_revision: there.revision,
        ..KeyPatch::default()
    };
    let connection_patch = ConnectionPatch {
        expected_revision: through.revision,
        ..ConnectionPatch::default()
    };
    macro_rules! all_refused {
        ($($call:expr),* $(,)?) => {
            $(refused!($call.await, StoreError::CredentialEnded);)*
        };
    }
    all_refused!(
        store.mark_applied(ours, change),
        store.create_tenant(&tenant("t"), Vec::new(), change),
        store.set_tenant_suspended(ours, true, change),
        store.create_principal(&principal(ours, "q"), change),
        store.delete_principal(ours, owner.id, at, change),
        store.create_token(&token(&owner, "t"), change),
        store.revoke_token(ours, row.id, at, change),
        store.create_connection(&connection(ours, "d"), Vec::new(), change),
        store.update_connection(ours, through.id, &connection_patch, Vec::new(), change),
        store.set_connection_severed(ours, through.id, true, at, change),
        store.release_connection(ours, through.id, at, change),
        store.release_key(ours, id, at, change),
        store.delete_connection(ours, through.id, change),
        store.create_key(&new, std::slice::from_ref(&new.primary), change),
        store.update_key(ours, id, &patch, change),
        store.set_key_disabled(ours, id, true, at, change),
        store.add_key_versions(ours, id, &more, 2, at, change),
        store.move_key(ours, id, &more, 2, at, change),
        store.set_provider_states(ours, id, &[], at, change),
        store.set_key_rotating(ours, id, Some(at), at, change),
        store.detach_key(ours, id, at, change),
    );
    assert_eq!(store.key(ours, id).await.unwrap(), there);
    assert_eq!(store.connection(ours, through.id).await.unwrap(), through);
    assert_eq!(store.principals(ours, &first(9)).await.unwrap(), [owner]);
    assert_eq!(store.tenants(&first(9)).await.unwrap().len(), 1);
    assert_eq!(store.lifts(ours, Liftable::Key(id)).await.unwrap(), 0);
    assert!(!store.is_applied(INTENT).await.unwrap());
}
