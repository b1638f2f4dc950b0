//! The attacks of a hostile tenant, each of which lasts until it is ended: what the suite `hostile` tries
//! one by one and in a soak, and what `tests/run hostile-load` measures.

mod connections;
mod key_service;
mod memory;
mod places;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::objects::{issue_tokens, make_labelled_keys, text_of, token};
use crate::raw::Http2;
use crate::{Client, Endpoint, Version};
use key_service::KeyService;

pub use connections::is_probed;
pub use memory::{BATCH, tiny_items};
pub use places::half_sent;

/// The most streams that the gateway takes on a connection.
pub const STREAMS: usize = 128;
/// The lowest priority of setpriority(2).
const NICE: i32 = 19;
/// The pause of an attacker whose connection was closed.
const AGAIN: Duration = Duration::from_millis(200);
/// Keys of the attacker's key service: with the versions of all of them its tenant is within its quota.
const KEYS: usize = 48;
/// Tokens that it revokes: more than a tenant may revoke without a pause.
const TOKENS: usize = 256;
/// The window of a stream that is read.
const WINDOW: u32 = 65_535;
/// Connections of one machine: fewer than the gateway takes from one.
const OF_ONE_MACHINE: usize = 200;

/// An attack, by what it does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Requests files of the documentation without a credential, and reads nothing.
    UnreadFiles,
    /// Requests pages of keys with large labels, and reads nothing.
    UnreadPages,
    /// Sends batches of 16 MiB with a million items each.
    TinyItems,
    /// Leaves 512 batches half-sent.
    HalfSent,
    /// Lists keys with 60 requests at once.
    Lists,
    /// Adopts 24 keys at once from a key service that reports 10,000 versions of each.
    ManyVersions,
    /// Revokes tokens, and then disables a key again and again, with 128 requests at once.
    Revocations,
    /// Presents 60 tokens at once that nobody issued.
    MadeUpTokens,
    /// Opens 1,024 sockets from one address, which send nothing.
    IdleSockets,
    /// Opens 1,024 connections from 16 addresses, which send a probe now and then.
    IdleConnections,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::UnreadFiles,
        Self::UnreadPages,
        Self::TinyItems,
        Self::HalfSent,
        Self::Lists,
        Self::ManyVersions,
        Self::Revocations,
        Self::MadeUpTokens,
        Self::IdleSockets,
        Self::IdleConnections,
    ];

    /// What it is on: 1 the gateway's memory, 3 its revocations, 4 its connections.
    pub const fn row(self) -> u8 {
        match self {
            Self::UnreadFiles | Self::UnreadPages | Self::TinyItems => 1,
            Self::HalfSent | Self::Lists | Self::ManyVersions | Self::Revocations | Self::MadeUpTokens => 3,
            Self::IdleSockets | Self::IdleConnections => 4,
        }
    }

    /// Each of them over each version of HTTP that can make a difference to it.
    pub fn cases() -> impl Iterator<Item = (Self, Version)> {
        Self::ALL
            .into_iter()
            .flat_map(|attack| attack.versions().iter().map(move |version| (attack, *version)))
    }

    /// The versions of HTTP over which it can be made.
    const fn versions(self) -> &'static [Version] {
        match self {
            // Hardly any of them sends anything.
            Self::IdleSockets => &[Version::Http1],
            _ => &Version::ALL,
        }
    }

    /// Its name in tables.
    pub fn name(self, version: Version) -> String {
        let name = match self {
            Self::UnreadFiles => "unread-files",
            Self::UnreadPages => "unread-pages",
            Self::TinyItems => "tiny-items",
            Self::HalfSent => "half-sent",
            Self::Lists => "lists",
            Self::ManyVersions => "many-versions",
            Self::Revocations => "revocations",
            Self::MadeUpTokens => "made-up-tokens",
            Self::IdleSockets => return "idle-sockets".to_owned(),
            Self::IdleConnections => "idle-connections",
        };
        format!("{name}-{}", version.name())
    }

    /// How many connections it keeps, if it is on the gateway's memory.
    pub const fn connections(self, version: Version) -> usize {
        match (self, version) {
            (Self::UnreadFiles | Self::UnreadPages, Version::Http2) => memory::DEAF,
            (Self::UnreadFiles, Version::Http1) => memory::DEAF_TO_FILES,
            (Self::UnreadPages, Version::Http1) => memory::DEAF_TO_PAGES,
            (Self::TinyItems, _) => memory::BODIES,
            (_, _) => 0,
        }
    }

    /// The answers of which each shows that it took place. A batch that was begun shows it, too.
    const fn effects(self) -> &'static [u16] {
        match self {
            Self::UnreadFiles | Self::UnreadPages | Self::Lists | Self::IdleSockets | Self::IdleConnections => &[200],
            Self::Revocations => &[200, 204],
            // Over the share of bytes before there is a list that could be too long.
            Self::TinyItems => &[400, 429],
            Self::HalfSent => &[504],
            Self::ManyVersions => &[201],
            Self::MadeUpTokens => &[401],
        }
    }

    /// The answers with which it is refused, as an excess or because of what it did before.
    const fn refusals(self) -> &'static [u16] {
        match self {
            Self::UnreadFiles | Self::IdleSockets | Self::IdleConnections => &[],
            Self::Revocations => &[429],
            Self::UnreadPages | Self::Lists | Self::MadeUpTokens => &[429, 503],
            Self::TinyItems | Self::HalfSent => &[429, 503, 504],
            // The service's keys are taken.
            Self::ManyVersions => &[409, 429, 503, 504],
        }
    }

    /// Makes what it needs in the tenant for which this operator's client acts.
    ///
    /// `way` gives the endpoint of each of the attacker's machines.
    pub async fn prepare(self, evil: &Client, way: Way) -> Attacker {
        let issued = token(
            evil,
            "attacker",
            &["Unwrap", "ReadKey", "Disable", "CreateKey", "ManageTokens"],
            None,
        )
        .await;
        let mut tokens = Vec::new();
        let service = match self {
            Self::Revocations => {
                tokens = issue_tokens(evil, "attacker", TOKENS).await;
                None
            }
            Self::UnreadPages => {
                make_labelled_keys(evil, "large", 400, 64, 256).await;
                None
            }
            Self::Lists => {
                make_labelled_keys(evil, "listed", 1000, 8, 100).await;
                None
            }
            Self::ManyVersions => {
                let service = KeyService::start().await;
                let settings = json!({"address": service.url(), "auth": {"token": "of-the-attacker"}});
                let connection = json!({"name": "remote", "provider": "vault", "settings": settings});
                evil.post("/v1/connections", &connection).await.expect_status(201);
                Some(Arc::new(service))
            }
            _ => None,
        };
        Attacker {
            way,
            token: text_of(&issued).to_owned(),
            keys: KEYS,
            tokens: Arc::new(tokens),
            _service: service,
        }
    }

    /// Begins it over this version of HTTP, on the runtime that is current.
    pub fn begin(self, attacker: &Attacker, version: Version) -> UnderWay {
        self.begin_part(attacker, version, 1)
    }

    /// Begins it over each of its versions at once, which divide its connections and requests equally.
    pub fn begin_halves(self, attacker: &Attacker) -> Vec<(Version, UnderWay)> {
        let versions = self.versions();
        let begin = |version: &Version| (*version, self.begin_part(attacker, *version, versions.len()));
        versions.iter().map(begin).collect()
    }

    fn begin_part(self, attacker: &Attacker, version: Version, parts: usize) -> UnderWay {
        let mut tasks = JoinSet::new();
        let course = Course {
            attacker,
            version,
            parts,
            answers: Answers::default(),
        };
        match self {
            Self::UnreadFiles => memory::unread_files(&mut tasks, &course),
            Self::UnreadPages => memory::unread_pages(&mut tasks, &course),
            Self::TinyItems => memory::large_batches(&mut tasks, &course),
            Self::HalfSent => places::half_sent_batches(&mut tasks, &course),
            Self::Lists => places::lists(&mut tasks, &course),
            Self::ManyVersions => places::adoptions(&mut tasks, &course),
            Self::Revocations => places::revocations(&mut tasks, &course),
            Self::MadeUpTokens => places::made_up_tokens(&mut tasks, &course),
            Self::IdleSockets => connections::idle_sockets(&mut tasks, &course),
            Self::IdleConnections => connections::idle_connections(&mut tasks, &course),
        }
        UnderWay {
            tasks,
            answers: course.answers,
        }
    }
}

/// Threads for the attackers, which yield to all others: an attacker brings a machine of its own, and
/// in a test it has to share the one that it attacks.
pub fn machines() -> Runtime {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    let threads = builder.enable_all().on_thread_start(|| {
        let _ = rustix::process::nice(NICE);
    });
    threads.build().expect("a runtime")
}

/// How the attacker's requests reach the gateway.
#[derive(Clone)]
pub struct Way {
    endpoint: Endpoint,
    proxied: bool,
}

impl Way {
    /// Straight from the attacker's machines, each with an address of its own.
    pub fn direct(endpoint: Endpoint) -> Self {
        Self { endpoint, proxied: false }
    }

    /// Through a proxy at this endpoint, which names the attacker's addresses.
    pub fn proxied(endpoint: Endpoint) -> Self {
        Self { endpoint, proxied: true }
    }

    /// The endpoint, as the attacker's machine of this number reaches it.
    pub fn machine(&self, number: usize) -> Endpoint {
        let last = u8::try_from(number % 200).unwrap_or_default() + 2;
        if self.proxied {
            self.endpoint.clone().forwarded_for(&format!("198.51.100.{last}"))
        } else {
            self.endpoint.clone().from_source(Ipv4Addr::new(127, 0, 6, last))
        }
    }
}

/// A tenant that attacks, with its credential and its machines.
pub struct Attacker {
    way: Way,
    token: String,
    /// Keys of its key service.
    keys: usize,
    /// What revokes a token each.
    tokens: Arc<Vec<String>>,
    _service: Option<Arc<KeyService>>,
}

impl Attacker {
    /// With so many keys at its key service: each that is adopted stays in the store.
    #[must_use]
    pub const fn with_keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }
}

/// How an attack is made: by whom, over which version of HTTP, and what becomes of it.
struct Course<'a> {
    attacker: &'a Attacker,
    version: Version,
    /// Into how many parts its connections and requests are divided, of which this makes one.
    parts: usize,
    answers: Answers,
}

impl Course<'_> {
    /// The attacker's machine of this number, whose clients speak the version.
    fn machine(&self, number: usize) -> Endpoint {
        self.attacker.way.machine(number).over(self.version)
    }

    /// The attacker's client on the machine of this number.
    fn client(&self, machine: usize) -> Client {
        Client::new(self.machine(machine), &self.attacker.token, None)
    }
}

/// An attack that lasts. Dropped, it closes its connections.
pub struct UnderWay {
    tasks: JoinSet<()>,
    answers: Answers,
}

impl UnderWay {
    /// What the gateway has answered so far.
    pub const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Ends it, and gives back what the gateway answered.
    pub async fn end(mut self) -> Answers {
        self.tasks.shutdown().await;
        self.answers.clone()
    }
}

/// What was begun, and how often the gateway answered with which status; 0 is a connection that it
/// closed instead.
#[derive(Clone, Default)]
pub struct Answers {
    begun: Arc<AtomicUsize>,
    statuses: Arc<Mutex<BTreeMap<u16, usize>>>,
}

impl Answers {
    /// Notes a request that the gateway answers at its deadline at the earliest.
    fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, status: u16) {
        *self.statuses.lock().expect("no task panicked").entry(status).or_default() += 1;
    }

    /// Notes the end of a call, and pauses where the gateway closed the connection.
    async fn note_end(&self, status: Option<u16>) {
        self.note(status.unwrap_or(0));
        if status.is_none() {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// How often this one.
    pub fn count(&self, status: u16) -> usize {
        self.statuses.lock().expect("no task panicked").get(&status).copied().unwrap_or(0)
    }

    /// Whether the gateway noticed anything of the attack.
    pub fn any(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0 || !self.statuses.lock().expect("no task panicked").is_empty()
    }

    /// Whether one shows that this attack took place.
    pub fn show(&self, attack: Attack) -> bool {
        self.begun.load(Ordering::Relaxed) > 0 || attack.effects().iter().any(|status| self.count(*status) > 0)
    }

    /// Stops the test if one is neither what this attack asks for nor a refusal of it.
    pub fn are_of(&self, attack: Attack) {
        let statuses = self.statuses.lock().expect("no task panicked");
        let is_of = |status: &u16| *status == 0 || attack.effects().contains(status) || attack.refusals().contains(status);
        assert!(statuses.keys().all(is_of), "{attack:?}: {statuses:?}");
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = self.begun.load(Ordering::Relaxed);
        if begun > 0 {
            write!(f, "{begun} begun; ")?;
        }
        let counts = self.statuses.lock().expect("no task panicked");
        let counts = counts.iter().map(|(status, count)| match status {
            0 => format!("{count} closed"),
            status => format!("{count} x {status}"),
        });
        f.write_str(&counts.collect::<Vec<_>>().join(", "))
    }
}

/// A connection of HTTP/2 that was closed is opened again: what `calls` makes of each.
fn on_connections<F>(tasks: &mut JoinSet<()>, course: &Course<'_>, machine: usize, window: u32, calls: impl Fn(Http2) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let (endpoint, answers) = (course.machine(machine), course.answers.clone());
    tasks.spawn(async move {
        loop {
            match Http2::try_connect(&endpoint, window).await {
                Ok(connection) => calls(connection).await,
                Err(_) => answers.note(0),
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
}

/// The status of an answer, and its body where it is small.
fn status_of(answer: Option<(u16, Value)>) -> Option<u16> {
    answer.map(|(status, _)| status)
}
