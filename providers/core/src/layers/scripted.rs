//! A [`Call`] that plays a script, as the provider below the layer under test.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{
    Algorithm, BoundContext, Call, Capabilities, Concerns, ContextBinding, Error, ErrorKind, Exposure, Generated, How, Kek,
    KeyCapabilities, KeyDescription, KeyId, KeyRequest, KeySpec, KeyState, Op, OpContext, Output, Probe, ProviderKeyRef, ProviderKind,
    Retry, Rewrapped, Rotation, Secret, TenantId, VersionDescription, Wrapped,
};

/// What the provider does with one call.
pub(super) enum Step {
    /// Returns a valid output.
    Succeed,
    /// Returns this output.
    Output(Output),
    /// Returns this error.
    Fail(ErrorKind, Retry),
    /// Returns the error of a connection that cannot be opened.
    Unreachable,
    /// Returns a valid output after this time.
    Take(Duration),
    /// Never returns.
    Hang,
}

/// Plays its steps in the order of the calls; then it returns valid outputs.
pub(super) struct Scripted {
    steps: Mutex<VecDeque<Step>>,
    budget: Option<Duration>,
    /// The calls that arrived, those in progress, and the most that were ever in progress.
    seen: watch::Sender<Seen>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    arrived: usize,
    under_way: usize,
    most: usize,
}

struct UnderWay<'a>(&'a watch::Sender<Seen>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.under_way -= 1);
    }
}

impl Scripted {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: Mutex::new(steps.into_iter().collect()),
            budget: None,
            seen: watch::Sender::new(Seen::default()),
        }
    }

    /// With a budget of its own.
    pub(super) fn within(self, budget: Duration) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// Appends steps.
    pub(super) fn then(&self, steps: impl IntoIterator<Item = Step>) {
        self.steps.lock().extend(steps);
    }

    pub(super) fn calls(&self) -> usize {
        self.seen.borrow().arrived
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.seen.borrow().most
    }

    /// Waits until this many calls have arrived.
    pub(super) async fn arrived(&self, calls: usize) {
        let waited = self.seen.subscribe().wait_for(|seen| seen.arrived >= calls).await.map(drop);
        assert_eq!(waited.map_err(|_| "the script is gone"), Ok(()));
    }
}

#[async_trait]
impl Call for Scripted {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vault
    }

    fn capabilities(&self) -> Capabilities {
        capable()
    }

    fn budget(&self) -> Option<Duration> {
        self.budget
    }

    async fn call(&self, _cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let step = self.steps.lock().pop_front().unwrap_or(Step::Succeed);
        self.seen.send_modify(|seen| {
            seen.arrived += 1;
            seen.under_way += 1;
            seen.most = seen.most.max(seen.under_way);
        });
        let _under_way = UnderWay(&self.seen);
        match step {
            Step::Succeed => Ok(valid_output(op)),
            Step::Output(output) => Ok(output),
            Step::Fail(kind, retry) => Err(Error::new(kind, "scripted").retry(retry)),
            Step::Unreachable => Err(Error::new(ErrorKind::UpstreamUnavailable, "scripted")
                .retry(Retry::Backoff)
                .concerns(Concerns::Connection)),
            Step::Take(time) => {
                tokio::time::sleep(time).await;
                Ok(valid_output(op))
            }
            Step::Hang => std::future::pending().await,
        }
    }
}

/// A valid output.
fn valid_output(op: Op<'_>) -> Output {
    match op {
        Op::WrapKey { .. } => Output::Wrapped(wrapped()),
        Op::UnwrapKey { .. } => Output::Unwrapped(Secret::random(32)),
        Op::GenerateDataKey { bytes, .. } => Output::Generated(Generated {
            plaintext: Secret::random(bytes),
            wrapped: wrapped(),
        }),
        Op::RewrapKey { .. } => Output::Rewrapped(Rewrapped { wrapped: wrapped() }),
        Op::CreateKey { .. } | Op::Rotate { .. } | Op::Describe { .. } | Op::Import { .. } => Output::Key(description()),
        Op::FindMade { .. } => Output::Found(Some(description())),
        Op::SetState { .. } | Op::ScheduleDeletion { .. } => Output::Done,
        Op::Probe { .. } => Output::Probed(Probe {
            detail: "scripted".into(),
            problem: None,
            rights: Vec::new(),
            policy: None,
        }),
    }
}

/// A context with this deadline from now.
pub(super) fn cx(deadline: Duration) -> OpContext {
    OpContext::new("test", TenantId::random(), "system", (Instant::now() + deadline).into_std())
}

fn key() -> ProviderKeyRef {
    ProviderKeyRef {
        id: "key".into(),
        version: "1".into(),
    }
}

pub(super) fn kek() -> Kek {
    Kek {
        key: key(),
        spec: KeySpec::Aes256,
        id: KeyId::from_bytes([7; 16]),
    }
}

pub(super) fn context() -> BoundContext {
    BoundContext::new(BTreeMap::new(), vec![0xa0])
}

pub(super) fn wrapped() -> Wrapped {
    Wrapped {
        key: key(),
        algorithm: Algorithm::ProviderOpaque,
        ciphertext: vec![1; 48],
        key_material: None,
        upstream_request_id: None,
    }
}

pub(super) fn description() -> KeyDescription {
    KeyDescription {
        id: key().id,
        spec: KeySpec::Aes256,
        state: KeyState::Enabled,
        versions: vec![VersionDescription {
            key: key(),
            state: KeyState::Enabled,
            created: None,
            exposure: Some(Exposure::NONE),
        }],
        primary: 0,
    }
}

/// Capabilities of one specification with everything declared.
pub(super) fn keys(spec: KeySpec) -> KeyCapabilities {
    KeyCapabilities {
        spec,
        wrap: How::InsideProvider,
        generate_data_key: How::InsideProvider,
        rewrap: How::InsideProvider,
        context: ContextBinding::AssociatedData,
        rotation: Some(Rotation::InPlace),
        max_plaintext: 4096,
        random_nonce_bound: false,
        chooses_version: false,
    }
}

/// Capabilities with everything declared.
pub(super) fn capable() -> Capabilities {
    Capabilities {
        keys: KeySpec::ALL.map(keys).to_vec(),
        create_key: true,
        set_state: true,
        schedule_deletion: true,
        import: true,
    }
}

/// Capabilities with nothing declared.
pub(super) fn incapable() -> Capabilities {
    Capabilities {
        keys: Vec::new(),
        create_key: false,
        set_state: false,
        schedule_deletion: false,
        import: false,
    }
}

/// An operation together with its arguments.
pub(super) struct OwnedOp {
    which: usize,
    kek: Kek,
    secret: Secret,
    context: BoundContext,
    wrapped: Wrapped,
    request: KeyRequest,
}

impl OwnedOp {
    pub(super) fn op(&self) -> Op<'_> {
        let Self {
            which: _,
            kek,
            secret,
            context,
            wrapped,
            request,
        } = self;
        let all = [
            Op::WrapKey { kek, dek: secret, context },
            Op::UnwrapKey { wrapped, context },
            Op::GenerateDataKey { kek, bytes: 32, context },
            Op::RewrapKey { wrapped, to: kek, context },
            Op::CreateKey { request },
            Op::FindMade { request },
            Op::Rotate { kek },
            Op::Describe { kek },
            Op::SetState { kek, enabled: false },
            Op::ScheduleDeletion { kek, days: 30 },
            Op::Import { kek, material: secret },
            Op::Probe { keks: &[] },
        ];
        all[self.which]
    }
}

/// One of each operation.
pub(super) fn all_ops() -> Vec<OwnedOp> {
    (0..12)
        .map(|which| OwnedOp {
            which,
            kek: kek(),
            secret: Secret::random(32),
            context: context(),
            wrapped: wrapped(),
            request: KeyRequest {
                key_id: KeyId::random(),
                made_as: KeyId::random(),
                repeated: false,
                spec: KeySpec::Aes256,
                adopt: None,
                taken: false,
            },
        })
        .collect()
}
