//! With a mocked gateway: what a real one does not answer on demand. No other program is needed.

use std::time::{Duration, Instant};

use claviger_client::{Client, ErrorKind};
use notes::{Failure, Notes};
use serde_json::json;
use tempfile::TempDir;
use wiremock::matchers::{body_partial_json, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// A token of the right form.
const TOKEN: &str = "clv_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// 32 bytes, in base64.
const PLAINTEXT: &str = "mPTmPsoNC9GPwlqsAFCgpgl/z2zsYZ0Zv3Wp4cBVq8Y=";
const DATA_KEYS: &str = "/v1/keys/notes/data-keys";
const UNWRAP: &str = "/v1/unwrap";

/// A mocked gateway, and notes in a folder of their own. The mock's expectations are verified when it is dropped.
struct Mocked {
    gateway: MockServer,
    folder: TempDir,
}

impl Mocked {
    async fn new() -> Self {
        Self {
            gateway: MockServer::start().await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn notes(&self) -> Notes {
        let client = Client::builder(self.gateway.uri()).token(TOKEN).retries(1).build().unwrap();
        Notes::new(client, self.folder.path())
    }

    /// Answers a path with this, so many times.
    async fn answers(&self, to: &str, answer: ResponseTemplate, times: u64) {
        let mock = Mock::given(method("POST")).and(path(to)).respond_with(answer);
        mock.up_to_n_times(times).expect(times).mount(&self.gateway).await;
    }

    fn is_empty(&self) -> bool {
        self.folder.path().read_dir().unwrap().next().is_none()
    }
}

fn data_key() -> ResponseTemplate {
    let body = json!({"key": "notes", "version": 1, "wrapped": "clv1.any", "plaintext": PLAINTEXT});
    ResponseTemplate::new(200).set_body_json(body)
}

fn unwrapped() -> ResponseTemplate {
    let body = json!({"key": "notes", "version": 1, "plaintext": PLAINTEXT, "cached": false});
    ResponseTemplate::new(200).set_body_json(body)
}

/// As a gateway refuses a request: RFC 9457, with a code and whether the same request may succeed later.
fn problem(status: u16, code: &str, retryable: bool) -> ResponseTemplate {
    let body = json!({
        "type": format!("urn:claviger:error:{code}"), "title": "Refused", "status": status, "detail": "The mock refuses.",
        "code": code, "request_id": "01936f0e5a7c4b1e9d2f8a6b3c5d7e9f", "retryable": retryable,
    });
    ResponseTemplate::new(status).set_body_raw(body.to_string(), "application/problem+json")
}

#[tokio::test]
async fn a_note_comes_back_and_is_bound_to_its_name() {
    let mocked = Mocked::new().await;
    for (to, answer) in [(DATA_KEYS, data_key()), (UNWRAP, unwrapped())] {
        let bound = body_partial_json(json!({"context": {"note": "shopping"}}));
        let mock = Mock::given(method("POST")).and(path(to)).and(bound).respond_with(answer);
        mock.expect(1).mount(&mocked.gateway).await;
    }
    mocked.notes().write("shopping", b"milk").await.unwrap();
    assert_eq!(mocked.notes().read("shopping").await.unwrap(), b"milk");
}

#[tokio::test]
async fn a_gateway_that_is_busy_is_asked_again_when_it_says() {
    let mocked = Mocked::new().await;
    let busy = problem(503, "circuit_open", true).insert_header("Retry-After", "1");
    mocked.answers(DATA_KEYS, busy, 1).await;
    mocked.answers(DATA_KEYS, data_key(), 1).await;
    let began = Instant::now();
    mocked.notes().write("shopping", b"milk").await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_gateway_that_stays_busy_is_told_as_such() {
    let mocked = Mocked::new().await;
    let busy = problem(503, "circuit_open", true).insert_header("Retry-After", "1");
    mocked.answers(DATA_KEYS, busy, 2).await;
    let failure = mocked.notes().write("shopping", b"milk").await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Later(error) if error.kind() == ErrorKind::ProviderUnavailable),
        "{failure:?}"
    );
    assert!(mocked.is_empty());
}

#[tokio::test]
async fn a_note_that_is_refused_is_not_asked_for_again() {
    let mocked = Mocked::new().await;
    mocked.answers(DATA_KEYS, data_key(), 1).await;
    mocked.notes().write("shopping", b"milk").await.unwrap();
    mocked.answers(UNWRAP, problem(422, "ciphertext_rejected", false), 1).await;
    let failure = mocked.notes().read("shopping").await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Refused(text) if text.contains("ciphertext_rejected")),
        "{failure:?}"
    );
}

#[tokio::test]
async fn the_page_of_a_proxy_is_no_answer() {
    let page = |status, text: &str| ResponseTemplate::new(status).set_body_raw(text, "text/html");
    let mocked = Mocked::new().await;
    mocked.answers(DATA_KEYS, page(502, "<html>Bad gateway</html>"), 2).await;
    let failure = mocked.notes().write("shopping", b"milk").await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Later(error) if error.kind() == ErrorKind::UnexpectedResponse),
        "{failure:?}"
    );
    // It takes success for no data key.
    mocked.answers(DATA_KEYS, page(200, "<html>Sign in</html>"), 1).await;
    let failure = mocked.notes().write("shopping", b"milk").await.unwrap_err();
    assert!(matches!(&failure, Failure::Other(text) if text.contains("proxy")), "{failure:?}");
    assert!(mocked.is_empty());
}

#[tokio::test]
async fn a_code_of_a_later_gateway_is_decided_by_what_it_says_of_itself() {
    let mocked = Mocked::new().await;
    mocked.answers(DATA_KEYS, problem(409, "of_a_later_release", false), 1).await;
    let failure = mocked.notes().write("shopping", b"milk").await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Other(text) if text.contains("of_a_later_release")),
        "{failure:?}"
    );
    mocked.answers(DATA_KEYS, problem(503, "of_a_later_release", true), 2).await;
    let failure = mocked.notes().write("shopping", b"milk").await.unwrap_err();
    assert!(matches!(failure, Failure::Later(_)), "{failure:?}");
}
