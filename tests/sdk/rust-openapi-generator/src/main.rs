//! What an application does with Claviger, by the client that openapi-generator makes for Rust.

use std::collections::HashMap;
use std::env;
use std::time::Duration;

use claviger_api::apis::Error;
use claviger_api::apis::access_api::who_am_i;
use claviger_api::apis::batch_api::batch_unwrap;
use claviger_api::apis::configuration::Configuration;
use claviger_api::apis::data_keys_api::{generate_data_key, unwrap};
use claviger_api::apis::keys_api::{create_key, disable_key, enable_key, get_key, list_keys, rotate_key};
use claviger_api::models::{
    BatchUnwrapRequest, CreateKey, GenerateDataKeyRequest, Problem, SetKeyState, UnwrapItem, UnwrapItemResult, UnwrapRequest,
};
use http::Extensions;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, Middleware, Next};

const ATTEMPTS: u32 = 4;

/// Makes a client for the gateway at an address such as https://gateway.example:8420.
fn connect(address: &str) -> Configuration {
    let token = std::fs::read_to_string(env::var("CLAVIGER_TOKEN_FILE").unwrap()).unwrap();
    let tenant = HeaderValue::from_str(&env::var("CLAVIGER_TENANT").unwrap()).unwrap();
    let headers = HeaderMap::from_iter([("claviger-tenant".parse().unwrap(), tenant)]);
    let client = reqwest::Client::builder().default_headers(headers).timeout(Duration::from_secs(30));
    Configuration {
        base_path: address.to_owned(),
        client: ClientBuilder::new(client.build().unwrap()).with(Retrying).build(),
        bearer_access_token: Some(token.trim().to_owned()),
        ..Configuration::default()
    }
}

/// Repeats a request as long as the gateway says that the same one may succeed later.
struct Retrying;

#[async_trait::async_trait]
impl Middleware for Retrying {
    async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> reqwest_middleware::Result<Response> {
        let mut attempt = 1;
        loop {
            let copy = request.try_clone().expect("its body is in memory");
            let response = next.clone().run(copy, extensions).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            if status.as_u16() < 400 || attempt == ATTEMPTS {
                return Ok(response);
            }
            let body = response.bytes().await?;
            if !serde_json::from_slice::<Problem>(&body).is_ok_and(|problem| problem.retryable) {
                let mut read = http::Response::new(body);
                (*read.status_mut(), *read.headers_mut()) = (status, headers);
                return Ok(read.into());
            }
            let seconds = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(1))).await;
            attempt += 1;
        }
    }
}

/// The code of the problem that a call ended in; empty if it succeeded.
fn code_of<T, E: std::fmt::Debug>(result: Result<T, Error<E>>) -> String {
    match result {
        Ok(_) => String::new(),
        Err(Error::ResponseError(response)) => serde_json::from_str::<Problem>(&response.content).unwrap().code,
        Err(error) => panic!("{error:?}"),
    }
}

fn done(step: &str, holds: bool) {
    assert!(holds, "{step}: not what was expected");
    println!("ok {step}");
}

/// A batch's two items: a result and an error.
fn two(items: Vec<UnwrapItemResult>) -> (UnwrapItemResult, Box<Problem>) {
    let [good, bad] = items.try_into().unwrap();
    assert!(good.error.is_none());
    (good, bad.error.unwrap())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let client = connect(&env::var("CLAVIGER_ADDRESS").unwrap());
    done("connect", who_am_i(&client, None, None, None).await.unwrap().operator);

    // A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
    let once = uuid::Uuid::new_v4().to_string();
    let wanted = CreateKey::new("embedded".to_owned(), "invoices".to_owned());
    let key = create_key(&client, wanted, None, None, None, Some(&once)).await.unwrap();
    done("key", key.state == "enabled");

    let context = HashMap::from([("table".to_owned(), "invoices".to_owned())]);
    let mut wanted = GenerateDataKeyRequest::new();
    wanted.context = Some(context.clone());
    let made = generate_data_key(&client, "invoices", wanted, None, None, None).await.unwrap();
    let plaintext = made.plaintext.unwrap();
    done("data-key", plaintext.len() == 32);

    let mut request = UnwrapRequest::new(made.wrapped.clone());
    request.context = Some(context.clone());
    let opened = unwrap(&client, request.clone(), None, None, None).await.unwrap();
    done("unwrap", opened.plaintext == plaintext);

    let mut other = request.clone();
    other.context = Some(HashMap::from([("table".to_owned(), "orders".to_owned())]));
    done(
        "context",
        code_of(unwrap(&client, other, None, None, None).await) == "ciphertext_rejected",
    );

    let mut item = UnwrapItem::new(made.wrapped.clone());
    item.context = Some(context);
    let items = BatchUnwrapRequest::new(vec![item, UnwrapItem::new(made.wrapped)]);
    let (good, bad) = two(batch_unwrap(&client, items.clone(), None, None, None).await.unwrap().items);
    done("batch", good.plaintext == Some(plaintext) && bad.code == "ciphertext_rejected");

    let mut names = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let page = list_keys(&client, Some(2), next.as_deref(), None, None, None, None, None, None)
            .await
            .unwrap();
        names.extend(page.items.into_iter().map(|key| key.name));
        next = page.next_page_token;
        if next.is_none() {
            break;
        }
    }
    done("paging", names == ["first", "fourth", "invoices", "second", "third"]);

    let rotated = rotate_key(&client, "invoices", None, None, None, None, None).await.unwrap();
    done("rotate", rotated.primary_version == 2);

    // What is `None` is sent as `null`; with an empty body below.
    disable_key(&client, "invoices", None, None, None, None).await.unwrap();
    done(
        "disable",
        code_of(unwrap(&client, request, None, None, None).await) == "key_disabled",
    );

    let enabled = enable_key(&client, "invoices", None, None, None, None, Some(SetKeyState::new()))
        .await
        .unwrap();
    let disabled = disable_key(&client, "invoices", None, None, None, Some(SetKeyState::new()))
        .await
        .unwrap();
    done("no-body", enabled.state == "enabled" && disabled.state == "disabled");

    // A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
    let stub = connect(&env::var("CLAVIGER_STUB_ADDRESS").unwrap());
    let busy = UnwrapRequest::new("clv1.busy".to_owned());
    done("retry", unwrap(&stub, busy, None, None, None).await.unwrap().version == 1);

    let later = get_key(&stub, "later", None, None, None).await.unwrap();
    let (good, bad) = two(batch_unwrap(&stub, items, None, None, None).await.unwrap().items);
    let code = code_of(get_key(&stub, "refused", None, None, None).await);
    let known = later.name == "later" && good.key.as_deref() == Some("later");
    done("unknown", known && bad.code == code && code == "refused_by_a_later_release");

    let quarantined = get_key(&stub, "quarantined", None, None, None).await.unwrap();
    done("word", quarantined.state == "quarantined");
}
