//! A root key that lies wrapped beside the gateway: wrapped once by a provider's key, and
//! unwrapped by it at each start. What lies there is an envelope as callers get them
//! (`docs/format.md`), of the installation's own and without a seal, so that it can be opened
//! without the gateway as every other one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use claviger_provider::layers::PipelineConfig;
use claviger_provider::{
    ConnectionId, ConnectionParts, Error, ErrorKind, Factory, KeyId, KeyRequest, OpContext, Pipeline, ProviderKind, Secret, SettingsError,
    SettingsOrigin, TenantId,
};

use crate::config::declared::SettingsFileError;
use crate::config::storage::WrappedRootKey;
use crate::envelope::{Context, Draft, Envelope, MAX_TEXT, Origin};
use crate::store::sealing::{RootKey, RootKeyError};
use crate::store::write_new_file;

/// What the caller's part of the context says: no other envelope passes for this one.
const PURPOSE: (&str, &str) = ("purpose", "claviger-root-key");
/// The external id of an AWS role: the connection is the operator's own, so there is no
/// stranger whom a random one would keep out.
const EXTERNAL_ID: &str = "claviger-root-key";
/// The first pause before asking again; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a root key cannot be wrapped or unwrapped. Nothing of a secret stands in one.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The build lacks the provider.
    #[error("`storage.root_key.provider`: this build has no provider {0}")]
    NoFamily(ProviderKind),
    /// The provider's settings.
    #[error("`storage.root_key.settings`: {}", spots(.0))]
    Settings(Vec<SettingsError>),
    /// A file that the settings name.
    #[error("`storage.root_key.settings`: {0}")]
    Files(#[from] SettingsFileError),
    /// The wrapped key's file is not there.
    #[error(
        "there is no wrapped root key in {}: claviger init makes one, claviger wrap-root-key wraps one that exists",
        .0.display()
    )]
    Missing(PathBuf),
    /// The wrapped key's file is there already.
    #[error("{} exists: move it away before another root key is wrapped into it", .0.display())]
    Exists(PathBuf),
    /// The file system failed.
    #[error("the wrapped root key {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no wrapped root key of the provider {provider}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The configured provider.
        provider: ProviderKind,
    },
    /// The provider gave something, and it is not what was wrapped.
    #[error("{} does not open with what the provider gave: it was changed, or wrapped by another key", .0.display())]
    Rejected(PathBuf),
    /// The provider refuses, or does not answer.
    #[error("the root key's provider: {}", told(.0))]
    Provider(#[from] Error),
    /// What was unwrapped, or the file given, is no root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// A step ended early.
    #[error("a step of the start ended early")]
    Ended(#[from] tokio::task::JoinError),
}

impl UnsealError {
    /// Whether the same question may get another answer once something changed at the
    /// provider: it came back, a right was given, the key was enabled.
    fn may_pass(&self) -> bool {
        let Self::Provider(error) = self else { return false };
        match error.kind {
            ErrorKind::KeyNotFound
            | ErrorKind::KeyState
            | ErrorKind::RateLimited
            | ErrorKind::ProviderDenied
            | ErrorKind::ExternalDenied
            | ErrorKind::UpstreamUnavailable
            | ErrorKind::CircuitOpen
            | ErrorKind::UpstreamProtocol
            | ErrorKind::UpstreamTimeout => true,
            ErrorKind::InvalidInput
            | ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::CiphertextRejected
            | ErrorKind::Unsupported
            | ErrorKind::Misconfigured
            | ErrorKind::Internal => false,
        }
    }
}

fn spots(errors: &[SettingsError]) -> String {
    let spots = errors.iter().map(|error| format!("{}: expected {}", error.pointer, error.expected));
    spots.collect::<Vec<_>>().join("; ")
}

fn told(error: &Error) -> String {
    let mut text = format!("{} ({})", error.context, error.kind.as_str());
    if let Some(code) = &error.upstream_code {
        text.push_str(&format!(", its code {code}"));
    }
    if let Some(advice) = error.advice {
        text.push_str(&format!(". {advice}"));
    }
    text
}

/// Who unwraps the root key.
pub(super) struct Unsealer<'c> {
    source: &'c WrappedRootKey,
    factory: Arc<dyn Factory>,
    limits: PipelineConfig,
    /// How long one question may take, with its retries.
    patience: Duration,
}

impl<'c> Unsealer<'c> {
    /// With the one of these families that the configuration names.
    ///
    /// # Errors
    /// [`UnsealError::NoFamily`].
    pub(super) fn new(
        source: &'c WrappedRootKey,
        families: Vec<Arc<dyn Factory>>,
        limits: PipelineConfig,
        patience: Duration,
    ) -> Result<Self, UnsealError> {
        let mut families = families.into_iter();
        let factory = families.find(|family| family.kind() == source.provider);
        Ok(Self {
            source,
            factory: factory.ok_or(UnsealError::NoFamily(source.provider))?,
            limits,
            patience,
        })
    }

    /// Unwraps the root key, asking again for as long as the provider may answer otherwise.
    ///
    /// # Errors
    /// What asking again cannot mend.
    pub(super) async fn wait(&self) -> Result<RootKey, UnsealError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.unwrap().await {
                Err(error) if error.may_pass() => {
                    tracing::warn!(%error, again_in_s = pause.as_secs(), "the root key is not there yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                ended => return ended,
            }
        }
    }

    /// Unwraps the root key; one question.
    ///
    /// # Errors
    /// See [`UnsealError`].
    pub(super) async fn unwrap(&self) -> Result<RootKey, UnsealError> {
        let path = &self.source.file;
        let text = read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => UnsealError::Missing(path.clone()),
            _ => UnsealError::Io {
                path: path.clone(),
                source,
            },
        })?;
        let envelope = Envelope::parse(text.trim_end()).map_err(|_| self.malformed())?;
        self.open(&self.pipeline().await?, &envelope).await
    }

    /// Draws a root key and wraps it into the file.
    ///
    /// # Errors
    /// See [`UnsealError`].
    pub(super) async fn draw(&self) -> Result<RootKey, UnsealError> {
        let root = RootKey::draw();
        self.wrap(&root).await?;
        Ok(root)
    }

    /// Wraps a root key into the file, once it was seen to open again.
    ///
    /// # Errors
    /// See [`UnsealError`].
    pub(super) async fn wrap(&self, root: &RootKey) -> Result<(), UnsealError> {
        let path = &self.source.file;
        if path.exists() {
            return Err(UnsealError::Exists(path.clone()));
        }
        let pipeline = self.pipeline().await?;
        let origin = Origin {
            tenant: TenantId::INSTALLATION,
            key: KeyId::random(),
            scope: None,
            created: u64::try_from(Utc::now().timestamp()).unwrap_or(0),
        };
        let request = KeyRequest {
            key_id: origin.key,
            spec: self.source.spec,
            adopt: Some(self.source.key.clone()),
        };
        let described = pipeline.create_key(&self.cx(), &request).await?;
        let kek = described
            .kek(origin.key)
            .ok_or_else(|| Error::new(ErrorKind::KeyState, "the key has no version that wraps"))?;
        // A root key's text is well under the 4,096 bytes that an envelope takes.
        let draft = Draft::sealed(origin, &root.to_text(), &context()).map_err(|_| self.malformed())?;
        let wrapped = pipeline.wrap_key(&self.cx(), &kek, draft.data_key(), draft.context()).await?;
        let envelope = draft
            .finish_unsealed(self.source.provider, &wrapped)
            .map_err(|_| Error::new(ErrorKind::UpstreamProtocol, "the provider's wrapping has no form that is known"))?;
        self.open(&pipeline, &envelope).await?;
        write_new_file(path, &[envelope.as_text().as_bytes(), b"\n"]).map_err(|source| UnsealError::Io {
            path: path.clone(),
            source,
        })
    }

    async fn open(&self, pipeline: &Pipeline, envelope: &Envelope) -> Result<RootKey, UnsealError> {
        let header = envelope.header();
        let [recipient] = envelope.recipients() else {
            return Err(self.malformed());
        };
        let wrapped = match recipient.wrapped() {
            Some((provider, wrapped)) if provider == self.source.provider && header.tenant() == TenantId::INSTALLATION => wrapped,
            Some(_) | None => return Err(self.malformed()),
        };
        let context = context().bind(header);
        let k = pipeline.unwrap_key(&self.cx(), &wrapped, &context).await?;
        let opened = envelope
            .open(k, &context)
            .map_err(|_| UnsealError::Rejected(self.source.file.clone()))?;
        let text = opened.into_plaintext();
        let text = std::str::from_utf8(text.expose()).map_err(|_| RootKeyError::Malformed)?;
        Ok(RootKey::from_text(text)?)
    }

    /// The way to the provider, made anew for each question: a secret's file may have changed.
    async fn pipeline(&self) -> Result<Pipeline, UnsealError> {
        let settings = self.source.settings.clone();
        let given: Secret = tokio::task::spawn_blocking(move || settings.resolve()).await??;
        let text = std::str::from_utf8(given.expose()).unwrap_or_default();
        let parsed = self.factory.parse(text, SettingsOrigin::Operator).map_err(UnsealError::Settings)?;
        let parts = ConnectionParts {
            tenant: TenantId::INSTALLATION,
            connection: ConnectionId::from_bytes([0; 16]),
            external_id: EXTERNAL_ID,
            settings: &parsed.public,
            secrets: parsed.secrets,
            background: None,
        };
        Ok(Pipeline::new(self.factory.connect(parts).await?, &self.limits))
    }

    fn cx(&self) -> OpContext {
        OpContext::for_system("start", TenantId::INSTALLATION, self.patience)
    }

    fn malformed(&self) -> UnsealError {
        UnsealError::Malformed {
            path: self.source.file.clone(),
            provider: self.source.provider,
        }
    }
}

/// The caller's part of the context.
fn context() -> Context {
    let (name, value) = PURPOSE;
    // One short pair is within every limit.
    Context::from_pairs([(name.to_owned(), value.to_owned())]).unwrap_or_default()
}

/// The file's text, no longer than a wrapped key and its line's end can be.
fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_TEXT as u64 + 2).read_to_string(&mut text)?;
    Ok(text)
}
