use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{HealthCheck, HealthMonitor, IN_USE, MAX, MAX_OF_TENANT, MINUTE, Monitors, PATIENCE, SILENCE, SPREAD};
use crate::call_trace::{BackgroundCalls, BackgroundTrace, CallResult, CallSink, ProviderCall};
use crate::health_report::{Health, HealthReport, HealthState};
use crate::sever_switch::SeverSwitch;
use crate::share::Shares;
use crate::{ConnectionId, Error, ErrorKind, OpContext, ProviderKind, TenantId};

/// How the service responds.
#[derive(Clone, Copy)]
enum Plays {
    Well,
    Fails,
    Hangs,
}

/// A service that notes when it was checked, and whether deeply.
struct Service {
    begin: Instant,
    checks: Mutex<Vec<(Duration, bool)>>,
    plays: Mutex<Plays>,
}

#[async_trait]
impl HealthCheck for Service {
    async fn check(&self, cx: &OpContext, deep: bool) -> Result<Health, Error> {
        self.checks.lock().push((self.begin.elapsed(), deep));
        let attempt = CallSink::from(cx).begin("health");
        let plays = *self.plays.lock();
        match plays {
            Plays::Well => {
                attempt.finish(None, CallResult::Ok);
                Ok(Health::Ok)
            }
            Plays::Fails => {
                attempt.finish(None, CallResult::Error(ErrorKind::UpstreamUnavailable));
                Err(Error::new(ErrorKind::UpstreamUnavailable, "check"))
            }
            Plays::Hangs => std::future::pending().await,
        }
    }
}

/// The calls that were reported.
#[derive(Default)]
struct Seen(Mutex<Vec<ProviderCall>>);

impl BackgroundCalls for Seen {
    fn called(&self, _: TenantId, _: ConnectionId, call: ProviderCall) {
        self.0.lock().push(call);
    }
}

struct Bench {
    monitor: HealthMonitor,
    service: Arc<Service>,
    report: HealthReport,
    switch: SeverSwitch,
    shares: Shares,
    seen: Arc<Seen>,
}

impl Bench {
    fn new(plays: Plays) -> Self {
        Self::of(TenantId::random(), &Monitors::default(), plays)
    }

    fn of(tenant: TenantId, monitors: &Monitors, plays: Plays) -> Self {
        let connection = ConnectionId::random();
        let report = HealthReport::new(tenant, connection, ProviderKind::Xks);
        let (shares, seen) = (Shares::new(64, 64), Arc::new(Seen::default()));
        let switch = SeverSwitch::default().with_share(shares.of(tenant));
        let trace = BackgroundTrace::new(tenant, connection, Some(Arc::clone(&seen) as Arc<dyn BackgroundCalls>));
        let service = Service {
            begin: Instant::now(),
            checks: Mutex::default(),
            plays: Mutex::new(plays),
        };
        Self {
            monitor: HealthMonitor::new(report.clone(), trace, switch.clone(), monitors.clone()),
            service: Arc::new(service),
            report,
            switch,
            shares,
            seen,
        }
    }

    fn call(&self) {
        self.monitor.note_call(&self.service, true);
    }

    fn suspend(&self, suspended: bool) {
        self.shares.note_suspended(self.monitor.0.trace.tenant(), suspended);
    }

    fn play(&self, plays: Plays) {
        *self.service.plays.lock() = plays;
    }

    fn checks(&self) -> Vec<(Duration, bool)> {
        self.service.checks.lock().clone()
    }

    fn results(&self) -> Vec<CallResult> {
        self.seen.0.lock().iter().map(|call| call.result).collect()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Each pause is up to this much longer: timers have whole milliseconds.
const TICK: Duration = Duration::from_millis(2);

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_checked_while_it_is_in_use() {
    let bench = Bench::new(Plays::Well);
    sleep(seconds(60)).await;
    assert!(bench.checks().is_empty(), "nobody has used it");
    bench.call();
    sleep(seconds(1000)).await;
    let (mut last, mut last_deep) = (seconds(60), None);
    let checks = bench.checks();
    for (at, deep) in &checks {
        let pause = *at - last;
        assert!(pause >= SILENCE - SPREAD && pause <= SILENCE + TICK, "{checks:?}");
        assert_eq!(*deep, last_deep.is_none_or(|last| *at - last >= MINUTE), "{checks:?}");
        last = *at;
        last_deep = Some(*at).filter(|_| *deep).or(last_deep);
    }
    assert!(
        last < seconds(60) + IN_USE && last >= seconds(60) + IN_USE - SILENCE - TICK,
        "{checks:?}"
    );
    let pauses: Vec<Duration> = checks.windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert!(
        pauses.windows(2).any(|two| two[0] != two[1]),
        "each has a pause of its own: {pauses:?}"
    );
    assert_eq!(bench.report.status().unwrap().state, HealthState::Ok);
    bench.call();
    sleep(seconds(15)).await;
    assert_eq!(bench.checks().len(), checks.len() + 1, "it is in use again");
}

#[tokio::test(start_paused = true)]
async fn calls_take_the_place_of_checks_for_a_minute() {
    let bench = Bench::new(Plays::Well);
    for _ in 0..150 {
        bench.call();
        sleep(seconds(1)).await;
    }
    let checks = bench.checks();
    let [(first, true), (second, true)] = checks[..] else {
        panic!("{checks:?}")
    };
    for pause in [first, second - first] {
        assert!(pause >= MINUTE && pause <= MINUTE + SPREAD + TICK, "{checks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_and_a_severed_connection_is_left_alone() {
    let bench = Bench::new(Plays::Fails);
    bench.call();
    sleep(seconds(15)).await;
    assert_eq!(bench.report.status().unwrap().kind, Some(ErrorKind::UpstreamUnavailable));
    let before = bench.checks().len();
    bench.switch.sever();
    bench.call();
    sleep(seconds(100)).await;
    assert_eq!(bench.checks().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_worked_is_not_checked() {
    let bench = Bench::new(Plays::Well);
    bench.monitor.note_call(&bench.service, false);
    sleep(seconds(100)).await;
    assert!(bench.checks().is_empty());
    bench.call();
    for _ in 0..100 {
        sleep(seconds(5)).await;
        bench.monitor.note_call(&bench.service, false);
    }
    assert!(
        bench.checks().last().unwrap().0 > seconds(500),
        "one that worked is, while calls fail"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_its_share_of_the_monitors() {
    let monitors = Monitors::default();
    let crowd = |tenant: TenantId| -> Vec<Bench> {
        let crowd: Vec<Bench> = (0..=MAX_OF_TENANT).map(|_| Bench::of(tenant, &monitors, Plays::Well)).collect();
        crowd.iter().for_each(Bench::call);
        crowd
    };
    let tenant = TenantId::random();
    let mut crowds = vec![crowd(tenant), crowd(TenantId::random())];
    sleep(seconds(11)).await;
    let checked = |crowd: &[Bench]| crowd.iter().filter(|bench| !bench.checks().is_empty()).count();
    assert_eq!(crowds.iter().map(|crowd| checked(crowd)).collect::<Vec<_>>(), [MAX_OF_TENANT; 2]);
    // Another one's place is free.
    let freed = crowds[0].remove(0);
    freed.switch.sever();
    sleep(seconds(11)).await;
    crowds[0].last().unwrap().call();
    sleep(seconds(11)).await;
    assert_eq!(checked(&crowds[0]), MAX_OF_TENANT);
    crowds.extend((2..=MAX / MAX_OF_TENANT).map(|_| crowd(TenantId::random())));
    sleep(seconds(11)).await;
    assert_eq!(checked(crowds.last().unwrap()), 0, "all together have a limit, too");
    drop(crowds);
    sleep(seconds(11)).await;
    let running = monitors.0.lock();
    assert_eq!((running.all, running.of_tenants.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_in_the_log_and_the_first_success_with_the_id_of_its_check() {
    let bench = Bench::new(Plays::Well);
    bench.call();
    sleep(seconds(45)).await;
    assert!(bench.checks().len() >= 4);
    assert_eq!(bench.results(), [CallResult::Ok]);
    bench.play(Plays::Fails);
    let before = bench.checks().len();
    sleep(seconds(25)).await;
    let failed = bench.checks().len() - before;
    assert!(failed >= 2);
    bench.play(Plays::Well);
    sleep(seconds(45)).await;
    let mut expected = vec![CallResult::Error(ErrorKind::UpstreamUnavailable); failed + 2];
    expected[0] = CallResult::Ok;
    expected[failed + 1] = CallResult::Ok;
    assert_eq!(bench.results(), expected);
    let ids: std::collections::BTreeSet<_> = bench.seen.0.lock().iter().map(|call| call.request_id.clone().unwrap()).collect();
    assert_eq!(ids.len(), expected.len());
    assert!(ids.iter().all(|id| id.starts_with("health-")), "{ids:?}");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_a_sever_ends_is_in_the_log() {
    let bench = Bench::new(Plays::Hangs);
    bench.call();
    sleep(seconds(15)).await;
    assert_eq!((bench.checks().len(), bench.results().len()), (1, 0));
    bench.switch.sever();
    bench.switch.stopped().await;
    sleep(seconds(1)).await;
    assert_eq!(bench.results(), [CallResult::Abandoned]);
    assert_eq!(bench.report.status(), None, "it says nothing of the service");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_tenants_service_is_not_checked_until_the_resume() {
    let bench = Bench::new(Plays::Well);
    bench.call();
    sleep(seconds(15)).await;
    let checked = bench.checks().len();
    assert!(checked >= 1);
    bench.suspend(true);
    // A platform operator's own call begins none either.
    bench.call();
    sleep(seconds(100)).await;
    assert_eq!(bench.checks().len(), checked);
    bench.suspend(false);
    sleep(seconds(25)).await;
    assert!(bench.checks().len() > checked, "the connection is still in use");
    // A tenant that is suspended before its connection is used.
    let later = Bench::new(Plays::Well);
    later.suspend(true);
    later.call();
    sleep(seconds(100)).await;
    assert!(later.checks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_ends() {
    let bench = Bench::new(Plays::Hangs);
    bench.call();
    sleep(SILENCE + PATIENCE + seconds(1)).await;
    assert_eq!(bench.report.status().unwrap().kind, Some(ErrorKind::UpstreamTimeout));
    assert_eq!(bench.results(), [CallResult::Abandoned]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_is_not_checked() {
    let bench = Bench::new(Plays::Well);
    bench.call();
    let service = Arc::downgrade(&bench.service);
    drop(bench);
    assert_eq!(service.strong_count(), 0);
    sleep(seconds(100)).await;
}
