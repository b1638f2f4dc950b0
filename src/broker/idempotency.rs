//! Repeated control-plane requests: the same key and body get the same answer, once.

use std::sync::Arc;

use aws_lc_rs::hmac;
use dashmap::DashSet;

use super::{Broker, Code, Failure, RequestContext};
use crate::store::model::{IdempotencyKey, IdempotencyRecord};

/// The idempotency keys whose first request is under way.
#[derive(Debug, Default)]
pub struct InFlight(DashSet<IdempotencyKey>);

/// Either the answer of the earlier request, or leave to make one.
pub enum Replay {
    /// The request carries no key.
    NoKey,
    /// The first request with this key.
    First(First),
    /// It was answered before.
    Answered(IdempotencyRecord),
}

/// The first request with a key; while it lives, others with the key are `in_progress`.
pub struct First {
    in_flight: Arc<InFlight>,
    key: IdempotencyKey,
    body_hmac: [u8; 32],
    now: i64,
}

impl First {
    /// The record of this answer. It must hold no secret.
    pub fn record(&self, status: u16, body: String, etag: Option<u64>) -> IdempotencyRecord {
        IdempotencyRecord {
            key: self.key.clone(),
            body_hmac: self.body_hmac,
            status,
            body,
            etag: etag.map(|revision| revision.to_string()),
            created: self.now,
        }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.in_flight.0.remove(&self.key);
    }
}

impl Broker {
    /// Looks the key up. Call it after access was decided: a replay is decided again.
    ///
    /// # Errors
    /// `in_progress` while the first request is under way, `idempotency_mismatch` when its
    /// body was another one.
    pub async fn idempotency(&self, cx: &RequestContext, route: &str, key: Option<&str>, body: &[u8]) -> Result<Replay, Failure> {
        let Some(key) = key else { return Ok(Replay::NoKey) };
        let key = IdempotencyKey {
            tenant: cx.tenant(),
            principal: cx.caller().principal(),
            route: route.to_owned(),
            key: key.to_owned(),
        };
        let mut body_hmac = [0; 32];
        body_hmac.copy_from_slice(hmac::sign(&self.idempotency_key, body).as_ref());
        if !self.in_flight.0.insert(key.clone()) {
            return Err(Failure::new(
                Code::InProgress,
                "Another request with this idempotency key is under way.",
            ));
        }
        let first = First {
            in_flight: Arc::clone(&self.in_flight),
            key,
            body_hmac,
            now: self.now(),
        };
        match self.store.idempotent(&first.key).await? {
            None => Ok(Replay::First(first)),
            Some(kept) if kept.body_hmac == first.body_hmac => Ok(Replay::Answered(kept)),
            Some(_) => Err(Failure::new(
                Code::IdempotencyMismatch,
                "This idempotency key was used for a request with another body.",
            )
            .advice("Use a new key for a new request.")),
        }
    }
}
