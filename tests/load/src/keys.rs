//! Uncached unwraps over many keys of the embedded provider against those of one key: what it
//! costs that a database holds a million keys, and that requests use many of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, query};

use crate::certs::Certs;
use crate::drive::{self, Load, Target};
use crate::report;
use crate::scenarios::measure;
use crate::servers::Claviger;
use crate::{KeyPlan, Plan};

/// Requests at once while keys are made and while memory warms up.
const AT_ONCE: usize = 32;
/// Items of a batch.
const BATCH: usize = 1000;
const TENANT: &str = "many";

const ONE: &str = "1 key";
const MANY: &str = "many keys";

/// Seeds a gateway, and measures it beside one that has a single key. Returns whether the bounds hold.
pub async fn run(plan: &Plan, certs: &Arc<Certs>) -> bool {
    let KeyPlan { keys, used } = plan.keys;
    let folder = tempfile::tempdir_in(&plan.disk).expect("a folder on the disk");
    let (one_folder, many_folder) = (folder.path().join("one"), folder.path().join("many"));
    for folder in [&one_folder, &many_folder] {
        std::fs::create_dir(folder).expect("a new folder");
    }
    let one = Arc::new(Claviger::start(&plan.claviger, &one_folder, certs));
    let single = target(&one, 1, used).await;
    // All that is used fits into memory: what is measured is the size, not the database.
    let room = (used + used / 4).max(10_000).to_string();
    let sizes = ["MEMORY__KEYS", "MEMORY__NAMES", "MEMORY__EMBEDDED_KEYS", "QUOTAS__KEYS"];
    let sizes = sizes.map(|name| (format!("CLAVIGER_{name}"), room.clone()));
    let many = Arc::new(Claviger::start_with(&plan.claviger, &many_folder, certs, &sizes));
    let crowd = target(&many, used, used).await;
    let unused = keys.saturating_sub(used);
    seed(&many.database(), unused).await;
    let warm_up = Load {
        connections: AT_ONCE,
        warm_up: Duration::ZERO,
        time: Duration::from_secs(60),
    };
    tokio::task::block_in_place(|| drive::run(&crowd, warm_up));
    let before = many.lookups("keys").await;
    let rows = measure(plan, &[(ONE, &single), (MANY, &crowd)], &[1, 16, 64], Duration::from_millis(800));
    let after = many.lookups("keys").await;
    report::keys(&rows, ONE, MANY, keys, used, (after.0 - before.0, after.1 - before.1))
}

/// Makes this many keys, and this many wrapped keys under them in turn, none of them cached. Each
/// wrapped key is another one, because unwraps of the same one at the same time share a call.
async fn target(gateway: &Arc<Claviger>, keys: usize, wrapped: usize) -> Target {
    let settings = json!({"name": "embedded", "provider": "local", "settings": {}});
    let token = gateway.tenant(TENANT, &settings).await;
    let mut makers = tokio::task::JoinSet::new();
    for maker in 0..AT_ONCE {
        let gateway = Arc::clone(gateway);
        makers.spawn(async move {
            for key in (maker..keys).step_by(AT_ONCE) {
                let body = json!({"name": format!("used-{key}"), "connection": "embedded", "cache": {"enabled": false}});
                gateway.call(TENANT, "/v1/keys", &body).await;
            }
        });
    }
    makers.join_all().await;
    let mut asks = Vec::with_capacity(wrapped);
    for first in (0..wrapped).step_by(BATCH) {
        let items: Vec<Value> = (first..wrapped.min(first + BATCH))
            .map(|number| Claviger::wrap_item(&format!("used-{}", number % keys)))
            .collect();
        let made = gateway.call(TENANT, "/v1/batch/wrap", &json!({"items": items})).await;
        asks.extend(
            made["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|item| gateway.unwrap(&token, item)),
        );
    }
    gateway.target(asks)
}

/// Writes rows of keys that nobody uses, straight into the database. They are copies of the first
/// key's row under ids, names and provider keys of their own.
async fn seed(database: &Path, keys: usize) {
    const STATEMENTS: [&str; 3] = [
        "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1) \
         INSERT INTO keys (tenant, id, name, state, needs_restore, allow_export, primary_version, primary_connection, cache, epoch, \
         lifts, revision, created, updated) \
         SELECT tenant, randomblob(16), 'unused-' || n, 'enabled', 0, 0, 1, primary_connection, cache, 1, 0, 1, created, updated \
         FROM (SELECT * FROM keys WHERE name = 'used-0') CROSS JOIN number",
        "INSERT INTO key_versions (tenant, key, number, connection, provider, provider_key, provider_version, spec, custody, state, \
         provider_state, material, created) \
         SELECT k.tenant, k.id, 1, v.connection, v.provider, 'unused/' || hex(k.id), '', v.spec, v.custody, v.state, v.provider_state, \
         v.material, k.created FROM keys u JOIN key_versions v ON v.tenant = u.tenant AND v.key = u.id AND v.number = 1 \
         CROSS JOIN keys k ON k.tenant = v.tenant WHERE u.name = 'used-0' AND k.name LIKE 'unused-%' AND ?1 > 0",
        "INSERT INTO claims (provider, provider_key, span, service, tenant, key) \
         SELECT c.provider, 'unused/' || hex(k.id), c.span, c.service, k.tenant, k.id \
         FROM keys u JOIN claims c ON c.tenant = u.tenant AND c.key = u.id \
         CROSS JOIN keys k ON k.tenant = u.tenant WHERE u.name = 'used-0' AND k.name LIKE 'unused-%' AND ?1 > 0",
    ];
    if keys == 0 {
        return;
    }
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(Duration::from_secs(60));
    let mut connection = options.connect().await.expect("the database");
    let mut transaction = connection.begin().await.expect("a transaction");
    for statement in STATEMENTS {
        let number = i64::try_from(keys).expect("a number of keys");
        query(statement).bind(number).execute(&mut *transaction).await.expect("rows");
    }
    transaction.commit().await.expect("a commit");
    connection.close().await.expect("the database closed");
}
