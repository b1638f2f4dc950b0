//! A tenant that revokes while an attack lasts, and how long each revocation takes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::objects::{text_of, token};
use crate::{Answer, Client};

/// A tenant's own credential that may revoke.
pub struct Guard {
    own: Client,
    /// The operator, acting for the tenant: undoes what was revoked, and issues the tokens. It waits
    /// for nothing that the tenant has under way.
    operator: Client,
}

impl Guard {
    /// Of the tenant for which this operator's client acts: makes its key `guarded`.
    pub async fn of(operator: &Client) -> Self {
        crate::make_key(operator, "guarded").await;
        let issued = token(operator, "guard", &["Sever", "Disable", "ManageTokens"], None).await;
        Self {
            own: operator.with_token(text_of(&issued)),
            operator: operator.clone(),
        }
    }

    /// Severs, disables and revokes once each, and undoes it. Adds how long each took.
    ///
    /// # Panics
    /// When a revocation is refused.
    pub async fn round(&self, took: &mut Vec<Duration>) {
        self.sever(took).await;
        self.restore().await;
        let disable = "/v1/keys/guarded/disable";
        self.timed(took, disable, 200, self.own.post_empty(disable)).await;
        self.operator.post_empty("/v1/keys/guarded/enable").await;
        let body = json!({"operations": ["Sever"], "expires_in": "1h"});
        let issued = self.operator.post("/v1/principals/guard/tokens", &body).await;
        if let Some(id) = issued.body["id"].as_str() {
            let path = format!("/v1/principals/guard/tokens/{id}");
            self.timed(took, &path, 204, self.own.delete(&path)).await;
        }
    }

    /// Severs the tenant's connection. Adds how long it took.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn sever(&self, took: &mut Vec<Duration>) {
        let path = "/v1/connections/embedded/sever";
        self.timed(took, path, 200, self.own.post_empty(path)).await;
    }

    /// Restores it. Under load, what lifts a revocation waits as any other change does, and may be
    /// refused.
    pub async fn restore(&self) {
        self.operator.post_empty("/v1/connections/embedded/restore").await;
    }

    async fn timed(&self, took: &mut Vec<Duration>, path: &str, status: u16, revocation: impl Future<Output = Answer>) {
        let begun = Instant::now();
        let done = revocation.await;
        let time = begun.elapsed();
        took.push(time);
        assert_eq!(done.status, status, "{path} is refused after {time:?}: {}", done.text);
    }
}
