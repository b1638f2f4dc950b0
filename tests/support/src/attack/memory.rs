//! Attacks on the gateway's memory.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Method;
use tokio::task::JoinSet;

use super::{Attacker, STREAMS, WINDOW, on_connections, status_of};
use crate::raw::{send_all, try_answer_of};

/// Connections on which nothing is read.
const DEAF: usize = 8;
/// Large bodies at once.
const BODIES: usize = 4;
/// The longest body of a batch, in bytes.
pub const BATCH: usize = 16 << 20;

/// Requests a page on every stream of connections whose windows are empty, and reads nothing until the
/// gateway closes them.
pub(super) fn unread(tasks: &mut JoinSet<()>, attacker: &Attacker, token: &str, path: &'static str) {
    for machine in 0..DEAF {
        let (answers, token) = (attacker.answers.clone(), token.to_owned());
        on_connections(tasks, attacker, machine, 0, move |connection| {
            let (answers, token) = (answers.clone(), token.clone());
            async move {
                let mut waiting = FuturesUnordered::new();
                for _ in 0..STREAMS {
                    match connection.try_get(&token, path).await {
                        Ok(response) => waiting.push(response),
                        Err(_) => break,
                    }
                }
                let mut unread = Vec::new();
                while let Some(answer) = waiting.next().await {
                    answers.note(answer.as_ref().map_or(0, |answer| answer.status().as_u16()));
                    unread.extend(answer.ok());
                }
                if let Some(answer) = unread.first_mut() {
                    // Ends when the gateway closes the connection.
                    let _ = answer.body_mut().data().await;
                }
            }
        });
    }
}

/// Millions of items: each is a whole one.
pub fn tiny_items() -> Bytes {
    let item = r#"{"wrapped":"a"},"#;
    let mut body = String::from(r#"{"items":["#);
    while body.len() + item.len() + 2 < BATCH {
        body.push_str(item);
    }
    body.pop();
    body.push_str("]}");
    body.into()
}

/// Sends batches that are as large as one may be.
pub(super) fn large_batches(tasks: &mut JoinSet<()>, attacker: &Attacker) {
    let body = tiny_items();
    for machine in 0..BODIES {
        let (answers, token, body) = (attacker.answers.clone(), attacker.token.clone(), body.clone());
        on_connections(tasks, attacker, machine, WINDOW, move |connection| {
            let (answers, token, body) = (answers.clone(), token.clone(), body.clone());
            async move {
                while let Ok((response, stream)) = connection.try_open(Method::POST, &token, "/v1/batch/unwrap", None).await {
                    // The gateway may answer before it has the whole body, and wants no more of it then.
                    let (answer, ()) = futures::join!(try_answer_of(response), send_all(stream, body.clone()));
                    answers.note_end(status_of(answer.ok())).await;
                }
            }
        });
    }
}
