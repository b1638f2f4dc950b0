//! Declares many objects whose providers may have to be called: those of different tenants at once, so that a
//! provider that does not answer holds up nothing but its own connection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::StreamExt;
use futures::future::BoxFuture;

use super::declaration::DeclaredConnection;
use super::declare::{Found, How};
use super::{Broker, Code, Failure, RequestContext};
use crate::config::declared::Key;

/// How many tenants' objects are declared at once.
const AT_ONCE: usize = 16;

/// A declared object that is reached through a connection.
pub trait ThroughConnection: Send + Sync {
    /// The names of its tenant and its connection.
    fn connection(&self) -> (&str, &str);

    /// Compares or creates it, as [`Broker::declare_tenant`] does a tenant.
    fn declare(&self, broker: &Broker, how: How, asker: Option<&RequestContext>) -> impl Future<Output = Result<Found, Failure>> + Send;
}

impl ThroughConnection for DeclaredConnection {
    fn connection(&self) -> (&str, &str) {
        (&self.tenant, &self.name)
    }

    async fn declare(&self, broker: &Broker, how: How, asker: Option<&RequestContext>) -> Result<Found, Failure> {
        broker.declare_connection(self, how, asker).await
    }
}

impl ThroughConnection for Key {
    fn connection(&self) -> (&str, &str) {
        (&self.tenant, &self.connection)
    }

    async fn declare(&self, broker: &Broker, how: How, asker: Option<&RequestContext>) -> Result<Found, Failure> {
        broker.declare_key(self, how, asker).await
    }
}

/// An object with its place among all and its result; `None` where it was not reached.
type Placed<T> = (usize, T, Option<Result<Found, Failure>>);

impl Broker {
    /// Declares objects, those of one tenant one after the other. After a call that was not answered in time, the
    /// others of that connection are not reached, so each connection takes the time of one object. Connections that
    /// were slow the last time come last: whatever they take, a repetition reaches all others first. Objects that
    /// have a result keep it. `until` is when no further object is begun; `asker` as in [`Broker::declare_tenant`].
    ///
    /// Returns the objects in their order, with their results: `None` for those that were not reached.
    pub async fn declare_all<T: ThroughConnection>(
        &self,
        objects: Vec<(T, Option<Result<Found, Failure>>)>,
        how: How,
        asker: Option<&RequestContext>,
        until: Option<Instant>,
    ) -> Vec<(T, Option<Result<Found, Failure>>)> {
        let slow = self.slow_connections.now();
        let is_slow = |(_, object, _): &Placed<T>| {
            let (tenant, connection) = object.connection();
            slow.contains(&(tenant.to_owned(), connection.to_owned()))
        };
        let mut of_tenants = BTreeMap::<String, Vec<Placed<T>>>::new();
        for (place, (object, found)) in objects.into_iter().enumerate() {
            let tenant = object.connection().0.to_owned();
            of_tenants.entry(tenant).or_default().push((place, object, found));
        }
        let mut of_tenants: Vec<_> = of_tenants.into_values().collect();
        for of_tenant in &mut of_tenants {
            of_tenant.sort_by_key(is_slow);
        }
        of_tenants.sort_by_key(|of_tenant| of_tenant.iter().any(is_slow));
        let mut running = Vec::<BoxFuture<'_, Vec<Placed<T>>>>::with_capacity(of_tenants.len());
        for of_tenant in of_tenants {
            running.push(Box::pin(self.declare_in_turn(of_tenant, how, asker, until)));
        }
        let done: Vec<_> = futures::stream::iter(running).buffer_unordered(AT_ONCE).collect().await;
        let mut done: Vec<Placed<T>> = done.into_iter().flatten().collect();
        done.sort_by_key(|(place, _, _)| *place);
        done.into_iter().map(|(_, object, found)| (object, found)).collect()
    }

    /// Declares the objects of one tenant.
    async fn declare_in_turn<T: ThroughConnection>(
        &self,
        mut objects: Vec<Placed<T>>,
        how: How,
        asker: Option<&RequestContext>,
        until: Option<Instant>,
    ) -> Vec<Placed<T>> {
        let mut timed_out = BTreeSet::new();
        for (_, object, found) in objects.iter_mut().filter(|(_, _, found)| found.is_none()) {
            let connection = object.connection();
            let over = until.is_some_and(|until| Instant::now() >= until);
            let ended = asker.is_some_and(|asker| self.in_force(asker).is_err());
            if over || ended || timed_out.contains(connection.1) {
                continue;
            }
            let result = Box::pin(object.declare(self, how, asker)).await;
            match (&result, how) {
                (Err(failure), _) if failure.code == Code::DeadlineExceeded => {
                    self.slow_connections.note(connection, true);
                    timed_out.insert(connection.1.to_owned());
                }
                (Ok(Found::Missing | Found::NewNetwork(_)), How::CarryOut) => self.slow_connections.note(connection, false),
                // Nothing says whether the provider answers.
                (Ok(_) | Err(_), _) => {}
            }
            *found = Some(result);
        }
        objects
    }
}
