//! Lists: pages, their tokens, and filters.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::Api;

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// Follows a list page by page; `between` runs after each page.
async fn follow(api: &Api, path: &str, size: u32, mut between: impl AsyncFnMut(usize)) -> Vec<Value> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    let joint = if path.contains('?') { '&' } else { '?' };
    for page in 0.. {
        let more = token.as_ref().map_or_else(String::new, |token| format!("&page_token={token}"));
        let list = api
            .client
            .get(&format!("{path}{joint}page_size={size}{more}"))
            .await
            .expect_status(200);
        let items = list["items"].as_array().unwrap();
        assert!(items.len() <= size as usize);
        all.extend(items.iter().cloned());
        between(page).await;
        match list["next_page_token"].as_str() {
            Some(next) => token = Some(next.to_owned()),
            None => break,
        }
    }
    all
}

#[tokio::test]
async fn every_list_comes_whole_in_pages_of_any_size() {
    let api = Api::start().await;
    for n in 0..5 {
        api.key(&format!("key-{n}")).await;
        api.token(&format!("principal-{n}"), &["ReadKey"], None).await;
        api.token("principal-0", &["ReadKey"], None).await;
        let connection = json!({"name": format!("connection-{n}"), "provider": "local", "settings": {}});
        api.client.post("/v1/connections", &connection).await.expect_status(201);
        api.started
            .operator()
            .post("/v1/tenants", &json!({"name": format!("tenant-{n}")}))
            .await
            .expect_status(201);
        api.client.post_empty("/v1/keys/key-0/rotate").await.expect_status(200);
    }
    for (path, count) in [
        ("/v1/keys", 5),
        ("/v1/connections", 6),
        ("/v1/principals", 5),
        ("/v1/tenants", 6),
        ("/v1/principals/principal-0/tokens", 6),
        ("/v1/keys/key-0/versions", 6),
    ] {
        let whole = api.client.get(path).await.expect_status(200);
        let whole = whole["items"].as_array().unwrap();
        assert_eq!(whole.len(), count, "{path}");
        for size in [1, 2, 3, 6, 1000] {
            assert_eq!(&follow(&api, path, size, async |_| {}).await, whole, "{path} in pages of {size}");
        }
    }
}

#[tokio::test]
async fn a_list_that_is_changed_meanwhile_shows_what_was_there_all_along_once() {
    let api = Api::start().await;
    for n in 0..8 {
        api.key(&format!("m{n}")).await;
    }
    let seen = follow(&api, "/v1/keys", 2, async |page| {
        // One before the page, one behind it; and one that has been seen is taken away.
        api.key(&format!("a{page}")).await;
        api.key(&format!("z{page}")).await;
        if page == 1 {
            api.client.delete("/v1/keys/m0").await.expect_status(204);
        }
        if page == 2 {
            api.client
                .patch("/v1/keys/m1", "*", &json!({"labels": {"a": "b"}}))
                .await
                .expect_status(200);
        }
        assert!(page < 20, "the list never ends");
    });
    // New keys behind the page could go on for ever: stop making them is not needed, since
    // each page makes one and shows two.
    let seen = seen.await;
    let names: Vec<&str> = seen.iter().map(|key| key["name"].as_str().unwrap()).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len(), "none twice: {names:?}");
    for n in 0..8 {
        assert!(distinct.contains(format!("m{n}").as_str()), "m{n}: {names:?}");
    }
}

#[tokio::test]
async fn filters_by_label_connection_and_state() {
    let api = Api::start().await;
    let second = json!({"name": "second", "provider": "local", "settings": {}});
    api.client.post("/v1/connections", &second).await.expect_status(201);
    for (name, connection, labels) in [
        ("a", "embedded", json!({"env": "prod", "team": "x"})),
        ("b", "second", json!({"env": "prod"})),
        ("c", "embedded", json!({"env": "test"})),
        ("d", "second", json!({})),
    ] {
        let body = json!({"name": name, "connection": connection, "labels": labels});
        api.client.post("/v1/keys", &body).await.expect_status(201);
    }
    api.client.post_empty("/v1/keys/b/disable").await.expect_status(200);
    for (query, expected) in [
        ("label=env=prod", &["a", "b"][..]),
        ("label=env%3Dprod", &["a", "b"]),
        ("label=env=pro", &[]),
        ("label=env=", &[]),
        ("connection=second", &["b", "d"]),
        ("connection=absent", &[]),
        ("state=disabled", &["b"]),
        ("state=enabled", &["a", "c", "d"]),
        ("state=enabled&connection=embedded&label=env=prod", &["a"]),
    ] {
        let list = api.client.get(&format!("/v1/keys?{query}")).await.expect_status(200);
        assert_eq!(names(&list), expected, "{query}");
        let paged = follow(&api, &format!("/v1/keys?{query}"), 1, async |_| {}).await;
        assert_eq!(json!(paged), list["items"], "{query}");
    }
}

#[tokio::test]
async fn queries_that_cannot_be_are_refused() {
    let api = Api::with_key().await;
    for query in [
        "page_size=0",
        "page_size=1001",
        "page_size=-1",
        "page_size=ten",
        "page_size=",
        "page_token=!!",
        "page_token=AAAA====",
        "page_token=Li4v",
        "page_size=1&page_size=2",
        "state=broken",
        "label=nothing",
        "connection=..%2Fx",
        "surprise=1",
        "page_size=1&",
        "&",
    ] {
        let answer = api.client.get(&format!("/v1/keys?{query}")).await;
        if query.ends_with('&') {
            answer.expect_status(200);
        } else {
            api.recorded(&answer, "ReadKey", "failed");
            answer.expect_problem(400, "invalid_request");
        }
    }
    for path in ["/v1/keys/orders", "/v1/connections/embedded", "/v1/tenants/acme"] {
        api.client
            .get(&format!("{path}?page_size=1"))
            .await
            .expect_problem(400, "invalid_request");
    }
    let posted = api.client.post("/v1/keys/orders/data-keys?dry=1", &json!({})).await;
    posted.expect_problem(400, "invalid_request");
}
