//! The versions of a key, when there are many.

use std::sync::Arc;

use claviger::store::Store;
use claviger::store::model::{KeyState, ProviderState};

use crate::support::{NONE, cases, new_connection, new_key, new_tenant, version};

cases! { contract:
    a_thousand_versions_are_written_and_changed,
}

async fn a_thousand_versions_are_written_and_changed(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let other = new_key(&*store, &new_connection(&*store, ours, "other").await, "other").await;
    let versions: Vec<_> = (2..=1000)
        .map(|number| version(&made, number, &made.primary.provider_key, &format!("v{number}")))
        .collect();
    let added = store.add_key_versions(ours, made.id, &versions, 1000, 5, &NONE).await.unwrap();
    assert_eq!((added.primary.number, added.revision), (1000, made.revision + 1));
    let stored = store.key_versions(ours, made.id).await.unwrap();
    assert_eq!(stored[1..], versions);
    // Every second one changes, and no other key's.
    let states: Vec<_> = (1..=500).map(|half| (2 * half, ProviderState::Disabled)).collect();
    store.set_provider_states(ours, made.id, &states, 6, &NONE).await.unwrap();
    for version in store.key_versions(ours, made.id).await.unwrap() {
        let disabled = version.number % 2 == 0;
        assert_eq!(version.provider_state == ProviderState::Disabled, disabled, "{}", version.number);
        assert_eq!(
            (version.connection_id(), version.state),
            (made.primary.connection_id(), KeyState::Enabled)
        );
    }
    assert_eq!(store.key_versions(ours, other.id).await.unwrap(), [other.primary]);
}
