//! Plan and apply: compares the store with what the operator's configuration declares, and creates
//! what is missing, while the gateway serves. Neither changes a state or deletes anything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::declaration::Declaration;
use super::declare::{Found, How, PATIENCE, no_connection};
use super::{Authorized, Broker, Code, Failure, Guarded, RequestContext, op};
use crate::store::StoreError;
use crate::store::model::{DeclaredRow, Releasable};

/// The most objects of which is told that they are no longer declared.
const MOST: u32 = 100_000;

/// The kind of a declared object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredKind {
    /// A tenant.
    Tenant,
    /// A connection.
    Connection,
    /// A key.
    Key,
}

/// A declared object and the result of its comparison.
#[derive(Debug)]
pub struct Step {
    /// The object's kind.
    pub kind: DeclaredKind,
    /// Name of the tenant; `None` for a tenant.
    pub tenant: Option<String>,
    /// The object's name.
    pub name: String,
    /// The result of the comparison; after an apply, of the one before it.
    pub found: Result<Found, Failure>,
}

/// The results for all declared objects.
#[derive(Debug, Default)]
pub struct Steps {
    /// Each object that there was time for: tenants, then connections, then keys; then those that are no longer
    /// declared.
    pub steps: Vec<Step>,
    /// How many objects there was no time for, or whose connection did not answer in time for another one; ask again.
    pub not_reached: u32,
}

impl Broker {
    /// What [`Broker::apply`] would do. Changes nothing and calls no provider.
    ///
    /// # Errors
    /// `connection_misconfigured` when the declaration cannot be read.
    pub async fn plan(&self, authorized: Authorized<op::PlanDeclared>) -> Result<Guarded<Steps>, Failure> {
        self.go_through(authorized.cx(), How::Look).await
    }

    /// Creates what is missing, and stores new secrets and network settings. What else differs stays as it is. A
    /// provider that does not answer costs its own connection the time of one object ([`Broker::declare_all`]).
    ///
    /// # Errors
    /// As [`Broker::plan`], `in_progress` while another apply is under way, and `unauthenticated` once the credential
    /// has ended: it changes nothing from then on. The failure of a single object is in its step.
    pub async fn apply(&self, authorized: Authorized<op::ApplyDeclared>) -> Result<Guarded<Steps>, Failure> {
        let Ok(_alone) = self.applying.try_lock() else {
            return Err(Failure::new(Code::InProgress, "The declaration is being applied already."));
        };
        self.go_through(authorized.cx(), How::CarryOut).await
    }

    async fn go_through(&self, cx: &RequestContext, how: How) -> Result<Guarded<Steps>, Failure> {
        let declared = self.read_declaration().await?;
        let rows = declared.rows();
        let mut walk = Walk {
            steps: Steps::default(),
            until: cx.info().deadline.checked_sub(margin(how)).unwrap_or_else(Instant::now),
        };
        // A plan creates nothing, so what depends on a missing object is missing, too.
        let mut missing_tenants = BTreeSet::new();
        let mut missing_connections = BTreeSet::new();
        for tenant in declared.tenants {
            self.in_force(cx)?;
            if walk.over() {
                continue;
            }
            let found = self.declare_tenant(&tenant, how, Some(cx)).await;
            if let (How::Look, Ok(Found::Missing)) = (how, &found) {
                missing_tenants.insert(tenant.name.clone());
            }
            walk.note(DeclaredKind::Tenant, None, tenant.name, Some(found));
        }
        let connections = declared.connections.into_iter().map(|connection| {
            let connection = self.with_usable_files(connection);
            let missing = missing_tenants.contains(&connection.tenant);
            let found = missing.then(|| self.could_be_made(&connection));
            (connection, found)
        });
        for (connection, found) in self.declare_all(connections.collect(), how, Some(cx), Some(walk.until)).await {
            if let (How::Look, Some(Ok(Found::Missing))) = (how, &found) {
                missing_connections.insert((connection.tenant.clone(), connection.name.clone()));
            }
            walk.note(DeclaredKind::Connection, Some(connection.tenant), connection.name, found);
        }
        let keys = declared.keys.into_iter().map(|key| {
            let found = if missing_connections.contains(&(key.tenant.clone(), key.connection.clone())) {
                Some(Ok(Found::Missing))
            } else if missing_tenants.contains(&key.tenant) {
                // The tenant would be created, but not this connection.
                Some(Err(no_connection(&key)))
            } else {
                None
            };
            (key, found)
        });
        for (key, found) in self.declare_all(keys.collect(), how, Some(cx), Some(walk.until)).await {
            walk.note(DeclaredKind::Key, Some(key.tenant), key.name, found);
        }
        self.in_force(cx)?;
        walk.steps.steps.extend(self.no_longer_declared(&rows).await?);
        Ok(Guarded::free(walk.steps))
    }

    /// Has the providers know the connections that the configuration declares, or declared once, from the start on and
    /// not from their first use.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_declared(&self) -> Result<(), StoreError> {
        for row in self.store.declared(MOST).await? {
            match row.kind {
                Releasable::Key => continue,
                Releasable::Connection => {}
            }
            let tenant = self.store.tenant_by_name(&row.tenant).await?;
            let connection = self.store.connection_by_name(tenant.id, &row.name).await?;
            self.directory().factories().note_declared(&connection);
        }
        Ok(())
    }

    /// The objects that the configuration declared once and declares no more.
    async fn no_longer_declared(&self, declared: &BTreeSet<DeclaredRow>) -> Result<Vec<Step>, Failure> {
        let rows = self.store.declared(MOST).await?.into_iter();
        let steps = rows.filter(|row| !declared.contains(row)).map(|row| Step {
            kind: match row.kind {
                Releasable::Connection => DeclaredKind::Connection,
                Releasable::Key => DeclaredKind::Key,
            },
            tenant: Some(row.tenant),
            name: row.name,
            found: Ok(Found::NotDeclared),
        });
        Ok(steps.collect())
    }

    /// What the configuration declares now.
    ///
    /// # Errors
    /// `connection_misconfigured` when it cannot be read.
    pub(super) async fn read_declaration(&self) -> Result<Declaration, Failure> {
        self.declarations.read().await.map_err(|why| {
            Failure::new(Code::ConnectionMisconfigured, format!("The configuration cannot be used: {why}"))
                .advice("claviger check-config reports every mistake in it.")
        })
    }
}

/// With less time left than this, no further object is begun, because one object may take this
/// long.
const fn margin(how: How) -> Duration {
    match how {
        How::Look => Duration::from_secs(1),
        How::Start | How::CarryOut => PATIENCE,
    }
}

struct Walk {
    steps: Steps,
    until: Instant,
}

impl Walk {
    /// Whether there is no time for the next object; counts it then.
    fn over(&mut self) -> bool {
        let over = Instant::now() >= self.until;
        self.steps.not_reached += u32::from(over);
        over
    }

    /// Notes a result; without one the object was not reached.
    fn note(&mut self, kind: DeclaredKind, tenant: Option<String>, name: String, found: Option<Result<Found, Failure>>) {
        match found {
            Some(found) => self.steps.steps.push(Step { kind, tenant, name, found }),
            None => self.steps.not_reached += 1,
        }
    }
}
