//! Sealed values, as the embedded provider uses them.

use std::sync::Arc;

use claviger::store::Store;
use claviger_provider::{Error, ErrorKind, SealedName, TenantId};

use crate::support::{cases, new_tenant, sealed};

cases! { contract:
    values_come_back_under_their_names,
    another_tenant_s_values_are_absent,
    a_name_is_taken_once_and_nothing_of_a_refused_insert_stays,
    columns_are_in_byte_order,
    names_have_limits,
    removing_a_row_removes_only_that_row,
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

async fn values_come_back_under_their_names(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let long = vec![7; 100_000];
    store
        .insert(vec![sealed(ours, "r", "a", b""), sealed(ours, "r", "b", &long)])
        .await
        .unwrap();
    for (column, value) in [("a", &b""[..]), ("b", &long[..])] {
        let name = SealedName {
            tenant: ours,
            row: "r".to_owned(),
            column: column.to_owned(),
        };
        assert_eq!(store.get(&name).await.unwrap().unwrap().expose(), value);
    }
    let absent = SealedName {
        tenant: ours,
        row: "r".to_owned(),
        column: "c".to_owned(),
    };
    assert!(store.get(&absent).await.unwrap().is_none());
    store.insert(Vec::new()).await.unwrap();
}

async fn another_tenant_s_values_are_absent(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let value = sealed(ours, "r", "a", b"1");
    let name = SealedName {
        tenant: theirs,
        ..value.0.clone()
    };
    store.insert(vec![value]).await.unwrap();
    assert!(store.get(&name).await.unwrap().is_none());
    assert!(store.columns(theirs, "r").await.unwrap().is_empty());
    store.remove_row(theirs, "r").await.unwrap();
    assert_eq!(store.columns(ours, "r").await.unwrap(), ["a"]);
    assert_eq!(
        kind(store.insert(vec![sealed(TenantId::random(), "r", "a", b"1")]).await),
        Some(ErrorKind::Internal)
    );
}

async fn a_name_is_taken_once_and_nothing_of_a_refused_insert_stays(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let first = sealed(ours, "r", "b", b"1");
    let name = first.0.clone();
    store.insert(vec![first]).await.unwrap();
    let refused = store.insert(vec![sealed(ours, "r", "a", b"2"), sealed(ours, "r", "b", b"2")]).await;
    assert_eq!(kind(refused), Some(ErrorKind::Conflict));
    assert_eq!(store.columns(ours, "r").await.unwrap(), ["b"]);
    assert_eq!(store.get(&name).await.unwrap().unwrap().expose(), b"1");
}

async fn columns_are_in_byte_order(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let values = ["a/2", "é", "a/10", "Z"].map(|column| sealed(ours, "r", column, b"1"));
    store.insert(values.into()).await.unwrap();
    assert_eq!(store.columns(ours, "r").await.unwrap(), ["Z", "a/10", "a/2", "é"]);
}

async fn names_have_limits(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    store
        .insert(vec![sealed(ours, &"r".repeat(128), &"c".repeat(64), b"1")])
        .await
        .unwrap();
    for (row, column) in [
        ("r".repeat(129), "c".to_owned()),
        ("r".to_owned(), "é".repeat(33)),
        (String::new(), "c".to_owned()),
    ] {
        assert_eq!(
            kind(store.insert(vec![sealed(ours, &row, &column, b"1")]).await),
            Some(ErrorKind::Internal)
        );
    }
}

async fn removing_a_row_removes_only_that_row(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let values = [("r", "a"), ("r", "b"), ("s", "a")].map(|(row, column)| sealed(ours, row, column, b"1"));
    store.insert(values.into()).await.unwrap();
    store.remove_row(ours, "r").await.unwrap();
    store.remove_row(ours, "r").await.unwrap();
    assert!(store.columns(ours, "r").await.unwrap().is_empty());
    assert_eq!(store.columns(ours, "s").await.unwrap(), ["a"]);
    store.insert(vec![sealed(ours, "r", "a", b"2")]).await.unwrap();
}
