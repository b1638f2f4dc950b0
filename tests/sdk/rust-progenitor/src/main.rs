//! What an application does with Claviger, by the client that progenitor makes of the document in OpenAPI 3.0.

use std::collections::HashMap;
use std::env;
use std::time::Duration;

use claviger_api::types::{
    BatchUnwrapRequest, ContextPairs, CreateKey, GenerateDataKeyRequest, Problem, RotateKey, SetKeyState, UnwrapItem, UnwrapItemResult,
    UnwrapRequest,
};
use claviger_api::{ByteStream, Client, Error, ResponseValue};
use futures_util::TryStreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

const ATTEMPTS: u32 = 4;

/// Makes a client for the gateway at an address such as https://gateway.example:8420.
fn connect(address: &str) -> Client {
    let token = std::fs::read_to_string(env::var("CLAVIGER_TOKEN_FILE").unwrap()).unwrap();
    let value = |text: &str| HeaderValue::from_str(text).unwrap();
    let credential = (AUTHORIZATION, value(&format!("Bearer {}", token.trim())));
    let tenant = ("claviger-tenant".parse().unwrap(), value(&env::var("CLAVIGER_TENANT").unwrap()));
    let client = reqwest::Client::builder().default_headers(HeaderMap::from_iter([credential, tenant]));
    Client::new_with_client(address, client.timeout(Duration::from_secs(30)).build().unwrap())
}

type Sent<T> = Result<ResponseValue<T>, Error<ByteStream>>;

/// Sends a request until it succeeds, or fails in a way of which the gateway does not say that the same one may succeed later.
/// What it fails with are bytes, which are a problem.
async fn retrying<T>(send: impl AsyncFn() -> Sent<T>) -> Result<T, Problem> {
    let mut attempt = 1;
    loop {
        let failure = match send().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(Error::ErrorResponse(failure)) => failure,
            Err(error) => panic!("{error:?}"),
        };
        let after = failure
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let body: Vec<_> = failure.into_inner_stream().try_collect().await.unwrap();
        let problem: Problem = serde_json::from_slice(&body.concat()).unwrap();
        if !problem.retryable || attempt == ATTEMPTS {
            return Err(problem);
        }
        tokio::time::sleep(Duration::from_secs(after.unwrap_or(1))).await;
        attempt += 1;
    }
}

/// The code of the problem that a call ends in; empty if it succeeds.
async fn code_of<T>(send: impl AsyncFn() -> Sent<T>) -> String {
    retrying(send)
        .await
        .err()
        .map(|problem| problem.code.to_string())
        .unwrap_or_default()
}

fn done(step: &str, holds: bool) {
    assert!(holds, "{step}: not what was expected");
    println!("ok {step}");
}

/// A batch's two items: a result and an error.
fn two(items: Vec<UnwrapItemResult>) -> (UnwrapItemResult, Problem) {
    let [good, bad] = items.try_into().unwrap();
    assert!(good.error.is_none());
    (good, bad.error.unwrap())
}

fn table(name: &str) -> ContextPairs {
    ContextPairs(HashMap::from([("table".to_owned(), name.to_owned())]))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let client = connect(&env::var("CLAVIGER_ADDRESS").unwrap());
    done("connect", retrying(async || client.who_am_i().send().await).await.unwrap().operator);

    // A creation may be repeated safely with an idempotency key, which is sent from the first attempt on.
    let once = uuid::Uuid::new_v4().to_string();
    let wanted = || CreateKey::builder().name("invoices").connection("embedded");
    let key = retrying(async || client.create_key().idempotency_key(once.as_str()).body(wanted()).send().await)
        .await
        .unwrap();
    done("key", *key.state == "enabled");

    let wanted = || GenerateDataKeyRequest::builder().context(table("invoices"));
    let made = retrying(async || client.generate_data_key().key("invoices").body(wanted()).send().await)
        .await
        .unwrap();
    let plaintext = made.plaintext.unwrap();
    done("data-key", plaintext.len() == 44);

    let request = |name: &str| UnwrapRequest::builder().wrapped(made.wrapped.as_str()).context(table(name));
    let unwrap = async |name: &str| client.unwrap().body(request(name)).send().await;
    let opened = retrying(async || unwrap("invoices").await).await.unwrap();
    done("unwrap", opened.plaintext == plaintext);

    done("context", code_of(async || unwrap("orders").await).await == "ciphertext_rejected");

    let item = || UnwrapItem::builder().wrapped(made.wrapped.as_str());
    let items = || -> Vec<UnwrapItem> {
        let whole = item().context(table("invoices"));
        vec![whole.try_into().unwrap(), item().try_into().unwrap()]
    };
    let batch = async |client: &Client| {
        let send = async || {
            client
                .batch_unwrap()
                .body(BatchUnwrapRequest::builder().items(items()))
                .send()
                .await
        };
        two(retrying(send).await.unwrap().items)
    };
    let (good, bad) = batch(&client).await;
    done("batch", good.plaintext == Some(plaintext) && *bad.code == "ciphertext_rejected");

    let mut names = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let page = retrying(async || {
            let list = client.list_keys().page_size(2);
            match &next {
                Some(token) => list.page_token(token.as_str()).send().await,
                None => list.send().await,
            }
        });
        let page = page.await.unwrap();
        names.extend(page.items.into_iter().map(|key| key.name));
        next = page.next_page_token;
        if next.is_none() {
            break;
        }
    }
    done("paging", names == ["first", "fourth", "invoices", "second", "third"]);

    let rotate = async || client.rotate_key().key("invoices").body(RotateKey::builder()).send().await;
    done("rotate", retrying(rotate).await.unwrap().primary_version == 2);

    // progenitor always sends a body, here an empty one.
    let disable = async || client.disable_key().key("invoices").body(SetKeyState::builder()).send().await;
    let enable = async || client.enable_key().key("invoices").body(SetKeyState::builder()).send().await;
    retrying(&disable).await.unwrap();
    done("disable", code_of(async || unwrap("invoices").await).await == "key_disabled");

    let (enabled, disabled) = (retrying(enable).await.unwrap(), retrying(&disable).await.unwrap());
    done("no-body", *enabled.state == "enabled" && *disabled.state == "disabled");

    // A gateway that is busy, and one of a later release, whose answers have members, codes and words that this client does not know.
    let stub = connect(&env::var("CLAVIGER_STUB_ADDRESS").unwrap());
    let busy = async || stub.unwrap().body(UnwrapRequest::builder().wrapped("clv1.busy")).send().await;
    done("retry", retrying(busy).await.unwrap().version == 1);

    let get = async |name: &str| stub.get_key().key(name).send().await;
    let later = retrying(async || get("later").await).await.unwrap();
    let (good, bad) = batch(&stub).await;
    let code = code_of(async || get("refused").await).await;
    let known = later.name == "later" && good.key.as_deref() == Some("later");
    done("unknown", known && *bad.code == code && code == "refused_by_a_later_release");

    let quarantined = retrying(async || get("quarantined").await).await.unwrap();
    done("word", *quarantined.state == "quarantined");
}
