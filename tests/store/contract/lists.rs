//! Lists of keys: filters and pages.

use std::sync::Arc;

use claviger::store::Store;
use claviger::store::model::{Key, KeyFilter, KeyPatch, KeyState, Page};
use claviger_provider::TenantId;

use crate::support::{NONE, cases, first, key, labels, new_connection, new_key, new_tenant};

cases! { contract:
    filters_show_what_matches_all_of_them,
    a_label_follows_renaming_relabelling_and_detaching,
    pages_join_without_gap_or_repetition,
    what_is_there_throughout_is_listed_once_while_others_come_and_go,
}

fn names(keys: &[Key]) -> Vec<&str> {
    keys.iter().map(|key| key.name.as_str()).collect()
}

fn label(name: &str, value: &str) -> KeyFilter {
    KeyFilter {
        label: Some((name.to_owned(), value.to_owned())),
        ..KeyFilter::default()
    }
}

async fn filters_show_what_matches_all_of_them(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let connections = [new_connection(&*store, ours, "c0").await, new_connection(&*store, ours, "c1").await];
    let mut made = Vec::new();
    for number in 0..8 {
        let connection = &connections[number & 1];
        let mut new = key(connection, &format!("k{number}"), &format!("arn/{number}"));
        new.state = if number & 2 == 0 { KeyState::Enabled } else { KeyState::Disabled };
        new.labels = labels([("stage", if number & 4 == 0 { "test" } else { "live" }), ("all", "yes")]);
        made.push(store.create_key(&new, std::slice::from_ref(&new.primary), &NONE).await.unwrap());
    }
    let foreign = new_connection(&*store, theirs, "c0").await;
    let mut new = key(&foreign, "k0", "arn/foreign");
    new.labels = labels([("all", "yes")]);
    store.create_key(&new, std::slice::from_ref(&new.primary), &NONE).await.unwrap();

    for connection in [None, Some(connections[0].id), Some(connections[1].id), Some(foreign.id)] {
        for state in [None, Some(KeyState::Disabled), Some(KeyState::Enabled)] {
            for label in [
                None,
                Some(("stage", "test")),
                Some(("stage", "live")),
                Some(("all", "yes")),
                Some(("all", "no")),
            ] {
                let label = label.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let expected: Vec<_> = made
                    .iter()
                    .filter(|key| connection.is_none_or(|id| key.primary.connection_id() == Some(id)))
                    .filter(|key| state.is_none_or(|state| key.state == state))
                    .filter(|key| label.as_ref().is_none_or(|(name, value)| key.labels.get(name) == Some(value)))
                    .cloned()
                    .collect();
                let filter = KeyFilter { connection, state, label };
                assert_eq!(store.keys(ours, &filter, &first(100)).await.unwrap(), expected, "{filter:?}");
                let rest = store
                    .keys(
                        ours,
                        &filter,
                        &Page {
                            after: Some("k3".to_owned()),
                            size: 1,
                        },
                    )
                    .await
                    .unwrap();
                let next = expected.iter().find(|key| key.name.as_str() > "k3");
                assert_eq!(rest.first(), next, "{filter:?}");
            }
        }
    }
}

async fn a_label_follows_renaming_relabelling_and_detaching(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    let mut made = key(&connection, "b", "arn");
    made.labels = labels([("stage", "test")]);
    store.create_key(&made, std::slice::from_ref(&made.primary), &NONE).await.unwrap();
    let rename = KeyPatch {
        expected_revision: 1,
        name: Some("d".to_owned()),
        ..KeyPatch::default()
    };
    store.update_key(ours, made.id, &rename, &NONE).await.unwrap();
    let after_c = Page {
        after: Some("c".to_owned()),
        size: 5,
    };
    assert_eq!(names(&store.keys(ours, &label("stage", "test"), &after_c).await.unwrap()), ["d"]);
    let relabel = KeyPatch {
        expected_revision: 2,
        labels: Some(labels([("stage", "live")])),
        ..KeyPatch::default()
    };
    store.update_key(ours, made.id, &relabel, &NONE).await.unwrap();
    assert!(store.keys(ours, &label("stage", "test"), &first(5)).await.unwrap().is_empty());
    assert_eq!(names(&store.keys(ours, &label("stage", "live"), &first(5)).await.unwrap()), ["d"]);
    store.detach_key(ours, made.id, 5, &NONE).await.unwrap();
    for filter in [
        label("stage", "live"),
        KeyFilter::default(),
        KeyFilter {
            connection: Some(connection.id),
            ..KeyFilter::default()
        },
        KeyFilter {
            state: Some(KeyState::Enabled),
            ..KeyFilter::default()
        },
        KeyFilter {
            connection: Some(connection.id),
            state: Some(KeyState::Enabled),
            label: None,
        },
    ] {
        assert!(store.keys(ours, &filter, &first(5)).await.unwrap().is_empty(), "{filter:?}");
    }
}

async fn walk(store: &dyn Store, tenant: TenantId, size: u32) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let page = store
            .keys(
                tenant,
                &KeyFilter::default(),
                &Page {
                    after: seen.last().cloned(),
                    size,
                },
            )
            .await
            .unwrap();
        if page.is_empty() {
            return seen;
        }
        assert!(page.len() <= size as usize);
        seen.extend(page.into_iter().map(|key| key.name));
    }
}

async fn pages_join_without_gap_or_repetition(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    let expected: Vec<_> = (0..23).map(|number| format!("k{number:02}")).collect();
    for name in expected.iter().rev() {
        new_key(&*store, &connection, name).await;
    }
    for size in [1, 2, 7, 23, 24, 1000] {
        assert_eq!(walk(&*store, ours, size).await, expected, "pages of {size}");
    }
}

async fn what_is_there_throughout_is_listed_once_while_others_come_and_go(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    let steady: Vec<_> = (0..12).map(|number| format!("k{number:02}")).collect();
    for name in &steady {
        new_key(&*store, &connection, name).await;
    }
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for number in 0..40 {
                // Before, between and behind the steady ones.
                let coming = new_key(&*store, &connection, &format!("k{:02}.{number}", (number * 7) % 13)).await;
                if number % 2 == 0 {
                    store.detach_key(ours, coming.id, 0, &NONE).await.unwrap();
                }
            }
        }
    });
    let mut walks = 0;
    loop {
        let last = writer.is_finished();
        let seen = walk(&*store, ours, 3).await;
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        let met: Vec<_> = seen.into_iter().filter(|name| steady.contains(name)).collect();
        assert_eq!(met, steady);
        walks += 1;
        if last {
            break;
        }
    }
    writer.await.unwrap();
    assert!(walks > 1);
}
