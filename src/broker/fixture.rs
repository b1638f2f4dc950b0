//! A broker for tests, over a store that is real.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use claviger_guarded::{Arena, ArenaConfig};
use claviger_provider::xaes::XaesKey;
use claviger_provider::{InstallationId, Secret};

use super::{Broker, Declaration, Declarations, Parts, RequestInfo};
use crate::access::Authorizer;
use crate::audit::{self, KillFile, KillFileWriter, Options, Origin, Text};
use crate::cache::{DekCache, Limits, Rules};
use crate::keys::Directory;
use crate::keys::fixture::World;
use crate::store::Store;
use crate::store::model::Quotas;

/// What is known of a request that has a minute, with this justification.
pub(super) fn request_info(justification: Option<&str>) -> RequestInfo {
    let now = Instant::now();
    RequestInfo {
        request_id: Text::new("0".repeat(32)),
        client_request_id: None,
        justification: justification.map(|text| Text::new(text.to_owned())),
        started: now,
        deadline: now + Duration::from_secs(60),
    }
}

struct NothingDeclared;

#[async_trait]
impl Declarations for NothingDeclared {
    async fn read(&self) -> Result<Declaration, String> {
        Ok(Declaration::default())
    }
}

/// A broker over the store of `world`; the folder keeps its log.
pub(super) fn broker(world: &World, authorizer: Arc<dyn Authorizer>) -> (Broker, tempfile::TempDir) {
    broker_over(world.store.clone(), world.directory(), authorizer)
}

/// As [`broker`], over another store, which the directory has as well.
pub(super) fn broker_over(store: Arc<dyn Store>, directory: Directory, authorizer: Arc<dyn Authorizer>) -> (Broker, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let installation = InstallationId::random();
    let origin = Origin {
        installation,
        node: "node-1".parse().unwrap(),
    };
    let options = Options {
        reserve_bytes: 4 << 20,
        floor_bytes: 64 << 10,
        ..Options::default()
    };
    let limits = Limits {
        entries_per_tenant: 10,
        bytes_per_tenant: 1 << 20,
    };
    let broker = Broker::new(Parts {
        store,
        log: audit::open(folder.path(), &origin, options, Vec::new()).unwrap().log,
        background: Arc::default(),
        kill_file: KillFileWriter::start(KillFile::open(folder.path(), installation, false).unwrap()).unwrap(),
        directory,
        tokens: 1_000,
        authorizer,
        cache: Arc::new(DekCache::new(&limits, Arena::new(ArenaConfig::default()))),
        cache_defaults: Rules::default(),
        quotas: Quotas {
            keys: 1_000,
            versions: 1_000,
            connections: 1_000,
            principals: 1_000,
            tokens: 1_000,
            idempotency_keys: 1_000,
        },
        log_bytes: audit::DailyBytes::new(u64::MAX, []),
        idempotency_key: aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[0; 32]),
        cursor_key: XaesKey::new(&Secret::copy_from(&[0; 32])).unwrap(),
        declarations: Arc::new(NothingDeclared),
        recall: Arc::new(|_| Box::pin(std::future::ready(()))),
    });
    (broker, folder)
}
