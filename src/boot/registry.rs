//! The providers and the store of this build. The only file that names concrete ones.
//!
//! To add a provider that is reached over a network, add a line to [`REMOTE`] and its constructor
//! below.

use std::io;
use std::path::Path;
use std::sync::Arc;

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{Capabilities, Factory, Node, ProviderKind, SealedStore};

use crate::config::Config;
use crate::config::providers::Providers;
use crate::store::sealing::RootKey;
use crate::store::sqlite::SqliteStore;
use crate::store::{KnownNode, LastRecord, Store};

pub use crate::store::sqlite::{OpenError as StoreOpenError, StoreCopy};

/// Name of the database in the data folder.
pub(super) const DATABASE: &str = "claviger.db";

/// Name of the file beside it that belongs to it.
pub(super) const STORE_RUN: &str = SqliteStore::RUN_FILE;

/// Creates the factory of one provider.
type Constructor = fn(&Providers, &Egress) -> Arc<dyn Factory>;

/// The providers of this build that are reached over a network.
const REMOTE: &[Constructor] = &[
    #[cfg(feature = "aws")]
    aws,
    #[cfg(feature = "azure")]
    azure,
    #[cfg(feature = "gcp")]
    gcp,
    #[cfg(feature = "kmip")]
    kmip,
    #[cfg(feature = "vault")]
    vault,
    #[cfg(feature = "xks")]
    xks,
];

#[cfg(feature = "aws")]
fn aws(config: &Providers, egress: &Egress) -> Arc<dyn Factory> {
    let endpoints = claviger_provider_aws::Endpoints {
        kms: config.aws.kms_endpoint.clone(),
        sts: config.aws.sts_endpoint.clone(),
    };
    Arc::new(claviger_provider_aws::AwsFactory::new(endpoints, egress.clone()))
}

#[cfg(feature = "azure")]
fn azure(config: &Providers, egress: &Egress) -> Arc<dyn Factory> {
    let application = config.azure.application.as_ref();
    let installation = claviger_provider_azure::Installation {
        vaults: config.azure.vaults.clone(),
        managed_hsms: config.azure.managed_hsms.clone(),
        authority: config.azure.authority.clone(),
        vault_resource: config.azure.vault_resource.clone(),
        managed_hsm_resource: config.azure.managed_hsm_resource.clone(),
        application: application.map(|application| claviger_provider_azure::Application {
            client_id: application.client_id.clone(),
            secret_file: application.secret_file.clone(),
        }),
    };
    Arc::new(claviger_provider_azure::AzureFactory::new(installation, egress.clone()))
}

#[cfg(feature = "gcp")]
fn gcp(config: &Providers, _egress: &Egress) -> Arc<dyn Factory> {
    let endpoints = claviger_provider_gcp::Endpoints {
        kms: config.gcp.kms_endpoint.clone(),
        sts: config.gcp.sts_endpoint.clone(),
        iam: config.gcp.iam_endpoint.clone(),
    };
    Arc::new(claviger_provider_gcp::GcpFactory::new(endpoints, config.attempt_timeout))
}

#[cfg(feature = "kmip")]
fn kmip(_config: &Providers, egress: &Egress) -> Arc<dyn Factory> {
    Arc::new(claviger_provider_kmip::KmipFactory::new(egress.clone()))
}

#[cfg(feature = "vault")]
fn vault(_config: &Providers, egress: &Egress) -> Arc<dyn Factory> {
    Arc::new(claviger_provider_vault::VaultFactory::new(egress.clone()))
}

#[cfg(feature = "xks")]
fn xks(_config: &Providers, egress: &Egress) -> Arc<dyn Factory> {
    Arc::new(claviger_provider_xks::XksFactory::new(egress.clone()))
}

/// The factories of [`REMOTE`].
pub(super) fn remote(config: &Providers, egress: &EgressPolicy) -> Vec<Arc<dyn Factory>> {
    // One for all, which looks few names up at once.
    let egress = Egress::new(egress.clone());
    REMOTE.iter().map(|constructor| constructor(config, &egress)).collect()
}

/// All factories: those of [`REMOTE`], those that need the store (tokens and the embedded provider), and in `dev`
/// the fault-injecting fake, if a test asks for it.
pub(super) async fn all(config: &Config, sealed: Arc<dyn SealedStore>, dev: bool) -> Vec<Arc<dyn Factory>> {
    #[allow(unused_mut, reason = "depends on the features of the build")]
    let mut all = remote(&config.providers, &config.egress);
    #[cfg(feature = "pkcs11")]
    all.push(Arc::new(claviger_provider_pkcs11::Pkcs11Factory::new(
        claviger_provider_pkcs11::HelperProgram::own(&[PKCS11_HOST]),
        Arc::clone(&sealed),
    )));
    #[cfg(feature = "local")]
    all.push(Arc::new(claviger_provider_local::LocalFactory::new(
        sealed,
        config.memory.embedded_keys as usize,
    )));
    // Add the fakes last. They replace Vault, say, because the last factory of a kind is used.
    #[cfg(feature = "testkit")]
    if dev {
        for fake in claviger_testkit::FakeFactory::controlled().await {
            all.push(Arc::new(fake));
        }
    }
    #[cfg(not(feature = "local"))]
    drop(sealed);
    let _ = dev;
    all
}

/// The capabilities of this build's providers, ordered by their numbers in the envelope.
pub fn capabilities() -> Vec<(ProviderKind, Capabilities)> {
    let remote = remote(&Providers::default(), &EgressPolicy::default());
    let mut all: Vec<_> = remote.iter().map(|factory| (factory.kind(), factory.capabilities())).collect();
    #[cfg(feature = "local")]
    all.push((ProviderKind::Local, claviger_provider_local::capabilities()));
    #[cfg(feature = "pkcs11")]
    all.push((ProviderKind::Pkcs11, claviger_provider_pkcs11::capabilities()));
    all.sort_by_key(|(kind, _)| kind.code());
    all
}

/// The command with which this program is the helper of a PKCS#11 connection.
#[cfg(feature = "pkcs11")]
pub const PKCS11_HOST: &str = "pkcs11-host";

/// Runs the helper process of a PKCS#11 connection, within a runtime. Blocks until the gateway ends it.
///
/// # Errors
/// When no gateway started it.
#[cfg(feature = "pkcs11")]
pub fn pkcs11_host() -> io::Result<()> {
    claviger_pkcs11_host::run()
}

/// Whether there is a store at this path.
///
/// # Errors
/// If the file system fails.
pub(super) fn store_exists(database: &Path) -> io::Result<bool> {
    SqliteStore::exists(database)
}

/// Checks, before anything opens the store, that the database's log beside it is its own. With
/// `accept_rollback`, another one is put aside.
///
/// # Errors
/// See [`StoreOpenError`].
pub(super) fn check_store_log(database: &Path, accept_rollback: bool) -> Result<(), StoreOpenError> {
    SqliteStore::check_log(database, accept_rollback)
}

/// The last record of a node's log that a store knows of. The store may be in use.
///
/// # Errors
/// See [`StoreOpenError`].
pub(super) async fn last_record_beside(database: &Path, node: &Node) -> Result<Option<LastRecord>, StoreOpenError> {
    SqliteStore::last_record_beside(database, node).await
}

/// Whether a store that may be in use is sealed under this root key.
///
/// # Errors
/// [`StoreOpenError::WrongRootKey`] if it is not, and others if that cannot be found out.
pub(super) async fn root_key_fits(database: &Path, root: &RootKey) -> Result<(), StoreOpenError> {
    SqliteStore::root_key_fits(database, root).await
}

/// Copies a store that may be in use to an empty file.
///
/// # Errors
/// See [`StoreOpenError`].
pub(super) async fn copy_store(database: &Path, to: &Path, node: &Node) -> Result<StoreCopy, StoreOpenError> {
    SqliteStore::copy(database, to, node).await
}

/// The nodes that have used the store.
///
/// # Errors
/// See [`StoreOpenError`].
pub(super) async fn known_nodes(database: &Path) -> Result<Vec<KnownNode>, StoreOpenError> {
    SqliteStore::nodes(database).await
}

/// Opens the store for this node, or creates it.
///
/// # Errors
/// See [`StoreOpenError`].
pub(super) async fn open_store(database: &Path, root: RootKey, node: &Node, create: bool) -> Result<Arc<dyn Store>, StoreOpenError> {
    let store = if create {
        SqliteStore::create(database, root, node).await?
    } else {
        SqliteStore::open(database, root, node).await?
    };
    Ok(Arc::new(store))
}
