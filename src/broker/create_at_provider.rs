//! Has a provider create the key of a change. The creation of a new key has a time of its own: where the request
//! ends earlier, it goes on, and its answer is kept until [`Broker::finish_creations`] takes it.

use std::sync::Arc;
use std::time::Instant;

use claviger_provider::{KeyDescription, KeyRequest};
use tokio::sync::oneshot;

use super::create_key::{refused_adoption, refused_creation};
use super::late_answers::GoesOn;
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
        if request.adopt.is_some() {
            let change = self.announce(cx, change).await?;
            let adopted = through.pipeline.create_key(&cx.op_context(), request).await;
            return Ok((change, adopted.map_err(refused_adoption)?));
        }
        self.begin_creation(cx, keep, request, through, wanted).await?;
        let created = async {
            let change = self.announce(cx, change).await?;
            let goes_on = reserved.and_then(|reserved| Some((reserved, self.late_answers.begin(cx.tenant())?)));
            let described = match goes_on {
                Some((reserved, goes_on)) => self.create_in_its_own_time(cx, through, request, reserved, goes_on).await?,
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

    /// Waits for a creation until the request's deadline, and lets it go on then.
    async fn create_in_its_own_time(
        &self,
        cx: &RequestContext,
        through: &Reach,
        request: &KeyRequest,
        reserved: Arc<Reserved>,
        goes_on: GoesOn,
    ) -> Result<KeyDescription, Failure> {
        let (pipeline, mut call) = (through.pipeline.clone(), cx.op_context());
        call.deadline = Instant::now() + pipeline.creation_timeout();
        let (tenant, connection) = (cx.tenant(), through.row.id);
        let background = Arc::clone(&self.background);
        // A stop waits for it as for a request.
        let (request, accepted) = (request.clone(), self.accept_operation());
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let created = pipeline.create_key(&call, &request).await;
            // The name is free once nobody is at work on the creation.
            if let Err((unheard, _reserved)) = answer.send((created, reserved)) {
                // The request has its record already.
                background.add(tenant, connection, call.take_calls());
                let (key, made_as) = (request.key_id, request.made_as);
                match unheard {
                    Ok(described) => goes_on.keep(made_as, described),
                    Err(error) => tracing::warn!(%tenant, %key, %made_as, %error, "a creation failed whose request had ended"),
                }
            }
            drop((goes_on, accepted));
        });
        match tokio::time::timeout_at(cx.info().deadline.into(), answered).await {
            Ok(Ok((created, _reserved))) => Ok(created.map_err(refused_creation)?),
            Ok(Err(_)) => Err(Failure::internal(&"the creation of a key panicked")),
            Err(_) => {
                // The provider may be asked from now on, too.
                cx.op_context().trace().set_unclear();
                Err(Failure::deadline().advice(REPEAT))
            }
        }
    }
}
