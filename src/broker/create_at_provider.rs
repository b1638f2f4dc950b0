//! Has a provider create the key of a change. The creation of a new key has a time of its own: where the request
//! ends earlier and the provider was asked already, it goes on, and its answer is kept until
//! [`Broker::finish_creations`] takes it.

use std::sync::Arc;
use std::time::Instant;

use claviger_provider::{KeyDescription, KeyRequest};
use tokio::sync::oneshot;

use super::create_key::refused_creation;
use super::reach::Reach;
use super::{Broker, Failure, Keep, RequestContext};
use crate::audit;
use crate::keys::Reserved;
use crate::store::Change;
use crate::store::model::{Key, Wanted};

/// What to do after a create that ran out of time.
const REPEAT: &str =
    "Repeat the request: it takes up what the provider made. While the provider is still at work, it is answered `in_progress`.";

impl Broker {
    /// Announces a change that begins with a provider key, and has the provider create or adopt it. Returns the
    /// change to commit, which ends the creation. `reserved` is the name of a new key, whose creation may go on after
    /// the request's deadline; nothing else of that name begins meanwhile.
    ///
    /// # Errors
    /// Those of [`Broker::announce`], what the provider reports, and `deadline_exceeded`.
    #[allow(clippy::too_many_arguments, reason = "each is a part of one creation")]
    pub(super) async fn create_at_provider(
        &self,
        cx: &RequestContext,
        keep: &Keep<Key>,
        through: &Reach,
        request: &KeyRequest,
        wanted: Wanted,
        change: audit::StateChange,
        reserved: Option<Arc<Reserved>>,
    ) -> Result<(Change, KeyDescription), Failure> {
        if let Some(name) = &request.adopt {
            let request = KeyRequest {
                taken: self.is_taken(cx.tenant(), &through.row, name).await?,
                ..request.clone()
            };
            let change = self.announce(cx, change).await?;
            // It makes nothing that could be left there.
            cx.set_noted();
            return Ok((change, self.adopted(cx, through, &request).await?));
        }
        self.begin_creation(cx, keep, request, through, wanted).await?;
        let created = async {
            let change = self.announce(cx, change).await?;
            let described = match reserved {
                Some(reserved) => self.create_in_its_own_time(cx, through, request, reserved).await?,
                None => {
                    let created = through.pipeline.create_key(&cx.op_context(), request).await;
                    created.map_err(refused_creation)?
                }
            };
            Ok((change.ending(request.made_as), described))
        };
        match created.await {
            Ok(created) => Ok(created),
            Err(failure) => {
                self.forget_creation(cx, keep, request).await;
                Err(failure)
            }
        }
    }

    /// Waits for a creation until the request's deadline. It goes on then if the provider was asked, as long as
    /// [`LateAnswers`](super::late_answers::LateAnswers) has room: what still waits for its turn or a login would be
    /// sent for a caller who is gone, and whose credential or tenant may have ended.
    async fn create_in_its_own_time(
        &self,
        cx: &RequestContext,
        through: &Reach,
        request: &KeyRequest,
        reserved: Arc<Reserved>,
    ) -> Result<KeyDescription, Failure> {
        let (pipeline, mut call) = (through.pipeline.clone(), cx.op_context());
        call.deadline = Instant::now() + pipeline.creation_timeout();
        let (tenant, connection, until) = (cx.tenant(), through.row.id, cx.info().deadline);
        let (background, late_answers) = (Arc::clone(&self.background), Arc::clone(&self.late_answers));
        // A stop waits for it as for a request.
        let (request, accepted) = (request.clone(), self.accept_operation());
        let (mut answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            // The name is free once nobody is at work on the creation.
            let _under_way = (reserved, accepted);
            let mut creating = Box::pin(pipeline.create_key(&call, &request));
            let in_time = tokio::select! {
                biased;
                // First, so that nothing is sent after the deadline.
                () = tokio::time::sleep_until(until.into()) => None,
                () = answer.closed() => None,
                created = &mut creating => Some(created),
            };
            // This task alone drives the call: between the question and the end, none is sent.
            let was_asked = call.trace().is_unclear() || call.trace().confirmed() > 0;
            let goes_on = match in_time {
                None if was_asked => late_answers.begin(tenant, connection, pipeline.concurrency()),
                None | Some(_) => None,
            };
            let Some(goes_on) = goes_on else {
                drop(creating);
                let _ = answer.send(in_time);
                return;
            };
            // The provider may do more of it.
            call.trace().set_unclear();
            let _ = answer.send(None);
            let created = creating.await;
            // The request has its record already.
            background.add(tenant, connection, call.take_calls());
            let (key, made_as) = (request.key_id, request.made_as);
            match created {
                Ok(described) => goes_on.keep(made_as, described),
                Err(error) => tracing::warn!(%tenant, %key, %made_as, %error, "a creation failed whose request had ended"),
            }
        });
        match answered.await {
            Ok(Some(created)) => Ok(created.map_err(refused_creation)?),
            Ok(None) if cx.provider_may_have_changed() => Err(Failure::deadline().advice(REPEAT)),
            Ok(None) => Err(Failure::deadline()),
            Err(_) => Err(Failure::internal(&"the creation of a key panicked")),
        }
    }
}
