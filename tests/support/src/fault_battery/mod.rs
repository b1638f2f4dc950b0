//! The faults of the field, for every provider: its pipeline with a [`FaultProxy`] between it and the
//! service. A provider's own battery runs them all; the table `tests/faults.toml` names them.
//!
//! A case says what calls there are, never how long they take.

mod circuits;
mod failover;
mod kinds;
mod restarts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::{BreakerConfig, BreakerState, Pipeline, PipelineConfig, RetryConfig};
use claviger_provider::{BoundContext, Call, Error, ErrorKind, Finding, Kek, KeySpec, OpContext, Secret, SeverSwitch, TenantId, Wrapped};
use claviger_testkit::connection::new_key;
use futures::future::{BoxFuture, join_all};

use crate::proxy::{Act, Fault, FaultProxy, Kind, Setup, Which};

/// Makes a connection that reaches its service by way of the proxy.
pub type Connect = Arc<dyn Fn(&FaultProxy) -> BoxFuture<'static, Arc<dyn Call>> + Send + Sync>;

/// A provider under test.
pub struct Subject {
    /// The keys to make, of which the connection must make one.
    pub spec: KeySpec,
    /// The proxy before the service.
    pub proxy: Setup,
    /// The connection.
    pub connect: Connect,
}

/// Makes the provider under test, for one case.
pub type MakeSubject = Arc<dyn Fn() -> BoxFuture<'static, Subject> + Send + Sync>;

/// Why a case failed.
pub type Outcome = Result<(), String>;

/// A case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, which never changes.
    pub name: &'static str,
    run: fn(Subject) -> BoxFuture<'static, Outcome>,
}

impl Case {
    /// Runs it.
    ///
    /// # Errors
    /// What the provider did wrong.
    pub async fn run(&self, make: &MakeSubject) -> Outcome {
        (self.run)(make().await).await
    }
}

macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$(Case {
            name: stringify!($name),
            run: |subject| Box::pin($module::$name(subject)),
        }),*]
    };
}

/// All cases.
pub fn cases() -> Vec<Case> {
    cases![
        failover::swallowed_sockets_cost_one_timeout,
        failover::a_second_failover_within_ten_seconds_costs_one_timeout_a_call,
        failover::many_callers_survive_a_failover,
        failover::no_circuit_opens_in_a_failover,
        failover::a_closing_connection_is_no_failure,
        kinds::a_truncated_answer_is_asked_for_again,
        kinds::each_fault_has_the_same_kind_on_every_provider,
        restarts::a_service_that_was_restarted_is_called_again,
        restarts::a_service_with_ipv6_alone_is_reached,
        circuits::one_bad_key_stops_no_other,
        circuits::a_half_open_circuit_lets_one_call_through,
        circuits::a_check_passes_an_open_circuit,
        circuits::a_check_says_that_the_service_is_down,
        circuits::a_check_says_that_the_service_serves_nothing,
        circuits::a_check_reports_one_bad_key_by_itself,
    ]
}

/// The cases for a subject whose proxy speaks TLS, and whose connections trust the authority that the proxy has then.
pub fn tls_cases() -> Vec<Case> {
    cases![restarts::a_renewed_authority_is_named_and_then_trusted]
}

/// A connection through the proxy, with a key and a wrapped data key.
struct Bench {
    proxy: FaultProxy,
    pipeline: Pipeline,
    /// The same connection for what takes its time.
    patient: Pipeline,
    config: PipelineConfig,
    spec: KeySpec,
    tenant: TenantId,
    kek: Kek,
    dek: Secret,
    wrapped: Wrapped,
    /// Makes another connection. A service that was started for the case ends with it.
    connect: Connect,
}

/// Another key of the connection, with a wrapped data key.
struct OtherKey {
    kek: Kek,
    wrapped: Wrapped,
}

impl OtherKey {
    fn name(&self) -> &str {
        name_of(&self.kek)
    }

    /// The calls about it.
    fn calls(&self) -> Which {
        Which::About(self.name().to_owned())
    }
}

/// The last part of a key's id, which every call about the key has.
fn name_of(kek: &Kek) -> &str {
    kek.key.id.rsplit('/').next().unwrap_or(&kek.key.id)
}

/// What a check found: the problem of the connection, its tests, each with whether it failed and how it was made, and
/// whether it has a policy.
type Checked = (Option<ErrorKind>, Vec<(bool, String)>, bool);

impl Bench {
    /// Connects, and wraps a data key. No circuit opens: what the circuit does is not asked here.
    async fn of(subject: Subject) -> Result<Self, String> {
        let breaker = BreakerConfig {
            consecutive_failures: u32::MAX,
            least_calls: u32::MAX,
            ..BreakerConfig::default()
        };
        Self::with(subject, breaker).await
    }

    /// Connects with this circuit breaker, and wraps a data key.
    async fn with(subject: Subject, breaker: BreakerConfig) -> Result<Self, String> {
        let proxy = subject.proxy.start();
        let provider = (subject.connect)(&proxy).await;
        let config = PipelineConfig {
            retry: RetryConfig {
                base: Duration::from_millis(1),
                ..RetryConfig::default()
            },
            breaker,
            ..PipelineConfig::default()
        };
        // A fake draws an RSA key for it, which may take longer than a creation usually does.
        let patient = PipelineConfig {
            creation_timeout: Duration::from_secs(60),
            ..config.clone()
        };
        let patient = Pipeline::new(Arc::clone(&provider), &patient, SeverSwitch::default());
        let pipeline = Pipeline::new(provider, &config, SeverSwitch::default());
        let (tenant, dek) = (TenantId::random(), Secret::random(32));
        let kek = made(&patient, tenant, subject.spec).await?;
        let wrapped = pipeline.wrap_key(&cx(tenant), &kek, &dek, &context()).await;
        let bench = Self {
            wrapped: wrapped.map_err(|error| error.to_string())?,
            proxy,
            pipeline,
            patient,
            config,
            spec: subject.spec,
            tenant,
            kek,
            dek,
            connect: subject.connect,
        };
        // What a connection does once, such as to log in, it has done now.
        bench.works().await?;
        bench.proxy.forget_calls();
        Ok(bench)
    }

    /// Makes another key, and wraps the data key with it.
    async fn another_key(&self) -> Result<OtherKey, String> {
        let kek = made(&self.patient, self.tenant, self.spec).await?;
        let wrapped = self.pipeline.wrap_key(&cx(self.tenant), &kek, &self.dek, &context()).await;
        let wrapped = wrapped.map_err(|error| error.to_string())?;
        Ok(OtherKey { kek, wrapped })
    }

    /// Connects anew, as after a change of settings.
    async fn connect_again(&mut self) {
        let provider = (self.connect)(&self.proxy).await;
        self.pipeline = Pipeline::new(provider, &self.config, SeverSwitch::default());
    }

    /// The service goes down, until the connection's circuit is open.
    async fn open_the_circuit(&self) -> Outcome {
        self.proxy.go_down();
        for _ in 0..5 {
            let down = self.unwrap().await.map_err(|error| error.kind);
            equal("while it is down", down, Err(ErrorKind::UpstreamUnavailable))?;
        }
        equal("the circuit then", self.pipeline.breaker(), BreakerState::Open)
    }

    /// Checks the connection with these keys.
    async fn check(&self, keks: &[&Kek]) -> Result<Checked, String> {
        let keks: Vec<Kek> = keks.iter().copied().cloned().collect();
        let probe = self.pipeline.probe(&cx(self.tenant).checking(), &keks).await;
        let probe = probe.map_err(|error| error.to_string())?;
        let rights = probe.rights.into_iter();
        let rights = rights.map(|right| (right.finding != Finding::Granted, right.how)).collect();
        Ok((probe.problem.map(|problem| problem.kind), rights, probe.policy.is_some()))
    }

    /// Unwraps the data key: one call of the service.
    async fn unwrap(&self) -> Result<(), Error> {
        self.open(&self.wrapped).await
    }

    /// Unwraps it with the other key.
    async fn unwrap_with(&self, key: &OtherKey) -> Result<(), Error> {
        self.open(&key.wrapped).await
    }

    async fn open(&self, wrapped: &Wrapped) -> Result<(), Error> {
        let dek = self.pipeline.unwrap_key(&cx(self.tenant), wrapped, &context()).await?;
        assert_eq!(dek.expose(), self.dek.expose(), "another data key");
        Ok(())
    }

    async fn works(&self) -> Outcome {
        self.unwrap().await.map_err(|error| error.to_string())
    }

    /// Unwraps this many times at once.
    async fn all_work(&self, callers: usize) -> Outcome {
        let results = join_all((0..callers).map(|_| self.works())).await;
        results.into_iter().collect()
    }

    /// Opens connections: as many as this many calls at once need.
    async fn warm_up(&self, callers: usize) -> Outcome {
        // None ends before the last has begun.
        let held = Act::Delay(Duration::from_millis(300));
        self.proxy.set([Fault::on(Which::Of(Kind::Operation), held)]);
        let worked = self.all_work(callers).await;
        self.proxy.clear();
        self.proxy.forget_calls();
        worked
    }
}

/// Makes a key.
async fn made(patient: &Pipeline, tenant: TenantId, spec: KeySpec) -> Result<Kek, String> {
    let request = new_key(spec, None);
    let made = patient.create_key(&cx(tenant), &request).await.map_err(|error| error.to_string())?;
    made.kek(request.key_id)
        .ok_or_else(|| "the new key has no primary version".to_owned())
}

fn cx(tenant: TenantId) -> OpContext {
    OpContext::for_system("battery", tenant, Duration::from_secs(60))
}

fn context() -> BoundContext {
    let pairs = BTreeMap::from([("purpose".to_owned(), "faults".to_owned())]);
    BoundContext::new(pairs, b"context of faults".to_vec())
}

/// Fails unless the values are equal.
fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: {found:?}, expected {expected:?}"))
    }
}
