#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use claviger_provider::{ConnectionId, KeyId, Node, TenantId};
use sqlx::query;

use super::super::super::SqliteStore;
use super::super::super::row::Columns;
use super::super::among_statement;
use super::{LAST_DETACHED, LAST_OF_LABEL, chosen_statement, detached_statement, range_statement};
use crate::store::model::{DetachedFilter, KeyFilter, KeyState, Page};
use crate::store::sealing::RootKey;

async fn plan(store: &SqliteStore, sql: &str) -> Vec<String> {
    // Nothing is bound: the plan does not depend on it, and nothing runs.
    let rows = query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
        .fetch_all(&store.readers.lists.pool)
        .await
        .unwrap();
    rows.iter().map(|row| row.value("detail").unwrap()).collect()
}

fn filters(only: Option<&BTreeSet<KeyId>>) -> Vec<KeyFilter> {
    let mut filters = Vec::new();
    for label in [None, Some(("a".to_owned(), "b".to_owned()))] {
        for connection in [None, Some(ConnectionId::random())] {
            for state in [None, Some(KeyState::Disabled)] {
                filters.push(KeyFilter {
                    connection,
                    state,
                    label: label.clone(),
                    only: only.cloned(),
                });
            }
        }
    }
    filters
}

/// No table is read from end to end, and nothing but the keys of one caller is sorted: a page costs the
/// same wherever it starts, and a single read the same however many keys there are.
#[tokio::test]
async fn every_read_is_a_range_of_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let root = RootKey::generate_to_file(&folder.path().join("root-key")).unwrap();
    let store = SqliteStore::create(&folder.path().join("claviger.db"), root, &Node::random())
        .await
        .unwrap();
    let mut statements = vec![
        select!("keys k", "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached IS NULL").to_owned(),
        select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NULL").to_owned(),
        select_snapshot!("WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NULL ORDER BY v.number").to_owned(),
        select_snapshot!("WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached IS NULL ORDER BY v.number").to_owned(),
        select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NOT NULL").to_owned(),
        LAST_OF_LABEL.to_owned(),
        LAST_DETACHED.to_owned(),
    ];
    let page = Page { after: None, size: 10 };
    let tenant = TenantId::random();
    for last in [None, Some("last")] {
        for filter in filters(None) {
            statements.push(range_statement(&tenant, &filter, &page, last).sql().as_str().to_owned());
        }
        for connection in [None, Some(ConnectionId::random())] {
            let filter = DetachedFilter { connection, only: None };
            let last = last.map(str::as_bytes);
            statements.push(detached_statement(&tenant, &filter, &page, last).sql().as_str().to_owned());
        }
    }
    for sql in statements {
        let plan = plan(&store, &sql).await;
        assert!(plan.iter().any(|step| step.starts_with("SEARCH ")), "{plan:?}");
        assert!(
            !plan.iter().any(|step| step.contains("SCAN") || step.contains("TEMP B-TREE")),
            "{sql}: {plan:?}"
        );
    }
}

/// What a caller with a list of keys may see is looked up by their ids, whatever else is asked.
#[tokio::test]
async fn chosen_keys_are_looked_up_by_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let root = RootKey::generate_to_file(&folder.path().join("root-key")).unwrap();
    let store = SqliteStore::create(&folder.path().join("claviger.db"), root, &Node::random())
        .await
        .unwrap();
    let page = Page { after: None, size: 10 };
    let tenant = TenantId::random();
    let only: BTreeSet<KeyId> = [KeyId::random(), KeyId::random()].into();
    let mut statements = Vec::new();
    for filter in filters(Some(&only)) {
        statements.push(chosen_statement(&tenant, &only, &filter, &page).sql().as_str().to_owned());
    }
    for connection in [None, Some(ConnectionId::random())] {
        let filter = DetachedFilter {
            connection,
            only: Some(only.clone()),
        };
        statements.push(detached_statement(&tenant, &filter, &page, None).sql().as_str().to_owned());
    }
    statements.push(among_statement(&tenant, "orders", &only).sql().as_str().to_owned());
    for sql in statements {
        let plan = plan(&store, &sql).await;
        let by_id = |step: &String| step.starts_with("SEARCH k USING") && step.contains("(tenant=? AND id=?)");
        assert!(plan.iter().any(by_id), "{sql}: {plan:?}");
        assert!(!plan.iter().any(|step| step.contains("SCAN")), "{sql}: {plan:?}");
    }
}
