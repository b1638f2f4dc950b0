//! Cursors of lists: what a token may not see shows neither in them nor in a page's size, and each
//! opens for its own list and caller only.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_test_support::{Answer, Client, Tune, text_of, token};
use serde_json::{Value, json};

use crate::support::Api;

/// A page of a list: the names of its items, and the cursor.
async fn page(client: &Client, path: &str, size: usize, cursor: Option<&str>) -> (Vec<String>, Option<String>) {
    let joint = if path.contains('?') { '&' } else { '?' };
    let more = cursor.map_or_else(String::new, |cursor| format!("&page_token={cursor}"));
    let list = client.get(&format!("{path}{joint}page_size={size}{more}")).await.expect_status(200);
    let items = list["items"].as_array().unwrap();
    let name = |item: &Value| item["reattach"]["name"].as_str().or(item["name"].as_str()).unwrap().to_owned();
    (
        items.iter().map(name).collect(),
        list["next_page_token"].as_str().map(str::to_owned),
    )
}

/// Every page of a list, and its cursors.
async fn pages(client: &Client, path: &str, size: usize) -> (Vec<Vec<String>>, Vec<String>) {
    let (mut pages, mut cursors): (Vec<Vec<String>>, Vec<String>) = (Vec::new(), Vec::new());
    loop {
        let (names, next) = page(client, path, size, cursors.last().map(String::as_str)).await;
        pages.push(names);
        match next {
            Some(next) => cursors.push(next),
            None => return (pages, cursors),
        }
        assert!(pages.len() < 50, "the list never ends");
    }
}

/// 12 keys with a label, and a client whose token is limited to three of them.
async fn limited(api: &Api) -> Client {
    for n in 0..12 {
        let body = json!({"name": format!("secret-{n:02}"), "connection": "embedded", "labels": {"env": "prod"}});
        api.client.post("/v1/keys", &body).await.expect_status(201);
    }
    let (_, client) = api.token("app", &["ReadKey"], Some(&["secret-02", "secret-06", "secret-10"])).await;
    client
}

#[tokio::test]
async fn a_limited_token_learns_nothing_of_other_keys_from_pages_and_cursors() {
    let api = Api::start().await;
    let client = limited(&api).await;
    let visible = ["secret-02", "secret-06", "secret-10"];
    for path in [
        "/v1/keys",
        "/v1/keys?label=env=prod",
        "/v1/keys?state=enabled",
        "/v1/keys?connection=embedded",
        "/v1/keys?label=env=prod&state=enabled&connection=embedded",
    ] {
        let whole = page(&client, path, 3, None).await.0;
        assert_eq!(whole, visible, "{path}");
        for size in [1, 2, 3, 4] {
            let (pages, cursors) = pages(&client, path, size).await;
            // Full pages, as if there were no other key.
            let mut expected: Vec<Vec<String>> = whole.chunks(size).map(<[String]>::to_vec).collect();
            if 3 % size == 0 {
                expected.push(Vec::new());
            }
            assert_eq!(pages, expected, "{path} in pages of {size}");
            for cursor in cursors {
                let bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
                assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{path}: {cursor}");
                assert_eq!(cursor.len(), 140, "{path}: {cursor}");
            }
        }
    }
    for path in ["/v1/keys?state=disabled", "/v1/keys?label=env=test", "/v1/keys?connection=absent"] {
        assert_eq!(page(&client, path, 1, None).await, (Vec::new(), None), "{path}");
    }
}

#[tokio::test]
async fn a_limited_token_learns_nothing_of_other_detached_keys() {
    let api = Api::start().await;
    let client = limited(&api).await;
    for n in 0..12 {
        api.client.delete(&format!("/v1/keys/secret-{n:02}")).await.expect_status(204);
    }
    for path in ["/v1/keys?state=detached", "/v1/keys?state=detached&connection=embedded"] {
        let (pages, _) = pages(&client, path, 1).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 0], "{path}");
        let names: BTreeSet<String> = pages.into_iter().flatten().collect();
        assert_eq!(names, ["secret-02", "secret-06", "secret-10"].map(str::to_owned).into(), "{path}");
    }
}

/// The first cursor of a list.
async fn cursor(client: &Client, path: &str) -> String {
    let joint = if path.contains('?') { '&' } else { '?' };
    let list = client.get(&format!("{path}{joint}page_size=1")).await.expect_status(200);
    list["next_page_token"].as_str().unwrap().to_owned()
}

/// The refusal without what differs between any two requests.
fn refusal(answer: Answer) -> Value {
    let mut problem = answer.expect_problem(400, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "query:page_token", "{problem}");
    problem.as_object_mut().unwrap().remove("request_id");
    problem
}

#[tokio::test]
async fn a_cursor_opens_for_its_tenant_principal_route_and_filters_only() {
    let api = Api::start().await;
    for name in ["a", "b"] {
        let body = json!({"name": name, "connection": "embedded", "labels": {"env": "prod"}});
        api.client.post("/v1/keys", &body).await.expect_status(201);
        let body = json!({"name": name, "provider": "local", "settings": {}});
        api.client.post("/v1/connections", &body).await.expect_status(201);
        api.client.post_empty("/v1/keys/a/rotate").await.expect_status(200);
    }
    let all = ["ReadKey", "ReadConnection", "ManagePrincipals", "ManageTokens"];
    let (_, app) = api.token("app", &all, None).await;
    let (_, same) = api.token("app", &["ReadKey"], None).await;
    let (_, other) = api.token("other", &all, None).await;
    let rival = api.started.with_tenant("rival").await;
    for name in ["a", "b"] {
        let body = json!({"name": name, "connection": "embedded", "labels": {"env": "prod"}});
        rival.post("/v1/keys", &body).await.expect_status(201);
    }

    // Its own list, with another page size and another token of the same principal.
    let own = cursor(&app, "/v1/keys").await;
    assert_eq!(page(&app, "/v1/keys", 5, Some(&own)).await, (vec!["b".to_owned()], None));
    assert_eq!(page(&same, "/v1/keys", 5, Some(&own)).await.0, ["b"]);
    let filtered = cursor(&app, "/v1/keys?label=env=prod&state=enabled").await;
    let again = page(&app, "/v1/keys?state=enabled&label=env%3Dprod", 5, Some(&filtered)).await;
    assert_eq!(again.0, ["b"]);

    let theirs = cursor(&rival, "/v1/keys").await;
    let operators = cursor(&api.client, "/v1/keys").await;
    let connections = cursor(&app, "/v1/connections").await;
    let principals = cursor(&app, "/v1/principals").await;
    let tokens = cursor(&app, "/v1/principals/app/tokens").await;
    let versions = cursor(&app, "/v1/keys/a/versions").await;
    let mut refused = Vec::new();
    for (client, path, cursor) in [
        // Of another tenant, to the same principal (the operator) and to others.
        (&api.client, "/v1/keys", &theirs),
        (&rival, "/v1/keys", &operators),
        (&app, "/v1/keys", &theirs),
        // Of another principal.
        (&other, "/v1/keys", &own),
        (&app, "/v1/keys", &operators),
        // Of another route.
        (&app, "/v1/connections", &own),
        (&app, "/v1/principals", &own),
        (&app, "/v1/keys", &connections),
        (&app, "/v1/keys", &principals),
        (&app, "/v1/keys/a/versions", &own),
        (&app, "/v1/keys/b/versions", &versions),
        (&app, "/v1/principals/app/tokens", &own),
        (&app, "/v1/principals/other/tokens", &tokens),
        // Of other filters.
        (&app, "/v1/keys?label=env=prod", &own),
        (&app, "/v1/keys?state=enabled", &own),
        (&app, "/v1/keys?state=detached", &own),
        (&app, "/v1/keys?connection=embedded", &own),
        (&app, "/v1/keys", &filtered),
        (&app, "/v1/keys?label=env=prod", &filtered),
        (&app, "/v1/keys?label=env=test&state=enabled", &filtered),
    ] {
        let joint = if path.contains('?') { '&' } else { '?' };
        refused.push(refusal(client.get(&format!("{path}{joint}page_token={cursor}")).await));
    }
    // Changed, cut, and nonsense.
    let bytes = URL_SAFE_NO_PAD.decode(&own).unwrap();
    for bit in (0..bytes.len() * 8).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let flipped = URL_SAFE_NO_PAD.encode(flipped);
        refused.push(refusal(app.get(&format!("/v1/keys?page_token={flipped}")).await));
    }
    for cursor in [&own[1..], &own[..own.len() - 1], "YQ", "", "b", &format!("{own}%3D")] {
        refused.push(refusal(app.get(&format!("/v1/keys?page_token={cursor}")).await));
    }
    for refusal in &refused {
        assert_eq!(refusal, &refused[0], "all are refused alike");
    }
    // It is no secret, and written nowhere all the same.
    let log = api.started.output() + &json!(api.log()).to_string();
    for cursor in [own, filtered, theirs] {
        assert!(!log.contains(&cursor));
    }
}

/// A caller, with the lists that it may read: each by its template and its path.
struct Reader {
    name: &'static str,
    client: Client,
    lists: &'static [(&'static str, &'static str)],
}

const OF_TENANT: &[(&str, &str)] = &[
    ("/v1/keys", "/v1/keys"),
    ("/v1/keys", "/v1/keys?state=detached"),
    ("/v1/keys/{key}/versions", "/v1/keys/a/versions"),
    ("/v1/connections", "/v1/connections"),
    ("/v1/principals", "/v1/principals"),
    ("/v1/principals/{principal}/tokens", "/v1/principals/app/tokens"),
];
const OF_INSTALLATION: &[(&str, &str)] = &[
    ("/v1/tenants", "/v1/tenants"),
    ("/v1/principals", "/v1/principals"),
    ("/v1/principals/{principal}/tokens", "/v1/principals/app/tokens"),
];

/// At least two of everything that a tenant can list.
async fn fill(client: &Client) {
    for name in ["a", "b", "c", "d"] {
        let body = json!({"name": name, "connection": "embedded"});
        client.post("/v1/keys", &body).await.expect_status(201);
    }
    for name in ["c", "d"] {
        client.delete(&format!("/v1/keys/{name}")).await.expect_status(204);
    }
    client.post_empty("/v1/keys/a/rotate").await.expect_status(200);
    let body = json!({"name": "second", "provider": "local", "settings": {}});
    client.post("/v1/connections", &body).await.expect_status(201);
}

/// A client of this principal, which has two tokens.
async fn reader(client: &Client, principal: &str, operations: &[&str]) -> Client {
    token(client, principal, operations, None).await;
    client.with_token(text_of(&token(client, principal, operations, None).await))
}

#[tokio::test]
async fn a_cursor_of_any_list_opens_for_nobody_else_and_for_no_other_list() {
    let api = Api::start().await;
    let (rival, operator) = (api.started.with_tenant("rival").await, api.started.operator());
    fill(&api.client).await;
    fill(&rival).await;
    for client in [&api.client, &rival, &operator] {
        client.post("/v1/principals", &json!({"name": "second"})).await.expect_status(201);
    }
    let all = ["ReadKey", "ReadConnection", "ManagePrincipals", "ManageTokens"];
    let installation = ["ManageTenants", "ManagePrincipals", "ManageTokens"];
    let of = |name, client, lists| Reader { name, client, lists };
    let readers = [
        of("acme's app", reader(&api.client, "app", &all).await, OF_TENANT),
        of("acme's other", reader(&api.client, "other", &all).await, OF_TENANT),
        of("rival's app", reader(&rival, "app", &all).await, OF_TENANT),
        // One principal in two tenants.
        of("the operator in acme", api.client.clone(), OF_TENANT),
        of("the operator in rival", rival.clone(), OF_TENANT),
        of(
            "the installation's app",
            reader(&operator, "app", &installation).await,
            OF_INSTALLATION,
        ),
        of("the operator", operator, OF_INSTALLATION),
    ];
    let document = api.client.get("/openapi.json").await.expect_status(200);
    let paged = |operation: &Value| operation["get"].to_string().contains("parameters/page_token");
    let paths = document["paths"].as_object().unwrap().iter();
    let paged: BTreeSet<&str> = paths.filter(|(_, path)| paged(path)).map(|(path, _)| path.as_str()).collect();
    let here = [OF_TENANT, OF_INSTALLATION].concat().into_iter().map(|(template, _)| template);
    assert_eq!(here.collect::<BTreeSet<_>>(), paged, "every list of the API");

    let with = |path: &str, cursor: &str| format!("{path}{}page_token={cursor}", if path.contains('?') { '&' } else { '?' });
    let mut refused = Vec::new();
    for (number, reader) in readers.iter().enumerate() {
        for (_, list) in reader.lists {
            let cursor = cursor(&reader.client, list).await;
            let next = reader.client.get(&with(list, &cursor)).await.expect_status(200);
            assert!(!next["items"].as_array().unwrap().is_empty(), "{}: {list}", reader.name);
            for (_, other) in reader.lists.iter().filter(|(_, other)| other != list) {
                let answer = reader.client.get(&with(other, &cursor)).await;
                refused.push((format!("{}: of {list} on {other}", reader.name), answer));
            }
            let others = readers.iter().enumerate().filter(|(other, _)| *other != number);
            for (_, other) in others.filter(|(_, other)| other.lists.iter().any(|(_, of_other)| of_other == list)) {
                let answer = other.client.get(&with(list, &cursor)).await;
                refused.push((format!("{list}: of {} for {}", reader.name, other.name), answer));
            }
        }
    }
    let first = refusal(refused[0].1.clone());
    for (which, answer) in refused {
        assert_eq!(answer.status, 400, "{which}: {}", answer.text);
        assert_eq!(refusal(answer), first, "{which}");
    }
}

#[tokio::test]
async fn a_cursor_outlives_a_restart() {
    let mut api = Api::start().await;
    for name in ["a", "b", "c"] {
        api.key(name).await;
    }
    let cursor = cursor(&api.client, "/v1/keys").await;
    assert!(api.started.terminate());
    api.started = api.gateway.serve(&Tune::default());
    let client = api.started.tenant("acme");
    assert_eq!(page(&client, "/v1/keys", 5, Some(&cursor)).await.0, ["b", "c"]);
}

#[tokio::test]
async fn a_filter_that_hardly_any_key_matches_ends_a_page_early() {
    let api = Api::start().await;
    for n in 0..130 {
        let body = json!({"name": format!("k{n:03}"), "connection": "embedded", "labels": {"env": "prod"}});
        api.client.post("/v1/keys", &body).await.expect_status(201);
    }
    api.client.post_empty("/v1/keys/k120/disable").await.expect_status(200);
    let (pages, cursors) = pages(&api.client, "/v1/keys?label=env=prod&state=disabled", 1).await;
    // 100 keys are read for a page of one.
    assert_eq!(pages, [vec![], vec!["k120".to_owned()], vec![]]);
    assert_eq!(cursors.len(), 2);
}
