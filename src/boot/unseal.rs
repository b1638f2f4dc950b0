//! A root key that a provider's key wraps. The provider unwraps it at each startup.
//!
//! The file contains an envelope (`docs/format.md`) of the installation itself, without a seal. So it
//! can be opened without the gateway, like every other envelope.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use claviger_provider::layers::PipelineConfig;
use claviger_provider::{
    ConnectionId, ConnectionParts, Error, ErrorKind, Factory, HealthReport, KeyId, KeyRequest, LoginReport, OpContext, ParsedSettings,
    Pipeline, ProviderKind, Secret, SettingsError, SettingsOrigin, SeverSwitch, TenantId, Wrapped,
};

use crate::config::declared::SettingsFileError;
use crate::config::storage::WrappedRootKey;
use crate::envelope::{Context, Draft, Envelope, MAX_TEXT, Origin};
use crate::store::sealing::{RootKey, RootKeyError};
use crate::store::write_new_file;

/// The caller's pair of the context. An envelope without it is not accepted as a root key.
const PURPOSE: (&str, &str) = ("purpose", "claviger-root-key");
/// External id for an AWS role. It need not be random, because the connection is the operator's
/// own, not a tenant's.
const EXTERNAL_ID: &str = "claviger-root-key";
/// First pause between two attempts. Each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a root key cannot be wrapped or unwrapped. Contains no secret.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// This build does not have the provider.
    #[error("`storage.root_key.provider`: this build has no provider {0}")]
    NoProvider(ProviderKind),
    /// The provider's settings are invalid.
    #[error("`storage.root_key.settings`: {}", settings_errors(.0))]
    Settings(Vec<SettingsError>),
    /// A file that the settings name cannot be used.
    #[error("`storage.root_key.settings`: {0}")]
    Files(#[from] SettingsFileError),
    /// The file of the wrapped root key does not exist.
    #[error(
        "{} does not exist: claviger init creates a wrapped root key, claviger wrap-root-key wraps an existing one",
        .0.display()
    )]
    Missing(PathBuf),
    /// The file of the wrapped root key exists already.
    #[error("{} exists: move it away before you wrap another root key into it", .0.display())]
    Exists(PathBuf),
    /// The file system failed.
    #[error("the wrapped root key {}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The file contains no root key wrapped by this provider.
    #[error("{} contains no wrapped root key of the provider {provider}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// The configured provider.
        provider: ProviderKind,
    },
    /// The provider's result is not the key that was wrapped.
    #[error("{} does not open with the provider's result: it was modified, or wrapped by another key", .0.display())]
    Rejected(PathBuf),
    /// The provider refuses or does not respond.
    #[error("the root key's provider: {}", provider_error(.0))]
    Provider(#[from] Error),
    /// The unwrapped bytes, or the given file, are not a root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// A task was aborted.
    #[error("a step of the start was aborted")]
    Ended(#[from] tokio::task::JoinError),
}

impl UnsealError {
    /// Whether a retry may succeed after a change at the provider: the provider is up again, a right
    /// was granted, the key was enabled.
    fn is_retryable(&self) -> bool {
        let Self::Provider(error) = self else { return false };
        match error.kind {
            ErrorKind::KeyNotFound
            | ErrorKind::KeyState
            | ErrorKind::RateLimited
            | ErrorKind::Crowded
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
            | ErrorKind::Severed
            | ErrorKind::Internal => false,
        }
    }
}

/// Invalid settings in one line.
pub(super) fn settings_errors(errors: &[SettingsError]) -> String {
    let all = errors.iter().map(|error| format!("{}: expected {}", error.pointer, error.expected));
    all.collect::<Vec<_>>().join("; ")
}

fn provider_error(error: &Error) -> String {
    let mut text = format!("{} ({})", error.context, error.kind.as_str());
    if let Some(code) = &error.upstream_code {
        text.push_str(&format!(", its code {code}"));
    }
    if let Some(message) = &error.message {
        text.push_str(&format!(", its message: {message}"));
    }
    if let Some(advice) = error.advice {
        text.push_str(&format!(". {advice}"));
    }
    text
}

/// Wraps and unwraps the root key at its provider.
pub(super) struct Unsealer<'c> {
    source: &'c WrappedRootKey,
    factory: Arc<dyn Factory>,
    limits: PipelineConfig,
    /// Deadline of one attempt, with the retries of the pipeline.
    deadline: Duration,
}

impl<'c> Unsealer<'c> {
    /// Selects the configured provider's factory.
    ///
    /// # Errors
    /// [`UnsealError::NoProvider`].
    pub(super) fn new(
        source: &'c WrappedRootKey,
        factories: Vec<Arc<dyn Factory>>,
        limits: PipelineConfig,
        deadline: Duration,
    ) -> Result<Self, UnsealError> {
        let factory = factories.into_iter().find(|factory| factory.kind() == source.provider);
        Ok(Self {
            source,
            factory: factory.ok_or(UnsealError::NoProvider(source.provider))?,
            limits,
            deadline,
        })
    }

    /// Unwraps the root key, with retries for as long as a retry may succeed.
    ///
    /// # Errors
    /// Errors that a retry cannot fix.
    pub(super) async fn wait(&self) -> Result<RootKey, UnsealError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.unwrap().await {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, retry_in_s = pause.as_secs(), "the root key cannot be unwrapped yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                ended => return ended,
            }
        }
    }

    /// Tries once to unwrap the root key.
    ///
    /// # Errors
    /// See [`UnsealError`].
    pub(super) async fn unwrap(&self) -> Result<RootKey, UnsealError> {
        let envelope = self.envelope()?;
        self.open(&self.pipeline().await?, &envelope).await
    }

    /// Checks the file and the settings, without a call to the provider. Blocks while it reads files.
    ///
    /// # Errors
    /// As [`Unsealer::unwrap`], but for what only the provider can say.
    pub(super) fn check(&self) -> Result<(), UnsealError> {
        self.wrapped(&self.envelope()?)?;
        self.parse(&self.source.settings.resolve()?)?;
        Ok(())
    }

    fn envelope(&self) -> Result<Envelope, UnsealError> {
        let path = &self.source.file;
        let text = read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => UnsealError::Missing(path.clone()),
            _ => UnsealError::Io {
                path: path.clone(),
                source,
            },
        })?;
        Envelope::parse(text.trim_end()).map_err(|_| self.malformed())
    }

    /// Generates a root key and wraps it into the file.
    ///
    /// # Errors
    /// See [`UnsealError`].
    pub(super) async fn generate(&self) -> Result<RootKey, UnsealError> {
        let root = RootKey::draw();
        self.wrap(&root).await?;
        Ok(root)
    }

    /// Wraps a root key into the file, after a check that it can be unwrapped again.
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
            made_as: origin.key,
            repeated: false,
            spec: self.source.spec,
            adopt: Some(self.source.key.clone()),
            taken: false,
        };
        let described = pipeline.create_key(&self.cx(), &request).await?;
        let kek = described
            .kek(origin.key)
            .ok_or_else(|| Error::new(ErrorKind::KeyState, "the key has no version that wraps"))?;
        // A root key's text is shorter than the maximum of 4,096 bytes.
        let draft = Draft::sealed(origin, &root.to_text(), &context()).map_err(|_| self.malformed())?;
        let wrapped = pipeline.wrap_key(&self.cx(), &kek, draft.data_key(), draft.context()).await?;
        let envelope = draft
            .finish_unsealed(self.source.provider, &wrapped)
            .map_err(|_| Error::new(ErrorKind::UpstreamProtocol, "the provider returned a wrapped key of unknown form"))?;
        self.open(&pipeline, &envelope).await?;
        write_new_file(path, &[envelope.as_text().as_bytes(), b"\n"]).map_err(|source| UnsealError::Io {
            path: path.clone(),
            source,
        })
    }

    async fn open(&self, pipeline: &Pipeline, envelope: &Envelope) -> Result<RootKey, UnsealError> {
        let wrapped = self.wrapped(envelope)?;
        let context = context().bind(envelope.header());
        let dek = pipeline.unwrap_key(&self.cx(), &wrapped, &context).await?;
        let opened = envelope
            .open(dek, &context)
            .map_err(|_| UnsealError::Rejected(self.source.file.clone()))?;
        let text = opened.into_plaintext();
        let text = std::str::from_utf8(text.expose()).map_err(|_| RootKeyError::Malformed)?;
        Ok(RootKey::from_text(text)?)
    }

    /// The root key as the provider wrapped it.
    fn wrapped(&self, envelope: &Envelope) -> Result<Wrapped, UnsealError> {
        let [recipient] = envelope.recipients() else {
            return Err(self.malformed());
        };
        match recipient.wrapped() {
            Some((provider, wrapped)) if provider == self.source.provider && envelope.header().tenant() == TenantId::INSTALLATION => {
                Ok(wrapped)
            }
            Some(_) | None => Err(self.malformed()),
        }
    }

    fn parse(&self, resolved: &Secret) -> Result<ParsedSettings, UnsealError> {
        let text = std::str::from_utf8(resolved.expose()).unwrap_or_default();
        self.factory.parse(text, SettingsOrigin::Operator).map_err(UnsealError::Settings)
    }

    /// Connects to the provider. Called for each attempt, because a secret's file may have changed.
    async fn pipeline(&self) -> Result<Pipeline, UnsealError> {
        let settings = self.source.settings.clone();
        let resolved: Secret = tokio::task::spawn_blocking(move || settings.resolve()).await??;
        let parsed = self.parse(&resolved)?;
        let parts = ConnectionParts {
            tenant: TenantId::INSTALLATION,
            connection: ConnectionId::from_bytes([0; 16]),
            external_id: EXTERNAL_ID,
            settings: &parsed.public,
            secrets: parsed.secrets,
            background: None,
            // Nobody severs the connection of the root key.
            switch: SeverSwitch::default(),
            files: None,
            login: LoginReport::new(TenantId::INSTALLATION, ConnectionId::from_bytes([0; 16]), self.source.provider),
            health: HealthReport::new(TenantId::INSTALLATION, ConnectionId::from_bytes([0; 16]), self.source.provider),
        };
        let switch = parts.switch.clone();
        Ok(Pipeline::new(self.factory.connect(parts).await?, &self.limits, switch))
    }

    fn cx(&self) -> OpContext {
        OpContext::for_system("start", TenantId::INSTALLATION, self.deadline)
    }

    fn malformed(&self) -> UnsealError {
        UnsealError::Malformed {
            path: self.source.file.clone(),
            provider: self.source.provider,
        }
    }
}

/// The caller's part of the context: one pair.
fn context() -> Context {
    let (name, value) = PURPOSE;
    // One short pair never exceeds a limit.
    Context::from_pairs([(name.to_owned(), value.to_owned())]).unwrap_or_default()
}

/// Reads the file, at most the length of a wrapped key and a line break.
fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_TEXT as u64 + 2).read_to_string(&mut text)?;
    Ok(text)
}
