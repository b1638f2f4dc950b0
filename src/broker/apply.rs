//! Plan and apply: what the operator's configuration declares, looked at and carried out while
//! the gateway serves. Neither changes a state, and neither deletes anything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::declare::{DeclaredConnection, DeclaredKey, DeclaredTenant, Found, How, PATIENCE};
use super::{Authorized, Broker, Code, Failure, Guarded, RequestContext, op};

/// Everything that is declared.
#[derive(Debug, Clone, Default)]
pub struct Declaration {
    /// Tenants.
    pub tenants: Vec<DeclaredTenant>,
    /// Connections, one for each tenant that it is lent to.
    pub connections: Vec<DeclaredConnection>,
    /// Keys.
    pub keys: Vec<DeclaredKey>,
}

/// Where the declaration comes from; read anew each time.
#[async_trait]
pub trait Declarations: Send + Sync + 'static {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator and without a value.
    async fn read(&self) -> Result<Declaration, String>;
}

/// What a declared thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredKind {
    /// A tenant.
    Tenant,
    /// A connection.
    Connection,
    /// A key.
    Key,
}

/// One declared thing.
#[derive(Debug)]
pub struct Step {
    /// What it is.
    pub kind: DeclaredKind,
    /// Whose; `None` for a tenant.
    pub tenant: Option<String>,
    /// Its name.
    pub name: String,
    /// What was found and, when it was carried out, mended.
    pub found: Result<Found, Failure>,
}

/// What was found of everything that is declared.
#[derive(Debug, Default)]
pub struct Steps {
    /// Each thing that there was time for: tenants, then connections, then keys.
    pub steps: Vec<Step>,
    /// How many things there was no time for: to be asked again.
    pub not_reached: u32,
}

impl Broker {
    /// What [`Broker::apply`] would do. Nothing is changed, and no provider is asked.
    ///
    /// # Errors
    /// `connection_misconfigured` when the declaration cannot be read.
    pub async fn plan(&self, authorized: Authorized<op::PlanDeclared>) -> Result<Guarded<Steps>, Failure> {
        self.go_through(authorized.cx(), How::Look).await
    }

    /// Makes what is missing and takes new secrets. What differs stays as it is.
    ///
    /// # Errors
    /// As [`Broker::plan`], and `in_progress` while another one is under way. What a single
    /// thing failed by stands in its step.
    pub async fn apply(&self, authorized: Authorized<op::ApplyDeclared>) -> Result<Guarded<Steps>, Failure> {
        let Ok(_alone) = self.applying.try_lock() else {
            return Err(Failure::new(Code::InProgress, "The declaration is being applied already."));
        };
        self.go_through(authorized.cx(), How::CarryOut).await
    }

    async fn go_through(&self, cx: &RequestContext, how: How) -> Result<Guarded<Steps>, Failure> {
        let declared = self.declarations.read().await.map_err(|why| {
            Failure::new(Code::ConnectionMisconfigured, format!("The configuration cannot be used: {why}"))
                .advice("claviger check-config reports every mistake in it.")
        })?;
        let mut walk = Walk {
            steps: Steps::default(),
            until: cx.info().deadline.checked_sub(margin(how)).unwrap_or_else(Instant::now),
        };
        // What is only looked at does not come to be: what stands on it is missing, too.
        let mut missing_tenants = BTreeSet::new();
        let mut missing_connections = BTreeSet::new();
        for tenant in declared.tenants {
            if walk.over() {
                continue;
            }
            let found = self.declare_tenant(&tenant, how).await;
            if let (How::Look, Ok(Found::Missing)) = (how, &found) {
                missing_tenants.insert(tenant.name.clone());
            }
            walk.note(DeclaredKind::Tenant, None, tenant.name, found);
        }
        for connection in declared.connections {
            if walk.over() {
                continue;
            }
            let found = if missing_tenants.contains(&connection.tenant) {
                self.could_be_made(&connection)
            } else {
                self.declare_connection(&connection, how).await
            };
            if let (How::Look, Ok(Found::Missing)) = (how, &found) {
                missing_connections.insert((connection.tenant.clone(), connection.name.clone()));
            }
            walk.note(DeclaredKind::Connection, Some(connection.tenant), connection.name, found);
        }
        for key in declared.keys {
            if walk.over() {
                continue;
            }
            let stands_on = (key.tenant.clone(), key.connection.clone());
            let found = if missing_connections.contains(&stands_on) {
                Ok(Found::Missing)
            } else {
                self.declare_key(&key, how).await
            };
            walk.note(DeclaredKind::Key, Some(key.tenant), key.name, found);
        }
        Ok(Guarded::free(walk.steps))
    }
}

/// What is left of the time when nothing more is begun: one thing may take this long.
const fn margin(how: How) -> Duration {
    match how {
        How::Look => Duration::from_secs(1),
        How::CarryOut => PATIENCE,
    }
}

struct Walk {
    steps: Steps,
    until: Instant,
}

impl Walk {
    /// Whether there is no time for the next thing, which is counted then.
    fn over(&mut self) -> bool {
        let over = Instant::now() >= self.until;
        self.steps.not_reached += u32::from(over);
        over
    }

    fn note(&mut self, kind: DeclaredKind, tenant: Option<String>, name: String, found: Result<Found, Failure>) {
        self.steps.steps.push(Step { kind, tenant, name, found });
    }
}
