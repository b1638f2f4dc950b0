//! The gateway's own memory. After the cache's age and with its connections closed, none of
//! its regions may hold a canary in any form; before, the locked arena holds what is cached,
//! and a request that is half received stands in the heap: the search sees both.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_test_support::{Gateway, Started, Tune};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::BINARY;
use crate::forms::{Canaries, Found, Search, Sort};
use crate::operations::{Blob, Caller};

/// Requests of other keys after the canaries, on connections of their own.
const FURTHER: usize = 500;
/// Bytes read at once.
const CHUNK: usize = 4 << 20;
/// The cache's age here.
pub const AGE: Duration = Duration::from_secs(5);

/// Keys wrapped, made and opened at the key server.
pub const CALLS: usize = 8;
/// How long a buffer may be held that is being freed.
pub const SETTLED: Duration = Duration::from_secs(5);
/// Longer than a connection to a key server is kept for a next call.
pub const KEPT: Duration = Duration::from_secs(60);

/// One mapping of the process.
struct Mapping {
    from: u64,
    to: u64,
    name: String,
    /// Locked, not in core dumps, not in child processes: the arena's alone.
    arena: bool,
}

/// Whether this process may read a child's memory although that forbids it to others.
pub fn readable() -> bool {
    let gateway = Gateway::new(BINARY);
    let started = gateway.serve(&Tune::default());
    let from = mappings(started.pid()).first().map_or(0, |mapping| mapping.from);
    memory(started.pid()).is_some_and(|memory| memory.read_at(&mut [0; 8], from).is_ok())
}

fn memory(process: u32) -> Option<File> {
    File::open(format!("/proc/{process}/mem")).ok()
}

/// The readable mappings, with their flags (proc_pid_smaps(5)).
fn mappings(process: u32) -> Vec<Mapping> {
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap_or_default();
    let mut all: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag| flags.split_whitespace().any(|one| one == flag);
            if let Some(mapping) = all.last_mut() {
                mapping.arena = has("lo") && has("dd") && has("dc");
                if !has("rd") || has("io") || has("pf") {
                    all.pop();
                }
            }
            continue;
        }
        let mut words = line.split_whitespace();
        let Some((from, to)) = words.next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else {
            continue;
        };
        let name = words.nth(4).map_or_else(|| "[anonymous]".to_owned(), str::to_owned);
        all.push(Mapping {
            from,
            to,
            name,
            arena: false,
        });
    }
    all
}

/// Where hits are counted: the kind of mapping, not its address.
fn region(mapping: &Mapping) -> String {
    if mapping.arena {
        return "locked arena".to_owned();
    }
    match mapping.name.as_str() {
        name if name.starts_with('/') => name.rsplit('/').next().unwrap_or(name).to_owned(),
        name => name.to_owned(),
    }
}

/// What was found in one kind of mapping.
pub struct Region {
    bytes: u64,
    pub found: Found,
}

/// What was found, by the kind of mapping.
pub type Regions = BTreeMap<String, Region>;

/// Searches all memory of a process until `gone` is true of it, for at most [`SETTLED`]: a buffer is overwritten when it is
/// freed, which is after a caller may have the response that was in it.
pub fn settled(process: u32, search: &Search, gone: impl Fn(&Regions) -> bool) -> Regions {
    let until = Instant::now() + SETTLED;
    loop {
        let regions = look(process, search);
        if gone(&regions) || Instant::now() > until {
            return regions;
        }
    }
}

/// Searches all memory of a process.
fn look(process: u32, search: &Search) -> Regions {
    let memory = memory(process).expect("it was readable before");
    let zeros = vec![0_u8; CHUNK];
    let mut regions = BTreeMap::new();
    let mut mappings = mappings(process);
    // What may expire while this looks comes first: the arena, then the request that is half
    // received. The program's own files, most of the bytes, come last.
    mappings.sort_by_key(|mapping| (!mapping.arena, mapping.name.starts_with('/')));
    for mapping in mappings {
        let entry = regions.entry(region(&mapping)).or_insert(Region {
            bytes: 0,
            found: Found::new(),
        });
        entry.bytes += mapping.to - mapping.from;
        let mut at = mapping.from;
        while at < mapping.to {
            let left = usize::try_from(mapping.to - at).unwrap_or(usize::MAX);
            let mut chunk = vec![0; left.min(CHUNK)];
            // The kernel's own pages say no.
            if memory.read_exact_at(&mut chunk, at).is_err() {
                break;
            }
            // The allocator reserves much that nobody has touched yet.
            if chunk != zeros[..chunk.len()] {
                for (what, count) in search.find(&chunk) {
                    *entry.found.entry(what).or_insert(0) += count;
                }
            }
            let length = chunk.len() as u64;
            // A form may lie across two chunks; one of the overlap may count twice.
            let overlap = search.longest() as u64;
            at += if at + length < mapping.to { length - overlap } else { length };
        }
    }
    regions
}

/// Hits in the locked arena, and in all other regions together.
pub fn hits(regions: &Regions) -> (usize, usize) {
    let in_arena = |name: &str| name == "locked arena";
    let sum = |arena: bool| {
        let of = regions.iter().filter(|(name, _)| in_arena(name) == arena);
        of.map(|(_, region)| region.found.values().sum::<usize>()).sum()
    };
    (sum(true), sum(false))
}

/// Whether nothing was found.
pub fn is_clean(regions: &Regions) -> bool {
    hits(regions) == (0, 0)
}

/// Open sockets of the process.
pub fn sockets(started: &Started) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", started.pid())).expect("its files");
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Waits until the process has no connection any more, its peers being gone.
pub async fn connections_closed(started: &Started, before: usize, within: Duration) {
    let until = Instant::now() + within;
    while sockets(started) > before {
        assert!(Instant::now() < until, "connections stay open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a request with a canary in its body but for the last bytes, and waits until the
/// gateway has read it; the connection ends with what is answered.
async fn half_a_request(started: &Started, canaries: &mut Canaries) -> TcpStream {
    let secret = claviger_provider::Secret::random(32);
    canaries.add(Sort::Wrapped, secret.expose());
    let begun = format!("{{\"plaintext\": \"{}", STANDARD.encode(secret.expose()));
    let mut stream = TcpStream::connect(started.address()).await.expect("a connection");
    let head = format!(
        "POST /v1/keys/orders/wrap HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nclaviger-tenant: acme\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        started.token(),
        begun.len() + 2
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    // It is asked for once the caller is known and the body is being read.
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await.expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(begun.as_bytes()).await.expect("sent");
    let until = Instant::now() + AGE;
    while unread(&stream) > 0 {
        assert!(Instant::now() < until, "the gateway does not read");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stream
}

/// The port as the kernel's table writes it behind an address.
fn port(address: SocketAddr) -> String {
    format!(":{:04X}", address.port())
}

/// The rows of the kernel's table of connections over IPv4.
fn connections() -> Vec<Vec<String>> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the table of connections");
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    table.lines().map(columns).collect()
}

/// How many connections the gateway's listener has.
pub fn callers(started: &Started) -> usize {
    let here = port(started.address());
    // Established, or closed by the other end alone.
    let open = |state: &str| matches!(state, "01" | "08");
    let rows = connections().into_iter();
    rows.filter(|columns| columns.len() > 4 && columns[1].ends_with(&here) && open(&columns[3]))
        .count()
}

/// The bytes of a connection that its other end has not read yet.
fn unread(stream: &TcpStream) -> u64 {
    let here = port(stream.local_addr().expect("an address"));
    let there = port(stream.peer_addr().expect("an address"));
    let columns = connections()
        .into_iter()
        .find(|columns| columns.len() > 4 && columns[1].ends_with(&there) && columns[2].ends_with(&here))
        .expect("the connection");
    // `tx_queue:rx_queue` in hexadecimal.
    let (_, unread) = columns[4].split_once(':').expect("two numbers");
    u64::from_str_radix(unread, 16).expect("a number")
}

/// Prints a table.
pub fn print(title: &str, regions: &Regions) {
    println!("\n{title}\n{:<28} {:>10}  hits", "region", "KiB");
    for (name, region) in regions {
        let hits: Vec<String> = region
            .found
            .iter()
            .map(|((sort, form), count)| format!("{sort:?} {form} {count}"))
            .collect();
        let hits = if hits.is_empty() { "0".to_owned() } else { hits.join(", ") };
        println!("{name:<28} {:>10}  {hits}", region.bytes / 1024);
    }
}

async fn further(started: &Started) {
    let client = started.tenant("acme");
    for _ in 0..FURTHER {
        let body = json!({"plaintext": false});
        client.post("/v1/keys/others/data-keys", &body).await.expect_status(200);
    }
}

pub async fn search() {
    let gateway = Gateway::new(&crate::measured());
    let age = format!("{}s", AGE.as_secs());
    let tune = Tune::default()
        .set("CLAVIGER_CACHE__MAX_AGE", &age)
        .set("CLAVIGER_CACHE__MAX_IDLE", &age);
    let started = gateway.serve(&tune);
    let before = sockets(&started);
    let mut canaries = Canaries::default();
    // The secret of the token that all of this is asked for with.
    let secret = started.token().rsplit('_').next().expect("a secret");
    canaries.add(Sort::Token, &secret.as_bytes()[..43]);
    let client = started.with_tenant("acme").await;
    {
        let mut caller = Caller::new(&started, client.clone(), &mut canaries);
        let blobs: Vec<Blob> = caller.operations().await;
        caller.errors(&blobs).await;
        caller.tokens().await;
        for blob in &blobs {
            caller.opens(blob).await;
        }
    }
    let half = half_a_request(&started, &mut canaries).await;
    let search = canaries.search();
    // The search looks at the right places: what is cached is found in the arena, and what
    // has been received of a request outside of it.
    let until = Instant::now() + AGE / 2;
    let cached = loop {
        let cached = look(started.pid(), &search);
        if hits(&cached).1 > 0 || Instant::now() > until {
            break cached;
        }
    };
    print("while cached, connections open, one request half received", &cached);
    assert!(hits(&cached).0 > 0, "nothing is cached in the locked arena");
    assert!(hits(&cached).1 > 0, "half a request is nowhere");

    drop((client, half));
    connections_closed(&started, before, AGE).await;
    let expired = Instant::now() + AGE + Duration::from_secs(1);
    tokio::time::sleep_until(expired.into()).await;
    let after = settled(started.pid(), &search, is_clean);
    print("after the age and one second, connections closed", &after);
    assert_eq!(hits(&after), (0, 0), "in the locked arena and elsewhere");

    further(&started).await;
    connections_closed(&started, before, AGE).await;
    let last = settled(started.pid(), &search, is_clean);
    print(&format!("after {FURTHER} further requests"), &last);
    assert_eq!(hits(&last), (0, 0), "in the locked arena and elsewhere");
    println!("\n{} canaries", canaries.len());
    assert!(started.terminate());
}

/// The same of calls to a key server: their answers hold data keys, and a connection that is
/// kept for the next call holds the last answer.
pub async fn search_after_calls_to_openbao() {
    let settings = json!({"address": openbao("ADDRESS"), "auth": {"token": openbao("TOKEN")}});
    let gateway = Gateway::new(&crate::measured());
    let age = format!("{}s", AGE.as_secs());
    let tune = Tune::default()
        .set("CLAVIGER_EGRESS__ALLOW", "127.0.0.0/8")
        .set("CLAVIGER_EGRESS__ALLOW_PLAIN_HTTP", "true")
        .set("CLAVIGER_CACHE__MAX_AGE", &age)
        .set("CLAVIGER_CACHE__MAX_IDLE", &age);
    let started = gateway.serve(&tune);
    let before = sockets(&started);
    let client = started.with_tenant("acme").await;
    let connection = json!({"name": "openbao", "provider": "vault", "settings": settings});
    client.post("/v1/connections", &connection).await.expect_status(201);
    let name = format!("canary-{}", started.pid());
    let key = json!({"name": name, "connection": "openbao"});
    client.post("/v1/keys", &key).await.expect_status(201);
    let mut canaries = Canaries::default();
    {
        let mut caller = Caller::new(&started, client, &mut canaries);
        for _ in 0..CALLS {
            for blob in [caller.wrap(&name).await, caller.data_key(&name).await] {
                caller.opens(&blob).await;
                caller.opens(&blob).await;
            }
        }
    }
    let search = canaries.search();
    let cached = look(started.pid(), &search);
    print("while cached, connections to the key server kept", &cached);
    assert!(hits(&cached).0 > 0, "nothing is cached in the locked arena");

    let expired = Instant::now() + AGE + Duration::from_secs(1);
    connections_closed(&started, before, KEPT).await;
    tokio::time::sleep_until(expired.into()).await;
    let after = settled(started.pid(), &search, is_clean);
    print("after the age, connections closed", &after);
    assert_eq!(hits(&after), (0, 0), "in the locked arena and elsewhere");
    assert!(started.terminate());
}

/// What `tests/backends/openbao/start` tells of its server.
pub fn openbao(variable: &str) -> Option<String> {
    std::env::var(format!("CLAVIGER_TEST_OPENBAO_{variable}")).ok()
}
