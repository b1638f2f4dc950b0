//! Repeated control-plane requests: requests with the same idempotency key and body get the same
//! response, and have one effect. A revocation ignores the key and is carried out each time.
//! Otherwise a stored response could report a revocation that was undone since. An enable, restore
//! or resume is carried out once; a repetition gets the object as it is now.

use aws_lc_rs::hmac;
use claviger_provider::KeyId;

use super::in_flight::UnderWay;
use super::{Authorized, Broker, Code, Failure, Operation, RequestContext};
use crate::store::Change;
use crate::store::model::{IdempotencyKey, IdempotencyRecord};

/// How a control-plane operation ended, for a protocol to render.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The object was created.
    Created,
    /// The change is complete.
    Done,
    /// The provider has accepted the request and has not finished it.
    Accepted,
}

/// A control-plane operation that succeeded.
#[derive(Debug)]
pub struct Completed<T> {
    /// How the first request ended.
    pub completion: Completion,
    /// The object as the operation left it; of a repeated request, its JSON text.
    pub object: T,
    /// The object's revision, if it has one.
    pub revision: Option<u64>,
}

/// The stored outcome of the first request with an idempotency key. Contains no secret.
#[derive(Debug)]
enum StoredOutcome {
    /// The request succeeded, with this object as JSON text.
    Completed(Completed<String>),
    /// The request created an object with a secret, and the first response contained the secret.
    /// Only the object's id is stored.
    SecretGone(String),
}

/// The column `status` of a stored row. Releases up to 0.1 stored the HTTP status of the answer, so
/// the numbers are those, and rows of earlier releases stay valid.
mod status {
    pub const DONE: u16 = 200;
    pub const CREATED: u16 = 201;
    pub const ACCEPTED: u16 = 202;
    pub const SECRET_GONE: u16 = 409;
}

/// What a request noted before it asked a provider for a change, so that its repetition makes no second
/// one. The column `body` of a row with [`IdempotencyRecord::BEGUN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// A provider key is made under this id.
    MakeAs(KeyId),
    /// A key is rotated whose primary version has this number.
    RotateFrom(u32),
}

impl Begun {
    fn to_body(self) -> String {
        match self {
            Self::MakeAs(id) => id.to_string(),
            Self::RotateFrom(version) => format!("version {version}"),
        }
    }

    fn of_body(body: &str) -> Option<Self> {
        match body.strip_prefix("version ") {
            Some(version) => version.parse().ok().map(Self::RotateFrom),
            None => body.parse().ok().map(Self::MakeAs),
        }
    }
}

impl StoredOutcome {
    fn to_row(&self, first: &First) -> IdempotencyRecord {
        let (status, body, etag) = match self {
            Self::Completed(completed) => {
                let status = match completed.completion {
                    Completion::Created => status::CREATED,
                    Completion::Done => status::DONE,
                    Completion::Accepted => status::ACCEPTED,
                };
                (status, &completed.object, completed.revision)
            }
            Self::SecretGone(id) => (status::SECRET_GONE, id, None),
        };
        IdempotencyRecord {
            key: first.key.key().clone(),
            body_hmac: first.body_hmac,
            status,
            body: body.clone(),
            etag: etag.map(|revision| revision.to_string()),
            created: first.now,
        }
    }

    fn from_row(row: IdempotencyRecord) -> Self {
        let completion = match row.status {
            status::SECRET_GONE => return Self::SecretGone(row.body),
            status::CREATED => Completion::Created,
            status::ACCEPTED => Completion::Accepted,
            _ => Completion::Done,
        };
        Self::Completed(Completed {
            completion,
            object: row.body,
            revision: row.etag.and_then(|etag| etag.parse().ok()),
        })
    }
}

/// The first request with an idempotency key. While it exists, others with the key are answered
/// `in_progress`.
struct First {
    key: UnderWay,
    /// Of the body and the object: a name can be that of another object by the time of a repetition.
    body_hmac: [u8; 32],
    /// Of the body alone, as releases up to 0.1 stored it.
    older_hmac: [u8; 32],
    now: i64,
    /// What an earlier attempt of this request began, whose outcome is not known.
    begun: Option<Begun>,
}

/// Either the answer to the first request with the key, or permission to be that first one.
pub enum Repeat {
    /// The first request, or one without a key.
    First(Once),
    /// The first request succeeded before, with this object.
    Answered(Completed<String>),
}

/// Permission to run an operation whose response is stored for repeated requests.
pub struct Once(Option<First>);

impl Once {
    /// Keeps the operation's object in the JSON text that `render` makes of it.
    pub fn keep<T>(self, render: impl Fn(&T) -> Result<String, Failure> + Send + Sync + 'static) -> Keep<T> {
        Keep {
            first: self.0,
            render: Box::new(render),
        }
    }
}

impl First {
    /// Whether the row is of a request with this body, for this object.
    fn is_of(&self, row: &IdempotencyRecord) -> bool {
        row.body_hmac == self.body_hmac || row.body_hmac == self.older_hmac
    }
}

type ToJson<T> = Box<dyn Fn(&T) -> Result<String, Failure> + Send + Sync>;

/// Makes the row that a use case commits together with its effect.
pub struct Keep<T> {
    first: Option<First>,
    render: ToJson<T>,
}

impl<T> Keep<T> {
    /// Keeps nothing: no request asked for the operation.
    pub(super) fn nothing() -> Self {
        Self {
            first: None,
            render: Box::new(|_| Ok(String::new())),
        }
    }

    /// The id that an earlier attempt of this request drew for a provider key. The provider may have one
    /// under it.
    pub(super) fn drawn(&self) -> Option<KeyId> {
        match self.first.as_ref()?.begun? {
            Begun::MakeAs(id) => Some(id),
            Begun::RotateFrom(_) => None,
        }
    }

    /// The number of the primary version that an earlier attempt of this request rotated, or tried to.
    pub(super) fn rotated_from(&self) -> Option<u32> {
        match self.first.as_ref()?.begun? {
            Begun::RotateFrom(version) => Some(version),
            Begun::MakeAs(_) => None,
        }
    }

    /// The row that keeps what the request begins until it has succeeded; `None` for a request without a
    /// key, and where an earlier attempt has kept the same.
    pub(super) fn begins(&self, begun: Begun) -> Option<IdempotencyRecord> {
        let first = self.first.as_ref().filter(|first| first.begun != Some(begun))?;
        Some(Self::begun_row(first, begun.to_body()))
    }

    /// The row that replaces the one of [`Keep::begins`] where nothing was begun. `None` where an earlier
    /// attempt may have begun it.
    pub(super) fn begins_nothing(&self) -> Option<IdempotencyRecord> {
        let first = self.first.as_ref().filter(|first| first.begun.is_none())?;
        Some(Self::begun_row(first, String::new()))
    }

    fn begun_row(first: &First, body: String) -> IdempotencyRecord {
        IdempotencyRecord {
            key: first.key.key().clone(),
            body_hmac: first.body_hmac,
            status: IdempotencyRecord::BEGUN,
            body,
            etag: None,
            created: first.now,
        }
    }

    /// Whether the response is stored in a row that does not exist yet.
    pub(super) fn keeps(&self) -> bool {
        self.first.as_ref().is_some_and(|first| first.begun.is_none())
    }

    /// The row for an operation that ends like this; `None` for a request without a key.
    pub(super) fn row(&self, completion: Completion, object: &T, revision: Option<u64>) -> Result<Option<IdempotencyRecord>, Failure> {
        let Some(first) = &self.first else { return Ok(None) };
        let kept = StoredOutcome::Completed(Completed {
            completion,
            object: (self.render)(object)?,
            revision,
        });
        Ok(Some(kept.to_row(first)))
    }

    /// The row for an operation that created a secret: only the object's id is kept.
    pub(super) fn secret_gone(&self, id: String) -> Option<IdempotencyRecord> {
        self.first.as_ref().map(|first| StoredOutcome::SecretGone(id).to_row(first))
    }
}

impl Broker {
    /// Keeps what a request begins, so that a repetition with its idempotency key does not begin it again,
    /// whatever became of the first attempt. To be called before a provider is asked.
    ///
    /// # Errors
    /// The store's, and `quota_exceeded`: nothing may be begun.
    pub(super) async fn keep_begun<T>(&self, cx: &RequestContext, keep: &Keep<T>, begun: Begun) -> Result<(), Failure> {
        if let Some(row) = keep.begins(begun) {
            let change = self.unannounced(cx).keeping(Some(row)).within(self.quotas_of(cx));
            self.store.mark_applied(cx.tenant(), &change).await?;
        }
        Ok(())
    }

    /// Forgets what [`Broker::keep_begun`] kept, where the provider certainly did nothing: what exists there
    /// is somebody else's.
    pub(super) async fn forget_begun<T>(&self, cx: &RequestContext, keep: &Keep<T>) {
        if cx.provider_may_have_changed() {
            return;
        }
        if let Some(row) = keep.begins_nothing() {
            let change = Change::unannounced().keeping(Some(row));
            if let Err(error) = self.store.mark_applied(cx.tenant(), &change).await {
                tracing::warn!(%error, "a repetition of a refused request may take what exists at the provider");
            }
        }
    }

    /// What tells requests with one idempotency key apart. No body has a zero byte, so none reads like one with an object.
    fn idempotency_hmac(&self, body: &[u8], object: Option<[u8; 16]>) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.idempotency_key);
        context.update(body);
        if let Some(object) = object {
            context.update(&[0]);
            context.update(&object);
        }
        let mut hmac = [0; 32];
        hmac.copy_from_slice(context.sign().as_ref());
        hmac
    }

    /// Looks up the request's idempotency key. Access is decided before, also for a repetition.
    /// `route` is the operation with its object, `body` the request's body.
    ///
    /// # Errors
    /// `in_progress` while the first request is under way, `idempotency_mismatch` when its body was
    /// another one, `already_created` when its answer held a secret.
    pub async fn once<O: Operation>(
        &self,
        authorized: &Authorized<O>,
        route: &str,
        key: Option<&str>,
        body: &[u8],
    ) -> Result<Repeat, Failure> {
        let Some(key) = key else { return Ok(Repeat::First(Once(None))) };
        let caller = authorized.caller();
        let key = IdempotencyKey {
            tenant: caller.tenant(),
            principal: caller.principal(),
            route: route.to_owned(),
            key: key.to_owned(),
        };
        let Some(key) = self.in_flight.begin(key) else {
            return Err(Failure::new(
                Code::InProgress,
                "Another request with this idempotency key is under way.",
            ));
        };
        let object = authorized.cx().subject(|subject| subject.object());
        let mut first = First {
            key,
            body_hmac: self.idempotency_hmac(body, object),
            older_hmac: self.idempotency_hmac(body, None),
            now: self.now(),
            begun: None,
        };
        let Some(row) = self.store.idempotent(first.key.key()).await? else {
            return Ok(Repeat::First(Once(Some(first))));
        };
        if row.status == IdempotencyRecord::BEGUN {
            // Another body may correct a request that failed, and makes another object.
            first.begun = Begun::of_body(&row.body).filter(|_| first.is_of(&row));
            return Ok(Repeat::First(Once(Some(first))));
        }
        if !first.is_of(&row) {
            return Err(Failure::new(
                Code::IdempotencyMismatch,
                "This idempotency key was used for a request with another body, or for another object that had this name.",
            )
            .advice("Use a new key for a new request."));
        }
        match StoredOutcome::from_row(row) {
            StoredOutcome::Completed(completed) => Ok(Repeat::Answered(completed)),
            StoredOutcome::SecretGone(id) => Err(Failure::new(
                Code::AlreadyCreated,
                format!("An earlier request with this idempotency key created it, as {id}; its secret is not kept."),
            )
            .created(id)
            .advice("Use the id, or create another one with a new idempotency key.")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::super::in_flight::InFlight;
    use super::{Completed, Completion, First, StoredOutcome};
    use crate::store::model::{IdempotencyKey, IdempotencyRecord};
    use claviger_provider::{PrincipalId, TenantId};
    use std::sync::Arc;

    fn first() -> First {
        let key = IdempotencyKey {
            tenant: TenantId::from_bytes([1; 16]),
            principal: PrincipalId::from_bytes([2; 16]),
            route: "POST /v1/keys".to_owned(),
            key: "once".to_owned(),
        };
        First {
            key: Arc::<InFlight>::default().begin(key).unwrap(),
            body_hmac: [3; 32],
            older_hmac: [5; 32],
            now: 4,
            begun: None,
        }
    }

    fn row(status: u16, body: &str, etag: Option<&str>) -> IdempotencyRecord {
        let first = first();
        IdempotencyRecord {
            key: first.key.key().clone(),
            body_hmac: first.body_hmac,
            status,
            body: body.to_owned(),
            etag: etag.map(str::to_owned),
            created: first.now,
        }
    }

    /// Releases up to 0.1 stored the HMAC of the body alone.
    #[test]
    fn a_row_of_an_earlier_release_is_of_the_request_with_its_body() {
        let mut row = row(200, "{}", None);
        for (hmac, is_of) in [([3; 32], true), ([5; 32], true), ([6; 32], false)] {
            row.body_hmac = hmac;
            assert_eq!(first().is_of(&row), is_of);
        }
    }

    #[test]
    fn rows_of_earlier_releases_are_read_and_written_alike() {
        for (completion, status, etag) in [
            (Completion::Done, 200, Some("7")),
            (Completion::Created, 201, None),
            (Completion::Accepted, 202, Some("8")),
        ] {
            let stored = row(status, "{}", etag);
            let kept = StoredOutcome::from_row(stored.clone());
            assert!(
                matches!(&kept, StoredOutcome::Completed(Completed { completion: read, object, .. }) if *read == completion && object == "{}")
            );
            assert_eq!(kept.to_row(&first()), stored);
        }
        let stored = row(409, "0123", None);
        let kept = StoredOutcome::from_row(stored.clone());
        assert!(matches!(&kept, StoredOutcome::SecretGone(id) if id == "0123"));
        assert_eq!(kept.to_row(&first()), stored);
    }
}
