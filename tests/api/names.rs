//! Names: what is one, wherever one can be given.

use serde_json::{Value, json};

use crate::support::Api;

#[tokio::test]
async fn the_longest_and_the_shortest_names_are_names_everywhere() {
    let api = Api::start().await;
    let longest = format!("0{}", "a.b_c-d".repeat(9)).chars().take(63).collect::<String>();
    for name in ["a", "0", "a.b", "x..y", longest.as_str()] {
        api.key(name).await;
        api.client.get(&format!("/v1/keys/{name}")).await.expect_status(200);
        let renamed = api.client.patch(&format!("/v1/keys/{name}"), "*", &json!({"name": name})).await;
        assert_eq!(renamed.expect_status(200)["name"], name);
        api.token(name, &["ReadKey"], Some(&[name])).await;
        api.client.get(&format!("/v1/principals/{name}")).await.expect_status(200);
    }
}

#[tokio::test]
async fn what_is_no_name_is_refused_in_every_body() {
    let api = Api::with_key().await;
    let before = api.state().await;
    let too_long = "a".repeat(64);
    let huge = "a".repeat(10 << 10);
    let names = [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "-a",
        "_a",
        ".a",
        "A",
        "ä",
        "a b",
        "a\0b",
        "a%2fb",
        too_long.as_str(),
        huge.as_str(),
    ];
    for name in names {
        let calls: [(&str, Value, &str); 6] = [
            ("/v1/keys", json!({"name": name, "connection": "embedded"}), "/name"),
            ("/v1/keys", json!({"name": "x", "connection": name}), "/connection"),
            (
                "/v1/connections",
                json!({"name": name, "provider": "local", "settings": {}}),
                "/name",
            ),
            ("/v1/principals", json!({"name": name}), "/name"),
            ("/v1/tenants", json!({"name": name}), "/name"),
            ("/v1/keys/orders/rewrap", json!({"wrapped": "clv1.AA", "to": name}), "/to"),
        ];
        for (path, body, pointer) in calls {
            let answer = api.client.post(path, &body).await;
            assert!(
                name.len() < 2 || name == ".." || name == "-a" || name == ".a" || name == "_a" || !answer.text.contains(name),
                "{}",
                answer.text
            );
            let problem = answer.expect_problem(400, "invalid_request");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{path} {name:?}");
        }
    }
    for (body, pointer) in [
        (json!({"name": 1, "connection": "embedded"}), "/name"),
        (json!({"name": null, "connection": "embedded"}), "/name"),
    ] {
        let problem = api.client.post("/v1/keys", &body).await.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    assert_eq!(api.state().await, before);
}
