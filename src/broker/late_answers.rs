//! Has a provider create the key of a change. The creation of a new key has a time of its own: where the request
//! ends earlier, it goes on, and its answer is kept until [`Broker::finish_creations`] takes it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use claviger_provider::{KeyDescription, KeyId, KeyRequest, TenantId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::reach::Reach;
use super::{Broker, Failure, Keep, RequestContext};
use crate::audit;
use crate::keys::Reserved;
use crate::store::Change;
use crate::store::model::{Key, Wanted};

/// What to do after a create that ran out of time.
const REPEAT: &str =
    "Repeat the request: it takes up what the provider made. While the provider is still at work, it is answered `in_progress`.";

/// How many creations of a tenant may go on after their requests. Further ones end with theirs: what a caller does
/// not wait for takes memory, and a place among the calls of its connection.
const MOST: usize = 64;

/// Keys that providers created after the requests for them had ended.
#[derive(Default)]
pub(super) struct LateAnswers {
    /// By the ids that they were created under. Each is one of a creation that is noted in the store.
    created: Mutex<HashMap<(TenantId, KeyId), KeyDescription>>,
    /// The number of creations under way that may go on, by tenant.
    under_way: Mutex<HashMap<TenantId, usize>>,
}

impl LateAnswers {
    /// Takes them all.
    pub(super) fn take(&self) -> HashMap<(TenantId, KeyId), KeyDescription> {
        std::mem::take(&mut *self.created.lock())
    }

    /// Counts a creation that may go on; `None` if the tenant has [`MOST`].
    fn begin(self: &Arc<Self>, tenant: TenantId) -> Option<GoesOn> {
        let mut under_way = self.under_way.lock();
        let number = under_way.entry(tenant).or_default();
        (*number < MOST).then(|| {
            *number += 1;
            GoesOn {
                late_answers: Arc::clone(self),
                tenant,
            }
        })
    }
}

/// A creation that may go on after its request. Dropped when it has ended.
struct GoesOn {
    late_answers: Arc<LateAnswers>,
    tenant: TenantId,
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        let mut under_way = self.late_answers.under_way.lock();
        if let Some(number) = under_way.get_mut(&self.tenant) {
            *number -= 1;
            if *number == 0 {
                under_way.remove(&self.tenant);
            }
        }
    }
}

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
            return Ok((change, through.pipeline.create_key(&cx.op_context(), request).await?));
        }
        self.begin_creation(cx, keep, request, through, wanted).await?;
        let created = async {
            let change = self.announce(cx, change).await?;
            let goes_on = reserved.and_then(|reserved| Some((reserved, self.late_answers.begin(cx.tenant())?)));
            let described = match goes_on {
                Some((reserved, goes_on)) => self.create_in_its_own_time(cx, through, request, reserved, goes_on).await?,
                None => through.pipeline.create_key(&cx.op_context(), request).await?,
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
                    Ok(described) => drop(goes_on.late_answers.created.lock().insert((tenant, made_as), described)),
                    Err(error) => tracing::warn!(%tenant, %key, %made_as, %error, "a creation failed whose request had ended"),
                }
            }
            drop((goes_on, accepted));
        });
        match tokio::time::timeout_at(cx.info().deadline.into(), answered).await {
            Ok(Ok((created, _reserved))) => Ok(created?),
            Ok(Err(_)) => Err(Failure::internal(&"the creation of a key panicked")),
            Err(_) => {
                // The provider may be asked from now on, too.
                cx.op_context().trace().set_unclear();
                Err(Failure::deadline().advice(REPEAT))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;

    use claviger_provider::TenantId;

    use super::{LateAnswers, MOST};

    #[test]
    fn a_tenant_has_so_many_creations_that_go_on_and_no_more() {
        let (late_answers, ours) = (Arc::<LateAnswers>::default(), TenantId::random());
        let mut under_way: Vec<_> = (0..MOST).map(|_| late_answers.begin(ours).unwrap()).collect();
        assert!(late_answers.begin(ours).is_none());
        assert!(late_answers.begin(TenantId::random()).is_some(), "another tenant has its own");
        under_way.pop();
        under_way.push(late_answers.begin(ours).unwrap());
        drop(under_way);
        assert!(late_answers.under_way.lock().is_empty());
    }
}
