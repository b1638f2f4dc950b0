//! Clients that never read what they are answered, and clients whose requests never end: each route by itself, with a
//! credential that may do what the route does.

use claviger_test_support::raw::{Http2, answer_of, head_of};
use claviger_test_support::{Client, text_of, token};
use reqwest::Method;
use serde_json::{Value, json};

use crate::every_route::everything;
use crate::routes::{Call, Names, calls};
use crate::world::{HOSTILE, World, make_key};

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

/// Each route that ends nothing, with an answer that is ready and that nobody takes, and then with a request that never
/// ends. The very same routes answer others meanwhile.
#[tokio::test]
async fn what_never_reads_or_never_ends_holds_up_nobody_on_the_very_route() {
    let world = World::start().await;
    let attackers = Attackers::of(&world).await;
    let (theirs, others) = (
        Objects::make(&world, &world.evil, "evil").await,
        Objects::make(&world, &world.started.tenant("bank"), "bank").await,
    );
    let honest = world.honest().await;
    // No window: not a byte of an answer's body is taken.
    let deaf = Http2::connect(world.started.address(), 0).await;
    let connection = Http2::connect(world.started.address(), 65_535).await;
    let (mut unread, mut never_ended) = (Vec::new(), Vec::new());
    let (bank, operator) = (world.started.tenant("bank"), world.started.operator());
    let never = theirs.calls("never").into_iter();
    for ((theirs, never), of_bank) in theirs.calls("fresh-evil").into_iter().zip(never).zip(others.calls("fresh-bank")) {
        let (name, token) = (of_bank.name(), attackers.for_call(&theirs));
        // What ends an object has a test of its own, below.
        let mut left = None;
        if !is_end(&theirs) {
            let head = head_of(deaf.with_etag(&theirs.method, token, &theirs.path, &theirs.body).await).await;
            // One of a connection that was declared is no good for a release, and that is an answer, too.
            assert!(head.status().is_success() || is_release(&theirs), "{name}: {}", head.status());
            left = Some(head.into_body());
        }
        let (mut response, mut body) = connection.open_with(never.method.clone(), token, &never.path, Some("*")).await;
        if !never.body.is_null() {
            body.send_data(bytes::Bytes::from_static(b"{"), false).unwrap();
        }
        let answer = of_bank.send(if of_bank.is_operators() { &operator } else { &bank }).await;
        // The connection has the key that a call before it made.
        let refused = is_release(&of_bank) || answer.body["code"] == "in_use";
        let good = matches!(answer.status, 200 | 201 | 202 | 204) || refused;
        assert!(good, "{name}: {}", answer.text);
        // It was not the end of the others that let it through: neither of them has ended.
        assert!(
            futures::poll!(&mut response).is_pending(),
            "{name}: a request that never ends was waited for"
        );
        if let Some(left) = &mut left {
            let all_read = left.is_end_stream();
            let taken = std::future::poll_fn(|cx| std::task::Poll::Ready(left.poll_data(cx).is_ready())).await;
            assert!(all_read || !taken, "{name}: an answer that nobody reads was waited for");
        }
        unread.push(left);
        never_ended.push((never, response, body));
    }
    for (call, response, body) in never_ended {
        let (status, answer) = answer_of(response).await;
        assert_eq!(
            (status, answer["code"].as_str()),
            (504, Some("deadline_exceeded")),
            "{}",
            call.name()
        );
        drop(body);
    }
    drop(unread);
    // Nothing that never ended was done.
    let key = world.evil.get(&format!("/v1/keys/{}", theirs.key)).await.expect_status(200);
    assert_eq!(key["state"], "enabled");
    let connection = world.evil.get(&format!("/v1/connections/{}", theirs.connection)).await;
    assert_eq!(connection.expect_status(200)["state"], "active");
    world
        .evil
        .get(&format!("/v1/principals/{}", theirs.principal))
        .await
        .expect_status(200);
    world
        .evil
        .with_token(text_of(&theirs.token))
        .get("/v1/keys")
        .await
        .expect_status(200);
    world.started.tenant(&theirs.tenant).get("/v1/keys").await.expect_status(200);
    world.evil.get("/v1/keys/never").await.expect_problem(404, "not_found");
    honest.end().await;
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
    for (number, route) in routes.into_iter().filter(is_end).enumerate() {
        let ended = Objects::make(&world, &world.evil, &format!("{number}-a")).await;
        let same = Objects::make(&world, &world.evil, &format!("{number}-b")).await;
        let find = |objects: &Objects| {
            let mut all = objects.calls("none").into_iter();
            all.find(|call| call.method == route.method && call.route == route.route).unwrap()
        };
        let call = find(&ended);
        let sent = deaf
            .with_etag(&call.method, attackers.for_call(&call), &call.path, &call.body)
            .await;
        let head = head_of(sent).await;
        assert!(head.status().is_success(), "{}: {}", call.name(), head.status());
        unread.push(head);
        let of_other = find(&same);
        let answer = of_other.send(if of_other.is_operators() { &operator } else { &world.evil }).await;
        assert!(matches!(answer.status, 200 | 204), "{}: {}", of_other.name(), answer.text);
        let holder = world.evil.with_token(text_of(&ended.token));
        let name = call.name();
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
    assert_eq!(seen, 7);
    assert_eq!(world.started.tenant(HOSTILE).get("/v1/keys/orders").await.body["state"], "enabled");
    drop(unread);
    honest.end().await;
}
