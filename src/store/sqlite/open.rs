//! Creates a store's file, and opens an existing one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use claviger_provider::{InstallationId, Node, Secret, TenantId};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteExecutor, SqlitePool, query, query_scalar};

use super::database::{ReaderPool, Readers};
use super::files::Files;
use super::row::{Columns, bytes};
use super::run::{self, Run, StaleLog};
use super::token_ids::TokenIds;
use super::turns::Turns;
use super::{SqliteStore, positions};
use crate::parent_folder;
use crate::store::sealing::{Place, RootKey, Sealer};
use crate::store::{KnownNode, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// `CLVR`, in the file's header (<https://www.sqlite.org/fileformat2.html>, offset 68).
pub(super) const APPLICATION_ID: i32 = 0x434c_5652;
/// The value that a new store contains sealed. It does not open under another root key.
const ROOT_CHECK: &[u8] = b"claviger root key";
/// Name of the installation's own tenant. The API does not allow it, so no customer's tenant can have it.
const INSTALLATION_NAME: &str = ".installation";
/// Number of connections that read. A few are enough: reads are short, and the caches above answer most.
const READERS: u32 = 4;
/// Number of connections for the reads of revocations: each reads single rows.
const REVOCATION_READERS: u32 = 1;
/// Number of connections that look up credentials: each reads single rows.
const CREDENTIAL_READERS: u32 = 2;
/// The most connections that read pages of lists.
const LIST_READERS: usize = 4;
/// How long a statement waits for another's lock. Only this process uses the file, so
/// that only a checkpoint or an administrator's own reading can hold one.
const BUSY: Duration = Duration::from_secs(5);
/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(8);

/// Why a store could not be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file does not exist.
    #[error("there is no store at {0}; `claviger restore` puts a backup there, `claviger init` makes a new one")]
    Missing(PathBuf),
    /// [`SqliteStore::create`] never replaces a store.
    #[error("there is a store at {0} already")]
    Exists(PathBuf),
    /// The file is a SQLite database of another program.
    #[error("{0} is no claviger store")]
    NotAStore(PathBuf),
    /// A newer release created or migrated the store.
    #[error("the store {0} was written by a newer release of claviger (schema {1}); run that release, or restore a backup from before it")]
    Newer(PathBuf, i64),
    /// The sealed check value does not open: the root key is another one.
    #[error("this root key does not open this store ({0})")]
    WrongRootKey(PathBuf),
    /// The database's log is not this database's.
    #[error(transparent)]
    StaleLog(#[from] StaleLog),
    /// The file system failed.
    #[error("the store {0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// The database failed, or contains what no release wrote.
    #[error("the store {0}: {1}")]
    Store(PathBuf, #[source] StoreError),
    /// A schema change failed, or was changed after it was applied.
    #[error("the store {0} cannot be brought to this release's schema: {1}")]
    Migrate(PathBuf, #[source] MigrateError),
}

impl SqliteStore {
    /// Whether a store that may be in use is sealed under this root key. Leaves no file beside it: the row that
    /// shows it never changes, so the database is read without its log and its locks.
    ///
    /// # Errors
    /// [`OpenError::WrongRootKey`] if it is not, and others if that cannot be found out.
    pub async fn root_key_fits(path: &Path, root: &RootKey) -> Result<(), OpenError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
        let unlocked = async {
            let mut connection = options.connect().await?;
            unlock(&mut connection, root).await.map(drop)
        };
        unlocked.await.map_err(|failure: Failure| failure.at(path))
    }

    /// Whether a file of this path exists.
    ///
    /// # Errors
    /// The file system's.
    pub fn exists(path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    /// Creates a store at the first start and opens it for this node: draws the installation id,
    /// and binds the store to this root key. The file (mode 0600) appears whole or not at all.
    /// It contains the installation's own tenant, [`TenantId::INSTALLATION`], the node, and nothing
    /// else.
    ///
    /// The caller holds the folder's lock.
    ///
    /// # Errors
    /// [`OpenError`]; `Exists` when something has the name.
    pub async fn create(path: &Path, root: RootKey, node: &Node) -> Result<Self, OpenError> {
        if Self::exists(path).map_err(|e| OpenError::Io(path.to_owned(), e))? {
            return Err(OpenError::Exists(path.to_owned()));
        }
        let io = |e| OpenError::Io(path.to_owned(), e);
        let unfinished = tempfile::Builder::new()
            .prefix(".claviger-")
            .tempfile_in(parent_folder::of(path))
            .map_err(io)?;
        fill(unfinished.path(), &root, node).await.map_err(|e| e.at(path))?;
        let whole = unfinished.persist_noclobber(path).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => OpenError::Exists(path.to_owned()),
            _ => io(e.error),
        })?;
        whole.sync_all().and_then(|()| parent_folder::sync(path)).map_err(io)?;
        // Closing it later would end the locks that SQLite then holds on the file (fcntl(2)).
        drop(whole);
        Self::open(path, root, node).await
    }

    /// Checks, before anything opens a store, that the database's log beside it is its own. Without
    /// `accept_rollback`, another one is refused; with it, it gets another name, and what only it has is lost.
    ///
    /// The caller holds the folder's lock.
    ///
    /// # Errors
    /// [`OpenError::StaleLog`], [`OpenError::Io`].
    pub fn check_log(path: &Path, accept_rollback: bool) -> Result<(), OpenError> {
        let io = |e| OpenError::Io(path.to_owned(), e);
        match run::check(path).map_err(io)? {
            Ok(()) => {}
            Err(stale) if !accept_rollback => return Err(stale.into()),
            Err(stale) => {
                tracing::warn!("{stale}");
                stale.put_aside().map_err(io)?;
            }
        }
        Run::reopen(path);
        Ok(())
    }

    /// The nodes that have used a store, by name. Brings it to this release's schema first.
    ///
    /// The caller holds the folder's lock.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn nodes(path: &Path) -> Result<Vec<KnownNode>, OpenError> {
        let nodes = async {
            let pool = migrated(path).await?;
            let nodes = positions::nodes(&pool).await?;
            pool.close().await;
            Ok::<_, Failure>(nodes)
        };
        Self::require(path)?;
        nodes.await.map_err(|e| e.at(path))
    }

    /// Opens a store for this node, after bringing it to this release's schema.
    ///
    /// The caller holds the folder's lock, and has made sure that the name is this node's: its
    /// data folder has it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(path: &Path, root: RootKey, node: &Node) -> Result<Self, OpenError> {
        Self::require(path)?;
        connect(path, &root, node).await.map_err(|e| e.at(path))
    }

    fn require(path: &Path) -> Result<(), OpenError> {
        match Self::exists(path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(OpenError::Missing(path.to_owned())),
            Err(error) => Err(OpenError::Io(path.to_owned(), error)),
        }
    }
}

/// An [`OpenError`] that does not yet name its file.
enum Failure {
    NotAStore,
    WrongRootKey,
    Store(StoreError),
    Migrate(MigrateError),
}

impl Failure {
    fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::NotAStore => OpenError::NotAStore(path),
            Self::WrongRootKey => OpenError::WrongRootKey(path),
            Self::Store(cause) => OpenError::Store(path, cause),
            Self::Migrate(MigrateError::VersionMissing(version)) => OpenError::Newer(path, version),
            Self::Migrate(cause) => OpenError::Migrate(path, cause),
        }
    }
}

impl<E: Into<StoreError>> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self::Store(cause.into())
    }
}

async fn fill(path: &Path, root: &RootKey, node: &Node) -> Result<(), Failure> {
    // Without a write-ahead log beside it: the file is renamed once it is complete.
    let options = options(path).journal_mode(SqliteJournalMode::Delete);
    migrate(&options).await?;
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    query(sqlx::AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}")))
        .execute(&pool)
        .await?;

    let installation = InstallationId::random();
    let sealer = Sealer::new(root, installation)?;
    let check = sealer.seal(check_place(&installation.to_string()), &Secret::copy_from(ROOT_CHECK))?;
    let mut transaction = pool.begin().await?;
    query("INSERT INTO tenants (id, name, suspended, created) VALUES (?1, ?2, 0, ?3)")
        .bind(bytes(&TenantId::INSTALLATION))
        .bind(INSTALLATION_NAME)
        .bind(Utc::now().timestamp_micros())
        .execute(&mut *transaction)
        .await?;
    query("INSERT INTO installation (tenant, id, root_check) VALUES (?1, ?2, ?3)")
        .bind(bytes(&TenantId::INSTALLATION))
        .bind(bytes(&installation))
        .bind(&check)
        .execute(&mut *transaction)
        .await?;
    positions::join(&mut *transaction, node).await?;
    transaction.commit().await?;
    pool.close().await;
    Ok(())
}

/// Brings the schema to this release's, each step whole or not at all. It has a connection of
/// its own without foreign keys, which a migration needs to make a table anew; the migration
/// itself checks that every reference still has its row.
async fn migrate(options: &SqliteConnectOptions) -> Result<(), Failure> {
    let options = options.clone().foreign_keys(false);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let migrated = MIGRATIONS.run(&pool).await.map_err(Failure::Migrate);
    pool.close().await;
    migrated
}

/// One connection to a store, which it has brought to this release's schema.
async fn migrated(path: &Path) -> Result<SqlitePool, Failure> {
    refuse_foreign(path).await?;
    let options = options(path).journal_mode(SqliteJournalMode::Wal);
    migrate(&options).await?;
    Ok(SqlitePoolOptions::new().max_connections(1).connect_with(options).await?)
}

async fn connect(path: &Path, root: &RootKey, node: &Node) -> Result<SqliteStore, Failure> {
    let first = migrated(path).await?;
    let run = Run::begin(path, &first).await?;
    let (installation, sealer) = unlock(&first, root).await?;
    positions::join(&first, node).await?;
    let token_ids = TokenIds::load(&first).await?;
    first.close().await;
    let files = Arc::new(Files::of(path));
    let options = options(path).journal_mode(SqliteJournalMode::Wal);
    // All pools keep their connections: closing the last one would remove the log beside
    // the file, and the statements prepared on it would be lost.
    let pool = || {
        let files = Arc::clone(&files);
        SqlitePoolOptions::new()
            // A connection must not read or write other files than the rest.
            .after_connect(move |_, _| {
                let compared = files.check_database().map_err(|lost| sqlx::Error::Configuration(Box::new(lost)));
                Box::pin(std::future::ready(compared))
            })
            .acquire_timeout(ACQUIRE)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
    };
    let writer = pool().max_connections(1).connect_with(options.clone()).await?;
    run.mark_log(&writer).await;
    files.note().map_err(|error| StoreError::Database(Box::new(error)))?;
    let options = options.read_only(true);
    let readers = |connections: u32, name: &'static str, turns: fn(usize) -> Arc<Turns>| {
        let pool = pool().max_connections(connections).connect_lazy_with(options.clone());
        ReaderPool::new(pool, turns(connections as usize), Arc::clone(&files), name)
    };
    Ok(SqliteStore {
        writer,
        writing: Turns::new(1),
        readers: Readers {
            revocations: readers(REVOCATION_READERS, "revocations", Turns::new),
            credentials: readers(CREDENTIAL_READERS, "credentials", Turns::together),
            lists: readers(list_readers(), "lists", Turns::new),
            others: readers(READERS, "others", Turns::new),
        },
        token_ids: Arc::new(token_ids),
        sealer: Arc::new(sealer),
        installation,
        files,
        run,
        node: node.clone(),
    })
}

/// Number of connections that read pages, on half of the cores at most: a page of a thousand keys keeps
/// one busy for milliseconds, and what a revocation computes needs the rest.
fn list_readers() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, LIST_READERS) as u32
}

/// Checks, before anything is written to the file, that it is a store: by its application id.
async fn refuse_foreign(path: &Path) -> Result<(), Failure> {
    let application_id: Result<i32, sqlx::Error> = async {
        let mut connection = options(path).connect().await?;
        let id = query_scalar("PRAGMA application_id").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(id)
    }
    .await;
    match application_id {
        Ok(APPLICATION_ID) => Ok(()),
        Ok(_) => Err(Failure::NotAStore),
        // SQLITE_NOTADB (<https://www.sqlite.org/rescode.html#notadb>).
        Err(sqlx::Error::Database(cause)) if cause.code().as_deref() == Some("26") => Err(Failure::NotAStore),
        Err(other) => Err(other.into()),
    }
}

async fn unlock<'e>(pool: impl SqliteExecutor<'e>, root: &RootKey) -> Result<(InstallationId, Sealer), Failure> {
    let row = query("SELECT id, root_check FROM installation")
        .fetch_optional(pool)
        .await?
        .ok_or(StoreError::Damaged("a store without an installation"))?;
    let installation: InstallationId = row.id("id")?;
    let sealer = Sealer::new(root, installation)?;
    let place = installation.to_string();
    match sealer.open(check_place(&place), row.value("root_check")?) {
        Ok(check) if check.expose() == ROOT_CHECK => Ok((installation, sealer)),
        Ok(_) | Err(_) => Err(Failure::WrongRootKey),
    }
}

fn check_place(row: &str) -> Place<'_> {
    Place {
        table: "installation",
        tenant: TenantId::INSTALLATION,
        row,
        column: "root_check",
    }
}

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        // Each commit waits for the log's sync: what was acknowledged survives power loss.
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "MEMORY")
        .pragma("secure_delete", "ON")
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .disable_statement_logging()
}
