//! Prometheus metrics: the recorder, descriptions, and the counts of the listener and the API. The
//! layers of the pipeline describe the metrics of providers.

use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::runtime::Handle;

const REQUESTS: &str = "claviger_http_requests_total";
const REQUEST_SECONDS: &str = "claviger_http_request_seconds";
const IN_FLIGHT: &str = "claviger_http_requests_in_flight";
const CONNECTIONS: &str = "claviger_http_connections";
const CONNECTION_ENDS: &str = "claviger_http_connections_total";
const TASKS: &str = "claviger_runtime_tasks";
const CERTIFICATE_EXPIRES: &str = "claviger_tls_certificate_expires_seconds";
const CERTIFICATE_READS: &str = "claviger_tls_certificate_reads_total";

/// Buckets of the histograms of times, in seconds: from a cache hit to the request deadline.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Buckets of the histogram of records in one commit.
const RECORDS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0];
/// Period of [`Metrics::upkeep`].
pub const UPKEEP: Duration = Duration::from_secs(5);

/// The installed recorder.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder for the whole process and describes every metric. Without a recorder,
    /// counts are dropped at no cost.
    ///
    /// # Errors
    /// If a recorder was installed before.
    pub fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Full("claviger_audit_commit_records".to_owned()), &RECORDS)?
            .install_recorder()?;
        describe();
        begin_at_zero();
        super::jobs::describe();
        claviger_provider::layers::describe_metrics();
        Ok(Self(handle))
    }

    /// Renders all metrics in Prometheus' text format 0.0.4. Call it on the runtime, whose tasks are
    /// among them.
    pub fn render(&self) -> String {
        if let Ok(runtime) = Handle::try_current() {
            gauge!(TASKS).set(runtime.metrics().num_alive_tasks() as f64);
        }
        self.0.render()
    }

    /// Aggregates histogram samples, so that they do not accumulate while nobody scrapes. Call it
    /// every [`UPKEEP`].
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Makes counters of rare events that are alerted on exist before the first one: an alert on an increase misses the
/// step from nothing to 1.
fn begin_at_zero() {
    for level in ["half", "reached"] {
        counter!("claviger_wrap_limit_versions_total", "level" => level).increment(0);
    }
    counter!("claviger_audit_intents_dropped_total").increment(0);
}

fn describe() {
    describe_counter!(REQUESTS, "API requests by route, method and status");
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "Time from a request's header to its response, by route"
    );
    describe_gauge!(IN_FLIGHT, "API requests in flight");
    describe_gauge!(CONNECTIONS, "Open connections");
    describe_counter!(CONNECTION_ENDS, "Ended connections by cause");
    describe_gauge!(TASKS, "Tasks of the runtime that have not ended");
    describe_gauge!(
        CERTIFICATE_EXPIRES,
        Unit::Seconds,
        "Expiry of the presented certificate, in seconds since 1970, by listener"
    );
    describe_counter!(CERTIFICATE_READS, "Changed certificates, by result: taken or refused");
    describe_counter!("claviger_cache_requests_total", "Lookups in the data-key cache, by result");
    describe_counter!("claviger_cache_evictions_total", "Data keys removed from the cache, by cause");
    describe_gauge!(
        "claviger_declared_drift",
        "Declared objects that differ from the configuration or could not be created yet"
    );
    describe_gauge!("claviger_cache_entries", "Data keys in the cache");
    describe_counter!(
        "claviger_cache_not_kept_total",
        "Unwrapped data keys that the cache did not keep, by reason"
    );
    describe_gauge!("claviger_cache_used_bytes", Unit::Bytes, "Locked memory that data keys take");
    describe_gauge!("claviger_cache_locked_bytes", Unit::Bytes, "Locked memory of the data-key cache");
    describe_gauge!(
        "claviger_embedded_jobs",
        "Computations of the embedded provider under way, by kind: key_generation or private_key_operation"
    );
    describe_counter!(
        "claviger_memory_lookups_total",
        "Lookups of keys, names, connections and tenants in memory, by cache and result: hit or miss"
    );
    describe_counter!("claviger_memory_evictions_total", "Entries evicted from memory for room, by cache");
    describe_gauge!("claviger_memory_entries", "Entries in memory, by cache");
    describe_counter!(
        "claviger_store_reads_total",
        "Reads of the store, by what they are for: revocations, credentials, lists or others"
    );
    describe_counter!(
        "claviger_wrap_limit_versions_total",
        "Versions of keys that came to half of their 2^32 wraps, or to the end of them, by level: half or reached"
    );
    describe_gauge!(
        "claviger_revocations_unstored",
        "Revocations that the store lacks, by where they are kept: memory (they end with the process) or log_or_kill_file"
    );
    describe_counter!("claviger_audit_records_total", "Durable audit records");
    describe_counter!("claviger_audit_bytes_total", Unit::Bytes, "Bytes of durable audit records");
    describe_gauge!(
        "claviger_audit_tenants_at_quota",
        "Tenants whose audit records have reached the quota of a day"
    );
    describe_gauge!(
        "claviger_audit_disk_lasts_seconds",
        Unit::Seconds,
        "How long the disk takes audit records if the log goes on growing as in the last minutes"
    );
    describe_counter!("claviger_audit_refused_total", "Audit records that the log refused, by reason");
    describe_counter!("claviger_audit_file_failures_total", "Failed operations on the audit log's files");
    describe_counter!(
        "claviger_audit_intents_dropped_total",
        "Intents whose request ended without an outcome"
    );
    describe_gauge!(
        "claviger_audit_queue_bytes",
        Unit::Bytes,
        "Bytes of audit records that wait for the writer"
    );
    describe_histogram!(
        "claviger_audit_sync_seconds",
        Unit::Seconds,
        "Duration of one sync of the audit log"
    );
    describe_histogram!("claviger_audit_commit_records", "Audit records made durable by one sync");
}

/// The counts of one route. Its label is the route, never the path of a request. Metrics are looked
/// up in the registry once, because a lookup costs more than counting.
pub struct RouteCounts {
    route: &'static str,
    method: &'static str,
    known: OnceLock<Known>,
}

/// Metrics from the registry. They exist from the first request on, so that unused routes do not
/// appear as zeros.
struct Known {
    ok: Counter,
    seconds: Histogram,
    in_flight: Gauge,
}

impl RouteCounts {
    /// Counts of this route.
    pub fn new(route: &'static str, method: &Method) -> Self {
        Self {
            route,
            method: known(method),
            known: OnceLock::new(),
        }
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(|| Known {
            ok: self.counter(StatusCode::OK),
            seconds: histogram!(REQUEST_SECONDS, "route" => self.route, "method" => self.method),
            in_flight: gauge!(IN_FLIGHT),
        })
    }

    fn counter(&self, status: StatusCode) -> Counter {
        counter!(REQUESTS, "route" => self.route, "method" => self.method, "status" => status.as_u16().to_string())
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn begin(&self) -> InFlight {
        let in_flight = self.known().in_flight.clone();
        in_flight.increment(1.0);
        InFlight(in_flight)
    }

    /// Counts an answered request.
    pub fn answered(&self, status: StatusCode, took: Duration) {
        let known = self.known();
        if status == StatusCode::OK {
            known.ok.increment(1);
        } else {
            self.counter(status).increment(1);
        }
        known.seconds.record(took);
    }
}

/// A request in flight, counted until it is dropped.
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Labels must have a fixed set of values, but a caller can invent methods.
fn known(method: &Method) -> &'static str {
    const KNOWN: [(&Method, &str); 7] = [
        (&Method::GET, "GET"),
        (&Method::HEAD, "HEAD"),
        (&Method::POST, "POST"),
        (&Method::PUT, "PUT"),
        (&Method::PATCH, "PATCH"),
        (&Method::DELETE, "DELETE"),
        (&Method::OPTIONS, "OPTIONS"),
    ];
    KNOWN.iter().find(|(known, _)| *known == method).map_or("other", |(_, label)| label)
}

/// An open connection, counted until it is dropped.
pub struct OpenConnection(());

impl OpenConnection {
    /// Counts a new connection.
    pub fn begin() -> Self {
        gauge!(CONNECTIONS).increment(1.0);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1.0);
    }
}

/// Counts a TCP connection that ended. `cause` is one word of a closed list of the listener's.
pub fn connection_ended(cause: &'static str) {
    counter!(CONNECTION_ENDS, "cause" => cause).increment(1);
}

/// Sets the expiry of the certificate that this listener presents, in seconds since 1970.
pub fn certificate_expires(listener: &'static str, seconds: i64) {
    gauge!(CERTIFICATE_EXPIRES, "listener" => listener).set(seconds as f64);
}

/// Counts a changed certificate. `result` is one of a fixed set.
pub fn certificate_read(listener: &'static str, result: &'static str) {
    counter!(CERTIFICATE_READS, "listener" => listener, "result" => result).increment(1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered_with_its_meaning() {
        let metrics = Metrics::install().unwrap();
        let took = Duration::from_millis(3);
        let get = RouteCounts::new("/v1/keys/{key}", &Method::GET);
        get.answered(StatusCode::NOT_FOUND, took);
        get.answered(StatusCode::OK, took);
        get.answered(StatusCode::OK, took);
        let in_flight = get.begin();
        let brew = RouteCounts::new("/v1/keys/{key}", &Method::from_bytes(b"BREW").unwrap());
        brew.answered(StatusCode::METHOD_NOT_ALLOWED, took);
        let page = metrics.render();
        assert!(
            page.contains("# HELP claviger_http_requests_total API requests by route, method and status"),
            "{page}"
        );
        assert!(
            page.contains(r#"claviger_http_requests_total{route="/v1/keys/{key}",method="GET",status="404"} 1"#),
            "{page}"
        );
        assert!(page.contains(r#"method="other",status="405"} 1"#), "{page}");
        assert!(
            page.contains(r#"claviger_http_requests_total{route="/v1/keys/{key}",method="GET",status="200"} 2"#),
            "{page}"
        );
        assert!(page.contains("claviger_http_requests_in_flight 1"), "{page}");
        drop(in_flight);
        assert!(metrics.render().contains("claviger_http_requests_in_flight 0"), "{page}");
        assert!(
            page.contains(r#"claviger_http_request_seconds_bucket{route="/v1/keys/{key}",method="GET",le="0.005"} 3"#),
            "{page}"
        );
        assert!(Metrics::install().is_err());
    }
}
