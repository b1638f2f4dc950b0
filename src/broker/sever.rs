//! Sever and restore: stop all calls through a connection, and allow them again.

use std::time::Duration;

use claviger_provider::SeverSwitch;

use super::revoke::Revoked;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::store::model::{Connection, Liftable};
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
        rules::set_severed(&mut after, true, self.now());
        let change = self
            .announce_revocation(cx, EmergencyRevocation::Sever(connection.id()).at_lifts(after.lifts))
            .await?;
        match self.revoke(cx, Revoked::Connection(after), &change).await? {
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

    /// Undoes a sever. The connection is made anew, so that the next call also gets a new credential.
    ///
    /// # Errors
    /// `not_found` when it was deleted meanwhile, and what a connection fails with that no provider
    /// can be made from: it stays severed.
    pub async fn restore(
        &self,
        authorized: Authorized<op::Restore>,
        keep: Keep<Connection>,
    ) -> Result<Guarded<Completed<Connection>>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        let revocations = connection.revocations().seen();
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Restore, Object::Connection, &connection.id()))
            .await?;
        let _one_at_a_time = connection.change().lock().await;
        // A sever that came after this request began wins.
        if connection.revocations().seen() != revocations {
            return Err(Failure::new(
                Code::ConnectionSevered,
                "The connection was severed while it was being restored.",
            ));
        }
        let before = Connection::clone(&connection.view());
        let mut after = before.clone();
        rules::set_severed(&mut after, false, self.now());
        // A closed switch never opens again.
        let switch = if before.severed {
            SeverSwitch::default()
        } else {
            connection.switch()
        };
        let pipeline = self.directory().connect_anew(&after, &[], switch).await?;
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
        self.revocation_lifted(connection.tenant(), EmergencyRevocation::Sever(connection.id()))
            .await;
        Ok(Guarded::free(completed(Completion::Done, row)))
    }
}

/// A change of a connection that succeeded.
pub(super) const fn completed(completion: Completion, row: Connection) -> Completed<Connection> {
    Completed {
        completion,
        revision: Some(row.revision),
        object: row,
    }
}
