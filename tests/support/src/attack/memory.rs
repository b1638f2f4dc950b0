//! Attacks on the gateway's memory.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Method;
use tokio::task::JoinSet;

use super::{Course, OF_ONE_MACHINE, STREAMS, WINDOW, on_connections, status_of};
use crate::Version;
use crate::raw::{Http1, send_all, try_answer_of};

/// Connections of HTTP/2 on which nothing is read.
pub(super) const DEAF: usize = 8;
/// The same of HTTP/1.1, each of which has one answer at a time: as many as a listener has room for beside others.
pub(super) const DEAF_TO_FILES: usize = 512;
/// More than twice as many as a credential may have pages in memory. Those of an authenticated caller make no room for
/// others, so that more of them would keep all connections of the listener at work.
pub(super) const DEAF_TO_PAGES: usize = 128;
/// Requests that are sent at once on each of these.
const PIPELINED: usize = 16;
/// Large bodies at once.
pub(super) const BODIES: usize = 4;
/// The longest body of a batch, in bytes.
pub const BATCH: usize = 16 << 20;
const BATCHES: &str = "/v1/batch/unwrap";

/// Requests a file of the documentation again and again, and reads nothing.
pub(super) fn unread_files(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    unread(tasks, course, "", "/docs/swagger-ui-bundle.js", DEAF_TO_FILES);
}

/// Requests a page of keys again and again, and reads nothing.
pub(super) fn unread_pages(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    unread(tasks, course, &course.attacker.token, "/v1/keys?page_size=1000", DEAF_TO_PAGES);
}

/// Requests a page several times on each connection, and reads nothing until the gateway closes it. `over_http1` is the
/// number of connections of HTTP/1.1.
fn unread(tasks: &mut JoinSet<()>, course: &Course<'_>, token: &str, path: &'static str, over_http1: usize) {
    match course.version {
        Version::Http1 => {
            for number in 0..over_http1 / course.parts {
                unread_over_http1(tasks, course, number / OF_ONE_MACHINE, token.to_owned(), path);
            }
        }
        Version::Http2 => {
            for machine in 0..DEAF / course.parts {
                unread_over_http2(tasks, course, machine, token.to_owned(), path);
            }
        }
    }
}

/// One connection. Of the first answer it reads the head, which the others wait for.
fn unread_over_http1(tasks: &mut JoinSet<()>, course: &Course<'_>, machine: usize, token: String, path: &'static str) {
    let (endpoint, answers) = (course.machine(machine), course.answers.clone());
    tasks.spawn(async move {
        loop {
            let answered = async {
                let mut requests = Http1::try_get(&endpoint, &token, path, PIPELINED).await.ok()?;
                let head = requests.try_head().await.ok()?;
                Some((requests, head.status))
            };
            let answered = answered.await;
            answers.note_end(answered.as_ref().map(|(_, status)| *status)).await;
            if let Some((requests, _)) = answered {
                requests.until_closed().await;
            }
        }
    });
}

/// One connection, whose streams have empty windows.
fn unread_over_http2(tasks: &mut JoinSet<()>, course: &Course<'_>, machine: usize, token: String, path: &'static str) {
    let answers = course.answers.clone();
    on_connections(tasks, course, machine, 0, move |connection| {
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
            connection.closed().await;
        }
    });
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
pub(super) fn large_batches(tasks: &mut JoinSet<()>, course: &Course<'_>) {
    let body = tiny_items();
    for machine in 0..BODIES / course.parts {
        match course.version {
            Version::Http1 => large_batches_over_http1(tasks, course, machine, body.clone()),
            Version::Http2 => large_batches_over_http2(tasks, course, machine, body.clone()),
        }
    }
}

fn large_batches_over_http1(tasks: &mut JoinSet<()>, course: &Course<'_>, machine: usize, body: Bytes) {
    let (endpoint, answers, token) = (course.machine(machine), course.answers.clone(), course.attacker.token.clone());
    tasks.spawn(async move {
        loop {
            let answer = async {
                let request = Http1::try_post(&endpoint, &token, BATCHES, body.len()).await.ok()?;
                request.try_exchange(&body).await
            };
            answers.note_end(status_of(answer.await)).await;
        }
    });
}

fn large_batches_over_http2(tasks: &mut JoinSet<()>, course: &Course<'_>, machine: usize, body: Bytes) {
    let (answers, token) = (course.answers.clone(), course.attacker.token.clone());
    on_connections(tasks, course, machine, WINDOW, move |connection| {
        let (answers, token, body) = (answers.clone(), token.clone(), body.clone());
        async move {
            while let Ok((response, stream)) = connection.try_open(Method::POST, &token, BATCHES, None).await {
                // The gateway may answer before it has the whole body, and wants no more of it then.
                let (answer, ()) = futures::join!(try_answer_of(response), send_all(stream, body.clone()));
                answers.note_end(status_of(answer.ok())).await;
            }
        }
    });
}
