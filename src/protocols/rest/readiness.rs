//! The response of `/readyz`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use claviger_provider::LoginState;
use serde::Serialize;
use utoipa::ToSchema;

use super::state::ServiceState;
use super::types::{DurationText, Timestamp};
use crate::audit::{Health, KillFileStanding};
use crate::broker::{Broker, Code, UnstoredCounts};
use crate::duration::rough;
use crate::telemetry::circuits::Circuits;
use crate::telemetry::jobs::JobState;
use crate::telemetry::logins::LoginCounts;

/// The response of `/healthz`.
#[derive(Serialize, ToSchema)]
pub struct Liveness {
    /// Whether the process runs: true.
    pub alive: bool,
}

/// Whether the gateway serves requests, and the state of its parts.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// Whether the gateway serves requests.
    pub ready: bool,
    /// The gateway's parts. It is ready when all of them are.
    pub parts: Vec<ComponentStatus>,
    /// The background jobs; absent without details. A failing job does not make the gateway unready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobStatus>,
}

/// The state of one part of the gateway.
#[derive(Serialize, ToSchema)]
pub struct ComponentStatus {
    /// Name of the part.
    pub name: &'static str,
    /// Whether it works.
    pub ready: bool,
    /// A short description of its state.
    pub state: String,
    /// Only of `audit_log`: what a record survives from its response on, `power-loss` or
    /// `process-crash` (the setting `audit.durability`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<&'static str>,
    /// Only of `audit_log`, and only in answers with all the details: how long the disk takes records if the
    /// log goes on growing as in the last minutes. Absent while it does not grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_lasts: Option<DurationText>,
}

/// One background job.
#[derive(Serialize, ToSchema)]
pub struct JobStatus {
    /// Name of the job.
    pub name: &'static str,
    /// Time between two runs.
    pub period: DurationText,
    /// End of the last run. Null before the first run has ended.
    #[schema(required)]
    pub last_run: Option<Timestamp>,
    /// Whether the last run failed.
    pub failing: bool,
    /// The last failure since the start, even if later runs succeeded. Null if there was none.
    #[schema(required)]
    pub last_error: Option<JobError>,
}

/// Why a background job failed.
#[derive(Serialize, ToSchema)]
pub struct JobError {
    /// End of the run.
    pub time: Timestamp,
    /// A code or a fixed text.
    pub error: &'static str,
}

impl JobStatus {
    fn of(job: &JobState) -> Self {
        let runs = job.runs();
        Self {
            name: job.name(),
            period: DurationText(job.period()),
            last_run: runs.last.map(|at| Timestamp(at.timestamp_micros())),
            failing: runs.failing,
            last_error: runs.last_error.map(|(at, error)| JobError {
                time: Timestamp(at.timestamp_micros()),
                error,
            }),
        }
    }
}

/// How much `/readyz` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Whether the gateway is ready, and the parts that serve all tenants, without numbers. For everybody who reaches the
    /// API: a number, a job or the state of the providers would show a tenant what becomes of another one.
    Gateway,
    /// Everything. For platform operators, and for listeners of the operator's own.
    All,
}

/// A part that is not the audit log.
const fn part(name: &'static str, ready: bool, state: String) -> ComponentStatus {
    ComponentStatus {
        name,
        ready,
        state,
        durability: None,
        disk_lasts: None,
    }
}

/// The store, which takes no change while its files are not at their paths.
fn store_part(answers: bool, has_its_files: bool) -> ComponentStatus {
    let state = match (answers, has_its_files) {
        (_, false) => "files_lost",
        (true, true) => "ok",
        (false, true) => "failing",
    };
    part("store", answers && has_its_files, state.to_owned())
}

/// Whether revocations are durable. The gateway is not ready while one would end with it.
fn revocations(unstored: UnstoredCounts, detail: Detail) -> ComponentStatus {
    let UnstoredCounts { in_memory_only, elsewhere } = unstored;
    let in_memory = Code::EffectiveInMemoryOnly.as_str();
    let state = match (in_memory_only, elsewhere, detail) {
        (0, 0, _) => "ok".to_owned(),
        (0, _, Detail::Gateway) => "some are in the audit log or the kill file, and not in the store yet".to_owned(),
        (0, _, Detail::All) => format!("{elsewhere} in the audit log or the kill file, and not in the store yet"),
        (_, _, Detail::Gateway) => format!("{in_memory}: some end with this process"),
        (_, _, Detail::All) => format!("{in_memory}: {in_memory_only} end with this process"),
    };
    part("revocations", in_memory_only == 0, state)
}

/// The connections in memory by the state of their circuits.
pub(super) fn circuits(broker: &Broker) -> Circuits {
    let (in_use, open) = broker.directory().breakers();
    Circuits {
        in_use: in_use as u64,
        open: open as u64,
        open_for_keys: broker.directory().connections_with_open_keys() as u64,
    }
}

/// How the connections to providers are. Always ready: an unavailable provider does not make the gateway unready,
/// because other connections still work.
fn providers(broker: &Broker) -> ComponentStatus {
    let circuits = circuits(broker);
    let logins = LoginCounts::of(&broker.directory().logins());
    let counts = [
        (circuits.open, "with an open circuit"),
        (circuits.open_for_keys, "with an open circuit of single keys"),
        (logins.get(LoginState::Refused), "with a refused login"),
        (logins.get(LoginState::Failing), "with a failing login"),
        (logins.get(LoginState::RenewalFailing), "whose login cannot be renewed"),
    ];
    let found = counts.into_iter().filter(|(count, _)| *count > 0);
    let state = std::iter::once(format!("{} connections in use", circuits.in_use))
        .chain(found.map(|(count, text)| format!("{count} {text}")))
        .collect::<Vec<_>>()
        .join(", ");
    part("providers", true, state)
}

/// What keeps single tenants from being served; nothing where nothing does. Always ready: everybody else is served.
fn of_tenants(broker: &Broker) -> impl Iterator<Item = ComponentStatus> {
    let lacking = broker.degraded_connections();
    let declared = (lacking > 0).then(|| {
        let state = format!("{lacking} lack a usable secret file, which the configuration names: the log has its path");
        part("declared_connections", true, state)
    });
    let lost = broker.lost_rotations();
    let rotations = (lost > 0).then(|| {
        // The keys wrap under the version that they had.
        let state = format!("{lost} whose answer was lost, and which are looked for at their provider");
        part("rotations", true, state)
    });
    declared.into_iter().chain(rotations)
}

/// What became of the kill file. The gateway is not ready while it cannot put one back that something else
/// removed. What the start found makes it no less ready: only the operator can restore the file.
fn kill_file(standing: KillFileStanding, detail: Detail) -> ComponentStatus {
    let state = match standing {
        KillFileStanding::Full if detail == Detail::Gateway => "ok",
        KillFileStanding::Sound => "ok",
        KillFileStanding::WasMissing => "missing at the start and made anew: revocations that only it had are lost",
        KillFileStanding::NotRenewed => "not written anew at the start: a copy of the data folder may share its blocks",
        KillFileStanding::Full => {
            "full for a tenant: a revocation of its own that neither the store nor the audit log takes ends with this process"
        }
        KillFileStanding::Lost => "removed or changed by something else, and not written anew yet: do not stop the gateway",
    };
    part("kill_file", standing != KillFileStanding::Lost, state.to_owned())
}

impl Readiness {
    pub(super) async fn of(service: &ServiceState, broker: &Arc<Broker>, detail: Detail) -> Self {
        let draining = service.draining.load(Ordering::Acquire);
        let store = service.store.answers(broker).await;
        let log = broker.log().health();
        let mut parts = vec![
            part("listener", !draining, if draining { "draining" } else { "accepting" }.to_owned()),
            store_part(store, broker.store_has_its_files()),
            ComponentStatus {
                durability: Some(broker.log().durability().as_str()),
                disk_lasts: match detail {
                    Detail::Gateway => None,
                    Detail::All => broker.log().disk_lasts().map(rough).map(DurationText),
                },
                ..part("audit_log", log == Health::Sound, log.as_str().to_owned())
            },
            revocations(broker.unstored_revocations(), detail),
            kill_file(broker.kill_file_standing(), detail),
        ];
        if detail == Detail::All {
            parts.push(providers(broker));
            parts.extend(of_tenants(broker));
        }
        // Always ready, because an expiring certificate must not take the gateway out of service.
        parts.extend(service.certificates.iter().map(|tls| part("certificate", true, tls.state())));
        Self {
            ready: parts.iter().all(|part| part.ready),
            parts,
            jobs: match detail {
                Detail::Gateway => Vec::new(),
                Detail::All => service.jobs.iter().map(|job| JobStatus::of(job)).collect(),
            },
        }
    }
}
