//! Attacks on the places for requests, on the store, and on the turns of revocations.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Method;
use reqwest::RequestBuilder;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Course, OF_ONE_MACHINE, STREAMS, WINDOW, on_connections, status_of};
use crate::raw::{Http1, Http2, try_answer_of};
use crate::{Client, Version};

/// Batches that are half-sent at once: as many as the gateway has places.
const BATCHES: usize = 512;
/// Requests at once.
const AT_ONCE: usize = 60;
/// Adoptions at once.
const ADOPTIONS: usize = 24;
/// How a batch begins.
const BEGUN: &[u8] = b"{\"ite";
const PATH: &str = "/v1/batch/unwrap";

/// Opens a batch on a connection, and sends the first bytes of its body.
///
/// # Errors
/// When the gateway has closed the connection.
pub async fn half_sent(connection: &Http2, token: &str, path: &str) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    let (response, mut body) = connection.try_open(Method::POST, token, path, None).await?;
    body.send_data(Bytes::from_static(BEGUN), false)?;
    Ok((response, body))
}

/// Leaves bodies half-sent: on a connection for each over HTTP/1.1, on every stream of some connections over HTTP/2.
/// The gateway answers at their deadline.
pub(super) fn half_sent_batches(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    match course.version {
        Version::Http1 => {
            for number in 0..BATCHES / course.parts {
                half_sent_over_http1(tasks, course, number / OF_ONE_MACHINE);
            }
        }
        Version::Http2 => {
            for machine in 0..BATCHES / STREAMS / course.parts {
                half_sent_over_http2(tasks, course, machine);
            }
        }
    }
}

fn half_sent_over_http1(tasks: &mut JoinSet<()>, course: &Course<'_>, machine: usize) {
    let (endpoint, answers, token) = (course.machine(machine), course.answers.clone(), course.attacker.token.clone());
    tasks.spawn(async move {
        loop {
            let answer = async {
                let mut request = Http1::try_post(&endpoint, &token, PATH, 4096).await.ok()?;
                request.try_send(BEGUN).await.ok()?;
                answers.begin();
                request.try_answer().await
            };
            answers.note_end(status_of(answer.await)).await;
        }
    });
}

fn half_sent_over_http2(tasks: &mut JoinSet<()>, course: &Course<'_>, machine: usize) {
    let (answers, token) = (course.answers.clone(), course.attacker.token.clone());
    on_connections(tasks, course, machine, WINDOW, move |connection| {
        let (answers, token) = (answers.clone(), token.clone());
        async move {
            let streams = (0..STREAMS).map(|_| async {
                while let Ok((response, body)) = half_sent(&connection, &token, PATH).await {
                    answers.begin();
                    let answer = try_answer_of(response).await;
                    drop(body);
                    answers.note_end(status_of(answer.ok())).await;
                }
            });
            futures::future::join_all(streams).await;
        }
    });
}

/// Makes one call after the other, so many at once, from one machine.
fn calls<F>(tasks: &mut JoinSet<()>, course: &Course<'_>, at_once: usize, call: F)
where
    F: Fn(&Client) -> RequestBuilder + Clone + Send + 'static,
{
    let client = course.client(0);
    for _ in 0..at_once / course.parts {
        let (client, answers, call) = (client.clone(), course.answers.clone(), call.clone());
        tasks.spawn(async move {
            loop {
                let status = match call(&client).send().await {
                    // Parsing pages would be a load of the attacker's own.
                    Ok(response) => {
                        let status = response.status();
                        response.bytes().await.ok().map(|_| status.as_u16())
                    }
                    Err(_) => None,
                };
                answers.note_end(status).await;
            }
        });
    }
}

/// Lists the tenant's keys, a page as large as there is.
pub(super) fn lists(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    calls(tasks, course, AT_ONCE, |client| {
        client.request(Method::GET, "/v1/keys?page_size=1000")
    });
}

/// Adopts keys of the attacker's own key service, each under a name of its own. Once the service has
/// no more of them they are refused, so that the attack does not end at the tenant's quota.
pub(super) fn adoptions(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    let (next, keys, version) = (Arc::new(AtomicUsize::new(0)), course.attacker.keys, course.version.name());
    calls(tasks, course, ADOPTIONS, move |client| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        client.request(Method::POST, "/v1/keys").json(&json!({
            "name": format!("adopted-{version}-{number}"), "connection": "remote", "provider_key": format!("{version}-{}", number % keys),
        }))
    });
}

/// Revokes with as many requests at once as a connection has streams: a token each, and when all have ended, one key.
pub(super) fn revocations(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    let (next, tokens) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&course.attacker.tokens));
    calls(tasks, course, STREAMS, move |client| {
        match tokens.get(next.fetch_add(1, Ordering::Relaxed)) {
            Some(token) => client.request(Method::DELETE, token),
            None => client.request(Method::POST, "/v1/keys/orders/disable"),
        }
    });
}

/// Presents tokens that nobody issued, each once.
pub(super) fn made_up_tokens(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    let (next, offset) = (Arc::new(AtomicUsize::new(0)), course.version as usize);
    calls(tasks, course, AT_ONCE, move |client| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let token = made_up(number * Version::ALL.len() + offset);
        client
            .clone()
            .without_header("authorization")
            .request(Method::GET, "/v1/keys")
            .header("authorization", format!("Bearer {token}"))
    });
}

/// A token with a good checksum: `clv_`, an id, a secret, and their CRC-32 in six digits of base 62.
fn made_up(number: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = format!("clv_{number:012}_{number:043}");
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut checksum = [b'0'; 6];
    for digit in checksum.iter_mut().rev() {
        *digit = DIGITS[rest % 62];
        rest /= 62;
    }
    text.extend(checksum.iter().map(|digit| char::from(*digit)));
    text
}
