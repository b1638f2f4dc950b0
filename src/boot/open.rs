//! Opens the data folder, the store and the audit log, and creates the broker on them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use claviger_guarded::{Arena, ArenaConfig, Hardening};
use claviger_provider::layers::{BreakerConfig, PipelineConfig, RetryConfig};
use claviger_provider::xaes::XaesKey;
use claviger_provider::{SealedStore, Shares};

use super::declared::FromConfig;
use super::errors::BootError;
use super::log_position::{LogPosition, from_store};
use super::node::{first_name, known_name};
use super::options::{Accepted, ConfigSource};
use super::registry;
use crate::access::GrantsAuthorizer;
use crate::audit::{self, CommitMetrics, DailyBytes, KillFile, KillFileWriter, LastRecordWatch, Origin, Position, Recovered};
use crate::broker::{Broker, Circumstances, Parts, Recall, Recovery};
use crate::cache::{DekCache, Limits, Rules};
use crate::config::Config;
use crate::config::cache::Cache;
use crate::config::memory::Memory;
use crate::config::providers::Providers;
use crate::config::quotas::Quotas;
use crate::keys::{Capacity, Directory, Factories};
use crate::store::lock::DataDir;
use crate::store::sealing::RootKey;
use crate::store::{Store, clock, model};

/// The locked data folder.
pub(super) struct Folder {
    folder: DataDir,
    database: PathBuf,
    /// Whether there is a store in it.
    pub(super) initialised: bool,
}

impl Folder {
    /// Creates the folder if it is missing, and locks it.
    pub(super) fn lock(config: &Config) -> Result<Self, BootError> {
        let folder = DataDir::lock(&config.storage.data_dir)?;
        let database = folder.path().join(registry::DATABASE);
        let initialised = registry::store_exists(&database).map_err(|error| BootError::Io {
            what: "the data folder cannot be read",
            kind: error.kind(),
        })?;
        if !initialised {
            refuse_log(folder.path())?;
        }
        Ok(Self {
            folder,
            database,
            initialised,
        })
    }

    /// The folder's path, for messages.
    pub(super) fn display(&self) -> String {
        self.folder.path().display().to_string()
    }
}

/// Refuses a folder that has lost its store: a new store would not be the one of its log.
fn refuse_log(folder: &Path) -> Result<(), BootError> {
    let io = |error: io::Error| BootError::Io {
        what: "the data folder cannot be read",
        kind: error.kind(),
    };
    let left = audit::left_in(folder).map_err(io)?;
    left.map_or(Ok(()), |file| Err(BootError::LogWithoutStore(folder.join(file))))
}

/// The open store and audit log.
pub(super) struct Opened {
    folder: DataDir,
    store: Arc<dyn Store>,
    recovered: Recovered,
    last_record: LastRecordWatch,
    log_bytes: DailyBytes,
    kill_file: KillFileWriter,
    idempotency_key: aws_lc_rs::hmac::Key,
    cursor_key: XaesKey,
}

/// Opens the audit log and the store with the root key. Creates the store if there is none.
pub(super) async fn open(config: &Config, accepted: Accepted, folder: Folder, root: RootKey) -> Result<Opened, BootError> {
    let Folder {
        folder,
        database,
        initialised,
    } = folder;
    let idempotency_key = root.idempotency_key();
    let cursor_key = root.cursor_key();
    let path = folder.path().to_owned();
    audit::free_space_for_start(&path);
    let node = if initialised {
        registry::check_store_log(&database, accepted.rollback)?;
        known_name(&path, &registry::known_nodes(&database).await?, accepted.lost_log)?
    } else {
        first_name(&path)?
    };
    let store = registry::open_store(&database, root, &node, !initialised).await?;
    let origin = Origin {
        installation: store.installation().await?,
        node,
    };
    let log_options = audit::Options {
        durability: config.audit.durability,
        reserve_bytes: config.audit.disk_reserve,
        accept_lost_log: accepted.lost_log,
        accept_clock: accepted.clock,
        stored: store.last_applied().await?.map(Position),
        last_record: store.last_record().await?.map(from_store),
        compared: store.applied().await?.first().copied().map(Position),
        ..audit::Options::default()
    };
    let last_record = LastRecordWatch::default();
    let log_bytes = DailyBytes::new(config.quotas.log_bytes_per_day, store.log_bytes().await?);
    let observers: Vec<Box<dyn audit::CommitObserver>> = vec![
        Box::new(CommitMetrics::new()),
        // Before the bytes are counted: see `LogPosition::keep`.
        Box::new(last_record.clone()),
        Box::new(log_bytes.clone()),
    ];
    let (kill_file, recovered) = tokio::task::spawn_blocking(move || {
        let had_log = log_options.stored.is_some() || log_options.last_record.is_some();
        let kill_file = KillFile::open(&path, origin.installation, had_log)?;
        let recovered = audit::open(&path, &origin, log_options, observers);
        if recovered.is_err() {
            kill_file.start_refused();
        }
        Ok::<_, BootError>((kill_file, recovered?))
    })
    .await??;
    if let Some(last) = recovered.last_time {
        follow_clock(last);
    }
    Ok(Opened {
        folder,
        store,
        recovered,
        last_record,
        log_bytes,
        kill_file: KillFileWriter::start(kill_file).map_err(audit::KillFileError::from)?,
        idempotency_key,
        cursor_key,
    })
}

/// Has tokens expire by the log's time where the system's clock is earlier: one that was set back would make
/// expired tokens valid again.
fn follow_clock(last: audit::Timestamp) {
    let now = audit::Timestamp::now();
    if now < last {
        tracing::warn!(
            behind_seconds = last.micros().saturating_sub(now.micros()) / 1_000_000,
            "the clock is earlier than the audit log's last record, by which tokens expire until the clock has passed it. Set the clock. If it \
             is right and was wrong before, start once with --accept-clock"
        );
    }
    clock::never_before(last.micros());
}

/// What remains of [`Opened`] beside the broker. Must stay open while the gateway runs.
pub(super) struct Remaining {
    pub(super) folder: DataDir,
    pub(super) store: Arc<dyn Store>,
    pub(super) recovered: Recovered,
    pub(super) log_position: Arc<LogPosition>,
}

impl Remaining {
    /// Reconciles the store with the audit log. Must come before any other use of them.
    pub(super) async fn reconcile(&mut self, broker: &Broker, accepted: Accepted) -> Result<(), BootError> {
        let circumstances = Circumstances {
            accept_rollback: accepted.rollback,
            accept_lost_log: accepted.lost_log,
            was_clean: self.recovered.was_clean,
        };
        let open_intents = std::mem::take(&mut self.recovered.open_intents);
        let recovered = broker.recover(open_intents, &self.recovered.history, circumstances).await;
        if recovered.is_err() {
            broker.start_refused();
        }
        let recovery = recovered?;
        if accepted.lost_log {
            self.log_position.forget().await?;
        }
        if recovery != Recovery::default() || !self.recovered.was_clean {
            tracing::warn!(
                ?recovery,
                "the last run did not stop cleanly, or a copy was restored; store and audit log are reconciled"
            );
        }
        Ok(())
    }
}

/// Closes the audit log and the store, so that the next start finds a clean stop.
pub(super) async fn close(broker: &Broker, log_position: &LogPosition) {
    // The log has reported a failure.
    let _ = broker.record_background_calls(true).await;
    broker.log().close().await;
    log_position.close().await;
}

/// Creates the broker.
pub(super) async fn broker(
    config: &Config,
    dev: bool,
    source: Option<ConfigSource>,
    opened: Opened,
    shares: Shares,
    recall: Recall,
) -> (Arc<Broker>, Remaining) {
    let Opened {
        folder,
        store,
        recovered,
        last_record,
        log_bytes,
        kill_file,
        idempotency_key,
        cursor_key,
    } = opened;
    let sealed: Arc<dyn SealedStore> = store.clone();
    let factories = registry::all(config, sealed, dev).await;
    let background = Arc::clone(&recovered.background);
    let pipeline = pipeline(&config.providers, config.server.request_deadline);
    let factories = Factories::new(factories, pipeline, shares).observed_by(background);
    let (limits, arena) = cache_memory(&config.cache);
    let broker = Broker::new(Parts {
        store: store.clone(),
        log: recovered.log.clone(),
        background: Arc::clone(&recovered.background),
        kill_file,
        directory: Directory::new(store.clone(), factories, capacity(&config.memory)),
        tokens: config.memory.tokens as usize,
        authorizer: Arc::new(GrantsAuthorizer),
        cache: Arc::new(DekCache::new(&limits, arena)),
        cache_defaults: cache_rules(&config.cache),
        quotas: quotas(&config.quotas),
        log_bytes: log_bytes.clone(),
        idempotency_key,
        cursor_key,
        declarations: Arc::new(FromConfig(source)),
        recall,
    });
    let remaining = Remaining {
        folder,
        log_position: Arc::new(LogPosition::new(Arc::clone(&store), last_record, log_bytes)),
        store,
        recovered,
    };
    (Arc::new(broker), remaining)
}

/// The limits of the provider pipeline, for requests with this deadline.
pub(super) fn pipeline(settings: &Providers, request_deadline: Duration) -> PipelineConfig {
    PipelineConfig {
        concurrency: settings.concurrency as usize,
        attempt_timeout: settings.attempt_timeout,
        creation_timeout: settings.creation_timeout,
        retry: RetryConfig {
            max_retries: settings.retries,
            ..RetryConfig::with_concurrency(settings.concurrency as usize)
        },
        breaker: BreakerConfig {
            consecutive_failures: settings.breaker.failures,
            open_for: settings.breaker.open_for,
            // An attempt may take as long as a request, which needs some time before it.
            fair_chance: request_deadline * 3 / 4,
            ..BreakerConfig::default()
        },
        // Each connection decides.
        owner_reads_messages: false,
        connection: None,
    }
}

/// The sizes of the caches of keys and connections.
const fn capacity(settings: &Memory) -> Capacity {
    Capacity {
        keys: settings.keys as usize,
        names: settings.names as usize,
        connections: settings.connections as usize,
        tenants: settings.tenants as usize,
    }
}

/// The limits of the data-key cache and its locked memory. Logs what the system did not grant.
fn cache_memory(settings: &Cache) -> (Limits, Arena) {
    let bytes = |setting: u64| usize::try_from(setting).unwrap_or(usize::MAX);
    let arena = Arena::new(ArenaConfig {
        max_bytes: bytes(settings.bytes),
    });
    for hardening in arena.hardening() {
        report_hardening(&hardening);
    }
    let locked = arena.capacity();
    if locked < bytes(settings.bytes) {
        tracing::warn!(
            wanted_bytes = settings.bytes,
            locked_bytes = locked,
            data_keys = locked / Arena::taken_by(1),
            "the data-key cache gets less locked memory than `cache.bytes`: tenants share less, and more unwraps call \
             the provider. Raise the limit RLIMIT_MEMLOCK (LimitMEMLOCK= in a systemd unit, --ulimit memlock= in \
             Docker), or lower `cache.bytes`"
        );
    }
    let limits = Limits {
        entries_per_tenant: settings.entries_per_tenant as usize,
        bytes_per_tenant: bytes(settings.bytes_per_tenant),
    };
    (limits, arena)
}

/// Each tenant's quotas.
const fn quotas(settings: &Quotas) -> model::Quotas {
    model::Quotas {
        keys: settings.keys,
        versions: settings.versions,
        connections: settings.connections,
        principals: settings.principals,
        tokens: settings.tokens,
        idempotency_keys: settings.idempotency_keys,
    }
}

fn cache_rules(settings: &Cache) -> Rules {
    Rules {
        enabled: settings.enabled,
        max_age: settings.max_age,
        max_idle: settings.max_idle,
        max_uses: settings.max_uses,
        ..Rules::default()
    }
}

/// Logs a hardening measure that the system refused.
pub(super) fn report_hardening(hardening: &Hardening) {
    if let Err(reason) = &hardening.result {
        tracing::warn!(hardening = hardening.name, %reason, "the system refused a hardening measure");
    }
}
