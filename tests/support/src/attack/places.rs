//! Attacks on the places for requests, on the store, and on the turns of revocations.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Method;
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Attacker, STREAMS, WINDOW, on_connections, status_of};
use crate::raw::{Http1, Http2, try_answer_of};

/// Batches that are half-sent at once: as many as the gateway has places.
const BATCHES: usize = 512;
/// Connections of one machine.
const OF_ONE_MACHINE: usize = 200;
/// Requests at once on connections of their own.
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

/// Leaves bodies half-sent on every stream of some connections. The gateway answers at their deadline.
pub(super) fn half_sent_over_http2(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    for machine in 0..BATCHES / STREAMS {
        let (answers, token) = (attacker.answers.clone(), attacker.token.clone());
        on_connections(tasks, attacker, machine, WINDOW, move |connection| {
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
}

/// The same on a connection for each.
pub(super) fn half_sent_over_http1(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    for number in 0..BATCHES {
        let (endpoint, answers, token) = (
            attacker.way.machine(number / OF_ONE_MACHINE),
            attacker.answers.clone(),
            attacker.token.clone(),
        );
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
}

/// Lists the tenant's keys, a page as large as there is.
pub(super) fn lists(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    for _ in 0..AT_ONCE {
        // A client has as many connections as it has requests under way.
        let (client, answers) = (attacker.client(0), attacker.answers.clone());
        tasks.spawn(async move {
            loop {
                let status = match client.request(Method::GET, "/v1/keys?page_size=1000").send().await {
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

/// Adopts keys of the attacker's own key service, each under a name of its own. Once the service has
/// no more of them they are refused, so that the attack does not end at the tenant's quota.
pub(super) fn adoptions(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..ADOPTIONS {
        let (client, answers, next, keys) = (attacker.client(0), attacker.answers.clone(), Arc::clone(&next), attacker.keys);
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let body = json!({
                    "name": format!("adopted-{number}"), "connection": "remote", "provider_key": format!("p{}", number % keys),
                });
                let request = client.request(Method::POST, "/v1/keys").json(&body);
                let answer = client.try_send(request).await;
                answers.note_end(answer.map(|answer| answer.status)).await;
            }
        });
    }
}

/// Disables one key on every stream of a connection.
pub(super) fn revocations(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    let (answers, token) = (attacker.answers.clone(), attacker.token.clone());
    on_connections(tasks, attacker, 0, WINDOW, move |connection| {
        let (answers, token) = (answers.clone(), token.clone());
        async move {
            let streams = (0..STREAMS).map(|_| async {
                while let Ok((response, mut body)) = connection.try_open(Method::POST, &token, "/v1/keys/orders/disable", None).await {
                    if body.send_data(Bytes::new(), true).is_err() {
                        break;
                    }
                    answers.note_end(status_of(try_answer_of(response).await.ok())).await;
                }
            });
            futures::future::join_all(streams).await;
        }
    });
}

/// Presents tokens that nobody issued, each once.
pub(super) fn made_up_tokens(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..AT_ONCE {
        let (client, answers, next) = (
            attacker.client(0).without_header("authorization"),
            attacker.answers.clone(),
            Arc::clone(&next),
        );
        tasks.spawn(async move {
            loop {
                let token = made_up(next.fetch_add(1, Ordering::Relaxed));
                let request = client
                    .request(Method::GET, "/v1/keys")
                    .header("authorization", format!("Bearer {token}"));
                let status = request.send().await.ok().map(|response| response.status());
                answers.note_end(status.map(|status: StatusCode| status.as_u16())).await;
            }
        });
    }
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
