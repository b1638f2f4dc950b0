//! Lists of keys: filters and pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger::store::model::{DetachedFilter, Key, KeyFilter, KeyPatch, KeySelector, KeyState, Page};
use claviger::store::{Store, StoreError};
use claviger_provider::{KeyId, TenantId};

use crate::support::{NONE, cases, first, key, labels, new_connection, new_key, new_tenant, refused};

cases! { contract:
    a_name_is_looked_up_among_some_keys,
    filters_show_what_matches_all_of_them,
    a_label_follows_renaming_relabelling_and_detaching,
    pages_join_without_gap_or_repetition,
    what_is_there_throughout_is_listed_once_while_others_come_and_go,
    a_page_passes_over_a_bounded_number_of_rows,
    a_page_of_detached_keys_passes_over_a_bounded_number_of_rows,
    only_chosen_detached_keys_are_listed,
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
                let mut filter = KeyFilter {
                    connection,
                    state,
                    label,
                    only: None,
                };
                let found = store.keys(ours, &filter, &first(100)).await.unwrap();
                assert_eq!((found.items, found.next), (expected.clone(), None), "{filter:?}");
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
                    .unwrap()
                    .items;
                let next = expected.iter().find(|key| key.name.as_str() > "k3");
                assert_eq!(rest.first(), next, "{filter:?}");

                // Only some of the keys, one of them another tenant's, and one that does not exist.
                let mut chosen: BTreeSet<KeyId> = made.iter().step_by(3).map(|key| key.id).collect();
                chosen.extend([new.id, KeyId::random()]);
                let visible: Vec<_> = expected.iter().filter(|key| chosen.contains(&key.id)).cloned().collect();
                filter.only = Some(chosen);
                assert_eq!(walk(&*store, ours, &filter, 1).await, names(&visible), "{filter:?}");
                let found = store.keys(ours, &filter, &first(100)).await.unwrap();
                assert_eq!((found.items, found.next), (visible, None), "{filter:?}");
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
    assert_eq!(
        names(&store.keys(ours, &label("stage", "test"), &after_c).await.unwrap().items),
        ["d"]
    );
    let relabel = KeyPatch {
        expected_revision: 2,
        labels: Some(labels([("stage", "live")])),
        ..KeyPatch::default()
    };
    store.update_key(ours, made.id, &relabel, &NONE).await.unwrap();
    assert!(store.keys(ours, &label("stage", "test"), &first(5)).await.unwrap().items.is_empty());
    assert_eq!(
        names(&store.keys(ours, &label("stage", "live"), &first(5)).await.unwrap().items),
        ["d"]
    );
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
            only: None,
        },
    ] {
        assert!(store.keys(ours, &filter, &first(5)).await.unwrap().items.is_empty(), "{filter:?}");
    }
}

async fn walk(store: &dyn Store, tenant: TenantId, filter: &KeyFilter, size: u32) -> Vec<String> {
    let mut seen = Vec::new();
    let mut page = first(size);
    loop {
        let rows = store.keys(tenant, filter, &page).await.unwrap();
        assert!(rows.items.len() <= size as usize);
        seen.extend(rows.items.into_iter().map(|key| key.name));
        match rows.next {
            Some(next) => page.after = Some(next),
            None => return seen,
        }
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
        assert_eq!(walk(&*store, ours, &KeyFilter::default(), size).await, expected, "pages of {size}");
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
        let seen = walk(&*store, ours, &KeyFilter::default(), 3).await;
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

/// A page of one key reads 100 rows: those that match no filter fill it, it is empty, and a next one follows.
async fn a_page_passes_over_a_bounded_number_of_rows(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    for number in 0..250 {
        let mut new = key(&connection, &format!("k{number:03}"), &format!("arn/{number}"));
        new.labels = labels([("all", "yes")]);
        if number == 180 {
            new.state = KeyState::Disabled;
        }
        store.create_key(&new, std::slice::from_ref(&new.primary), &NONE).await.unwrap();
    }
    let filter = KeyFilter {
        state: Some(KeyState::Disabled),
        ..label("all", "yes")
    };
    let mut page = first(1);
    let mut pages = Vec::new();
    loop {
        let rows = store.keys(ours, &filter, &page).await.unwrap();
        pages.push((names(&rows.items).join(","), rows.next.clone().unwrap_or_default()));
        match rows.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    let expected = [("", "k099"), ("k180", "k180"), ("", "")];
    assert_eq!(pages, expected.map(|(names, next)| (names.to_owned(), next.to_owned())));
    let unfiltered = store.keys(ours, &label("all", "yes"), &first(249)).await.unwrap();
    assert_eq!((unfiltered.items.len(), unfiltered.next.as_deref()), (249, Some("k248")));
}

async fn a_page_of_detached_keys_passes_over_a_bounded_number_of_rows(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let (main, other) = (
        new_connection(&*store, ours, "main").await,
        new_connection(&*store, ours, "other").await,
    );
    let mut ids = Vec::new();
    for number in 0..150 {
        let made = new_key(&*store, &main, &format!("k{number}")).await;
        store.detach_key(ours, made.id, 0, &NONE).await.unwrap();
        ids.push(made.id);
    }
    ids.sort();
    let filter = DetachedFilter {
        connection: Some(other.id),
        only: None,
    };
    let mut page = first(1);
    let empty = store.detached_keys(ours, &filter, &page).await.unwrap();
    assert_eq!((empty.items.len(), empty.next.clone()), (0, Some(ids[99].to_string())));
    page.after = empty.next;
    let last = store.detached_keys(ours, &filter, &page).await.unwrap();
    assert_eq!((last.items.len(), last.next), (0, None));
}

async fn only_chosen_detached_keys_are_listed(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let (main, other) = (
        new_connection(&*store, ours, "main").await,
        new_connection(&*store, ours, "other").await,
    );
    let mut made = Vec::new();
    for number in 0..6 {
        let connection = if number < 4 { &main } else { &other };
        let key = new_key(&*store, connection, &format!("k{number}")).await;
        store.detach_key(ours, key.id, 0, &NONE).await.unwrap();
        made.push(key.id);
    }
    let only: BTreeSet<KeyId> = [made[1], made[3], made[5], KeyId::random()].into();
    for (connection, mut expected) in [(None, vec![made[1], made[3], made[5]]), (Some(main.id), vec![made[1], made[3]])] {
        expected.sort();
        let filter = DetachedFilter {
            connection,
            only: Some(only.clone()),
        };
        let mut found = Vec::new();
        let mut page = first(1);
        loop {
            let rows = store.detached_keys(ours, &filter, &page).await.unwrap();
            found.extend(rows.items.iter().map(|detached| detached.key.id));
            match rows.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, expected);
    }
}

async fn a_name_is_looked_up_among_some_keys(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let connection = new_connection(&*store, ours, "main").await;
    let (one, two) = (
        new_key(&*store, &connection, "one").await,
        new_key(&*store, &connection, "two").await,
    );
    let only = [one.id, KeyId::random()].into();
    let found = store.key_snapshot(ours, KeySelector::NameAmong("one", &only)).await.unwrap();
    assert_eq!(found.key, one);
    for (tenant, name) in [(ours, "two"), (ours, "three"), (theirs, "one")] {
        refused!(
            store.key_snapshot(tenant, KeySelector::NameAmong(name, &only)).await,
            StoreError::NotFound
        );
    }
    store.detach_key(ours, one.id, 0, &NONE).await.unwrap();
    let both = [one.id, two.id].into();
    refused!(
        store.key_snapshot(ours, KeySelector::NameAmong("one", &both)).await,
        StoreError::NotFound
    );
}
