//! Encrypted files (`docs/file-format.md`): each with a data key of its own, which is in its header, wrapped.

mod replacement;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_encrypted_file::{KEY, Reader, Writer};
use tokio::task::spawn_blocking;

use crate::call::Pending;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::models::{DataKey, ErrorCode};
use crate::secret::Secret;
use replacement::Replacement;

/// The prefix of the text of a wrapped key.
const TEXT: &str = "clv1.";
/// What the binary form of one begins with.
const ENVELOPE: &[u8] = b"CLV\x01";

type Context = BTreeMap<String, String>;

impl Client {
    /// Encrypts a file into another one, under a data key of its own that this key wraps. One call to the gateway, and
    /// constant memory, however long the file is. The [format](https://github.com/claviger/claviger/blob/main/docs/file-format.md)
    /// is that of all clients.
    ///
    /// Until all of it is written and synced, the result is in a temporary file in the target's folder. Then it takes the
    /// target's place, which may be that of the source. If anything fails, the target is as before. A new target can be read
    /// and written by its owner only (mode 0600). An existing one keeps its mode, and must be a regular file.
    pub fn encrypt_file(&self, key: &str, source: impl AsRef<Path>, target: impl AsRef<Path>) -> EncryptFile {
        EncryptFile {
            client: self.clone(),
            key: key.to_owned(),
            source: source.as_ref().to_owned(),
            target: target.as_ref().to_owned(),
            context: Context::new(),
        }
    }

    /// Decrypts a file that a Claviger client encrypted into another one, which is replaced only when all of it is
    /// authenticated. See [`Client::encrypt_file`] for the target.
    ///
    /// A file that is not as it was written is an [`ErrorKind::File`](crate::ErrorKind::File).
    pub fn decrypt_file(&self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> DecryptFile {
        DecryptFile {
            client: self.clone(),
            key: None,
            source: source.as_ref().to_owned(),
            target: target.as_ref().to_owned(),
            context: Context::new(),
        }
    }

    /// Encrypts what it reads to its end, and returns the target. One call to the gateway, and constant memory.
    ///
    /// Source and target are used on a thread for blocking work; `tokio_util::io::SyncIoBridge` makes them of asynchronous
    /// ones. If it fails, the target has a part that does not open.
    pub fn encrypt_stream<R, W>(&self, key: &str, source: R, target: W) -> EncryptStream<R, W> {
        EncryptStream {
            client: self.clone(),
            key: key.to_owned(),
            source,
            target,
            context: Context::new(),
        }
    }

    /// Decrypts what a Claviger client encrypted, and returns the target. See [`Client::encrypt_stream`].
    ///
    /// What it writes is authenticated, but it is the whole content only if there is no error: what was cut or changed further
    /// on is found after what comes before that. Discard what was written then, as [`Client::decrypt_file`] does.
    pub fn decrypt_stream<R, W>(&self, source: R, target: W) -> DecryptStream<R, W> {
        DecryptStream {
            client: self.clone(),
            key: None,
            source,
            target,
            context: Context::new(),
        }
    }
}

macro_rules! context {
    () => {
        /// Binds the file to pairs of text, which decryption must repeat exactly. It is not secret.
        pub fn context<N, V>(mut self, pairs: impl IntoIterator<Item = (N, V)>) -> Self
        where
            N: Into<String>,
            V: Into<String>,
        {
            self.context = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            self
        }
    };
}

macro_rules! key {
    () => {
        /// The name of the key, if no other one may open the file.
        pub fn key(mut self, key: &str) -> Self {
            self.key = Some(key.to_owned());
            self
        }
    };
}

/// What [`Client::encrypt_file`] does when it is awaited.
#[derive(Debug)]
#[must_use = "nothing happens before it is awaited"]
pub struct EncryptFile {
    client: Client,
    key: String,
    source: PathBuf,
    target: PathBuf,
    context: Context,
}

impl EncryptFile {
    context!();
}

impl IntoFuture for EncryptFile {
    type Output = Result<()>;
    type IntoFuture = Pending<()>;

    fn into_future(self) -> Pending<()> {
        Box::pin(async move {
            let (source, target) = replacement(self.source, self.target).await?;
            let target = encrypt(&self.client, &self.key, self.context, source, target).await?;
            finish(target).await
        })
    }
}

/// What [`Client::decrypt_file`] does when it is awaited.
#[derive(Debug)]
#[must_use = "nothing happens before it is awaited"]
pub struct DecryptFile {
    client: Client,
    key: Option<String>,
    source: PathBuf,
    target: PathBuf,
    context: Context,
}

impl DecryptFile {
    context!();
    key!();
}

impl IntoFuture for DecryptFile {
    type Output = Result<()>;
    type IntoFuture = Pending<()>;

    fn into_future(self) -> Pending<()> {
        Box::pin(async move {
            let (source, target) = replacement(self.source, self.target).await?;
            let target = decrypt(&self.client, self.key.as_deref(), self.context, source, target).await?;
            finish(target).await
        })
    }
}

/// What [`Client::encrypt_stream`] does when it is awaited.
#[derive(Debug)]
#[must_use = "nothing happens before it is awaited"]
pub struct EncryptStream<R, W> {
    client: Client,
    key: String,
    source: R,
    target: W,
    context: Context,
}

impl<R, W> EncryptStream<R, W> {
    context!();
}

impl<R: Read + Send + 'static, W: Write + Send + 'static> IntoFuture for EncryptStream<R, W> {
    type Output = Result<W>;
    type IntoFuture = Pending<W>;

    fn into_future(self) -> Pending<W> {
        Box::pin(async move { encrypt(&self.client, &self.key, self.context, self.source, self.target).await })
    }
}

/// What [`Client::decrypt_stream`] does when it is awaited.
#[derive(Debug)]
#[must_use = "nothing happens before it is awaited"]
pub struct DecryptStream<R, W> {
    client: Client,
    key: Option<String>,
    source: R,
    target: W,
    context: Context,
}

impl<R, W> DecryptStream<R, W> {
    context!();
    key!();
}

impl<R: Read + Send + 'static, W: Write + Send + 'static> IntoFuture for DecryptStream<R, W> {
    type Output = Result<W>;
    type IntoFuture = Pending<W>;

    fn into_future(self) -> Pending<W> {
        Box::pin(async move { decrypt(&self.client, self.key.as_deref(), self.context, self.source, self.target).await })
    }
}

async fn replacement(source: PathBuf, target: PathBuf) -> Result<(std::fs::File, Replacement)> {
    blocking(move || Replacement::begin(&source, &target)).await
}

async fn finish(target: Replacement) -> Result<()> {
    let guard = CancelGuard::default();
    let canceled = guard.flag();
    blocking(move || target.finish(&canceled)).await
}

async fn encrypt<R, W>(client: &Client, key: &str, context: Context, source: R, mut target: W) -> Result<W>
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let made = client.generate_data_key(key).bytes(KEY as u32).context(context).await?;
    let (envelope, data_key) = parts(made)?;
    let guard = CancelGuard::default();
    let mut source = guard.reader(source);
    blocking(move || {
        let written = Writer::new(&envelope).and_then(|writer| writer.write(data_key.expose(), &mut source, &mut target));
        written.map(|_| target).map_err(Error::file)
    })
    .await
}

/// The binary form of the wrapped key, and the data key.
fn parts(made: DataKey) -> Result<(Vec<u8>, Secret)> {
    let envelope = made.wrapped.strip_prefix(TEXT).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let envelope = envelope.filter(|envelope| envelope.starts_with(ENVELOPE));
    let data_key = made.plaintext.filter(|data_key| data_key.len() == KEY);
    envelope.zip(data_key).ok_or_else(|| {
        let detail = "The response has no data key that a file can be encrypted with.";
        Error::new(ErrorCode::UnexpectedResponse, "Unexpected response", detail)
            .what_to_do_is("Check that this release of the client goes with the gateway.")
            .with(|parts| parts.request_id = made.meta.request_id)
    })
}

async fn decrypt<R, W>(client: &Client, key: Option<&str>, context: Context, source: R, mut target: W) -> Result<W>
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let guard = CancelGuard::default();
    let source = guard.reader(source);
    let reader = blocking(move || Reader::new(source).map_err(Error::file)).await?;
    let wrapped = format!("{TEXT}{}", URL_SAFE_NO_PAD.encode(reader.envelope()));
    let opened = match key {
        Some(key) => client.unwrap_with_key(key, &wrapped).context(context).await?,
        None => client.unwrap(&wrapped).context(context).await?,
    };
    let data_key = opened.plaintext;
    blocking(move || reader.read(data_key.expose(), &mut target).map(|_| target).map_err(Error::file)).await
}

/// Ends the work on another thread when the future that waits for it is dropped.
#[derive(Default)]
struct CancelGuard(Arc<AtomicBool>);

impl CancelGuard {
    fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    fn reader<R>(&self, source: R) -> Cancelable<R> {
        let canceled = self.flag();
        Cancelable { source, canceled }
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A source that fails once its guard was dropped: a thread cannot be ended otherwise.
struct Cancelable<R> {
    source: R,
    canceled: Arc<AtomicBool>,
}

impl<R: Read> Read for Cancelable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.canceled.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the caller canceled it")),
            false => self.source.read(buffer),
        }
    }
}

/// Runs it on a thread for blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::io("The work was not done", io::Error::other("the runtime ends"))),
    })
}
