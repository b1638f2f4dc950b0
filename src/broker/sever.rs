//! Sever and restore: stop all calls through a connection, and allow them again.

use std::time::Duration;

use claviger_provider::{Pipeline, SeverSwitch};

use super::external_custody::may_restore;
use super::revoke::Revoked;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, RequestContext, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::keys::{ConnectionEntry, Trial};
use crate::store::model::{Connection, Custody, Liftable};
use crate::store::rules;

/// How long a sever waits for the calls that it ended. They only have to be polled once more, so this
/// bounds the wait on a machine that is overloaded.
const PATIENCE: Duration = Duration::from_millis(100);

impl Broker {
    /// Severs a connection. After this returns, nothing is sent through it, and no answer that was made
    /// through it is handed over. A repeated request is carried out again, whatever its idempotency key.
    ///
    /// # Errors
    /// `not_found` when it was deleted meanwhile.
    pub async fn sever(&self, authorized: Authorized<op::Sever>) -> Result<Guarded<Completed<Connection>>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        let _one_at_a_time = connection.change().lock().await;
        let mut after = Connection::clone(&connection.view());
        let is_new = rules::set_severed(&mut after, true, self.now());
        match self.revoke(cx, Revoked::Connection(after), is_new).await? {
            Revoked::Connection(row) => {
                connection.calls_stopped(PATIENCE).await;
                Ok(Guarded::free(completed(Completion::Done, row)))
            }
            Revoked::Key(_) | Revoked::Token { .. } | Revoked::Tenant(_) | Revoked::Principal { .. } => {
                Err(Failure::internal(&"a sever left no connection"))
            }
        }
    }

    /// The answer to a repeated restore, which is never carried out again: the connection as it is
    /// now. A sever that came after the first request stays in force.
    pub fn restore_repeated(&self, authorized: &Authorized<op::Restore>) -> Guarded<Completed<Connection>> {
        let row = Connection::clone(&authorized.object().view());
        Guarded::free(completed(Completion::Done, row))
    }

    /// Undoes a sever. The connection is made anew, so that the next call also gets a new credential. One to an external
    /// key manager is tried first, as a check does it, and stays severed if it cannot be used.
    ///
    /// # Errors
    /// `permission_denied` for an operator, where the keys are in external custody; `not_found` when it was deleted
    /// meanwhile; `connection_severed` when a sever came meanwhile; `in_progress` while another request restores it;
    /// `precondition_failed` when it was changed meanwhile; and why the connection cannot be used.
    pub async fn restore(
        &self,
        authorized: Authorized<op::Restore>,
        keep: Keep<Connection>,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        let row = connection.view();
        may_restore(cx, Custody::of(row.provider).is_external())?;
        let revocations = connection.revocations().seen();
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Restore, Object::Connection, &connection.id()))
            .await?;
        // Before the turn of changes: a sever must not wait for a provider.
        let mut tried = self.try_severed(cx, connection, revocations).await?;
        let _one_at_a_time = connection.change().lock().await;
        // A sever that came after this request began wins.
        if connection.revocations().seen() != revocations {
            return Err(severed_again());
        }
        let before = Connection::clone(&connection.view());
        let mut after = before.clone();
        rules::set_severed(&mut after, false, self.now());
        let pipeline = match &tried {
            Some(tried) if tried.revision == before.revision => tried.pipeline.clone(),
            Some(_) => {
                return Err(Failure::new(
                    Code::PreconditionFailed,
                    "The connection was changed while it was being restored, so it stays severed.",
                )
                .advice("Restore it again."));
            }
            None => {
                // A closed switch never opens again.
                let switch = if before.severed {
                    SeverSwitch::default()
                } else {
                    connection.switch()
                };
                self.directory().connect_anew(&after, &[], switch).await?
            }
        };
        // Count the lift in memory before the commit, as `Broker::enable` does and for the reason
        // given there.
        let object = Liftable::Connection(connection.id());
        self.store.raise_lifts(connection.tenant(), object, before.lifts).await?;
        connection.put(Connection {
            lifts: after.lifts,
            ..before
        });
        let change = change.keeping(keep.row(Completion::Done, &after, Some(after.revision))?);
        let row = self
            .store
            .set_connection_severed(connection.tenant(), connection.id(), false, after.updated, &change)
            .await?;
        connection.put_restored(row.clone(), pipeline);
        if let Some(tried) = tried.take() {
            tried.trial.taken_over();
        }
        self.revocation_lifted(connection.tenant(), EmergencyRevocation::Sever(connection.id()))
            .await;
        Ok(Guarded::free(completed(Completion::Done, row)))
    }

    /// Tries a severed connection to an external key manager through a pipeline of its own, which alone sends. `None` for
    /// every other one.
    /// `revocations` are those before the restore.
    ///
    /// # Errors
    /// As [`Broker::restore`].
    async fn try_severed<'c>(
        &self,
        cx: &RequestContext,
        connection: &'c ConnectionEntry,
        revocations: u64,
    ) -> Result<Option<Tried<'c>>, Failure> {
        let row = connection.view();
        if !row.severed || !Custody::of(row.provider).is_external() {
            return Ok(None);
        }
        // A closed switch never opens again.
        let switch = SeverSwitch::default();
        let trial = connection.begin_trial(switch.clone()).ok_or_else(|| {
            Failure::new(Code::InProgress, "Another request restores the connection.").advice("Wait for it, and look at the connection.")
        })?;
        // From here on a sever closes the switch. One that came before is counted.
        let is_severed_again = || connection.revocations().seen() != revocations;
        if is_severed_again() {
            return Err(severed_again());
        }
        let tried = self.try_through(cx, connection, &row, switch).await;
        // What the provider said came through a connection that must not be used.
        let tried = if is_severed_again() { Err(severed_again()) } else { tried };
        match tried {
            Ok(pipeline) => Ok(Some(Tried {
                pipeline,
                revision: row.revision,
                trial,
            })),
            Err(failure) => {
                trial.stop(PATIENCE).await;
                Err(failure)
            }
        }
    }

    async fn try_through(
        &self,
        cx: &RequestContext,
        connection: &ConnectionEntry,
        row: &Connection,
        switch: SeverSwitch,
    ) -> Result<Pipeline, Failure> {
        let mut restored = row.clone();
        rules::set_severed(&mut restored, false, self.now());
        let pipeline = self.directory().connect_anew(&restored, &[], switch).await?;
        let keys = self.keys_to_probe(connection).await?;
        // Boxed: the calls of some providers' clients need most of a thread's stack in a debug build.
        let report = Box::pin(self.probe(cx, row, &pipeline, &keys)).await?;
        match report.problem {
            None => Ok(pipeline),
            Some(code) => {
                let detail = format!("The connection stays severed, because it cannot be used: {}", report.detail);
                Err(Failure::new(code, detail).advice(report.advice.unwrap_or(RESTORE_AGAIN)))
            }
        }
    }
}

fn severed_again() -> Failure {
    Failure::new(Code::ConnectionSevered, "The connection was severed while it was being restored.")
}

/// A severed connection that can be used.
struct Tried<'c> {
    pipeline: Pipeline,
    /// Of the row that was tried.
    revision: u64,
    trial: Trial<'c>,
}

const RESTORE_AGAIN: &str = "Correct what the message says, and restore the connection again.";

/// A change of a connection that succeeded.
pub(super) const fn completed(completion: Completion, row: Connection) -> Completed<Connection> {
    Completed {
        completion,
        revision: Some(row.revision),
        object: row,
    }
}
