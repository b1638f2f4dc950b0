//! Logins that the server may count as refused: it locks a role after a few.

use claviger_provider::{ErrorKind, Provider};
use serde_json::{Value, json};
use wiremock::matchers::{any, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::{calls, connect, context, cx, refusal, wrapped};

#[tokio::test]
async fn a_login_that_may_lock_a_role_is_sent_to_a_server_that_takes_logins() {
    let health = |status, body: Value| ResponseTemplate::new(status).set_body_json(body);
    let page = |status| ResponseTemplate::new(status).set_body_raw("<html>no</html>", "text/html");
    let sealed = json!({"initialized": true, "sealed": true, "version": "2.4.0"});
    let standby = json!({"initialized": true, "sealed": false, "standby": true, "version": "2.4.0"});
    for (health, kind, sent) in [
        (health(503, sealed), ErrorKind::UpstreamUnavailable, 0),
        (page(429), ErrorKind::RateLimited, 0),
        (page(502), ErrorKind::UpstreamUnavailable, 0),
        (page(504), ErrorKind::UpstreamUnavailable, 0),
        // It hands logins on to the active server.
        (health(200, standby), ErrorKind::ProviderDenied, 1),
        // Something in between hides the call.
        (page(403), ErrorKind::ProviderDenied, 1),
        (refusal(404, "unsupported path"), ErrorKind::ProviderDenied, 1),
    ] {
        let server = MockServer::builder().start().await;
        Mock::given(path("/v1/sys/health")).respond_with(health).mount(&server).await;
        let login = refusal(400, "invalid role or secret ID");
        Mock::given(path("/v1/auth/approle/login")).respond_with(login).mount(&server).await;
        let provider = connect(&server, json!({"approle": {"role_id": "r", "secret_id": "s"}}));
        for _ in 0..3 {
            let error = provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
            assert_eq!(error.kind, kind, "{error}");
        }
        assert_eq!(calls(&server, "/v1/auth/approle/login").await.len(), sent);
    }
}

#[tokio::test]
async fn what_a_gateway_says_of_a_login_counts_as_refused() {
    for status in [502, 504] {
        let server = MockServer::builder().start().await;
        let login = ResponseTemplate::new(status).set_body_raw("<html>no</html>", "text/html");
        Mock::given(path("/v1/auth/approle/login")).respond_with(login).mount(&server).await;
        Mock::given(any())
            .respond_with(refusal(404, "unsupported path"))
            .mount(&server)
            .await;
        let provider = connect(&server, json!({"approle": {"role_id": "r", "secret_id": "s"}}));
        for number in 0..8 {
            let error = provider.unwrap_key(&cx(), &wrapped(), &context()).await.unwrap_err();
            assert_eq!(
                (error.kind, error.repeated),
                (ErrorKind::UpstreamUnavailable, number > 0),
                "{error}"
            );
        }
        assert_eq!(calls(&server, "/v1/auth/approle/login").await.len(), 1);
    }
}
