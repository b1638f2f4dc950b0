//! Standing and delegated tokens: what ends with what, and who may issue or end what.

use claviger_test_support::{Client, Tune};
use serde_json::{Value, json};

use crate::support::Api;

/// What a token needs that issues others.
const ISSUER: [&str; 3] = ["ManageTokens", "ManagePrincipals", "ReadKey"];

/// Makes principals of `acme`.
async fn principals(api: &Api, names: &[&str]) {
    for name in names {
        api.client.post("/v1/principals", &json!({"name": name})).await.expect_status(201);
    }
}

/// Issues a token to a principal; answers it, and a client with it.
async fn issue(client: &Client, principal: &str, body: &Value) -> (Value, Client) {
    let path = format!("/v1/principals/{principal}/tokens");
    let issued = client.post(&path, body).await.expect_status(201);
    let client = client.with_token(issued["token"].as_str().unwrap());
    (issued, client)
}

fn path(token: &Value) -> String {
    format!(
        "/v1/principals/{}/tokens/{}",
        token["principal"].as_str().unwrap(),
        token["id"].as_str().unwrap()
    )
}

async fn is_in_force(client: &Client) {
    client.get("/v1/keys").await.expect_status(200);
}

async fn is_refused(client: &Client) {
    client.get("/v1/keys").await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn one_revocation_ends_every_token_below() {
    let api = Api::start().await;
    principals(&api, &["root", "a", "b", "c"]).await;
    let body = json!({"operations": ISSUER});
    let (root, of_root) = issue(&api.client, "root", &json!({"operations": ISSUER, "kind": "standing"})).await;
    assert_eq!(
        (&root["kind"], &root["parent"], &root["principal"]),
        (&json!("standing"), &Value::Null, &json!("root"))
    );
    let (a, of_a) = issue(&of_root, "a", &body).await;
    assert_eq!((&a["kind"], &a["parent"]), (&json!("delegated"), &root["id"]));
    let (_, beside) = issue(&of_root, "a", &body).await;
    let (b, of_b) = issue(&of_a, "b", &body).await;
    assert_eq!(b["parent"], a["id"]);
    let (c, of_c) = issue(&of_b, "c", &body).await;
    // In memory, before the revocation.
    for client in [&of_root, &of_a, &beside, &of_b, &of_c] {
        is_in_force(client).await;
    }
    assert_eq!(api.client.delete(&path(&a)).await.status, 204);
    for client in [&of_a, &of_b, &of_c] {
        is_refused(client).await;
    }
    for client in [&of_root, &beside] {
        is_in_force(client).await;
    }
    // The lists tell it of each.
    for (token, revoked) in [(&root, false), (&a, true), (&b, true), (&c, true)] {
        let principal = token["principal"].as_str().unwrap();
        let listed = api.client.list(&format!("/v1/principals/{principal}/tokens")).await;
        let listed = listed.iter().find(|listed| listed["id"] == token["id"]).unwrap();
        assert_eq!(listed["revoked"].is_string(), revoked, "{principal}");
        assert_eq!((&listed["kind"], &listed["parent"]), (&token["kind"], &token["parent"]));
    }
    let Api { gateway, started, .. } = api;
    started.kill();
    let again = gateway.serve(&Tune::default());
    for (token, refused) in [(&root, false), (&a, true), (&b, true), (&c, true)] {
        let client = again.operator().with_token(token["token"].as_str().unwrap());
        if refused {
            is_refused(&client).await
        } else {
            is_in_force(&client).await
        }
    }
}

#[tokio::test]
async fn a_standing_token_survives_its_issuer() {
    let api = Api::start().await;
    principals(&api, &["first", "second", "third"]).await;
    let lasting = json!({"operations": ISSUER, "kind": "standing", "expires_in": "1h"});
    let (first, of_first) = issue(&api.client, "first", &lasting).await;
    // It may also end later than its issuer.
    let (second, of_second) = issue(
        &of_first,
        "second",
        &json!({"operations": ISSUER, "kind": "standing", "expires_in": "365d"}),
    )
    .await;
    assert_eq!((&second["kind"], &second["parent"]), (&json!("standing"), &Value::Null));
    let (_, of_third) = issue(&of_second, "third", &json!({"operations": ISSUER})).await;
    assert_eq!(api.client.delete(&path(&first)).await.status, 204);
    assert_eq!(api.client.delete("/v1/principals/first").await.status, 204);
    is_refused(&of_first).await;
    is_in_force(&of_second).await;
    is_in_force(&of_third).await;
}

#[tokio::test]
async fn a_delegated_token_ends_no_later_than_its_issuer() {
    let api = Api::start().await;
    principals(&api, &["issuer", "other"]).await;
    let (issuer, client) = issue(&api.client, "issuer", &json!({"operations": ISSUER, "expires_in": "1h"})).await;
    for late in ["61m", "90d", "1h"] {
        let answer = client
            .post(
                "/v1/principals/other/tokens",
                &json!({"operations": ["ReadKey"], "expires_in": late}),
            )
            .await;
        let problem = answer.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "/expires_in", "{late}");
    }
    let (clipped, _) = issue(&client, "other", &json!({"operations": ["ReadKey"]})).await;
    assert_eq!(clipped["expires"], issuer["expires"]);
    let (short, of_short) = issue(&client, "other", &json!({"operations": ["ReadKey"], "expires_in": "30m"})).await;
    assert!(short["expires"].as_str() < issuer["expires"].as_str());
    let who = of_short.get("/v1/whoami").await.expect_status(200);
    assert_eq!((&who["expires"], &who["parent"]), (&short["expires"], &issuer["id"]));
}

#[tokio::test]
async fn no_token_stands_more_than_eight_below_a_standing_one() {
    let api = Api::start().await;
    principals(&api, &["p"]).await;
    let body = json!({"operations": ISSUER});
    let mut line = vec![issue(&api.client, "p", &json!({"operations": ISSUER, "kind": "standing"})).await];
    for _ in 0..8 {
        let (_, last) = line.last().unwrap();
        line.push(issue(last, "p", &body).await);
    }
    let (_, last) = line.last().unwrap();
    let problem = last
        .post("/v1/principals/p/tokens", &body)
        .await
        .expect_problem(400, "invalid_request");
    assert_eq!(problem["errors"][0]["pointer"], "/kind");
    is_in_force(last).await;
    // The first revocation reaches the last of them.
    assert_eq!(api.client.delete(&path(&line[0].0)).await.status, 204);
    is_refused(last).await;
}

#[tokio::test]
async fn only_a_standing_token_that_reaches_everything_issues_standing_ones() {
    let api = Api::with_key().await;
    principals(&api, &["delegated", "plain", "other"]).await;
    let (_, delegated) = issue(&api.client, "delegated", &json!({"operations": ISSUER})).await;
    let ask = json!({"operations": ["ReadKey"], "kind": "standing"});
    let refused = delegated.post("/v1/principals/other/tokens", &ask).await;
    api.recorded(&refused, "ManageTokens", "denied");
    assert_eq!(refused.expect_problem(403, "permission_denied")["errors"][0]["pointer"], "/kind");
    // A standing one without the permission, and one for some keys only.
    for (operations, keys) in [(json!(["ReadKey"]), None), (json!(["ReadKey", "ManageTokens"]), Some("orders"))] {
        let mut body = json!({"operations": operations, "kind": "standing"});
        if let Some(key) = keys {
            body["keys"] = json!([key]);
        }
        let (_, plain) = issue(&api.client, "plain", &body).await;
        for kind in ["standing", "delegated"] {
            plain
                .post(
                    "/v1/principals/other/tokens",
                    &json!({"operations": ["ReadKey"], "keys": ["orders"], "kind": kind}),
                )
                .await
                .expect_problem(403, "permission_denied");
        }
    }
    for kind in [json!("lasting"), json!(""), json!(1)] {
        api.client
            .post("/v1/principals/other/tokens", &json!({"operations": ["ReadKey"], "kind": kind}))
            .await
            .expect_problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn deleting_a_principal_ends_what_its_tokens_issued_to_others() {
    let api = Api::start().await;
    principals(&api, &["leaver", "stayer", "friend"]).await;
    let body = json!({"operations": ISSUER});
    let (_, of_leaver) = issue(&api.client, "leaver", &body).await;
    let (of_friend, friend) = issue(&of_leaver, "friend", &body).await;
    let (_, below) = issue(&friend, "stayer", &body).await;
    let (_, own) = issue(&api.client, "stayer", &body).await;
    for client in [&of_leaver, &friend, &below, &own] {
        is_in_force(client).await;
    }
    assert_eq!(api.client.delete("/v1/principals/leaver").await.status, 204);
    for client in [&of_leaver, &friend, &below] {
        is_refused(client).await;
    }
    is_in_force(&own).await;
    let listed = api.client.list("/v1/principals/friend/tokens").await;
    assert_eq!(listed[0]["parent"], of_friend["parent"]);
    assert!(listed[0]["revoked"].is_string(), "{listed:?}");
    // The name is free again, and gives nobody anything back.
    principals(&api, &["leaver"]).await;
    is_refused(&friend).await;
    let Api { gateway, started, .. } = api;
    started.kill();
    let again = gateway.serve(&Tune::default());
    let friend = again.operator().with_token(of_friend["token"].as_str().unwrap());
    is_refused(&friend).await;
}

/// An operator's token issues tokens in several tenants; they all end with it.
#[tokio::test]
async fn a_revoked_operator_s_token_ends_its_tokens_in_every_tenant() {
    let api = Api::start().await;
    api.started.with_tenant("globex").await;
    let operator = api.started.operator();
    operator.post("/v1/principals", &json!({"name": "helper"})).await.expect_status(201);
    let (helper, of_helper) = issue(&operator, "helper", &json!({"operations": ISSUER})).await;
    let mut below = Vec::new();
    for tenant in ["acme", "globex"] {
        let client = of_helper.clone().with_header("claviger-tenant", tenant);
        client.post("/v1/principals", &json!({"name": "p"})).await.expect_status(201);
        let (issued, own) = issue(&client, "p", &json!({"operations": ["ReadKey"]})).await;
        assert_eq!(issued["parent"], helper["id"]);
        is_in_force(&own).await;
        below.push(own);
    }
    assert_eq!(operator.delete(&path(&helper)).await.status, 204);
    for client in &below {
        is_refused(client).await;
    }
}

#[tokio::test]
async fn a_token_for_one_key_manages_nothing_of_the_tenant() {
    let api = Api::with_key().await;
    principals(&api, &["bystander"]).await;
    let (admin, of_admin) = issue(&api.client, "bystander", &json!({"operations": ISSUER})).await;
    let everything: Vec<&str> = claviger::access::Action::ALL.iter().map(|action| action.as_str()).collect();
    let (_, limited) = api.token("limited", &everything, Some(&["orders"])).await;
    let connection = json!({"name": "x", "provider": "local", "settings": {}});
    let revoke = path(&admin);
    let before = api.state().await;
    for (method, path, body, operation) in [
        ("DELETE", revoke.as_str(), Value::Null, "ManageTokens"),
        ("GET", "/v1/principals/bystander/tokens", Value::Null, "ManageTokens"),
        (
            "POST",
            "/v1/principals/limited/tokens",
            json!({"operations": ["ReadKey"], "keys": ["orders"]}),
            "ManageTokens",
        ),
        ("POST", "/v1/principals", json!({"name": "x"}), "ManagePrincipals"),
        ("GET", "/v1/principals", Value::Null, "ManagePrincipals"),
        ("GET", "/v1/principals/bystander", Value::Null, "ManagePrincipals"),
        ("DELETE", "/v1/principals/bystander", Value::Null, "ManagePrincipals"),
        ("DELETE", "/v1/principals/absent", Value::Null, "ManagePrincipals"),
        ("POST", "/v1/connections", connection, "CreateConnection"),
        (
            "PATCH",
            "/v1/connections/embedded",
            json!({"labels": {"a": "b"}}),
            "UpdateConnection",
        ),
        ("DELETE", "/v1/connections/embedded", Value::Null, "DeleteConnection"),
        ("POST", "/v1/connections/embedded/check", json!({}), "CheckConnection"),
        ("POST", "/v1/connections/embedded/sever", json!({}), "Sever"),
        ("POST", "/v1/connections/embedded/restore", json!({}), "Restore"),
        ("POST", "/v1/keys", json!({"name": "x", "connection": "embedded"}), "CreateKey"),
    ] {
        let request = limited.request(method.parse().unwrap(), path).header("if-match", "*");
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = limited.send(request).await;
        api.recorded(&answer, operation, "denied");
        answer.expect_problem(403, "permission_denied");
    }
    assert_eq!(api.state().await, before);
    is_in_force(&of_admin).await;
    // What it has is its key, the connection to look at, and the lists.
    limited.post("/v1/keys/orders/data-keys", &json!({})).await.expect_status(200);
    limited.post_empty("/v1/keys/orders/disable").await.expect_status(200);
    for path in ["/v1/keys", "/v1/connections", "/v1/connections/embedded"] {
        limited.get(path).await.expect_status(200);
    }
}

#[tokio::test]
async fn nobody_ends_what_allows_more() {
    let api = Api::with_key().await;
    principals(&api, &["strong", "weak", "equal", "idle"]).await;
    let more = json!({"operations": ["ManageTokens", "ManagePrincipals", "ReadKey", "Unwrap"]});
    let (strong, of_strong) = issue(&api.client, "strong", &more).await;
    let (_, weak) = issue(&api.client, "weak", &json!({"operations": ISSUER})).await;
    for refused in [weak.delete(&path(&strong)).await, weak.delete("/v1/principals/strong").await] {
        assert_eq!(api.outcome(&refused)["result"], "denied");
        refused.expect_problem(403, "permission_denied");
    }
    is_in_force(&of_strong).await;
    // What it covers it ends, though that is standing and lives longer.
    let lasting = json!({"operations": ISSUER, "kind": "standing", "expires_in": "365d"});
    let (equal, of_equal) = issue(&api.client, "equal", &lasting).await;
    assert_eq!(weak.delete(&path(&equal)).await.status, 204);
    is_refused(&of_equal).await;
    // A token that is over counts no more, and a principal without one is nobody's to keep.
    assert_eq!(api.client.delete(&path(&strong)).await.status, 204);
    for principal in ["strong", "equal", "idle"] {
        assert_eq!(weak.delete(&format!("/v1/principals/{principal}")).await.status, 204, "{principal}");
    }
}

#[tokio::test]
async fn every_token_reads_and_revokes_itself() {
    let api = Api::with_key().await;
    let (own, client) = api.token("reader", &["ReadKey"], Some(&["orders"])).await;
    let (other, _) = api.token("reader", &["ReadKey"], Some(&["orders"])).await;
    let answer = client.get("/v1/whoami").await;
    api.recorded(&answer, "ManageTokens", "success");
    let who = answer.expect_status(200);
    for member in ["id", "kind", "parent", "principal", "operations", "keys", "expires"] {
        assert_eq!(who[member], own[member], "{member}");
    }
    let tenant = api.started.operator().get("/v1/tenants/acme").await.expect_status(200);
    assert_eq!((&who["tenant"], &who["operator"]), (&tenant["id"], &json!(false)));
    let operator = api.client.get("/v1/whoami").await.expect_status(200);
    assert_eq!((&operator["tenant"], &operator["operator"]), (&tenant["id"], &json!(true)));
    assert_eq!(
        (&operator["kind"], &operator["principal"]),
        (&json!("standing"), &json!("administrator"))
    );

    for strange in [path(&other), path(&own).replace("reader", "absent")] {
        let answer = client.delete(&strange).await;
        assert!([403, 404].contains(&answer.status), "{}", answer.text);
    }
    let revoked = client.delete(&path(&own)).await;
    api.recorded(&revoked, "ManageTokens", "success");
    assert_eq!(revoked.status, 204);
    is_refused(&client).await;
}
