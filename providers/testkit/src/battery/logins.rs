//! The cases about logins, for every provider that logs in. A provider's tests play the service's side.
//!
//! The cases count the logins that the service gets. They wait for conditions, and never for a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::{
    ConnectionId, Error, ErrorKind, LoginReport, LoginState, OpContext, Provider, ProviderKind, Secret, SecretFiles, TenantId,
};
use futures::future::{BoxFuture, join_all};

use super::bench::{Failure, Outcome, ensure, refused};

/// The life of a credential that a case sees renewed: its renewal is due after a third to two thirds of it.
const SHORT: Duration = Duration::from_secs(12);
/// The life of any other.
const LONG: Duration = Duration::from_secs(3600);
/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the service answers logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginAnswer {
    /// With a credential of this life.
    Accept(Duration),
    /// It refuses them, in its way of saying that the secret is wrong.
    Refuse,
    /// With status 503.
    Unavailable,
    /// Not at all.
    Hang,
}

/// The service, and connections to it.
#[async_trait]
pub trait LoginService: Send + Sync {
    /// A connection of the operator's. The secret in it is `word`, unless the secrets are in `files`.
    async fn connect(&self, word: &str, files: Option<Arc<dyn SecretFiles>>, login: LoginReport) -> Arc<dyn Provider>;

    /// The connection's secrets as its factory parses them, with `word` as the secret: 16 to 64 letters.
    fn secrets(&self, word: &str) -> Vec<(String, Secret)>;

    /// Answers all further logins in this way.
    fn answer(&self, answer: LoginAnswer);

    /// How many logins there were so far, renewals included.
    async fn logins(&self) -> usize;

    /// Whether the latest login was made with this secret.
    async fn used(&self, word: &str) -> bool;

    /// One call that the service answers for a connection that is logged in.
    async fn call(&self, provider: &dyn Provider, cx: &OpContext) -> Result<(), Error>;
}

/// A case about logins.
#[derive(Clone, Copy)]
pub struct LoginCase {
    /// Name of the case. It never changes.
    pub name: &'static str,
    run: fn(Bench) -> BoxFuture<'static, Outcome>,
}

impl LoginCase {
    /// Runs the case on a service of its own.
    ///
    /// # Errors
    /// What the provider did wrong.
    pub async fn run(&self, service: impl LoginService + 'static) -> Result<(), Failure> {
        (self.run)(Bench {
            service: Arc::new(service),
            report: LoginReport::new(TenantId::random(), ConnectionId::random(), ProviderKind::Vault),
        })
        .await
    }
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        vec![$(LoginCase {
            name: stringify!($name),
            run: |bench| Box::pin($name(bench)),
        }),*]
    };
}

/// All cases.
pub fn cases() -> Vec<LoginCase> {
    cases![
        a_refused_login_is_made_once,
        a_check_tries_a_refused_login_at_once,
        an_outage_of_the_login_is_not_remembered,
        a_login_without_an_answer_is_made_anew,
        a_renewal_is_not_waited_for,
        a_failing_renewal_is_reported_while_calls_work,
        a_file_is_read_at_a_login_and_when_it_changes,
        a_missing_file_is_told_until_it_exists,
        a_check_tells_a_login_that_fails,
    ]
}

struct Bench {
    service: Arc<dyn LoginService>,
    report: LoginReport,
}

const RIGHT: &str = "RIGHTSECRETOFTHECONNECTION";

fn cx() -> OpContext {
    OpContext::for_system("battery", TenantId::random(), PATIENCE)
}

impl Bench {
    async fn connected(&self) -> Arc<dyn Provider> {
        self.service.connect(RIGHT, None, self.report.clone()).await
    }

    async fn call(&self, provider: &Arc<dyn Provider>) -> Result<(), Error> {
        self.service.call(provider.as_ref(), &cx()).await
    }

    async fn logins(&self, expected: usize, when: &str) -> Outcome {
        let logins = self.service.logins().await;
        ensure(logins == expected, || format!("{when}: {logins} logins, expected {expected}"))
    }

    fn state(&self, expected: LoginState, when: &str) -> Outcome {
        let state = self.report.status().map(|status| status.state);
        ensure(state == Some(expected), || format!("{when}: {state:?}, expected {expected:?}"))
    }
}

/// Makes calls, which must succeed, until a condition holds.
macro_rules! calling_until {
    ($bench:ident, $provider:ident, $what:literal, $holds:expr) => {
        let begin = tokio::time::Instant::now();
        while !$holds {
            $bench.call(&$provider).await?;
            ensure(begin.elapsed() < PATIENCE, || format!("{}: not within {PATIENCE:?}", $what))?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
}

async fn a_refused_login_is_made_once(bench: Bench) -> Outcome {
    let provider = bench.connected().await;
    bench.service.answer(LoginAnswer::Refuse);
    let denied = [ErrorKind::ProviderDenied];
    for result in join_all((0..60).map(|_| bench.call(&provider))).await {
        refused("one of 60 at once", result, &denied)?;
    }
    bench.logins(1, "60 calls at once").await?;
    for _ in 0..41 {
        let Err(error) = bench.call(&provider).await else {
            return Err(Failure("a call without a login succeeded".into()));
        };
        ensure(error.kind == ErrorKind::ProviderDenied && error.advice.is_some(), || {
            format!("{error}")
        })?;
        ensure(error.repeated, || "the refusal is not marked as repeated".into())?;
    }
    bench.logins(1, "41 calls one after another").await?;
    bench.state(LoginState::Refused, "after them")
}

async fn a_check_tries_a_refused_login_at_once(bench: Bench) -> Outcome {
    let provider = bench.connected().await;
    bench.service.answer(LoginAnswer::Refuse);
    refused("the first call", bench.call(&provider).await, &[ErrorKind::ProviderDenied])?;
    let check = cx().checking();
    for _ in 0..2 {
        let result = bench.service.call(provider.as_ref(), &check).await;
        refused("a check", result, &[ErrorKind::ProviderDenied])?;
    }
    bench.logins(2, "a check with two calls").await?;
    bench.service.answer(LoginAnswer::Accept(LONG));
    refused("a call before a check", bench.call(&provider).await, &[ErrorKind::ProviderDenied])?;
    bench.logins(2, "a call before the next check").await?;
    bench.service.call(provider.as_ref(), &cx().checking()).await?;
    bench.call(&provider).await?;
    bench.logins(3, "after the check that logged in").await?;
    bench.state(LoginState::Ok, "after it")
}

async fn an_outage_of_the_login_is_not_remembered(bench: Bench) -> Outcome {
    let provider = bench.connected().await;
    bench.service.answer(LoginAnswer::Unavailable);
    let unavailable = [ErrorKind::UpstreamUnavailable];
    refused("a login at a service that is away", bench.call(&provider).await, &unavailable)?;
    bench.state(LoginState::Failing, "after it")?;
    bench.service.answer(LoginAnswer::Accept(LONG));
    bench.call(&provider).await?;
    bench.state(LoginState::Ok, "after a login")?;
    bench.logins(2, "after both").await
}

/// As on an open connection that swallows what is sent on it.
async fn a_login_without_an_answer_is_made_anew(bench: Bench) -> Outcome {
    let provider = bench.connected().await;
    bench.service.answer(LoginAnswer::Hang);
    let mended = async {
        while bench.service.logins().await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bench.service.answer(LoginAnswer::Accept(LONG));
    };
    let (called, ()) = tokio::join!(bench.call(&provider), mended);
    called?;
    bench.logins(2, "after one without an answer").await?;
    bench.state(LoginState::Ok, "after it")
}

async fn a_renewal_is_not_waited_for(bench: Bench) -> Outcome {
    let provider = bench.connected().await;
    bench.service.answer(LoginAnswer::Accept(SHORT));
    bench.call(&provider).await?;
    bench.logins(1, "the first call").await?;
    bench.service.answer(LoginAnswer::Hang);
    calling_until!(bench, provider, "a renewal begins", bench.service.logins().await > 1);
    for _ in 0..20 {
        bench.call(&provider).await?;
    }
    // A provider may give a renewal up, and begin another one after a pause.
    let logins = bench.service.logins().await;
    ensure(logins <= 4, || format!("{logins} logins while a renewal hangs"))
}

async fn a_failing_renewal_is_reported_while_calls_work(bench: Bench) -> Outcome {
    let provider = bench.connected().await;
    bench.service.answer(LoginAnswer::Accept(SHORT));
    bench.call(&provider).await?;
    bench.service.answer(LoginAnswer::Unavailable);
    let failing = || bench.report.status().filter(|status| status.state == LoginState::RenewalFailing);
    calling_until!(bench, provider, "a failed renewal is reported", failing().is_some());
    let status = failing().ok_or(Failure("the credential has ended".into()))?;
    ensure(status.expires.is_some() && status.failure.is_some(), || {
        format!("a failing renewal without its end: {status:?}")
    })?;
    bench.service.answer(LoginAnswer::Accept(LONG));
    calling_until!(bench, provider, "it is renewed", failing().is_none());
    bench.state(LoginState::Ok, "after it was renewed")
}

/// A file with the secret.
struct OneFile {
    path: PathBuf,
    service: Arc<dyn LoginService>,
}

impl SecretFiles for OneFile {
    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn read(&self) -> Result<Vec<(String, Secret)>, String> {
        let word = std::fs::read_to_string(&self.path).map_err(|error| error.to_string())?;
        Ok(self.service.secrets(&word))
    }
}

impl OneFile {
    /// One that does not exist yet.
    fn of(bench: &Bench) -> Arc<Self> {
        Arc::new(Self {
            path: std::env::temp_dir().join(format!("claviger-battery-{}", ConnectionId::random())),
            service: Arc::clone(&bench.service),
        })
    }

    fn write(&self, word: &str) -> Outcome {
        std::fs::write(&self.path, word).map_err(|error| Failure(error.to_string()))
    }
}

impl Drop for OneFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

async fn a_file_is_read_at_a_login_and_when_it_changes(bench: Bench) -> Outcome {
    let file = OneFile::of(&bench);
    file.write("FIRSTSECRETINTHEFILE")?;
    let files = Arc::clone(&file) as Arc<dyn SecretFiles>;
    let provider = bench.service.connect(RIGHT, Some(files), bench.report.clone()).await;
    bench.service.answer(LoginAnswer::Accept(LONG));
    bench.call(&provider).await?;
    ensure(bench.service.used("FIRSTSECRETINTHEFILE").await, || {
        "the login did not read the file".into()
    })?;
    file.write("SECONDSECRETINTHEFILE")?;
    calling_until!(
        bench,
        provider,
        "a login with the changed file",
        bench.service.used("SECONDSECRETINTHEFILE").await
    );

    // A refusal is remembered until the file changes.
    bench.service.answer(LoginAnswer::Refuse);
    let before = bench.service.logins().await;
    file.write("WRONGSECRETINTHEFILE")?;
    calling_until!(
        bench,
        provider,
        "a login with a wrong secret",
        bench.service.logins().await > before
    );
    bench.service.answer(LoginAnswer::Accept(LONG));
    file.write("THIRDSECRETINTHEFILE")?;
    calling_until!(
        bench,
        provider,
        "a login with the mended file",
        bench.service.used("THIRDSECRETINTHEFILE").await
    );
    bench.call(&provider).await?;
    bench.state(LoginState::Ok, "after it was mended")
}

async fn a_missing_file_is_told_until_it_exists(bench: Bench) -> Outcome {
    let file = OneFile::of(&bench);
    let files = Arc::clone(&file) as Arc<dyn SecretFiles>;
    let provider = bench.service.connect(RIGHT, Some(files), bench.report.clone()).await;
    bench.service.answer(LoginAnswer::Accept(LONG));
    let Err(error) = bench.call(&provider).await else {
        return Err(Failure("a call without a secret succeeded".into()));
    };
    ensure(error.kind == ErrorKind::Misconfigured && error.advice.is_some(), || {
        format!("a missing file: {error}")
    })?;
    bench.logins(0, "without a secret").await?;
    bench.state(LoginState::Failing, "without a secret")?;

    // No pause: the next call finds it.
    file.write("FIRSTSECRETINTHEFILE")?;
    bench.call(&provider).await?;
    bench.logins(1, "once the file exists").await?;
    bench.state(LoginState::Ok, "once the file exists")?;

    // Where it is lost later, the credential serves on.
    std::fs::remove_file(&file.path).map_err(|error| Failure(error.to_string()))?;
    let state = || bench.report.status().map(|status| status.state);
    calling_until!(
        bench,
        provider,
        "the lost file is told",
        state() == Some(LoginState::RenewalFailing)
    );
    bench.logins(1, "after the file was lost").await?;
    file.write("SECONDSECRETINTHEFILE")?;
    calling_until!(bench, provider, "a login with the new file", state() == Some(LoginState::Ok));
    ensure(bench.service.used("SECONDSECRETINTHEFILE").await, || {
        "the login did not read the new file".into()
    })
}

async fn a_check_tells_a_login_that_fails(bench: Bench) -> Outcome {
    let provider = bench.connected().await;
    for (answer, expected) in [
        (LoginAnswer::Unavailable, ErrorKind::UpstreamUnavailable),
        (LoginAnswer::Refuse, ErrorKind::ProviderDenied),
    ] {
        bench.service.answer(answer);
        let probe = provider.probe(&cx().checking(), &[]).await?;
        let problem = probe.problem.map(|problem| problem.kind);
        ensure(problem == Some(expected), || {
            format!("{answer:?}: {problem:?}, expected {expected:?}")
        })?;
        ensure(probe.policy.is_some() && !probe.rights.is_empty(), || "nothing else is told".into())?;
    }
    Ok(())
}
