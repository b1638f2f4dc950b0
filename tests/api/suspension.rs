//! Suspend and resume: a tenant's requests stop at the next one, and an operator can still look.

use claviger_test_support::{Answer, Client, Tune};
use reqwest::Method;
use serde_json::json;

use crate::support::Api;

/// A token of `globex`, which has a connection and a key `theirs`.
async fn globex(api: &Api) -> (Client, Client) {
    let operator = api.started.with_tenant("globex").await;
    operator
        .post("/v1/keys", &json!({"name": "theirs", "connection": "embedded"}))
        .await
        .expect_status(201);
    operator.post("/v1/principals", &json!({"name": "app"})).await.expect_status(201);
    let body = json!({"operations": ["ReadKey", "GenerateDataKey", "ManageTenants"], "kind": "standing"});
    let issued = operator.post("/v1/principals/app/tokens", &body).await.expect_status(201);
    let own = operator.with_token(issued["token"].as_str().unwrap());
    (operator, own)
}

async fn change(api: &Api, what: &str, key: Option<&str>) -> Answer {
    let operator = api.started.operator();
    let request = operator.request(Method::POST, &format!("/v1/tenants/globex/{what}"));
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    operator.send(request).await
}

async fn is_suspended(own: &Client) {
    let problem = own.get("/v1/keys").await.expect_problem(403, "permission_denied");
    assert_eq!(problem["detail"], "The tenant is suspended.");
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_at_the_next_request_until_it_is_resumed() {
    let api = Api::with_key().await;
    let (_, own) = globex(&api).await;
    let (_, ours) = api.token("app", &["ReadKey"], None).await;
    own.get("/v1/keys").await.expect_status(200);
    let answer = change(&api, "suspend", None).await;
    let record = api.recorded(&answer, "ManageTenants", "success");
    assert_eq!(record["intent"].as_u64().map(|_| ()), Some(()), "it was announced: {record}");
    assert_eq!(answer.expect_status(200)["state"], "suspended");
    is_suspended(&own).await;
    own.post("/v1/keys/theirs/data-keys", &json!({}))
        .await
        .expect_problem(403, "permission_denied");
    // Nobody else's.
    ours.get("/v1/keys").await.expect_status(200);
    let Api { gateway, started, .. } = api;
    let token = |client: &Client| {
        let request = client.request(Method::GET, "/v1/keys").build().unwrap();
        let value = request.headers()["authorization"].to_str().unwrap().to_owned();
        value.strip_prefix("Bearer ").unwrap().to_owned()
    };
    let (own, ours) = (token(&own), token(&ours));
    started.kill();
    let started = gateway.serve(&Tune::default());
    let client = started.tenant("acme");
    let api = Api { gateway, started, client };
    let (own, ours) = (api.client.with_token(&own), api.client.with_token(&ours));
    is_suspended(&own).await;
    ours.get("/v1/keys").await.expect_status(200);
    let answer = change(&api, "resume", None).await;
    api.recorded(&answer, "ManageTenants", "success");
    assert_eq!(answer.expect_status(200)["state"], "active");
    own.post("/v1/keys/theirs/data-keys", &json!({})).await.expect_status(200);
    let Api { gateway, started, .. } = api;
    assert!(started.terminate());
    let started = gateway.serve(&Tune::default());
    let read = started.operator().get("/v1/tenants/globex").await.expect_status(200);
    assert_eq!(read["state"], "active", "a resume outlives the process");
}

#[tokio::test]
async fn an_operator_can_read_and_revoke_in_a_suspended_tenant_and_nothing_else() {
    let api = Api::with_key().await;
    let (operator, own) = globex(&api).await;
    let made = operator.post("/v1/keys/theirs/data-keys", &json!({})).await.expect_status(200);
    let wrapped = json!({"wrapped": made["wrapped"]});
    let before = operator.get("/v1/keys/theirs").await.expect_status(200);
    change(&api, "suspend", None).await.expect_status(200);
    for path in [
        "/v1/keys",
        "/v1/keys/theirs",
        "/v1/keys/theirs/versions",
        "/v1/connections",
        "/v1/connections/embedded",
        "/v1/principals",
        "/v1/principals/app",
        "/v1/principals/app/tokens",
        "/v1/tenants/globex",
        "/v1/whoami",
    ] {
        operator.get(path).await.expect_status(200);
    }
    let item = json!({"items": [{"key": "theirs"}]});
    for (path, body) in [
        ("/v1/keys/theirs/data-keys", json!({})),
        ("/v1/keys/theirs/wrap", json!({"plaintext": "AAAA"})),
        ("/v1/unwrap", wrapped.clone()),
        ("/v1/keys/theirs/unwrap", wrapped.clone()),
        ("/v1/keys/theirs/rewrap", wrapped.clone()),
        ("/v1/inspect", wrapped),
        ("/v1/keys/theirs/rotate", json!({})),
        ("/v1/keys/theirs/enable", json!({})),
        ("/v1/keys", json!({"name": "x", "connection": "embedded"})),
        ("/v1/connections", json!({"name": "x", "provider": "local", "settings": {}})),
        ("/v1/connections/embedded/check", json!({})),
        ("/v1/connections/embedded/restore", json!({})),
        ("/v1/principals", json!({"name": "x"})),
        ("/v1/principals/app/tokens", json!({"operations": ["ReadKey"]})),
    ] {
        let answer = operator.post(path, &body).await;
        assert_eq!(api.outcome(&answer)["result"], "denied", "{path}");
        let problem = answer.expect_problem(403, "permission_denied");
        assert!(problem["what_to_do"].as_str().unwrap().contains("/resume"), "{problem}");
    }
    for refused in [
        operator.delete("/v1/keys/theirs").await,
        operator.delete("/v1/connections/embedded").await,
        operator.patch("/v1/keys/theirs", "*", &json!({"labels": {"a": "b"}})).await,
    ] {
        refused.expect_problem(403, "permission_denied");
    }
    let batch = operator.post("/v1/batch/data-keys", &item).await.expect_status(200);
    assert_eq!(batch["items"][0]["error"]["code"], "permission_denied");
    assert_eq!(operator.get("/v1/keys/theirs").await.expect_status(200), before);

    // Revocations pass, and are in force after the resume.
    operator.post_empty("/v1/keys/theirs/disable").await.expect_status(200);
    operator.post_empty("/v1/connections/embedded/sever").await.expect_status(200);
    assert_eq!(operator.delete("/v1/principals/app").await.status, 204);
    change(&api, "resume", None).await.expect_status(200);
    own.get("/v1/keys").await.expect_problem(401, "unauthenticated");
    assert_eq!(operator.get("/v1/keys/theirs").await.expect_status(200)["state"], "disabled");
}

#[tokio::test]
async fn only_an_operator_suspends_and_resumes() {
    let api = Api::start().await;
    let (operator, own) = globex(&api).await;
    for what in ["suspend", "resume"] {
        for tenant in ["globex", "acme", "absent"] {
            let answer = own.post_empty(&format!("/v1/tenants/{tenant}/{what}")).await;
            api.recorded(&answer, "ManageTenants", "denied");
            answer.expect_problem(403, "permission_denied");
        }
        let operator = api.started.operator();
        operator
            .post_empty(&format!("/v1/tenants/absent/{what}"))
            .await
            .expect_problem(404, "not_found");
    }
    own.get("/v1/keys").await.expect_status(200);
    // With or without the header that names the tenant.
    operator.post_empty("/v1/tenants/globex/suspend").await.expect_status(200);
    is_suspended(&own).await;
    operator.post_empty("/v1/tenants/globex/resume").await.expect_status(200);
    own.get("/v1/keys").await.expect_status(200);
}

#[tokio::test]
async fn a_suspend_is_carried_out_each_time_and_a_resume_once() {
    let api = Api::start().await;
    let (_, own) = globex(&api).await;
    let state = |answer: Answer| answer.expect_status(200)["state"].clone();
    for _ in 0..2 {
        assert_eq!(state(change(&api, "suspend", Some("once")).await), "suspended");
        is_suspended(&own).await;
        assert_eq!(state(change(&api, "resume", None).await), "active");
    }
    assert_eq!(state(change(&api, "suspend", Some("once")).await), "suspended");
    assert_eq!(state(change(&api, "resume", Some("late")).await), "active");
    assert_eq!(state(change(&api, "suspend", Some("once")).await), "suspended");
    let late = change(&api, "resume", Some("late")).await;
    api.recorded(&late, "ManageTenants", "success");
    let read = api.started.operator().get("/v1/tenants/globex").await.expect_status(200);
    assert_eq!(late.expect_status(200), read);
    is_suspended(&own).await;
    assert_eq!(state(change(&api, "resume", Some("new")).await), "active");
    own.get("/v1/keys").await.expect_status(200);
}

/// Of a suspend and a resume at the same time one stands, and a resume that lost says so.
#[tokio::test]
async fn a_suspend_and_a_resume_at_the_same_time_leave_one_state() {
    let api = Api::start().await;
    let (_, own) = globex(&api).await;
    for _ in 0..20 {
        change(&api, "suspend", None).await.expect_status(200);
        let resumes: Vec<_> = (0..4)
            .map(|_| {
                let operator = api.started.operator();
                tokio::spawn(async move { operator.post_empty("/v1/tenants/globex/resume").await })
            })
            .collect();
        let resumed = futures::future::join_all(resumes).await;
        for answer in resumed {
            let answer = answer.unwrap();
            assert!([200, 412].contains(&answer.status), "{}", answer.text);
        }
        own.get("/v1/keys").await.expect_status(200);
        let resume = tokio::spawn({
            let operator = api.started.operator();
            async move { operator.post_empty("/v1/tenants/globex/resume").await }
        });
        let suspended = change(&api, "suspend", None).await;
        let resumed = resume.await.unwrap();
        assert_eq!(suspended.expect_status(200)["state"], "suspended");
        // The row, and what the credentials of the tenant meet, agree.
        let read = api.started.operator().get("/v1/tenants/globex").await.expect_status(200);
        if read["state"] == "suspended" {
            is_suspended(&own).await;
        } else {
            resumed.expect_status(200);
            own.get("/v1/keys").await.expect_status(200);
        }
        change(&api, "resume", None).await.expect_status(200);
    }
}

/// A resume that was sent together with a suspend can come last only if it began after the suspend's commit.
#[tokio::test]
async fn a_resume_that_began_before_a_suspend_was_committed_never_wins() {
    let api = Api::start().await;
    let (_, own) = globex(&api).await;
    for round in 0..40 {
        // From both states.
        let before = if round % 2 == 0 { "resume" } else { "suspend" };
        change(&api, before, None).await.expect_status(200);
        let (suspended, resumed) = futures::future::join(change(&api, "suspend", None), change(&api, "resume", None)).await;
        let suspend = api.recorded(&suspended, "ManageTenants", "success");
        let read = api.started.operator().get("/v1/tenants/globex").await.expect_status(200);
        if read["state"] == "suspended" {
            is_suspended(&own).await;
            continue;
        }
        let resume = api.recorded(&resumed, "ManageTenants", "success");
        let (began, committed) = (resume["intent"].as_u64().unwrap(), suspend["sequence"].as_u64().unwrap());
        assert!(
            began > committed,
            "round {round}: the resume {resume:#} undid the suspend {suspend:#}"
        );
    }
}
