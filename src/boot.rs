//! Puts the gateway together: the one place that names concrete providers and stores.
//!
//! `main` reaches it through the commands `serve`, `dev` and `init`. The order of the steps
//! is the order of what may fail: no request is served before store and log agree; until then
//! the listeners say that the gateway is starting.

mod bootstrap_admin;
mod declared;
mod serving;
mod starting;
mod unseal;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use claviger_guarded::{Arena, ArenaConfig};
#[cfg(any(feature = "azure", feature = "vault"))]
use claviger_provider::egress::Egress;
use claviger_provider::egress::EgressPolicy;
use claviger_provider::layers::{BreakerConfig, PipelineConfig, RetryConfig};
use claviger_provider::{Capabilities, Factory, ProviderKind, SealedStore};
use tokio::sync::Semaphore;

use crate::access::GrantsAuthorizer;
use crate::audit::{self, Counters, KillFile, Log, Node, Origin, Recovered};
use crate::broker::{Broker, Circumstances, Parts, RecoverError, Recovery};
use crate::cache::{DekCache, Limits, Rules};
use crate::config::providers::Providers;
use crate::config::storage::{RootKey as RootKeySource, WrappedRootKey};
use crate::config::{self, Config};
use crate::keys::{Directory, Factories};
use crate::protocols::exchange::{AppState, Exchange};
use crate::protocols::rest::{Rest, ServiceState};
use crate::store::lock::{DataDir, LockError};
use crate::store::sealing::{RootKey, RootKeyError};
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;

pub use bootstrap_admin::init;
pub use declared::ConfigSource;
pub use serving::Serving;
pub use starting::Starting;
pub use unseal::UnsealError;
use unseal::Unsealer;

/// The database's name in the data folder.
const DATABASE: &str = "claviger.db";

/// Why the gateway does not start. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each is the error of the step that it names")]
pub enum BootError {
    #[error(transparent)]
    Folder(#[from] LockError),
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    #[error("the configuration has no `storage.root_key.wrapped` to wrap the root key into")]
    NothingToWrapInto,
    #[error(
        "systemd gave no credential named {}: see LoadCredentialEncrypted= in systemd.exec(5)",
        RootKeySource::CREDENTIAL
    )]
    NoCredential,
    #[error("{0} holds no gateway yet: run claviger init first")]
    NotInitialised(String),
    #[error("{0} holds a gateway already; claviger init --new-token issues another administrator's token for it")]
    Initialised(String),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the store failed: {0}")]
    Rows(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] audit::OpenError),
    #[error(transparent)]
    KillFile(#[from] audit::KillFileError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Unavailable(#[from] audit::Unavailable),
    #[error(transparent)]
    Tls(#[from] crate::listener::TlsError),
    #[error("{address} cannot be listened on ({kind})")]
    Listen {
        address: std::net::SocketAddr,
        kind: std::io::ErrorKind,
    },
    #[error("{what} ({kind})")]
    Io { what: &'static str, kind: std::io::ErrorKind },
    #[error("a step of the start ended early")]
    Ended(#[from] tokio::task::JoinError),
    #[error("the declared {what} `{name}` cannot be made: {} {}", failure.detail, failure.hints().collect::<Vec<_>>().join("; "))]
    Declared {
        what: &'static str,
        name: String,
        failure: Box<crate::broker::Failure>,
    },
    #[error(transparent)]
    DeclaredSettings(#[from] declared::Unreadable),
    #[error("the store's node name is damaged")]
    Node,
}

/// How the gateway is started, beside its configuration.
#[derive(Default)]
pub struct StartOptions {
    /// Go on although the store is older than the log, or the log older than the store.
    pub accept_rollback: bool,
    /// Started by `claviger dev`: makes what is missing, and may hold the testkit's fake.
    pub dev: bool,
    /// The root key, where it does not come from the configuration's source (`dev` only).
    pub root_key: Option<RootKey>,
    /// Where the configuration came from, for who has what it declares applied again.
    pub source: Option<ConfigSource>,
    /// The metrics, if they are on; there is one recorder in a process.
    pub metrics: Option<Metrics>,
}

/// The provider families of this build that are reached over a network. A new provider is
/// one line here.
#[allow(
    unused_mut,
    clippy::vec_init_then_push,
    reason = "what is pushed depends on the features of the build"
)]
fn families(providers: &Providers, egress: &EgressPolicy) -> Vec<Arc<dyn Factory>> {
    let mut families: Vec<Arc<dyn Factory>> = Vec::new();
    #[cfg(feature = "aws")]
    families.push(Arc::new(claviger_provider_aws::AwsFactory::new(
        claviger_provider_aws::Endpoints {
            kms: providers.aws.kms_endpoint.clone(),
            sts: providers.aws.sts_endpoint.clone(),
        },
        Egress::new(egress.clone()),
    )));
    #[cfg(feature = "azure")]
    families.push(Arc::new(claviger_provider_azure::AzureFactory::new(
        azure(&providers.azure),
        Egress::new(egress.clone()),
    )));
    #[cfg(feature = "gcp")]
    families.push(Arc::new(claviger_provider_gcp::GcpFactory::new(
        claviger_provider_gcp::Endpoints {
            kms: providers.gcp.kms_endpoint.clone(),
            sts: providers.gcp.sts_endpoint.clone(),
            iam: providers.gcp.iam_endpoint.clone(),
        },
        providers.attempt_timeout,
    )));
    #[cfg(feature = "vault")]
    families.push(Arc::new(claviger_provider_vault::VaultFactory::new(Egress::new(egress.clone()))));
    let _ = (providers, egress);
    families
}

/// What the provider families of this build can do, in the order of their numbers.
pub fn capabilities() -> Vec<(ProviderKind, Capabilities)> {
    let defaults = (Providers::default(), EgressPolicy::default());
    let remote = families(&defaults.0, &defaults.1);
    let mut all: Vec<_> = remote.iter().map(|family| (family.kind(), family.capabilities())).collect();
    #[cfg(feature = "local")]
    all.push((ProviderKind::Local, claviger_provider_local::capabilities()));
    all.sort_by_key(|(kind, _)| kind.code());
    all
}

/// All families: those of [`families`], the embedded one, which needs the store, and for tests
/// the fake.
async fn factories(sealed: &Arc<dyn SealedStore>, config: &Config, dev: bool) -> Vec<Arc<dyn Factory>> {
    let mut families = families(&config.providers, &config.egress);
    #[cfg(feature = "local")]
    families.push(Arc::new(claviger_provider_local::LocalFactory::new(Arc::clone(sealed))));
    // Last: where a test asks for the fake it plays Vault, and of two families of one kind the
    // later one counts.
    #[cfg(feature = "testkit")]
    if dev && let Some(fake) = claviger_testkit::FakeFactory::controlled().await {
        families.push(Arc::new(fake));
    }
    let _ = (sealed, &mut families, dev);
    families
}

/// What the operator adds to Azure's own clouds.
#[cfg(feature = "azure")]
fn azure(config: &config::providers::Azure) -> claviger_provider_azure::Installation {
    let application = config.application.as_ref().map(|application| claviger_provider_azure::Application {
        client_id: application.client_id.clone(),
        secret_file: application.secret_file.clone(),
    });
    claviger_provider_azure::Installation {
        vaults: config.vaults.clone(),
        managed_hsms: config.managed_hsms.clone(),
        authority: config.authority.clone(),
        application,
    }
}

/// The data folder, which no other process uses now.
struct Folder {
    folder: DataDir,
    database: PathBuf,
    /// Whether there is a gateway in it.
    inhabited: bool,
}

impl Folder {
    fn lock(config: &Config) -> Result<Self, BootError> {
        let folder = DataDir::lock(&config.storage.data_dir)?;
        let database = folder.path().join(DATABASE);
        let inhabited = SqliteStore::exists(&database).map_err(|error| BootError::Io {
            what: "the data folder cannot be read",
            kind: error.kind(),
        })?;
        Ok(Self {
            folder,
            database,
            inhabited,
        })
    }

    /// The folder's name, for messages.
    fn shown(&self) -> String {
        self.folder.path().display().to_string()
    }
}

/// The parts that are open while a gateway lives.
struct Open {
    folder: DataDir,
    store: Arc<SqliteStore>,
    recovered: Recovered,
    kill_file: KillFile,
    idempotency_key: aws_lc_rs::hmac::Key,
}

/// The root key of the gateway in this folder. Where there is none yet and one is to be made,
/// so is what holds it, if it is missing. A provider that is away is waited for, but not
/// where something is to be made: somebody stands there then.
async fn root_key(config: &Config, options: &mut StartOptions, folder: &Folder, make: bool) -> Result<RootKey, BootError> {
    if !folder.inhabited && !make {
        return Err(BootError::NotInitialised(folder.shown()));
    }
    if let Some(given) = options.root_key.take() {
        return Ok(given);
    }
    match &config.storage.root_key {
        RootKeySource::File(path) if !folder.inhabited && !path.exists() => Ok(RootKey::generate_to_file(path)?),
        RootKeySource::File(path) => Ok(RootKey::from_file(path)?),
        RootKeySource::SystemdCredential => RootKey::from_systemd()?.ok_or(BootError::NoCredential),
        RootKeySource::Wrapped(source) => {
            let unsealer = unsealer(config, source)?;
            Ok(match (folder.inhabited || source.file.exists(), make) {
                (false, _) => unsealer.draw().await?,
                (true, true) => unsealer.unwrap().await?,
                (true, false) => unsealer.wait().await?,
            })
        }
    }
}

fn unsealer<'c>(config: &Config, source: &'c WrappedRootKey) -> Result<Unsealer<'c>, UnsealError> {
    Unsealer::new(
        source,
        families(&config.providers, &config.egress),
        pipeline(&config.providers),
        config.server.request_deadline,
    )
}

/// Wraps the root key of this file for the configuration's `storage.root_key.wrapped`. The
/// gateway may be running. Answers the file that was made.
///
/// # Errors
/// [`BootError::RootKey`], [`BootError::Unseal`], and [`BootError::NothingToWrapInto`] where the
/// configuration has the root key from elsewhere.
pub async fn wrap_root_key<'c>(config: &'c Config, from: &Path) -> Result<&'c Path, BootError> {
    let RootKeySource::Wrapped(source) = &config.storage.root_key else {
        return Err(BootError::NothingToWrapInto);
    };
    unsealer(config, source)?.wrap(&RootKey::from_file(from)?).await?;
    Ok(&source.file)
}

/// Opens the store with the root key, or makes it where there is none, and the log.
async fn open(config: &Config, accept_rollback: bool, folder: Folder, root: RootKey) -> Result<Open, BootError> {
    let Folder {
        folder,
        database,
        inhabited,
    } = folder;
    let idempotency_key = root.idempotency_key();
    let store = if inhabited {
        SqliteStore::open(&database, root).await?
    } else {
        SqliteStore::create(&database, root).await?
    };
    let store = Arc::new(store);
    let installation = store.installation().await?;
    let node: Node = installation.node.parse().map_err(|_| BootError::Node)?;
    let origin = Origin {
        installation: installation.id,
        node,
    };
    let path = folder.path().to_owned();
    let log_options = audit::Options {
        reserve_bytes: config.audit.disk_reserve,
        accept_rollback,
        ..audit::Options::default()
    };
    let (kill_file, recovered) = tokio::task::spawn_blocking(move || {
        let kill_file = KillFile::open(&path, origin.installation)?;
        Ok::<_, BootError>((kill_file, audit::open(&path, &origin, log_options)?))
    })
    .await??;
    Ok(Open {
        folder,
        store,
        recovered,
        kill_file,
        idempotency_key,
    })
}

/// The use cases, on what is open.
async fn broker(config: &Config, dev: bool, source: Option<ConfigSource>, open: Open) -> (Arc<Broker>, Remaining) {
    let Open {
        folder,
        store,
        recovered,
        kill_file,
        idempotency_key,
    } = open;
    let sealed: Arc<dyn SealedStore> = store.clone();
    let factories = Factories::new(factories(&sealed, config, dev).await, pipeline(&config.providers));
    let rules = cache_rules(&config.cache);
    let arena = Arena::new(ArenaConfig::default());
    for hardening in arena.hardening() {
        report_hardening(&hardening);
    }
    let limits = Limits {
        bytes: CACHE_BYTES,
        entries_per_tenant: config.cache.entries_per_tenant as usize,
        bytes_per_tenant: usize::try_from(config.cache.bytes_per_tenant).unwrap_or(usize::MAX),
    };
    let broker = Broker::new(Parts {
        store: store.clone(),
        log: recovered.log.clone(),
        kill_file,
        directory: Directory::new(store.clone(), factories),
        authorizer: Arc::new(GrantsAuthorizer),
        cache: Arc::new(DekCache::new(&limits, arena)),
        cache_defaults: rules,
        idempotency_key,
        declarations: Arc::new(declared::FromConfig(source)),
    });
    (Arc::new(broker), Remaining { folder, store, recovered })
}

/// The weight of the whole DEK cache, in bytes; tenants' shares come from the configuration.
const CACHE_BYTES: u64 = 64 << 20;

/// What the broker leaves for boot to keep and to close.
struct Remaining {
    folder: DataDir,
    store: Arc<SqliteStore>,
    recovered: Recovered,
}

/// Brings store and log to agree, which comes before anything is done with them.
async fn reconcile(broker: &Broker, recovered: &mut Recovered, accept_rollback: bool) -> Result<(), BootError> {
    let how = Circumstances {
        accept_rollback,
        was_clean: recovered.was_clean,
    };
    let open_intents = std::mem::take(&mut recovered.open_intents);
    let recovery = broker.recover(open_intents, &recovered.history, how).await?;
    if recovery != Recovery::default() || !recovered.was_clean {
        tracing::warn!(
            ?recovery,
            "the last run did not end in order, or a copy was restored; store and log agree again"
        );
    }
    Ok(())
}

/// Ends what [`open`] opened, so that the next start finds it in order.
async fn close(log: &Log, store: &SqliteStore) {
    log.close().await;
    store.close().await;
}

/// The REST API.
fn gateway(config: &Config, broker: &Arc<Broker>, counters: &Arc<Counters>, service: ServiceState) -> Exchange<Rest> {
    let server = &config.server;
    let rest = Rest::new(service, server.request_deadline, server.trusted_proxies.clone());
    let app = AppState {
        broker: Arc::clone(broker),
        counters: Arc::clone(counters),
        in_flight: Arc::new(Semaphore::new(server.limits.max_in_flight as usize)),
    };
    Exchange::new(rest, app)
}

fn pipeline(settings: &Providers) -> PipelineConfig {
    PipelineConfig {
        concurrency: settings.concurrency as usize,
        attempt_timeout: settings.attempt_timeout,
        retry: RetryConfig {
            max_retries: settings.retries,
            ..RetryConfig::default()
        },
        breaker: BreakerConfig {
            consecutive_failures: settings.breaker.failures,
            open_for: settings.breaker.open_for,
            ..BreakerConfig::default()
        },
    }
}

fn cache_rules(settings: &config::cache::Cache) -> Rules {
    Rules {
        enabled: settings.enabled,
        max_age: settings.max_age,
        max_idle: settings.max_idle,
        max_uses: settings.max_uses,
        ..Rules::default()
    }
}

fn report_hardening(hardening: &claviger_guarded::Hardening) {
    if let Err(reason) = &hardening.result {
        tracing::warn!(hardening = hardening.name, %reason, "a hardening of this process could not be had");
    }
}
