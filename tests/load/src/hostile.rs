//! What the attacks of one tenant cost the others: each attack on a gateway of its own, whose honest
//! callers, revocations and probes are timed before it and while it lasts.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_test_support::attack::{Answers, Attack, Way, is_probed, machines};
use claviger_test_support::{Endpoint, Gateway, Guard, HONEST, Honest, Started, Tune, Version, make_key, p99, percentile};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Plan;
use crate::certs::Certs;

/// The tenant that attacks, and one whose revocations are timed beside its own.
const HOSTILE: &str = "evil";
const VICTIM: &str = "victim";
/// Connections that are open while the memory is attacked, those of the attack among them.
const OPEN: usize = 1000;
/// Connections from one address: fewer than the gateway takes from one.
const FROM_ONE: usize = 200;
/// Time between two probes on an open connection, and between two revocations or probes that are timed.
const PROBE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);
/// Time that an attack has to begin.
const SETTLE: Duration = Duration::from_secs(2);

/// The bounds: a revocation and `/readyz` at the 99th percentile; the honest callers' 99th percentile as
/// a multiple of what it is without an attack; and the gateway's memory in bytes.
const REVOCATION: Duration = Duration::from_millis(250);
const READINESS: Duration = Duration::from_millis(100);
const TIMES: f64 = 2.0;
const PEAK: u64 = 250_000_000;

/// How long each call took.
struct Figures {
    honest: Vec<Duration>,
    revocations: Vec<Duration>,
    readiness: Vec<Duration>,
}

/// What one attack did.
struct Row {
    attack: Attack,
    name: String,
    quiet: Figures,
    attacked: Figures,
    answers: Answers,
    /// The gateway's largest resident memory, in bytes.
    peak: u64,
}

/// A gateway with an attacker and those whom it attacks.
struct World {
    started: Started,
    guards: Vec<Guard>,
    _gateway: Gateway,
}

/// Tries each attack, prints a table, and returns whether all bounds hold.
pub async fn run(plan: &Plan, certs: &Arc<Certs>) -> bool {
    let time = Duration::from_secs(plan.seconds) * plan.rounds;
    let attackers = machines();
    let mut rows = Vec::new();
    for (attack, version) in Attack::cases() {
        if !plan.attacks.is_empty() && !plan.attacks.contains(&attack.name(version)) {
            continue;
        }
        rows.push(tried((attack, version), plan, certs, &attackers, time).await);
    }
    attackers.shutdown_background();
    report(&rows, time)
}

async fn tried((attack, version): (Attack, Version), plan: &Plan, certs: &Arc<Certs>, attackers: &Runtime, time: Duration) -> Row {
    let folder = tempfile::tempdir_in(&plan.disk).expect("a folder on the disk");
    let world = World::start(&plan.claviger, folder.path(), certs).await;
    let started = &world.started;
    let evil = started.with_tenant(HOSTILE).await;
    make_key(&evil, "orders").await;
    let victim = started.with_tenant(VICTIM).await;
    let world = World {
        guards: vec![Guard::of(&evil).await, Guard::of(&victim).await],
        ..world
    };
    let started = &world.started;
    // What serves the attacker runs on its own threads, too.
    let way = Way::direct(started.endpoint());
    let prepared = attackers.spawn(async move { attack.prepare(&evil, way).await });
    let attacker = prepared.await.expect("the attacker is prepared");
    let mut open = JoinSet::new();
    if attack.row() == 1 {
        fill(&mut open, &started.endpoint(), OPEN - attack.connections(version)).await;
    }
    let quiet = world.measure(time).await;
    let under_way = {
        let _runtime = attackers.enter();
        attack.begin(&attacker, version)
    };
    tokio::time::sleep(SETTLE).await;
    let attacked = world.measure(time).await;
    let answers = under_way.end().await;
    let name = attack.name(version);
    eprintln!("hostile: {name}: {answers}");
    answers.are_of(attack);
    assert!(answers.show(attack), "{name} did not take place");
    Row {
        attack,
        name,
        quiet,
        attacked,
        answers,
        peak: started.memory().peak,
    }
}

impl World {
    /// A gateway over TLS with its honest tenants.
    async fn start(binary: &Path, folder: &Path, certs: &Arc<Certs>) -> Self {
        let tune = Tune::default()
            .over_tls(&certs.server, &certs.server_key, certs.client_config())
            .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
            .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true");
        let gateway = Gateway::new_in(binary.to_str().expect("a path in UTF-8"), folder, &tune);
        let started = gateway.serve(&tune);
        for name in HONEST {
            make_key(&started.with_tenant(name).await, "orders").await;
        }
        Self {
            started,
            guards: Vec::new(),
            _gateway: gateway,
        }
    }

    /// Times calls of the honest tenants, revocations of two tenants, and probes on new connections.
    async fn measure(&self, time: Duration) -> Figures {
        let until = Instant::now() + time;
        let honest = Honest::begin(&self.started).await;
        let revocations = self.guards.iter().map(async |guard| {
            let mut took = Vec::new();
            while Instant::now() < until {
                guard.round(&mut took).await;
                tokio::time::sleep(PAUSE).await;
            }
            took
        });
        let endpoint = self.started.endpoint();
        let readiness = async {
            let mut took = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                let mut stream = endpoint.connect(Version::Http1).await.expect("a new connection");
                assert!(is_probed(&mut stream, "/readyz").await, "/readyz is answered");
                took.push(begun.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
            took
        };
        let (revocations, readiness) = futures::join!(futures::future::join_all(revocations), readiness);
        Figures {
            honest: honest.end().await,
            revocations: revocations.concat(),
            readiness,
        }
    }
}

/// Opens so many connections over TLS, and keeps them.
async fn fill(open: &mut JoinSet<()>, endpoint: &Endpoint, count: usize) {
    for number in 0..count {
        let source = u8::try_from(number / FROM_ONE + 1).expect("few addresses");
        let endpoint = endpoint.clone().from_source(Ipv4Addr::new(127, 0, 8, source));
        let mut stream = endpoint.connect(Version::Http1).await.expect("a connection");
        assert!(is_probed(&mut stream, "/healthz").await, "connection {number} is open");
        open.spawn(async move {
            loop {
                tokio::time::sleep(PROBE).await;
                // The gateway may have closed it to make room.
                if !is_probed(&mut stream, "/healthz").await
                    && let Ok(again) = endpoint.connect(Version::Http1).await
                {
                    stream = again;
                }
            }
        });
    }
}

impl Row {
    /// The honest callers' 99th percentile as a multiple of what it was before.
    fn times(&self) -> f64 {
        p99(self.attacked.honest.clone()).as_secs_f64() / p99(self.quiet.honest.clone()).as_secs_f64()
    }

    /// The bounds that it breaks.
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                broken.push(format!("{}: {what}", self.name));
            }
        };
        let revocations = p99(self.attacked.revocations.clone());
        check(
            revocations <= REVOCATION,
            format!("revocations {revocations:?} at p99, {REVOCATION:?} at most"),
        );
        let readiness = p99(self.attacked.readiness.clone());
        check(
            readiness <= READINESS,
            format!("/readyz {readiness:?} at p99, {READINESS:?} at most"),
        );
        if self.attack.row() == 1 {
            check(self.peak < PEAK, format!("{} bytes of memory, under {PEAK}", self.peak));
            check(
                self.times() <= TIMES,
                format!("honest p99 {:.1} times, {TIMES} at most", self.times()),
            );
        }
        broken
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// Prints the table, and returns whether all bounds hold.
fn report(rows: &[Row], time: Duration) -> bool {
    println!("\n### Attacks of one tenant\n");
    println!(
        "Each on a gateway of its own, over TLS, for {} s after as many without it; times in ms. Row is that of the threat: 1 memory \
         (with {OPEN} TLS connections open), 3 revocations, 4 connections.\n",
        time.as_secs()
    );
    println!(
        "| row | attack | honest p50, quiet | attacked | honest p99, quiet | attacked | times | revocations p99, quiet | attacked | /readyz p99, quiet | attacked | VmHWM MB | revocations timed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let (quiet, attacked) = (&row.quiet, &row.attacked);
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.1} | {} | {} | {} | {} | {:.0} | {} |",
            row.attack.row(),
            row.name,
            ms(percentile(quiet.honest.clone(), 50)),
            ms(percentile(attacked.honest.clone(), 50)),
            ms(p99(quiet.honest.clone())),
            ms(p99(attacked.honest.clone())),
            row.times(),
            ms(p99(quiet.revocations.clone())),
            ms(p99(attacked.revocations.clone())),
            ms(p99(quiet.readiness.clone())),
            ms(p99(attacked.readiness.clone())),
            row.peak as f64 / 1e6,
            attacked.revocations.len(),
        );
    }
    println!("\nWhat the attackers got:\n");
    for row in rows {
        println!("- {}: {}", row.name, row.answers);
    }
    let broken: Vec<String> = rows.iter().flat_map(Row::broken).collect();
    for bound in &broken {
        println!("\n**Missed**: {bound}");
    }
    println!("\n{} passed, {} failed", rows.len() - broken.len().min(rows.len()), broken.len());
    broken.is_empty()
}
