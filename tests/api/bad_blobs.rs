//! Wrapped keys that do not open: of another tenant, of the future, damaged, forged.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::Api;

/// Every vector of a folder of `tests/vectors`, by name.
fn vectors(folder: &str) -> Vec<(String, Value)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
    let mut all: Vec<(String, Value)> = std::fs::read_dir(path)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                serde_json::from_str(&text).unwrap(),
            )
        })
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(all.len() > 50);
    all
}

/// What the API says to the page's error.
fn expected(error: &str) -> (u16, &'static str) {
    match error {
        "invalid_envelope" => (400, "invalid_envelope"),
        "envelope_version_unsupported" => (400, "envelope_version_unsupported"),
        "too_large" => (413, "too_large"),
        "invalid_request" => (400, "invalid_request"),
        // All these vectors are of tenants that this gateway has not.
        "ciphertext_rejected" => (422, "ciphertext_rejected"),
        other => panic!("an error that this test does not know: {other}"),
    }
}

#[tokio::test]
async fn every_bad_vector_is_refused_alike_on_every_route() {
    let api = Api::with_key().await;
    for (name, vector) in vectors("bad") {
        let (status, code) = expected(vector["error"].as_str().unwrap());
        let body = json!({"wrapped": vector["blob"], "context": vector["context"]});
        if body.to_string().len() > 64 << 10 {
            api.client.post("/v1/unwrap", &body).await.expect_problem(413, "too_large");
            continue;
        }
        for path in ["/v1/unwrap", "/v1/keys/orders/unwrap", "/v1/keys/orders/rewrap", "/v1/inspect"] {
            let answer = api.client.post(path, &body).await;
            let got = (answer.status, answer.body["code"].as_str().unwrap_or_default());
            // A context that cannot be is refused only where the blob was let through.
            let context_first = code == "invalid_request" && got == (422, "ciphertext_rejected");
            assert!(got == (status, code) || context_first, "{name} {path}: {}", answer.text);
            assert_eq!(api.outcome(&answer)["code"], got.1, "{name} {path}");
        }
    }
    api.serves().await;
}

#[tokio::test]
async fn a_good_blob_of_another_installation_tells_no_more_than_a_forged_one() {
    let api = Api::with_key().await;
    let mut all = Vec::new();
    for (name, vector) in vectors("good") {
        let body = json!({"wrapped": vector["blob"], "context": vector["context"]});
        for path in ["/v1/unwrap", "/v1/keys/orders/unwrap", "/v1/keys/orders/rewrap"] {
            let answer = api.client.post(path, &body).await;
            assert_eq!(answer.body["code"], "ciphertext_rejected", "{name} {path}: {}", answer.text);
            let mut problem = answer.expect_problem(422, "ciphertext_rejected");
            problem.as_object_mut().unwrap().remove("request_id");
            all.push(problem);
        }
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "one message for all");
}

#[tokio::test]
async fn what_was_made_here_opens_nowhere_but_here_and_unchanged() {
    let api = Api::with_key().await;
    api.key("sales").await;
    let context = json!({"table": "orders"});
    let made = api
        .client
        .post("/v1/keys/orders/data-keys", &json!({"context": context}))
        .await
        .expect_status(200);
    let text = made["wrapped"].as_str().unwrap();
    for wrong in [
        json!({}),
        json!({"table": "Orders"}),
        json!({"table": "orders", "row": "1"}),
        json!({"TABLE": "orders"}),
    ] {
        let body = json!({"wrapped": text, "context": wrong});
        for path in ["/v1/unwrap", "/v1/keys/orders/rewrap"] {
            api.client.post(path, &body).await.expect_problem(422, "ciphertext_rejected");
        }
    }
    for (wrapped, code) in [
        (String::new(), "envelope_version_unsupported"),
        ("clv1.".to_owned(), "envelope_version_unsupported"),
        (format!("{text}="), "invalid_envelope"),
        (format!(" {text}"), "envelope_version_unsupported"),
        (format!("{text}\n"), "invalid_envelope"),
        (text.replace("clv1.", "CLV1."), "envelope_version_unsupported"),
        (text[..text.len() - 4].to_owned(), "invalid_envelope"),
        (text[..text.len() / 2].to_owned(), "invalid_envelope"),
        ("x".repeat(100), "envelope_version_unsupported"),
    ] {
        let body = json!({"wrapped": wrapped, "context": context});
        api.client.post("/v1/unwrap", &body).await.expect_problem(400, code);
    }
    let long = json!({"wrapped": format!("clv1.{}", "A".repeat(23 << 10))});
    api.client.post("/v1/unwrap", &long).await.expect_problem(413, "too_large");
    for value in [json!(1), json!(null), json!([text]), json!({"text": text})] {
        let problem = api
            .client
            .post("/v1/unwrap", &json!({"wrapped": value}))
            .await
            .expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "/wrapped");
    }
    let good = json!({"wrapped": text, "context": context});
    assert_eq!(
        api.client.post("/v1/unwrap", &good).await.expect_status(200)["plaintext"],
        made["plaintext"]
    );
}
