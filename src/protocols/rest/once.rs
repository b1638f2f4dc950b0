//! Control-plane POSTs, which a caller can repeat under an idempotency key.

use std::future::Future;

use http::{HeaderName, StatusCode};
use serde::Serialize;

use super::header::{Unusable, single};
use super::request::ApiRequest;
use super::response::ApiResponse;
use super::response::Payload;
use crate::broker::{Authorized, Completed, Completion, Failure, Guarded, Keep, Names, Once, Operation, Repeat};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl ApiRequest {
    /// Admits a control-plane POST and runs its use case, or answers a repetition of the request, one with
    /// the same idempotency key. `response` is the body that shows the use case's object.
    ///
    /// `repeated` makes the answer to a repetition: [`first_answer`], except for what undoes a
    /// revocation (enable, restore, resume). Another revocation may have come in between, so these
    /// return the object as it is now. (A revocation itself is carried out each time and does not
    /// call this.)
    ///
    /// # Errors
    /// Those of admission, of the use case and of `repeated`; `in_progress`, `idempotency_mismatch`
    /// and `already_created` for a repeated request; `invalid_request` for a malformed key.
    pub async fn once<O, T, W, Fut>(
        &self,
        named: impl Names<O::Object>,
        response: fn(&T) -> W,
        run: impl FnOnce(Authorized<O>, Keep<T>) -> Fut + Send,
        repeated: impl FnOnce(&Authorized<O>, Completed<String>) -> Result<ApiResponse, Failure> + Send,
    ) -> Result<ApiResponse, Failure>
    where
        O: Operation,
        T: Send + 'static,
        W: Serialize + 'static,
        Fut: Future<Output = Result<Guarded<Completed<T>>, Failure>> + Send,
    {
        let authorized = self.admit::<O>(named).await?;
        match self.repeat(&authorized).await? {
            Repeat::First(once) => completed_reply(run(authorized, keeping(once, response)).await?, response),
            Repeat::Answered(before) => repeated(&authorized, before),
        }
    }

    async fn repeat<O: Operation>(&self, authorized: &Authorized<O>) -> Result<Repeat, Failure> {
        let key = self.idempotency_key()?;
        // The same request, whichever way its client leaves out a body. No route with a required body takes these.
        let body = match &self.body[..] {
            b"null" | b"{}" => b"",
            body => body,
        };
        self.broker.once(authorized, &self.route(), key, body).await
    }

    fn idempotency_key(&self) -> Result<Option<&str>, Failure> {
        match single(&self.head.headers, IDEMPOTENCY_KEY) {
            Ok(None) => Ok(None),
            Ok(Some(text)) if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) => Ok(Some(text)),
            Ok(Some(_)) | Err(Unusable) => Err(Failure::invalid(
                "header:Idempotency-Key",
                "1 to 255 printable ASCII characters without space, once",
            )),
        }
    }
}

/// Keeps the body that shows the operation's object.
fn keeping<T: 'static, W: Serialize + 'static>(once: Once, response: fn(&T) -> W) -> Keep<T> {
    once.keep(move |object| serde_json::to_string(&response(object)).map_err(|error| Failure::internal(&error)))
}

/// The answer of an operation that succeeded, with the object's etag if it has one.
pub fn completed_reply<T, W: Serialize>(guarded: Guarded<Completed<T>>, response: impl FnOnce(&T) -> W) -> Result<ApiResponse, Failure> {
    Ok(ApiResponse::One(guarded.try_map(|completed| {
        let payload = Payload::json(status(completed.completion), &response(&completed.object))?;
        Ok(match completed.revision {
            Some(revision) => payload.etag(revision),
            None => payload,
        })
    })?))
}

/// Repeats the answer that the first request got, for [`ApiRequest::once`].
///
/// # Errors
/// None.
pub fn first_answer<O: Operation>(_: &Authorized<O>, before: Completed<String>) -> Result<ApiResponse, Failure> {
    let payload = Payload::kept(status(before.completion).as_u16(), before.object, before.revision);
    Ok(ApiResponse::One(Guarded::free(payload)))
}

const fn status(completion: Completion) -> StatusCode {
    match completion {
        Completion::Created => StatusCode::CREATED,
        Completion::Done => StatusCode::OK,
        Completion::Accepted => StatusCode::ACCEPTED,
    }
}
