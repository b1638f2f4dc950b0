//! Clients that never read what they are answered, and clients whose requests never end: each route by itself, with a
//! credential that may do what the route does.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use claviger_test_support::raw::{Http1, Http2, answer_of, head_of};
use claviger_test_support::{Client, Version, text_of, token};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::every_route::everything;
use crate::routes::{Call, Names, calls};
use crate::world::{HOSTILE, PATIENCE, World, make_key};

/// What each request has over HTTP/1.1, as over HTTP/2.
const IF_MATCH: &str = "if-match: *\r\n";

/// Whether it ends an object, or stops its use.
fn is_end(call: &Call) -> bool {
    call.method == Method::DELETE || call.is_cut()
}

/// The texts of a token of the hostile tenant and of one of the installation, which allow everything.
struct Attackers {
    evil: String,
    operator: String,
}

impl Attackers {
    async fn of(world: &World) -> Self {
        let of_evil = world.evil_token("attacker", &everything(), None).await;
        let of_installation = token(&world.started.operator(), "attacker", &everything(), None).await;
        Self {
            evil: text_of(&of_evil).to_owned(),
            operator: text_of(&of_installation).to_owned(),
        }
    }

    /// The one that may make this call.
    fn for_call(&self, call: &Call) -> &str {
        if call.is_operators() { &self.operator } else { &self.evil }
    }
}

async fn data_key(client: &Client, key: &str) -> Value {
    let path = format!("/v1/keys/{key}/data-keys");
    client.post(&path, &json!({})).await.expect_status(200)["wrapped"].clone()
}

/// A tenant with all that the calls need: a key, a connection that no key uses, a principal with a token, and another
/// tenant's name in place of its own.
struct Objects {
    connection: String,
    key: String,
    principal: String,
    token: Value,
    tenant: String,
    wrapped: Value,
}

impl Objects {
    /// New ones of this tenant, whose names end so.
    async fn make(world: &World, of: &Client, end: &str) -> Self {
        let (connection, key, principal) = (format!("connection-{end}"), format!("key-{end}"), format!("principal-{end}"));
        let body = json!({"name": connection, "provider": "local", "settings": {}});
        of.post("/v1/connections", &body).await.expect_status(201);
        make_key(of, &key).await;
        let issued = token(of, &principal, &["ReadKey"], None).await;
        let tenant = format!("tenant-{end}");
        world.started.with_tenant(&tenant).await;
        let wrapped = data_key(of, &key).await;
        Self {
            connection,
            key,
            principal,
            token: issued,
            tenant,
            wrapped,
        }
    }

    fn calls(&self, new: &str) -> Vec<Call> {
        calls(&Names {
            tenant: &self.tenant,
            connection: &self.connection,
            key: &self.key,
            principal: &self.principal,
            token: self.token["id"].as_str().unwrap(),
            wrapped: &self.wrapped,
            new,
        })
    }
}

/// The answer to a whole request, of which nothing but the head came.
enum Unread {
    Http1(#[expect(dead_code, reason = "open until it is dropped")] Http1),
    Http2(RecvStream),
}

impl Unread {
    /// Sends a call. The second value is the status.
    async fn of(call: &Call, token: &str, address: SocketAddr, deaf: &Http2, version: Version) -> (Self, u16) {
        match version {
            Version::Http1 => {
                let mut request = Http1::begin(address, &call.method, token, &call.path, IF_MATCH).await;
                let body = call.body_text();
                if !body.is_empty() {
                    request.chunk(&body).await;
                }
                request.chunk(b"").await;
                let head = tokio::time::timeout(PATIENCE, request.try_head()).await;
                let status = head.expect("an answer in time").unwrap().status;
                (Self::Http1(request), status)
            }
            Version::Http2 => {
                let head = head_of(deaf.with_etag(&call.method, token, &call.path, &call.body).await).await;
                let status = head.status().as_u16();
                (Self::Http2(head.into_body()), status)
            }
        }
    }

    /// Whether some of a body is still there that nobody takes, or there was none. Over HTTP/1.1 the systems on both sides
    /// take what is short.
    async fn is_left(&mut self) -> bool {
        let Self::Http2(body) = self else { return true };
        let all_read = body.is_end_stream();
        let taken = std::future::poll_fn(|cx| Poll::Ready(body.poll_data(cx).is_ready())).await;
        all_read || !taken
    }
}

/// A request that never ends.
enum NeverEnded {
    Http1(Http1),
    Http2(ResponseFuture, SendStream<Bytes>),
}

impl NeverEnded {
    async fn of(call: &Call, token: &str, address: SocketAddr, connection: &Http2, version: Version) -> Self {
        match version {
            Version::Http1 => {
                let mut request = Http1::begin(address, &call.method, token, &call.path, IF_MATCH).await;
                if !call.body.is_null() {
                    request.chunk(b"{").await;
                }
                Self::Http1(request)
            }
            Version::Http2 => {
                let opened = connection.open_with(call.method.clone(), token, &call.path, Some("*")).await;
                let (response, mut body) = opened;
                if !call.body.is_null() {
                    body.send_data(Bytes::from_static(b"{"), false).unwrap();
                }
                Self::Http2(response, body)
            }
        }
    }

    fn is_answered(&mut self) -> bool {
        match self {
            Self::Http1(request) => request.is_answered(),
            Self::Http2(response, _) => Pin::new(response).poll(&mut Context::from_waker(Waker::noop())).is_ready(),
        }
    }

    async fn answer(self) -> (u16, Value) {
        match self {
            Self::Http1(request) => request.answer().await,
            Self::Http2(response, body) => {
                let answer = answer_of(response).await;
                drop(body);
                answer
            }
        }
    }
}

/// Each route that ends nothing, with an answer that is ready and that nobody takes, and then with a request that never
/// ends. The very same routes answer others meanwhile.
#[tokio::test]
async fn what_never_reads_or_never_ends_holds_up_nobody_on_the_very_route() {
    let world = World::start().await;
    let attackers = Attackers::of(&world).await;
    let honest = world.honest().await;
    // Side by side, since both wait for the deadlines of requests.
    tokio::join!(
        never_reads_or_never_ends(&world, &attackers, Version::Http1),
        never_reads_or_never_ends(&world, &attackers, Version::Http2),
    );
    honest.end().await;
}

async fn never_reads_or_never_ends(world: &World, attackers: &Attackers, version: Version) {
    let over = version.name();
    let named = |name: &str| format!("{name}-{over}");
    let (bank, operator) = (world.started.with_tenant(&named("bank")).await, world.started.operator());
    let (theirs, others) = (
        Objects::make(world, &world.evil, &named("evil")).await,
        Objects::make(world, &bank, &named("bank")).await,
    );
    let address = world.started.address();
    // No window: not a byte of an answer's body is taken.
    let deaf = Http2::connect(address, 0).await;
    let connection = Http2::connect(address, 65_535).await;
    let (mut unread, mut never_ended) = (Vec::new(), Vec::new());
    let (fresh, never) = ([named("fresh-evil"), named("fresh-bank")], named("never"));
    let calls = theirs.calls(&fresh[0]).into_iter().zip(theirs.calls(&never));
    for ((theirs, never), of_bank) in calls.zip(others.calls(&fresh[1])) {
        let (name, token) = (format!("{} over {over}", of_bank.name()), attackers.for_call(&theirs));
        // What ends an object has a test of its own, below.
        let mut left = None;
        if !is_end(&theirs) {
            let (answer, status) = Unread::of(&theirs, token, address, &deaf, version).await;
            // One of a connection that was declared is no good for a release, and that is an answer, too.
            assert!(matches!(status, 200..=299) || is_release(&theirs), "{name}: {status}");
            left = Some(answer);
        }
        let mut request = NeverEnded::of(&never, token, address, &connection, version).await;
        let answer = of_bank.send(if of_bank.is_operators() { &operator } else { &bank }).await;
        // The connection has the key that a call before it made.
        let refused = is_release(&of_bank) || answer.body["code"] == "in_use";
        let good = matches!(answer.status, 200 | 201 | 202 | 204) || refused;
        assert!(good, "{name}: {}", answer.text);
        // It was not the end of the others that let it through: neither of them has ended.
        assert!(!request.is_answered(), "{name}: a request that never ends was waited for");
        if let Some(left) = &mut left {
            assert!(left.is_left().await, "{name}: an answer that nobody reads was waited for");
        }
        unread.push(left);
        never_ended.push((name, request));
    }
    for (name, request) in never_ended {
        let (status, answer) = request.answer().await;
        assert_eq!((status, answer["code"].as_str()), (504, Some("deadline_exceeded")), "{name}");
    }
    drop(unread);
    // Nothing that never ended was done.
    let state = async |path: String| world.evil.get(&path).await.expect_status(200)["state"].clone();
    assert_eq!(state(format!("/v1/keys/{}", theirs.key)).await, "enabled");
    assert_eq!(state(format!("/v1/connections/{}", theirs.connection)).await, "active");
    let principal = format!("/v1/principals/{}", theirs.principal);
    world.evil.get(&principal).await.expect_status(200);
    let holder = world.evil.with_token(text_of(&theirs.token));
    holder.get("/v1/keys").await.expect_status(200);
    world.started.tenant(&theirs.tenant).get("/v1/keys").await.expect_status(200);
    world.evil.get(&format!("/v1/keys/{never}")).await.expect_problem(404, "not_found");
}

fn is_release(call: &Call) -> bool {
    call.route == "/v1/declared/release"
}

/// Each route that ends something takes effect though nobody reads the answer, and holds up nobody who asks for the
/// same.
#[tokio::test]
async fn every_end_takes_effect_though_nobody_reads_its_answer() {
    let world = World::start().await;
    let attackers = Attackers::of(&world).await;
    let honest = world.honest().await;
    let operator = world.started.operator();
    let deaf = Http2::connect(world.started.address(), 0).await;
    let mut unread = Vec::new();
    let mut seen = 0;
    let routes = Objects::make(&world, &world.evil, "routes").await.calls("none");
    let routes: Vec<Call> = routes.into_iter().filter(is_end).collect();
    let cases = Version::ALL
        .into_iter()
        .flat_map(|version| routes.iter().map(move |route| (version, route)));
    for (number, (version, route)) in cases.enumerate() {
        let ended = Objects::make(&world, &world.evil, &format!("{number}-a")).await;
        let same = Objects::make(&world, &world.evil, &format!("{number}-b")).await;
        let find = |objects: &Objects| {
            let mut all = objects.calls("none").into_iter();
            all.find(|call| call.method == route.method && call.route == route.route).unwrap()
        };
        let call = find(&ended);
        let name = format!("{} over {}", call.name(), version.name());
        let (answer, status) = Unread::of(&call, attackers.for_call(&call), world.started.address(), &deaf, version).await;
        assert!(matches!(status, 200..=299), "{name}: {status}");
        unread.push(answer);
        let of_other = find(&same);
        let answer = of_other.send(if of_other.is_operators() { &operator } else { &world.evil }).await;
        assert!(matches!(answer.status, 200 | 204), "{}: {}", of_other.name(), answer.text);
        let holder = world.evil.with_token(text_of(&ended.token));
        let state = async |path: String| world.evil.get(&path).await;
        match (&call.method, call.route) {
            (&Method::POST, "/v1/keys/{key}/disable") => {
                assert_eq!(state(format!("/v1/keys/{}", ended.key)).await.body["state"], "disabled", "{name}");
            }
            (&Method::POST, "/v1/connections/{connection}/sever") => {
                let connection = state(format!("/v1/connections/{}", ended.connection)).await;
                assert_eq!(connection.body["state"], "severed", "{name}");
            }
            (&Method::POST, "/v1/tenants/{tenant}/suspend") => {
                let acting = world.started.tenant(&ended.tenant);
                let refused = acting.post("/v1/keys", &json!({"name": "x", "connection": "embedded"})).await;
                refused.expect_problem(403, "permission_denied");
            }
            (&Method::DELETE, "/v1/keys/{key}") => {
                state(format!("/v1/keys/{}", ended.key)).await.expect_problem(404, "not_found");
            }
            (&Method::DELETE, "/v1/connections/{connection}") => {
                let gone = state(format!("/v1/connections/{}", ended.connection)).await;
                gone.expect_problem(404, "not_found");
            }
            (&Method::DELETE, "/v1/principals/{principal}") => {
                let gone = state(format!("/v1/principals/{}", ended.principal)).await;
                gone.expect_problem(404, "not_found");
                holder.get("/v1/keys").await.expect_problem(401, "unauthenticated");
            }
            (&Method::DELETE, "/v1/principals/{principal}/tokens/{token}") => {
                holder.get("/v1/keys").await.expect_problem(401, "unauthenticated");
            }
            _ => panic!("{name} ends something that this test does not look at"),
        }
        seen += 1;
    }
    assert_eq!(seen, 7 * Version::ALL.len());
    assert_eq!(world.started.tenant(HOSTILE).get("/v1/keys/orders").await.body["state"], "enabled");
    drop(unread);
    honest.end().await;
}
