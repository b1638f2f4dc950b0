//! The ways in which a credential ends, each with a token that a thief has.

use std::time::Duration;

use claviger_test_support::{Client, records};
use reqwest::Method;
use serde_json::{Value, json};

use crate::every_route::everything;
use crate::world::{HOSTILE, PATIENCE, World};

/// The life of a token that is to expire.
const SHORT: Duration = Duration::from_secs(4);

/// How a credential ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Token,
    Ancestor,
    Principal,
    Tenant,
    Expiry,
}

/// A token in the wrong hands.
pub struct Stolen {
    pub text: String,
    /// Its id, which records name.
    pub id: Value,
    /// What ends it: a path to delete.
    ended_by: String,
}

/// Issues a token to a principal; the answer.
async fn issue(by: &Client, principal: &str, life: Duration, kind: &str) -> Value {
    let life = format!("{}s", life.as_secs());
    let body = json!({"operations": everything(), "expires_in": life, "kind": kind});
    let path = format!("/v1/principals/{principal}/tokens");
    by.post(&path, &body).await.expect_status(201)
}

fn path_of(token: &Value) -> String {
    format!(
        "/v1/principals/{}/tokens/{}",
        token["principal"].as_str().unwrap(),
        token["id"].as_str().unwrap()
    )
}

impl Stolen {
    /// The path whose deletion ends it.
    pub fn ended_by(&self) -> &str {
        &self.ended_by
    }
}

impl Cut {
    /// A token of the hostile tenant that this will end.
    pub async fn stolen(self, evil: &Client) -> Stolen {
        for name in ["issuer", "thief"] {
            let made = evil.post("/v1/principals", &json!({"name": name})).await;
            made.expect_status(201);
        }
        let hour = Duration::from_secs(3600);
        let (token, ended_by) = match self {
            Self::Token | Self::Tenant => {
                let token = issue(evil, "thief", hour, "standing").await;
                let path = path_of(&token);
                (token, path)
            }
            Self::Principal => (issue(evil, "thief", hour, "standing").await, "/v1/principals/thief".to_owned()),
            Self::Expiry => (issue(evil, "thief", SHORT, "standing").await, String::new()),
            Self::Ancestor => {
                let issuer = issue(evil, "issuer", hour, "standing").await;
                let of_issuer = evil.with_token(issuer["token"].as_str().unwrap());
                (issue(&of_issuer, "thief", hour / 2, "delegated").await, path_of(&issuer))
            }
        };
        Stolen {
            text: token["token"].as_str().unwrap().to_owned(),
            id: token["id"].clone(),
            ended_by,
        }
    }

    /// Ends it. A cut is answered once it is in force.
    pub async fn make(self, world: &World, stolen: &Stolen) {
        match self {
            Self::Token | Self::Ancestor | Self::Principal => assert_eq!(world.evil.delete(&stolen.ended_by).await.status, 204),
            Self::Tenant => {
                let path = format!("/v1/tenants/{HOSTILE}/suspend");
                world.started.operator().post_empty(&path).await.expect_status(200);
            }
            Self::Expiry => {
                let client = world.evil.with_token(&stolen.text);
                let over = async {
                    while client.get("/v1/whoami").await.status != 401 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::time::timeout(PATIENCE, over).await.expect("it expires");
            }
        }
    }

    /// What the credential gets from then on.
    pub fn refusal(self) -> (u16, &'static str) {
        match self {
            Self::Tenant => (403, "permission_denied"),
            Self::Token | Self::Ancestor | Self::Principal | Self::Expiry => (401, "unauthenticated"),
        }
    }

    /// Stops the test unless an answer that came after the cut refuses all, and tells nothing else.
    #[track_caller]
    pub fn refused(self, what: &str, (status, body): &(u16, Value)) {
        assert_eq!(
            (*status, body["code"].as_str()),
            (self.refusal().0, Some(self.refusal().1)),
            "{self:?} {what}: {body}"
        );
        let members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        for member in members {
            let known = ["type", "title", "status", "detail", "code", "request_id", "retryable", "what_to_do"];
            assert!(known.contains(&member), "{self:?} {what}: {body}");
        }
    }
}

/// The records of a request, by the problem that it was answered.
pub fn records_of_problem(world: &World, body: &Value) -> Vec<Value> {
    let all = records(&world.gateway.data()).into_iter();
    all.filter(|record| record["request_id"] == body["request_id"]).collect()
}

/// What the hostile tenant has, as the operator sees it.
pub async fn belongings(evil: &Client) -> Value {
    let mut all = json!({});
    for path in [
        "/v1/keys",
        "/v1/keys/orders/versions",
        "/v1/connections",
        "/v1/principals/accomplice/tokens",
        "/v1/principals/accomplice",
    ] {
        all[path] = evil.send(evil.request(Method::GET, path)).await.expect_status(200);
    }
    all
}
