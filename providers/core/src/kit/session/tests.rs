#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

mod suspended;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, advance, sleep, timeout};

use super::{CredentialSource, Expiring, Session, Standing, Term};
use crate::kit::call_error::{CallError, Refusal};
use crate::kit::meaning::Meaning;
use crate::{
    ConnectionId, ErrorKind, LoginReport, LoginState, LoginWait, OpContext, ProviderKind, SeverSwitch, Shares, TenantId, fill_random,
};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(in crate::kit::session) struct Denied;

impl Refusal for Denied {
    const PROVIDER: ProviderKind = ProviderKind::Vault;
    const LOGIN: &'static str = "log in";

    fn meaning(&self) -> Meaning {
        Meaning::of(ErrorKind::ProviderDenied)
    }

    fn code(&self) -> Option<String> {
        None
    }

    fn message(&self) -> Option<String> {
        None
    }
}

type FetchError = CallError<Denied>;

/// What the next logins meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FakeResponse {
    Token,
    Refused,
    Away,
    Hang,
}

/// Credentials of ten minutes, numbered from 1, renewed after eight.
struct Numbered {
    logins: AtomicU32,
    answer: Mutex<FakeResponse>,
    /// A login waits for a permit.
    gate: Semaphore,
    final_one: AtomicBool,
    /// Whether it is given, and the provider sees it with the first call alone.
    given: AtomicBool,
    kept: bool,
    file: Option<PathBuf>,
    /// How long a credential lives, and after which time it is renewed.
    life: Mutex<(Duration, Duration)>,
}

type Number = Expiring<u32>;

impl Numbered {
    fn answers(&self, answer: FakeResponse) {
        *self.answer.lock() = answer;
    }

    fn logins(&self) -> u32 {
        self.logins.load(Ordering::Relaxed)
    }
}

impl CredentialSource for Numbered {
    type Credential = Number;
    type Refusal = Denied;

    async fn fetch(&self, _: Option<&Number>) -> Result<Number, FetchError> {
        let number = self.logins.fetch_add(1, Ordering::Relaxed) + 1;
        drop(self.gate.acquire().await);
        let answer = *self.answer.lock();
        match answer {
            FakeResponse::Token => Ok(Expiring {
                credential: number,
                term: {
                    let (life, due) = *self.life.lock();
                    Term::renewed_after(life, due)
                },
            }),
            FakeResponse::Refused => Err(CallError::Refused(Denied).in_login()),
            FakeResponse::Away => Err(CallError::Unreachable("away".to_owned()).in_login()),
            FakeResponse::Hang => std::future::pending().await,
        }
    }

    async fn standing(&self, _: &Number) -> Result<Standing, FetchError> {
        Ok(match self.final_one.load(Ordering::Relaxed) {
            true => Standing::Only { accepted: None },
            false => Standing::Replaceable,
        })
    }

    fn is_proven(&self, _: &Number) -> bool {
        !self.given.load(Ordering::Relaxed)
    }

    fn files(&self) -> Vec<PathBuf> {
        self.file.iter().cloned().collect()
    }

    fn is_kept(&self, _: &Number) -> bool {
        self.kept
    }
}

struct Bench {
    session: Session<Numbered>,
    report: LoginReport,
    switch: SeverSwitch,
    tenant: TenantId,
    shares: Shares,
}

impl Bench {
    fn new() -> Self {
        Self::with(false, None)
    }

    fn with(kept: bool, file: Option<PathBuf>) -> Self {
        let source = Numbered {
            logins: AtomicU32::new(0),
            answer: Mutex::new(FakeResponse::Token),
            gate: Semaphore::new(1),
            final_one: AtomicBool::new(false),
            given: AtomicBool::new(false),
            kept,
            file,
            life: Mutex::new((10 * MINUTE, 8 * MINUTE)),
        };
        let report = LoginReport::new(TenantId::random(), ConnectionId::random(), ProviderKind::Vault);
        let (tenant, shares) = (TenantId::random(), Shares::new(64, 64));
        let switch = SeverSwitch::default().with_share(shares.of(tenant));
        Self {
            session: Session::new(source, report.clone(), switch.clone()),
            report,
            switch,
            tenant,
            shares,
        }
    }

    fn source(&self) -> &Numbered {
        self.session.source()
    }

    async fn number(&self) -> Result<u32, FetchError> {
        let current = self.session.current(&LoginWait::default()).await?;
        Ok(current.credential)
    }

    async fn kind(&self) -> ErrorKind {
        self.number().await.unwrap_err().kind()
    }

    fn state(&self) -> LoginState {
        self.report.status().unwrap().state
    }

    /// Makes a call that is refused while the credential's number is below `accepted`; returns how
    /// often it was sent, and with which number at last.
    async fn called(&self, accepted: u32) -> (u32, Option<u32>) {
        let sent = Arc::new(AtomicU32::new(0));
        let wait = LoginWait::default();
        let result = self.session.call(
            &wait,
            |error| error.refusal().is_some(),
            |credential| {
                let sent = Arc::clone(&sent);
                async move {
                    tokio::task::yield_now().await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    match credential.credential < accepted {
                        true => Err(CallError::Refused(Denied)),
                        false => Ok(credential.credential),
                    }
                }
            },
        );
        let result = result.await;
        (sent.load(Ordering::Relaxed), result.ok())
    }

    /// Lets tasks under way come to their next wait.
    async fn let_tasks_wait(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_login_serves_all_who_wait() {
    let bench = Bench::new();
    let (a, b, c) = tokio::join!(bench.number(), bench.number(), bench.number());
    assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (1, 1, 1));
    assert_eq!((bench.source().logins(), bench.state()), (1, LoginState::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_login_goes_on_when_its_first_caller_goes_away() {
    let bench = Bench::new();
    let held = bench.source().gate.acquire().await.unwrap();
    assert!(timeout(MINUTE / 60, bench.number()).await.is_err());
    drop(held);
    assert_eq!((bench.number().await.unwrap(), bench.source().logins()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_remembered_for_pauses_that_grow() {
    let bench = Bench::new();
    bench.source().answers(FakeResponse::Refused);
    let (a, b) = tokio::join!(bench.kind(), bench.kind());
    assert_eq!((a, b), (ErrorKind::ProviderDenied, ErrorKind::ProviderDenied));
    assert_eq!((bench.source().logins(), bench.state()), (1, LoginState::Refused));
    for (pause, logins) in [(15, 2), (30, 3), (60, 4), (60, 5)] {
        advance(Duration::from_secs(pause - 1)).await;
        for _ in 0..40 {
            assert!(bench.number().await.unwrap_err().into_error("wrap").repeated);
        }
        assert_eq!(bench.source().logins(), logins - 1, "before {pause} s are over");
        advance(Duration::from_secs(1)).await;
        assert_eq!(bench.kind().await, ErrorKind::ProviderDenied);
        assert_eq!(bench.source().logins(), logins, "after {pause} s");
    }
    bench.source().answers(FakeResponse::Token);
    advance(MINUTE).await;
    assert_eq!((bench.number().await.unwrap(), bench.state()), (6, LoginState::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_check_tries_a_refused_login_at_once_and_once() {
    let bench = Bench::new();
    bench.source().answers(FakeResponse::Refused);
    bench.kind().await;
    let check = OpContext::for_system("check", TenantId::random(), MINUTE).checking();
    for _ in 0..3 {
        assert!(bench.session.current(check.login()).await.is_err());
    }
    assert_eq!(bench.source().logins(), 2);
    bench.source().answers(FakeResponse::Token);
    assert!(bench.number().await.is_err());
    let check = OpContext::for_system("check", TenantId::random(), MINUTE).checking();
    assert_eq!(bench.session.current(check.login()).await.unwrap().credential, 3);
    assert_eq!(bench.number().await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_remembered() {
    let bench = Bench::new();
    bench.source().answers(FakeResponse::Away);
    for logins in 1..4 {
        assert_eq!(bench.kind().await, ErrorKind::UpstreamUnavailable);
        assert_eq!((bench.source().logins(), bench.state()), (logins, LoginState::Failing));
    }
    bench.source().answers(FakeResponse::Token);
    assert_eq!(bench.number().await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_login_without_a_response_is_made_anew() {
    let bench = Bench::new();
    bench.source().answers(FakeResponse::Hang);
    let begin = Instant::now();
    let mended = async {
        sleep(Duration::from_secs(1)).await;
        bench.source().answers(FakeResponse::Token);
    };
    let (number, ()) = tokio::join!(bench.number(), mended);
    assert_eq!((number.unwrap(), begin.elapsed().as_secs()), (2, 3));

    let bench = Bench::new();
    bench.source().answers(FakeResponse::Hang);
    let begin = Instant::now();
    assert_eq!(bench.kind().await, ErrorKind::UpstreamTimeout);
    assert_eq!((bench.source().logins(), begin.elapsed().as_secs()), (3, 16));
}

#[tokio::test(start_paused = true)]
async fn a_given_credential_is_proven_by_a_call() {
    let bench = Bench::new();
    bench.source().given.store(true, Ordering::Relaxed);
    bench.source().final_one.store(true, Ordering::Relaxed);
    assert_eq!(bench.number().await.unwrap(), 1);
    assert_eq!(bench.state(), LoginState::NotTried);
    // Each call tries it, also once it was refused.
    for _ in 0..2 {
        assert_eq!(bench.called(2).await, (1, None));
        let status = bench.report.status().unwrap();
        assert_eq!(
            (status.state, status.failure.unwrap().kind),
            (LoginState::Refused, ErrorKind::ProviderDenied)
        );
    }
    assert_eq!(bench.called(1).await, (1, Some(1)));
    assert_eq!((bench.state(), bench.source().logins()), (LoginState::Ok, 1));
    // Once a call proved it, a refusal may have another reason.
    advance(MINUTE).await;
    assert_eq!(bench.called(2).await, (1, None));
    assert_eq!(bench.state(), LoginState::Ok);
}

#[tokio::test(start_paused = true)]
async fn given_credentials_take_turns_and_that_none_is_accepted_is_told() {
    let bench = Bench::new();
    bench.source().given.store(true, Ordering::Relaxed);
    assert_eq!(bench.called(3).await, (2, None));
    assert_eq!((bench.state(), bench.source().logins()), (LoginState::Refused, 2));
    // No other one for a while.
    assert_eq!(bench.called(3).await, (1, None));
    assert_eq!((bench.state(), bench.source().logins()), (LoginState::Refused, 2));
    advance(MINUTE).await;
    assert_eq!(bench.called(3).await, (2, Some(3)));
    assert_eq!((bench.state(), bench.source().logins()), (LoginState::Ok, 3));
}

#[tokio::test(start_paused = true)]
async fn a_live_credential_serves_while_its_renewal_runs() {
    let bench = Bench::new();
    assert_eq!(bench.number().await.unwrap(), 1);
    advance(7 * MINUTE).await;
    assert_eq!((bench.number().await.unwrap(), bench.source().logins()), (1, 1));
    let held = bench.source().gate.acquire().await.unwrap();
    advance(2 * MINUTE).await;
    for _ in 0..3 {
        assert_eq!(timeout(Duration::ZERO, bench.number()).await.unwrap().unwrap(), 1);
        bench.let_tasks_wait().await;
    }
    assert_eq!(bench.source().logins(), 2, "one renewal is under way");
    drop(held);
    bench.let_tasks_wait().await;
    assert_eq!((bench.number().await.unwrap(), bench.source().logins()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_live_credential_serves_to_its_end_while_its_renewal_fails() {
    for answer in [FakeResponse::Away, FakeResponse::Refused] {
        let bench = Bench::new();
        let begin = Instant::now();
        bench.number().await.unwrap();
        bench.source().answers(answer);
        while begin.elapsed() < 10 * MINUTE {
            assert_eq!(bench.number().await.unwrap(), 1);
            let expected = match bench.source().logins() {
                1 => LoginState::Ok,
                _ => LoginState::RenewalFailing,
            };
            assert_eq!(bench.state(), expected, "after {:?}", begin.elapsed());
            sleep(Duration::from_secs(5)).await;
        }
        let renewals = bench.source().logins() - 1;
        assert!((2..=30).contains(&renewals), "{renewals}");
        assert!(bench.number().await.is_err(), "an ended one is not used");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_replaced_once() {
    let bench = Bench::new();
    assert_eq!(bench.called(2).await, (2, Some(2)));
    assert_eq!(bench.called(2).await, (1, Some(2)));
    let bench = Bench::new();
    bench.number().await.unwrap();
    let (a, b) = tokio::join!(bench.called(2), bench.called(2));
    assert_eq!(
        (a, b, bench.source().logins()),
        ((2, Some(2)), (2, Some(2)), 2),
        "one login for both"
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_of_new_credentials_hold_off() {
    let bench = Bench::new();
    assert_eq!(bench.called(9).await, (2, None));
    assert_eq!(bench.called(9).await, (1, None), "held off");
    advance(MINUTE).await;
    assert_eq!(bench.called(3).await, (2, Some(3)));
}

#[tokio::test(start_paused = true)]
async fn the_only_credential_is_not_replaced() {
    let bench = Bench::new();
    bench.source().final_one.store(true, Ordering::Relaxed);
    assert_eq!(bench.called(2).await, (1, None));
    assert_eq!((bench.source().logins(), bench.state()), (1, LoginState::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_refused_replacement_is_remembered() {
    let bench = Bench::new();
    bench.number().await.unwrap();
    bench.source().answers(FakeResponse::Refused);
    for _ in 0..3 {
        assert_eq!(bench.called(2).await.1, None);
    }
    assert_eq!((bench.source().logins(), bench.state()), (2, LoginState::Refused));
}

#[tokio::test(start_paused = true)]
async fn a_severed_session_logs_in_no_more() {
    let bench = Bench::new();
    let held = bench.source().gate.acquire().await.unwrap();
    let cut = async {
        bench.let_tasks_wait().await;
        bench.switch.sever();
        bench.switch.stopped().await;
    };
    let (waiting, ()) = tokio::join!(bench.kind(), cut);
    assert_eq!(waiting, ErrorKind::Severed);
    drop(held);
    assert_eq!((bench.kind().await, bench.source().logins()), (ErrorKind::Severed, 1));
}

#[tokio::test(start_paused = true)]
async fn what_nothing_could_replace_is_renewed_without_a_call() {
    let bench = Bench::with(true, None);
    bench.number().await.unwrap();
    sleep(60 * MINUTE).await;
    let renewed = bench.source().logins();
    assert!((7..=10).contains(&renewed), "{renewed}");
    let unused = Bench::new();
    unused.number().await.unwrap();
    sleep(60 * MINUTE).await;
    assert_eq!(unused.source().logins(), 1);
}

/// A secret's file with this content.
fn secret_file(content: &str) -> PathBuf {
    let mut name = [0; 8];
    fill_random(&mut name);
    let path = std::env::temp_dir().join(format!("claviger-login-{}", u64::from_le_bytes(name)));
    std::fs::write(&path, content).unwrap();
    path
}

/// The clock stands still, so the files are not looked at in between.
#[tokio::test(start_paused = true)]
async fn the_call_that_finds_a_replaced_file_is_served() {
    for only in [false, true] {
        let path = secret_file("first");
        let bench = Bench::with(false, Some(path.clone()));
        bench.source().final_one.store(only, Ordering::Relaxed);
        let of_new = 2 + u32::from(!only);
        assert_eq!(bench.called(9).await.1, None);
        assert_eq!(bench.called(9).await, (1, None), "held off");
        std::fs::write(&path, "another").unwrap();
        assert_eq!(bench.called(of_new).await, (2, Some(of_new)));
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn a_changed_file_ends_a_refusal_and_replaces_a_live_credential() {
    let path = secret_file("wrong");
    let bench = Bench::with(false, Some(path.clone()));
    bench.source().answers(FakeResponse::Refused);
    bench.kind().await;
    bench.source().answers(FakeResponse::Token);
    assert_eq!(bench.kind().await, ErrorKind::ProviderDenied, "remembered");
    for (content, expected) in [("the right one", 2), ("another", 3)] {
        std::fs::write(&path, content).unwrap();
        while bench.number().await.ok() != Some(expected) {
            sleep(Duration::from_millis(20)).await;
        }
    }
    std::fs::remove_file(&path).unwrap();
}
