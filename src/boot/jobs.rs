//! Background jobs. Every job is declared in [`declare`], with its name and its period.
//!
//! A job runs at the start and then once per period, never twice at the same time. `/readyz` and
//! the metrics report when it last ran and what it last failed with.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::declared::DeclaredObjects;
use super::keep_log::LogKeeper;
use super::log_position::LogPosition;
use crate::audit::Counters;
use crate::broker::Broker;
use crate::listener::Tls;
use crate::telemetry::jobs::JobState;
use crate::telemetry::metrics::{Metrics, UPKEEP};

/// Result of one run. The error is a fixed text or a code, so that it contains no secret.
pub(super) type JobResult = Result<(), &'static str>;

type Run = Pin<Box<dyn Future<Output = JobResult> + Send>>;

/// What happens to a job when the gateway stops.
#[derive(Clone, Copy)]
enum OnStop {
    /// The stop waits for the current run.
    Finish,
    /// The stop waits for the current run, and then the job runs once more.
    RunOnceMore,
    /// The current run is aborted, because it may wait for a provider.
    Abort,
}

/// A declared job.
pub(super) struct Job {
    state: Arc<JobState>,
    on_stop: OnStop,
    run: Box<dyn Fn() -> Run + Send + Sync>,
}

/// The parts of the gateway that jobs use.
pub(super) struct Subjects {
    pub(super) broker: Arc<Broker>,
    pub(super) counters: Arc<Counters>,
    pub(super) log_position: Arc<LogPosition>,
    pub(super) log_keeper: Option<Arc<LogKeeper>>,
    pub(super) certificates: Vec<Arc<Tls>>,
    pub(super) declared: Arc<DeclaredObjects>,
    pub(super) metrics: Option<Metrics>,
}

/// Declares every background job.
pub(super) fn declare(on: &Subjects) -> Vec<Job> {
    use OnStop::{Abort, Finish, RunOnceMore};
    let seconds = Duration::from_secs;
    let counters = Arc::new((Arc::clone(&on.counters), on.broker.log().clone()));
    let mut jobs = vec![
        // Records the sums of events that have no records of their own, such as failed
        // authentications. On failure the sums are kept for the next run.
        Job::new("audit_counters", seconds(1), RunOnceMore, &counters, async |counters| {
            let flushed = counters.0.flush(&counters.1).await;
            flushed.map_err(|unavailable| unavailable.reason().as_str())
        }),
        // Notices that the log's file or the kill file was removed, replaced or cut, although there is no traffic.
        Job::new("audit_watch", seconds(1), Finish, &on.broker, async |broker| {
            broker.log().check();
            broker.look_at_kill_file().await
        }),
        // Records provider calls that serve no request, such as logins. On failure they are kept
        // for the next run; the stop records what is left.
        Job::new("background_calls", seconds(1), Finish, &on.broker, async |broker| {
            let recorded = broker.record_background_calls(false).await;
            recorded.map_err(|unavailable| unavailable.reason().as_str())
        }),
        // Overwrites expired data keys, whether or not a request comes in.
        Job::new("cache_sweep", Duration::from_millis(250), Finish, &on.broker, async |broker| {
            broker.sweep_cache();
            Ok(())
        }),
        // Deletes stored responses of idempotent requests, names of deleted principals, and tokens that ended.
        Job::new("idempotency_prune", seconds(3600), Finish, &on.broker, async |broker| {
            broker.prune_kept().await.map_err(|failure| failure.code.as_str())
        }),
        // Tells the store how far the log goes, so that a start notices a log that was put back. The store's
        // writer is taken in an ordinary turn, after revocations; nothing waits for it.
        Job::new(
            "log_position",
            Duration::from_millis(500),
            Finish,
            &on.log_position,
            async |position| position.keep().await.map_err(|_| "the store cannot be written"),
        ),
        // Writes the kill file anew where the start could not.
        Job::new("kill_file", seconds(60), Finish, &on.broker, async |broker| {
            broker.renew_kill_file().await
        }),
        // Offers revocations that the store could not take to the store and the kill file again.
        Job::new("revocations", seconds(1), RunOnceMore, &on.broker, async |broker| {
            broker.store_unstored().await
        }),
        // Looks for provider keys whose creation was not answered.
        Job::new("creations", seconds(5), Abort, &on.broker, async |broker| {
            broker.finish_creations().await.map_err(|code| code.as_str())
        }),
        // Asks providers about rotations that they have not finished.
        Job::new("rotations", seconds(2), Abort, &on.broker, async |broker| {
            broker.finish_rotations().await.map_err(|code| code.as_str())
        }),
        // Looks at the providers what became of keys that are in use.
        Job::new("keys_in_use", seconds(5), Abort, &on.broker, async |broker| {
            broker.look_at_keys_in_use(Instant::now()).await;
            Ok(())
        }),
    ];
    if !on.declared.has_all_secrets() {
        // Creates declared connections whose secret files were missing or unusable at the start.
        jobs.push(Job::new("declared_secrets", seconds(5), Finish, &on.declared, async |declared| {
            declared.read_secrets_again().await
        }));
    }
    if !on.declared.calls_no_provider() {
        // Takes over network settings, and creates declared keys. Their provider may be down at the start.
        jobs.push(Job::new("declared_keys", seconds(30), Abort, &on.declared, async |declared| {
            declared.create_missing().await
        }));
    }
    if let Some(keeper) = &on.log_keeper {
        // Removes or archives the oldest files of the audit log.
        jobs.push(Job::new("audit_keep", seconds(5), Finish, keeper, async |keeper| {
            keeper.run().await
        }));
    }
    if !on.certificates.is_empty() {
        // Takes over changed certificates. Polling also notices a symbolic link that points to
        // another file (cert-manager, Kubernetes), which events of the file do not show.
        let certificates = Arc::new(on.certificates.clone());
        jobs.push(Job::new(
            "certificate_reload",
            seconds(5),
            Finish,
            &certificates,
            async |certificates| {
                let mut usable = true;
                for tls in certificates.iter() {
                    usable &= Arc::clone(tls).reload_if_changed().await;
                }
                usable.then_some(()).ok_or("the changed files cannot be used, see the log")
            },
        ));
    }
    if let Some(metrics) = &on.metrics {
        // Aggregates samples, so that they do not accumulate while nobody scrapes.
        jobs.push(Job::new(
            "metrics_upkeep",
            UPKEEP,
            Finish,
            &Arc::new(metrics.clone()),
            async |metrics| {
                metrics.upkeep();
                Ok(())
            },
        ));
    }
    jobs
}

impl Job {
    fn new<S, F>(
        name: &'static str,
        period: Duration,
        on_stop: OnStop,
        subject: &Arc<S>,
        run: impl Fn(Arc<S>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        S: Send + Sync + 'static,
        F: Future<Output = JobResult> + Send + 'static,
    {
        let subject = Arc::clone(subject);
        Self {
            state: Arc::new(JobState::new(name, period)),
            on_stop,
            run: Box::new(move || Box::pin(run(Arc::clone(&subject)))),
        }
    }

    /// The job's state, for `/readyz`.
    pub(super) fn state(&self) -> Arc<JobState> {
        Arc::clone(&self.state)
    }

    /// Starts the job. It ends when `stopped` becomes true.
    pub(super) fn spawn(self, stopped: watch::Receiver<bool>) -> JoinHandle<()> {
        tokio::spawn(self.run_until(stopped))
    }

    async fn run_until(self, mut stopped: watch::Receiver<bool>) {
        // An error means that the sender is gone, which is a stop, too.
        let stop = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
        tokio::pin!(stop);
        let mut ticks = tokio::time::interval(self.state.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = ticks.tick() => {}
            }
            let run = (self.run)();
            match self.on_stop {
                OnStop::Finish | OnStop::RunOnceMore => self.ended(run.await),
                OnStop::Abort => tokio::select! {
                    () = &mut stop => break,
                    result = run => self.ended(result),
                },
            }
        }
        match self.on_stop {
            OnStop::RunOnceMore => self.ended((self.run)().await),
            OnStop::Finish | OnStop::Abort => {}
        }
    }

    fn ended(&self, result: JobResult) {
        let name = self.state.name();
        let changed = self.state.ended(result);
        match result {
            Err(error) if changed => tracing::warn!(job = name, error, "a background job failed"),
            Ok(()) if changed => tracing::info!(job = name, "the background job works again"),
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    fn counting(on_stop: OnStop, result: impl Fn(usize) -> JobResult + Clone + Send + Sync + 'static) -> (Job, Arc<AtomicUsize>) {
        let runs = Arc::new(AtomicUsize::new(0));
        let job = Job::new("counting", PERIOD, on_stop, &runs, move |runs: Arc<AtomicUsize>| {
            let result = result(runs.fetch_add(1, Ordering::SeqCst));
            async move { result }
        });
        (job, runs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_runs_at_the_start_and_once_per_period() {
        let (job, runs) = counting(OnStop::Finish, |_| Ok(()));
        let (stop, stopped) = watch::channel(false);
        let task = job.spawn(stopped);
        for expected in 1..4 {
            tokio::time::sleep(PERIOD / 2).await;
            assert_eq!(runs.load(Ordering::SeqCst), expected);
            tokio::time::sleep(PERIOD / 2).await;
        }
        stop.send_replace(true);
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_stays_known_after_the_job_works_again() {
        let (job, _) = counting(OnStop::Finish, |run| if run == 0 { Err("disk_full") } else { Ok(()) });
        let state = job.state();
        assert!(state.runs().last.is_none());
        let (_stop, stopped) = watch::channel(false);
        let task = job.spawn(stopped);
        tokio::time::sleep(PERIOD / 2).await;
        let first = state.runs();
        assert!(first.failing && first.last.is_some());
        assert_eq!(first.last_error.map(|(_, error)| error), Some("disk_full"));
        tokio::time::sleep(PERIOD).await;
        let second = state.runs();
        assert!(!second.failing);
        assert_eq!(second.last_error, first.last_error);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_flushes_runs_once_more_when_it_is_stopped() {
        for (on_stop, expected) in [(OnStop::Finish, 1), (OnStop::RunOnceMore, 2)] {
            let (job, runs) = counting(on_stop, |_| Ok(()));
            let (stop, stopped) = watch::channel(false);
            let task = job.spawn(stopped);
            tokio::time::sleep(PERIOD / 2).await;
            stop.send_replace(true);
            task.await.unwrap();
            assert_eq!(runs.load(Ordering::SeqCst), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_a_provider() {
        let job = Job::new("hanging", PERIOD, OnStop::Abort, &Arc::new(()), async |_| {
            std::future::pending().await
        });
        let state = job.state();
        let (stop, stopped) = watch::channel(false);
        let task = job.spawn(stopped);
        tokio::time::sleep(PERIOD).await;
        stop.send_replace(true);
        tokio::time::timeout(PERIOD, task).await.unwrap().unwrap();
        assert!(state.runs().last.is_none());
    }
}
