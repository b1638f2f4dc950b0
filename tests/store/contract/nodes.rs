//! Several nodes on one database: the positions of each belong to its own log.

use std::sync::Arc;

use claviger::store::{LastRecord, LogBytes, Store};
use claviger_provider::TenantId;

use crate::support::{cases, intent, new_tenant, tenant};

cases! { pair:
    a_position_is_the_node_s_own,
    every_node_has_its_last_position,
    pruning_leaves_the_other_node_s_positions,
    a_rewind_leaves_the_other_node_s_positions,
    a_log_s_last_record_is_the_node_s_own,
    the_bytes_of_a_log_are_the_node_s_own_and_the_last_day_s,
    what_a_lost_tenant_had_counts_for_the_installation,
    both_see_each_other_s_rows,
}

async fn make(store: &dyn Store, name: &str, position: u64) {
    store.create_tenant(&tenant(name), Vec::new(), &intent(position)).await.unwrap();
}

async fn applied(store: &dyn Store, positions: &[u64]) -> Vec<bool> {
    let mut applied = Vec::new();
    for position in positions {
        applied.push(store.is_applied(*position).await.unwrap());
    }
    applied
}

async fn a_position_is_the_node_s_own(one: Arc<dyn Store>, two: Arc<dyn Store>) {
    make(&*one, "a", 7).await;
    assert_eq!(applied(&*one, &[7]).await, [true]);
    assert_eq!(applied(&*two, &[7]).await, [false]);
    // The same place in another log is another intent.
    make(&*two, "b", 7).await;
    assert_eq!(applied(&*two, &[7]).await, [true]);
}

async fn every_node_has_its_last_position(one: Arc<dyn Store>, two: Arc<dyn Store>) {
    make(&*one, "a", 900).await;
    assert_eq!(two.last_applied().await.unwrap(), None);
    make(&*two, "b", 12).await;
    make(&*two, "c", 11).await;
    two.mark_applied(TenantId::INSTALLATION, &intent(10)).await.unwrap();
    assert_eq!(one.last_applied().await.unwrap(), Some(900));
    assert_eq!(two.last_applied().await.unwrap(), Some(12));
}

async fn pruning_leaves_the_other_node_s_positions(one: Arc<dyn Store>, two: Arc<dyn Store>) {
    for (name, position) in [("a", 1), ("b", 5), ("c", 9)] {
        make(&*one, name, position).await;
        make(&*two, &format!("{name}2"), position).await;
    }
    two.prune_applied(9).await.unwrap();
    assert_eq!(applied(&*one, &[1, 5, 9]).await, [true, true, true]);
    assert_eq!(applied(&*two, &[1, 5, 9]).await, [false, false, true]);
    // The largest position of all is not this node's.
    make(&*one, "d", 20).await;
    two.prune_applied(1_000).await.unwrap();
    assert_eq!(applied(&*two, &[9]).await, [true]);
    assert_eq!(two.last_applied().await.unwrap(), Some(9));
}

async fn a_rewind_leaves_the_other_node_s_positions(one: Arc<dyn Store>, two: Arc<dyn Store>) {
    for (name, position) in [("a", 3), ("b", 9)] {
        make(&*one, name, position).await;
        make(&*two, &format!("{name}2"), position).await;
    }
    two.rewind_applied(Some(3)).await.unwrap();
    assert_eq!(
        (one.last_applied().await.unwrap(), two.last_applied().await.unwrap()),
        (Some(9), Some(3))
    );
    two.rewind_applied(None).await.unwrap();
    assert_eq!(applied(&*one, &[3, 9]).await, [true, true]);
    assert_eq!(applied(&*two, &[3, 9]).await, [false, false]);
    assert_eq!(two.last_applied().await.unwrap(), None);
}

async fn a_log_s_last_record_is_the_node_s_own(one: Arc<dyn Store>, two: Arc<dyn Store>) {
    let last = LastRecord {
        position: 4711,
        crc: u32::MAX,
    };
    assert_eq!(one.last_record().await.unwrap(), None);
    one.keep_last_record(Some(last), &LogBytes::default()).await.unwrap();
    assert_eq!(one.last_record().await.unwrap(), Some(last));
    assert_eq!(two.last_record().await.unwrap(), None);
    one.keep_last_record(None, &LogBytes::default()).await.unwrap();
    assert_eq!(one.last_record().await.unwrap(), None);
}

async fn the_bytes_of_a_log_are_the_node_s_own_and_the_last_day_s(one: Arc<dyn Store>, two: Arc<dyn Store>) {
    // Neither is a tenant of the store.
    let (first, second) = (TenantId::random(), TenantId::random());
    for (day, tenants) in [
        (7, vec![(first, 100), (second, 5)]),
        (7, vec![(first, 300)]),
        (8, vec![(second, 0)]),
    ] {
        one.keep_last_record(None, &LogBytes { day, tenants }).await.unwrap();
    }
    let mut kept = one.log_bytes().await.unwrap();
    kept.sort_unstable_by_key(|(day, ..)| *day);
    assert_eq!(kept, [(7, first, 300), (8, second, 0)]);
    assert_eq!(two.log_bytes().await.unwrap(), []);
}

async fn what_a_lost_tenant_had_counts_for_the_installation(one: Arc<dyn Store>, _: Arc<dyn Store>) {
    one.mark_applied(TenantId::random(), &intent(33)).await.unwrap();
    assert_eq!(applied(&*one, &[33]).await, [true]);
    assert_eq!(one.last_applied().await.unwrap(), Some(33));
}

async fn both_see_each_other_s_rows(one: Arc<dyn Store>, two: Arc<dyn Store>) {
    let made = new_tenant(&*one, "a").await;
    assert_eq!(two.tenant_by_name("a").await.unwrap().id, made);
    assert_eq!(one.installation().await.unwrap(), two.installation().await.unwrap());
}
