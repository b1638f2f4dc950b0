//! The provider's methods as values, so that a layer forwards one method and not twelve.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    BoundContext, Capabilities, Error, Generated, Kek, KeyDescription, KeyRequest, OpContext, Probe, Provider, ProviderKind, Rewrapped,
    Secret, Wrapped,
};

/// One operation. It borrows its arguments, so that a retry needs no copy of a secret.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "each is the argument list of the Provider method of the same name")]
pub enum Op<'a> {
    WrapKey {
        kek: &'a Kek,
        dek: &'a Secret,
        context: &'a BoundContext,
    },
    UnwrapKey {
        wrapped: &'a Wrapped,
        context: &'a BoundContext,
    },
    GenerateDataKey {
        kek: &'a Kek,
        bytes: usize,
        context: &'a BoundContext,
    },
    RewrapKey {
        wrapped: &'a Wrapped,
        to: &'a Kek,
        context: &'a BoundContext,
    },
    CreateKey {
        request: &'a KeyRequest,
    },
    FindMade {
        request: &'a KeyRequest,
    },
    Rotate {
        kek: &'a Kek,
    },
    Describe {
        kek: &'a Kek,
    },
    SetState {
        kek: &'a Kek,
        enabled: bool,
    },
    ScheduleDeletion {
        kek: &'a Kek,
        days: u16,
    },
    Import {
        kek: &'a Kek,
        material: &'a Secret,
    },
    Probe {
        keks: &'a [Kek],
    },
}

impl<'a> Op<'a> {
    /// The name in metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::WrapKey { .. } => "wrap_key",
            Self::UnwrapKey { .. } => "unwrap_key",
            Self::GenerateDataKey { .. } => "generate_data_key",
            Self::RewrapKey { .. } => "rewrap_key",
            Self::CreateKey { .. } => "create_key",
            Self::FindMade { .. } => "find_made",
            Self::Rotate { .. } => "rotate",
            Self::Describe { .. } => "describe",
            Self::SetState { .. } => "set_state",
            Self::ScheduleDeletion { .. } => "schedule_deletion",
            Self::Import { .. } => "import",
            Self::Probe { .. } => "probe",
        }
    }

    /// The provider key id that the operation names; of a rewrap, the key that wraps then.
    pub fn provider_key(self) -> Option<&'a str> {
        match self {
            Self::WrapKey { kek, .. }
            | Self::GenerateDataKey { kek, .. }
            | Self::Rotate { kek }
            | Self::Describe { kek }
            | Self::SetState { kek, .. }
            | Self::ScheduleDeletion { kek, .. }
            | Self::Import { kek, .. }
            | Self::RewrapKey { to: kek, .. } => Some(&kek.key.id),
            Self::UnwrapKey { wrapped, .. } => Some(&wrapped.key.id),
            Self::CreateKey { request } | Self::FindMade { request } => request.adopt.as_deref(),
            Self::Probe { .. } => None,
        }
    }

    /// Whether two attempts leave the provider in the same state as one.
    pub const fn idempotent(&self) -> bool {
        match self {
            Self::WrapKey { .. }
            | Self::UnwrapKey { .. }
            | Self::GenerateDataKey { .. }
            | Self::RewrapKey { .. }
            | Self::FindMade { .. }
            | Self::Describe { .. }
            | Self::SetState { .. }
            | Self::Probe { .. } => true,
            Self::CreateKey { .. } | Self::Rotate { .. } | Self::ScheduleDeletion { .. } | Self::Import { .. } => false,
        }
    }
}

/// The result of an operation; its variant matches the operation's.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is the result of the Provider method of that name")]
pub enum Output {
    Wrapped(Wrapped),
    Unwrapped(Secret),
    Generated(Generated),
    Rewrapped(Rewrapped),
    Key(KeyDescription),
    Found(Option<KeyDescription>),
    Probed(Probe),
    Done,
}

/// The object-safe form of a provider, which the layers wrap.
#[async_trait]
pub trait Call: Send + Sync + 'static {
    /// The kind of provider.
    fn kind(&self) -> ProviderKind;

    /// The capabilities of the provider.
    fn capabilities(&self) -> Capabilities;

    /// See [`Provider::budget`]. The layers ask the provider itself.
    fn budget(&self) -> Option<Duration> {
        None
    }

    /// Performs one operation.
    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error>;
}

#[async_trait]
impl<P: Provider> Call for P {
    fn kind(&self) -> ProviderKind {
        Provider::kind(self)
    }

    fn capabilities(&self) -> Capabilities {
        Provider::capabilities(self)
    }

    fn budget(&self) -> Option<Duration> {
        Provider::budget(self)
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        match op {
            Op::WrapKey { kek, dek, context } => self.wrap_key(cx, kek, dek, context).await.map(Output::Wrapped),
            Op::UnwrapKey { wrapped, context } => self.unwrap_key(cx, wrapped, context).await.map(Output::Unwrapped),
            Op::GenerateDataKey { kek, bytes, context } => self.generate_data_key(cx, kek, bytes, context).await.map(Output::Generated),
            Op::RewrapKey { wrapped, to, context } => self.rewrap_key(cx, wrapped, to, context).await.map(Output::Rewrapped),
            Op::CreateKey { request } => self.create_key(cx, request).await.map(Output::Key),
            Op::FindMade { request } => self.find_made(cx, request).await.map(Output::Found),
            Op::Rotate { kek } => self.rotate(cx, kek).await.map(Output::Key),
            Op::Describe { kek } => self.describe(cx, kek).await.map(Output::Key),
            Op::SetState { kek, enabled } => self.set_state(cx, kek, enabled).await.map(|()| Output::Done),
            Op::ScheduleDeletion { kek, days } => self.schedule_deletion(cx, kek, days).await.map(|()| Output::Done),
            Op::Import { kek, material } => self.import(cx, kek, material).await.map(Output::Key),
            Op::Probe { keks } => self.probe(cx, keks).await.map(Output::Probed),
        }
    }
}
