//! What an entry is found under.

use claviger_provider::{Algorithm, KeyId, ProviderKeyRef, ProviderKind, Secret, TenantId, Wrapped};

use super::{move_connection_on, move_on};
use crate::cache::CacheKey;
use crate::envelope::{Context, Draft, Envelope, Origin, SealKey};
use crate::keys::fixture::World;

/// An envelope over a fresh data key, and its context.
fn envelope(tenant: TenantId, key: KeyId) -> (Envelope, Context) {
    let origin = Origin {
        tenant,
        key,
        scope: None,
        created: 1_790_000_000,
    };
    let context = Context::from_pairs([("purpose".to_owned(), "test".to_owned())]).unwrap();
    let draft = Draft::sealed(origin, &Secret::random(32), &context).unwrap();
    let wrapped = Wrapped {
        key: ProviderKeyRef {
            id: "provider-key".to_owned(),
            version: "1".to_owned(),
        },
        algorithm: Algorithm::Xaes256Gcm,
        ciphertext: Secret::random(72).expose().to_vec(),
        key_material: None,
        upstream_request_id: None,
    };
    (draft.finish(ProviderKind::Vault, &wrapped, &SealKey::generate()).unwrap(), context)
}

#[tokio::test]
async fn only_the_very_tenant_key_epochs_blob_and_context_hit() {
    let world = World::new().await;
    let entry = world.loaded("k").await;
    let epoch_guard = entry.epoch_guard().unwrap();
    let (blob, context) = envelope(world.tenant, entry.id());
    let bound = context.bind(blob.header());
    let right = CacheKey::new(&epoch_guard, &blob, &bound);
    assert!(right == CacheKey::new(&entry.epoch_guard().unwrap(), &Envelope::parse(blob.as_text()).unwrap(), &bound));

    let mut seen = vec![right];
    let mut is_another = |key: CacheKey, what: &str| {
        assert!(!seen.contains(&key), "{what}");
        seen.push(key);
    };
    let other_context = Context::from_pairs([("purpose".to_owned(), "tesu".to_owned())]).unwrap();
    is_another(CacheKey::new(&epoch_guard, &blob, &other_context.bind(blob.header())), "context");
    let (other_blob, _) = envelope(world.tenant, entry.id());
    is_another(CacheKey::new(&epoch_guard, &other_blob, &bound), "blob");
    // The blob's own claim counts for nothing: another key's, or another tenant's, epoch_guard on
    // the same blob and with the same epochs finds nothing of this one's.
    let other_key = world.loaded("other").await;
    is_another(CacheKey::new(&other_key.epoch_guard().unwrap(), &blob, &bound), "key");
    move_on(&entry);
    is_another(CacheKey::new(&entry.epoch_guard().unwrap(), &blob, &bound), "key epoch");
    move_connection_on(&entry);
    is_another(CacheKey::new(&entry.epoch_guard().unwrap(), &blob, &bound), "both epochs");
    let third = world.loaded("third").await;
    move_connection_on(&third);
    is_another(CacheKey::new(&third.epoch_guard().unwrap(), &blob, &bound), "connection epoch");
}
