//! All attacks at once, for a while: the others work on, and afterwards nothing of it is left.
//! `CLAVIGER_TEST_SOAK_SECONDS` is how long, `CLAVIGER_TEST_BINARY` another build of the gateway;
//! `tests/run soak` gives the release build ten minutes.
#![allow(clippy::print_stderr, reason = "the figures are worth reading")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use claviger_test_support::attack::{Attack, Attacker, Way, machines};
use claviger_test_support::{Client, Guard, p99};
use futures::future::join_all;
use tokio::runtime::Runtime;

use crate::world::{PATIENCE, World, key_service_on_loopback, make_key};

/// How long it lasts in CI.
const SHORT: Duration = Duration::from_secs(6);
/// How long all of it lasts before the first measurement, at least, and as a part of the whole: what grows
/// once, such as caches, prepared statements and the allocator's free memory, has grown then.
const WARM_UP: Duration = Duration::from_secs(15);
const WARM_UP_PART: u32 = 5;
/// How often the memory is printed meanwhile.
const PROGRESS: Duration = Duration::from_secs(30);
/// How often all of it is repeated until the resident memory is at rest: on a busy machine a short while does not bring
/// everything to its size. A leak grows each time.
const REPETITIONS: usize = 5;
/// How much more resident memory there may be after a repetition, in bytes. The allocator keeps what was freed
/// in up to 8 arenas for each core, of which each attack leaves other parts in use; a leak of 100 bytes
/// for each request of ten minutes is larger.
const MEMORY: u64 = 32 << 20;
/// How much more the database may take, in bytes: its write-ahead log, which is up to 4 MiB long.
const DATABASE: u64 = 5 << 20;
/// Threads that begin with the first use of what they are for: the database's readers, each of which
/// keeps two files open, and those for calls that block.
const LAZY: usize = 16;
/// What a token that was issued and revoked takes there.
const TOKEN: u64 = 2 << 10;
/// The longest time of a revocation at the 99th percentile on a busy machine.
const LIMIT: Duration = Duration::from_secs(8);

/// What the gateway's process has at one time.
#[derive(Debug)]
struct Footprint {
    memory: u64,
    descriptors: usize,
    threads: usize,
    tasks: u64,
    in_flight: u64,
    /// Bytes of each file of its data folder.
    files: BTreeMap<String, u64>,
}

impl Footprint {
    async fn of(world: &World, watcher: &Client) -> Self {
        let metrics = watcher.get("/metrics").await.text;
        let gauge = |name: &str| -> u64 {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map_or(0, |value| value.parse().unwrap())
        };
        let of_logins = metrics.lines().filter(|line| line.starts_with("claviger_connection_logins{"));
        let logins = of_logins.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        let entries = |what: &str| fs::read_dir(format!("/proc/{}/{what}", world.started.pid())).unwrap().count();
        let files = fs::read_dir(world.gateway.data()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let length = entry.metadata().map_or(0, |metadata| metadata.len());
            (entry.file_name().into_string().unwrap(), length)
        });
        Self {
            memory: world.started.memory().now,
            descriptors: entries("fd"),
            threads: entries("task"),
            // A connection that has logged in renews its token by a task as long as it is in memory.
            tasks: gauge("claviger_runtime_tasks").saturating_sub(logins),
            in_flight: gauge("claviger_http_requests_in_flight"),
            files: files.collect(),
        }
    }

    fn database(&self) -> u64 {
        let of_database = self.files.iter().filter(|(name, _)| name.starts_with("claviger.db"));
        of_database.map(|(_, length)| length).sum()
    }

    /// The files but for those of the log, of which there are ever more.
    fn others(&self) -> impl Iterator<Item = &String> {
        let of_log = |name: &&String| name.starts_with("audit-") || *name == "audit.next";
        self.files.keys().filter(move |name| !of_log(name))
    }

    /// Whether all that ends by itself has ended.
    fn is_back(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.threads <= before.threads
            && self.tasks <= before.tasks
            && self.in_flight <= 1
            && self.others().eq(before.others())
    }
}

/// What the gateway has once all attacks have ended: as soon as it is no more than `before`.
async fn afterwards(world: &World, watcher: &Client, before: &Footprint) -> Footprint {
    let begun = Instant::now();
    loop {
        let now = Footprint::of(world, watcher).await;
        if now.is_back(before) {
            return now;
        }
        assert!(begun.elapsed() < PATIENCE, "left behind: {now:?}\nbefore: {before:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// All attacks at once, while two tenants revoke and two others work. Returns how many tokens were
/// issued and revoked, and removes the attacks of which the gateway noticed something from `idle`.
async fn soak(
    world: &World,
    machines: &Runtime,
    attackers: &[(Attack, Attacker)],
    idle: &mut BTreeSet<String>,
    guards: &[Guard],
    time: Duration,
) -> u64 {
    let until = Instant::now() + time;
    let honest = world.honest().await;
    let under_way: Vec<_> = {
        let _machines = machines.enter();
        let begin = |(attack, attacker): &(Attack, Attacker)| {
            let halves = attack.begin_halves(attacker).into_iter();
            let attack = *attack;
            halves.map(move |(version, under_way)| (attack, version, under_way))
        };
        attackers.iter().flat_map(begin).collect()
    };
    let progress = async {
        let mut now = Instant::now();
        while now + PROGRESS < until {
            tokio::time::sleep(PROGRESS).await;
            now = Instant::now();
            eprintln!("{:?} to go, {} bytes of memory", until - now, world.started.memory().now);
        }
    };
    let rounds = join_all(guards.iter().map(async |guard| {
        let mut took = Vec::new();
        while Instant::now() < until {
            guard.round(&mut took).await;
        }
        took
    }));
    let (took, ()) = tokio::join!(rounds, progress);
    let took = took.concat();
    let ending = under_way
        .into_iter()
        .map(async |(attack, version, under_way)| (attack, version, under_way.end().await));
    for (attack, version, answers) in join_all(ending).await {
        let name = attack.name(version);
        eprintln!("{name}: {answers}");
        if answers.any() {
            idle.remove(&name);
        }
        answers.are_of(attack);
    }
    let revocations = took.len() as u64;
    let (slowest, honest) = (p99(took), p99(honest.end().await));
    eprintln!("{revocations} revocations {slowest:?}, honest calls {honest:?} at p99");
    assert!(slowest < LIMIT, "a revocation took {slowest:?}");
    revocations
}

#[tokio::test(flavor = "multi_thread")]
async fn all_attacks_at_once_leave_nothing_behind() {
    let seconds = std::env::var("CLAVIGER_TEST_SOAK_SECONDS").ok();
    let time = seconds.map_or(SHORT, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    let binary = std::env::var("CLAVIGER_TEST_BINARY").unwrap_or_else(|_| crate::BINARY.to_owned());
    let world = World::with_binary(&binary, &key_service_on_loopback()).await;
    let guards = [
        Guard::of(&world.evil).await,
        Guard::of(&world.started.with_tenant("victim").await).await,
    ];
    let machines = machines();
    let mut attackers = Vec::new();
    // What fills its tenant's share of the memory would leave the other attacks of that tenant without effect.
    let other = world.started.with_tenant("evil-as-well").await;
    make_key(&other, "orders").await;
    for attack in Attack::ALL {
        let evil = if attack.row() == 1 { &world.evil } else { &other };
        let (evil, way) = (evil.clone(), Way::direct(world.started.endpoint()));
        let attacker = machines.spawn(async move { attack.prepare(&evil, way).await }).await.unwrap();
        // What it adopts stays in the store: all of it within the warm-up.
        attackers.push((attack, attacker.with_keys(1)));
    }
    let watcher = world.started.operator();
    let mut idle = Footprint::of(&world, &watcher).await;
    idle.threads += LAZY;
    idle.descriptors += 2 * LAZY;
    // The guards have their own connections from their first revocation on.
    idle.tasks += guards.len() as u64;
    let mut without_effect: BTreeSet<String> = Attack::cases().map(|(attack, version)| attack.name(version)).collect();
    let soak = async |time, without_effect: &mut _| soak(&world, &machines, &attackers, without_effect, &guards, time).await;
    soak(WARM_UP.max(time / WARM_UP_PART), &mut without_effect).await;
    let mut before = afterwards(&world, &watcher, &idle).await;
    let mut repetitions = 0;
    loop {
        repetitions += 1;
        let revocations = soak(time, &mut without_effect).await;
        let after = afterwards(&world, &watcher, &before).await;
        eprintln!("before: {before:?}\nafter {time:?}: {after:?}");
        let (database, most) = (after.database(), before.database() + DATABASE + revocations * TOKEN);
        assert!(database <= most, "{database} bytes of database, {most} at most");
        let (memory, most) = (after.memory, before.memory + MEMORY);
        if memory <= most {
            break;
        }
        assert!(repetitions < REPETITIONS, "{memory} bytes of memory, {most} at most");
        before = after;
    }
    assert!(without_effect.is_empty(), "{without_effect:?} did nothing");
    world.honest().await.end().await;
    drop(attackers);
    machines.shutdown_background();
}
