//! Where tokens come from.

use std::fs;
use std::time::Duration;

use claviger_client::{Client, ErrorKind};

use super::acme::Acme;
use super::stub::{Stub, key, object, problem};
use super::support::{OTHER_TOKEN, TOKEN, failed};

const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";

#[tokio::test]
async fn a_token_file_is_read_for_each_request() {
    let stub = Stub::new(vec![object(&key())]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let client = Client::builder(&stub.address).token_file(&file).build().unwrap();
    for token in [TOKEN, OTHER_TOKEN, JWT] {
        fs::write(&file, format!("  {token}\n")).unwrap();
        client.get_key("orders").await.unwrap();
        assert_eq!(stub.seen().last().unwrap().headers["authorization"], format!("Bearer {token}"));
    }
}

#[tokio::test]
async fn a_token_file_that_is_being_replaced_is_waited_for() {
    let stub = Stub::new(vec![object(&key())]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    // Half of a token, as while it is written.
    fs::write(&file, &TOKEN[..40]).unwrap();
    let client = Client::builder(&stub.address).token_file(&file).build().unwrap();
    let call = tokio::spawn(async move { client.get_key("orders").await });
    tokio::time::sleep(Duration::from_millis(70)).await;
    assert_eq!(stub.count(), 0);
    fs::write(&file, TOKEN).unwrap();
    call.await.unwrap().unwrap();
    assert_eq!(stub.seen()[0].headers["authorization"], format!("Bearer {TOKEN}"));
}

#[tokio::test]
async fn a_file_without_a_token_says_what_to_do() {
    let stub = Stub::new(vec![object(&key())]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let client = Client::builder(&stub.address).token_file(&file).build().unwrap();
    let error = failed(client.get_key("orders").await, ErrorKind::Token);
    let cause = std::error::Error::source(&error).and_then(|error| error.downcast_ref::<std::io::Error>());
    assert_eq!(cause.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
    assert!(
        error.detail().contains(file.to_str().unwrap()) && error.what_to_do().unwrap().contains("rename"),
        "{error}"
    );
    for content in [
        &b""[..],
        b" \n",
        b"two lines\nof text",
        b"\xff\xfe",
        &[b'x'; 16_385],
        TOKEN[1..].repeat(400).as_bytes(),
        &TOKEN.as_bytes()[..65],
    ] {
        fs::write(&file, content).unwrap();
        let error = failed(client.get_key("orders").await, ErrorKind::Token);
        assert!(
            !error.to_string().contains("lines") && !error.to_string().contains(&TOKEN[17..60]),
            "{error}"
        );
    }
    assert_eq!(stub.count(), 0);
}

#[tokio::test]
async fn a_function_returns_tokens_or_fails() {
    let stub = Stub::new(vec![object(&key())]).await;
    let of = |result: Result<&'static str, &'static str>| {
        let function = move || async move { result.map(Into::into).map_err(Into::into) };
        Client::builder(&stub.address).token_function(function).build().unwrap()
    };
    of(Ok(JWT)).get_key("orders").await.unwrap();
    assert_eq!(stub.seen()[0].headers["authorization"], format!("Bearer {JWT}"));
    let error = failed(of(Err("no network.")).get_key("orders").await, ErrorKind::Token);
    assert!(error.detail().ends_with("failed: no network.") && !error.is_retryable(), "{error}");
    failed(of(Ok("clv_half")).get_key("orders").await, ErrorKind::Token);
    assert_eq!(stub.count(), 1);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_in_its_file() {
    let acme = Acme::start().await;
    let client = acme.client();
    client.create_principal("app").await.unwrap();
    let issue = async || {
        client
            .create_token("app", [claviger_client::models::Operation::GenerateDataKey])
            .await
            .unwrap()
    };
    let (first, second) = (issue().await, issue().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, first.token.expose()).unwrap();
    let app = Client::builder(acme.address()).token_file(&file).build().unwrap();
    app.generate_data_key("orders").await.unwrap();
    client.delete_token("app", &first.id).await.unwrap();
    failed(app.generate_data_key("orders").await, ErrorKind::Unauthenticated);
    fs::write(&file, second.token.expose()).unwrap();
    app.generate_data_key("orders").await.unwrap();
    // Against a server that refuses it, the same token is not tried twice.
    let stub = Stub::new(vec![problem("unauthenticated", 401, false)]).await;
    let app = Client::builder(&stub.address).token_file(&file).build().unwrap();
    failed(app.get_key("orders").await, ErrorKind::Unauthenticated);
    assert_eq!(stub.count(), 1);
}
