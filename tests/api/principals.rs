//! `/v1/tenants` and `/v1/principals`, row by row.

use serde_json::{Value, json};

use claviger_test_support::Tune;

use crate::support::Api;

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn tenants_are_made_read_and_listed_by_an_operator() {
    let api = Api::start().await;
    let operator = api.started.operator();
    let answer = operator.post("/v1/tenants", &json!({"name": "globex"})).await;
    api.recorded(&answer, "ManageTenants", "success");
    let made = answer.expect_status(201);
    assert_eq!((&made["name"], &made["state"]), (&json!("globex"), &json!("active")));
    assert!(made["created"].as_str().unwrap().ends_with('Z'));
    let read = operator.get("/v1/tenants/globex").await;
    api.recorded(&read, "ManageTenants", "success");
    assert_eq!(read.expect_status(200), made);
    let listed = operator.get("/v1/tenants").await;
    api.recorded(&listed, "ManageTenants", "success");
    assert_eq!(names(&listed.expect_status(200)), ["acme", "globex"]);
    operator
        .post("/v1/tenants", &json!({"name": "globex"}))
        .await
        .expect_problem(409, "already_exists");
    operator.get("/v1/tenants/absent").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn an_operator_may_give_a_tenant_the_id_of_a_lost_installation() {
    let api = Api::start().await;
    let operator = api.started.operator();
    let id = "0198c0de000070008000000000000001";
    let made = operator
        .post("/v1/tenants", &json!({"name": "back", "id": id}))
        .await
        .expect_status(201);
    assert_eq!(made["id"], id);
    operator
        .post("/v1/tenants", &json!({"name": "twin", "id": id}))
        .await
        .expect_problem(409, "already_exists");
    for id in ["00000000000000000000000000000000", "0198C0DE000070008000000000000002", "00", ""] {
        operator
            .post("/v1/tenants", &json!({"name": "other", "id": id}))
            .await
            .expect_problem(400, "invalid_request");
    }
    operator.get("/v1/tenants/twin").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn only_an_operator_sees_tenants() {
    let api = Api::start().await;
    // Even with the action: a tenant's credential is none of the installation's.
    let (_, tenant) = api.token("admin", &["ManageTenants", "ReadKey"], None).await;
    for answer in [
        tenant.get("/v1/tenants").await,
        tenant.get("/v1/tenants/acme").await,
        tenant.get("/v1/tenants/absent").await,
        tenant.post("/v1/tenants", &json!({"name": "mine"})).await,
    ] {
        api.recorded(&answer, "ManageTenants", "denied");
        answer.expect_problem(403, "permission_denied");
    }
    assert_eq!(names(&api.started.operator().get("/v1/tenants").await.body), ["acme"]);
}

#[tokio::test]
async fn principals_are_made_read_listed_and_deleted_with_their_tokens() {
    let api = Api::start().await;
    for (name, kind) in [("indexer", None), ("ci", Some("workload")), ("kim", Some("person"))] {
        let body = kind.map_or_else(|| json!({"name": name}), |kind| json!({"name": name, "kind": kind}));
        let answer = api.client.post("/v1/principals", &body).await;
        api.recorded(&answer, "ManagePrincipals", "success");
        let made = answer.expect_status(201);
        assert_eq!(
            (&made["name"], &made["kind"]),
            (&json!(name), &json!(kind.unwrap_or("service_account")))
        );
        let read = api.client.get(&format!("/v1/principals/{name}")).await;
        api.recorded(&read, "ManagePrincipals", "success");
        assert_eq!(read.expect_status(200), made);
    }
    assert_eq!(
        names(&api.client.get("/v1/principals").await.expect_status(200)),
        ["ci", "indexer", "kim"]
    );
    api.client
        .post("/v1/principals", &json!({"name": "ci"}))
        .await
        .expect_problem(409, "already_exists");
    api.client
        .post("/v1/principals", &json!({"name": "x", "kind": "robot"}))
        .await
        .expect_problem(400, "invalid_request");

    let (_, indexer) = api.token("indexer", &["ReadKey"], None).await;
    indexer.get("/v1/keys").await.expect_status(200);
    let deleted = api.client.delete("/v1/principals/indexer").await;
    api.recorded(&deleted, "ManagePrincipals", "success");
    assert_eq!(deleted.status, 204);
    indexer.get("/v1/keys").await.expect_problem(401, "unauthenticated");
    api.client.get("/v1/principals/indexer").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn deleting_a_principal_again_is_no_error_and_a_wrong_name_is_one() {
    let api = Api::start().await;
    let path = "/v1/principals/indexer";
    api.client.delete(path).await.expect_problem(404, "not_found");
    for _ in ["the first", "another of the name"] {
        let (_, indexer) = api.token("indexer", &["ReadKey"], None).await;
        indexer.get("/v1/keys").await.expect_status(200);
        for _ in ["deleted", "again"] {
            let deleted = api.client.delete(path).await;
            api.recorded(&deleted, "ManagePrincipals", "success");
            assert_eq!(deleted.status, 204);
            indexer.get("/v1/keys").await.expect_problem(401, "unauthenticated");
        }
    }
    api.client.delete("/v1/principals/indexes").await.expect_problem(404, "not_found");
    // A name is one tenant's own.
    let other = api.started.with_tenant("globex").await;
    other.delete(path).await.expect_problem(404, "not_found");
    let Api { gateway, started, .. } = api;
    started.kill();
    let again = gateway.serve(&Tune::default());
    assert_eq!(again.tenant("acme").delete(path).await.status, 204);
}

#[tokio::test]
async fn nobody_deletes_itself() {
    let api = Api::start().await;
    let (_, admin) = api.token("admin", &["ManagePrincipals"], None).await;
    admin.delete("/v1/principals/admin").await.expect_problem(409, "in_use");
    admin.get("/v1/principals/admin").await.expect_status(200);
}

#[tokio::test]
async fn a_principal_of_one_tenant_is_none_of_another() {
    let api = Api::start().await;
    api.token("indexer", &["ReadKey"], None).await;
    let other = api.started.with_tenant("globex").await;
    for answer in [
        other.get("/v1/principals/indexer").await,
        other.delete("/v1/principals/indexer").await,
        other.get("/v1/principals/indexer/tokens").await,
        other
            .post("/v1/principals/indexer/tokens", &json!({"operations": ["ReadKey"]}))
            .await,
    ] {
        answer.expect_problem(404, "not_found");
    }
    assert_eq!(names(&other.get("/v1/principals").await.expect_status(200)), Vec::<&str>::new());
}
