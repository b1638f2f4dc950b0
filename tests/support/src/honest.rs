//! The honest tenants: each wraps and unwraps with a token of its own, one call after the other,
//! while an attack lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::objects::token;
use crate::raw::PATIENCE;
use crate::{Answer, Client, Started};

/// The honest tenants of a test; each has a key `orders`.
pub const HONEST: [&str; 2] = ["bank", "clinic"];

/// Time between two calls of a tenant.
const PAUSE: Duration = Duration::from_millis(5);
/// Calls of each tenant that an attack has to see at least.
const LEAST: usize = 20;

/// The honest tenants at work.
pub struct Honest {
    stop: Arc<AtomicBool>,
    answered: Vec<Arc<AtomicUsize>>,
    tenants: JoinSet<Vec<Duration>>,
}

impl Honest {
    /// At work on this gateway, straight from this machine.
    pub async fn begin(started: &Started) -> Self {
        Self::of(HONEST.map(|name| started.tenant(name))).await
    }

    /// At work as the tenants for which these operator's clients act.
    pub async fn of(clients: [Client; 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut answered = Vec::new();
        let mut tenants = JoinSet::new();
        for tenant in clients {
            let issued = token(&tenant, "application", &["Wrap", "Unwrap"], Some(&["orders"])).await;
            let client = tenant.with_token(issued["token"].as_str().expect("a token"));
            // From here on the gateway knows the credential.
            wrap(&client).await.expect_status(200);
            let count = Arc::new(AtomicUsize::new(0));
            answered.push(Arc::clone(&count));
            tenants.spawn(work(client, Arc::clone(&stop), count));
        }
        Self { stop, answered, tenants }
    }

    /// Ends the work and gives back how long each call took.
    ///
    /// # Panics
    /// If one of their calls was refused, or they did not get on.
    pub async fn end(mut self) -> Vec<Duration> {
        let before: Vec<usize> = self.answered.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let on = async {
            for (count, before) in self.answered.iter().zip(&before) {
                while count.load(Ordering::Relaxed) < (before + 1).max(LEAST) {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, on).await.expect("the honest tenants get on");
        self.stop.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        while let Some(tenant) = self.tenants.join_next().await {
            took.extend(tenant.expect("no call of an honest tenant is refused"));
        }
        took
    }
}

async fn wrap(client: &Client) -> Answer {
    client.post("/v1/keys/orders/wrap", &json!({"plaintext": "aG9uZXN0"})).await
}

async fn work(client: Client, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let wrapped = wrap(&client).await;
        took.push(begun.elapsed());
        let wrapped = wrapped.expect_status(200);
        let begun = Instant::now();
        let opened = client.post("/v1/unwrap", &json!({"wrapped": wrapped["wrapped"]})).await;
        took.push(begun.elapsed());
        assert_eq!(opened.expect_status(200)["plaintext"], "aG9uZXN0");
        answered.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    took
}

/// The 99th percentile.
pub fn p99(took: Vec<Duration>) -> Duration {
    percentile(took, 99)
}

/// The time within which so many of a hundred ended.
///
/// # Panics
/// Without any.
pub fn percentile(mut took: Vec<Duration>, of_hundred: usize) -> Duration {
    took.sort();
    took[(took.len() * of_hundred).div_ceil(100) - 1]
}
