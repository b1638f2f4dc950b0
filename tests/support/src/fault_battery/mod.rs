//! The faults of the field, for every provider: its pipeline with a [`FaultProxy`] between it and the
//! service. A provider's own battery runs them all; the table `tests/faults.toml` names them.
//!
//! A case says what calls there are, never how long they take.

mod failover;
mod kinds;
mod restarts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::{BreakerConfig, Pipeline, PipelineConfig, RetryConfig};
use claviger_provider::{BoundContext, Call, Error, KeySpec, OpContext, Secret, SeverSwitch, TenantId, Wrapped};
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
        failover::a_closing_connection_is_no_failure,
        kinds::a_truncated_answer_is_asked_for_again,
        kinds::each_fault_has_the_same_kind_on_every_provider,
        restarts::a_service_that_was_restarted_is_called_again,
        restarts::a_service_with_ipv6_alone_is_reached,
    ]
}

/// A connection through the proxy, with a key and a wrapped data key.
struct Bench {
    proxy: FaultProxy,
    pipeline: Pipeline,
    tenant: TenantId,
    dek: Secret,
    wrapped: Wrapped,
    /// A service that was started for the case ends with it.
    _service: Connect,
}

impl Bench {
    /// Connects, and wraps a data key.
    async fn of(subject: Subject) -> Result<Self, String> {
        let proxy = subject.proxy.start();
        let provider = (subject.connect)(&proxy).await;
        let config = PipelineConfig {
            retry: RetryConfig {
                base: Duration::from_millis(1),
                ..RetryConfig::default()
            },
            // What the circuit does is not asked here.
            breaker: BreakerConfig {
                consecutive_failures: u32::MAX,
                least_calls: u32::MAX,
                ..BreakerConfig::default()
            },
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
        let request = new_key(subject.spec, None);
        let made = patient.create_key(&cx(tenant), &request).await.map_err(|error| error.to_string())?;
        let kek = made.kek(request.key_id).ok_or("the new key has no primary version")?;
        let wrapped = pipeline.wrap_key(&cx(tenant), &kek, &dek, &context()).await;
        let bench = Self {
            wrapped: wrapped.map_err(|error| error.to_string())?,
            proxy,
            pipeline,
            tenant,
            dek,
            _service: subject.connect,
        };
        // What a connection does once, such as to log in, it has done now.
        bench.works().await?;
        bench.proxy.forget_calls();
        Ok(bench)
    }

    /// Unwraps the data key: one call of the service.
    async fn unwrap(&self) -> Result<(), Error> {
        let dek = self.pipeline.unwrap_key(&cx(self.tenant), &self.wrapped, &context()).await?;
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
