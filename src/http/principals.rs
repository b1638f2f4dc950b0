//! `/v1/principals`: whoever may hold a credential.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ask::Ask;
use super::handler::{empty_reply, json_reply, keeper};
use super::page;
use super::reply::Reply;
use super::wire::{Moment, Name};
use crate::access::{Operation, Permit, Target, decide, op};
use crate::broker::{Failure, Guarded, Listed, NewPrincipal};
use crate::store::model::{Principal, PrincipalKind};

/// What kind of caller a principal is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KindShown {
    /// A program with a token of its own.
    #[default]
    ServiceAccount,
    /// A program known by its platform's identity.
    Workload,
    /// A human being.
    Person,
}

impl From<KindShown> for PrincipalKind {
    fn from(kind: KindShown) -> Self {
        match kind {
            KindShown::ServiceAccount => Self::ServiceAccount,
            KindShown::Workload => Self::Workload,
            KindShown::Person => Self::Person,
        }
    }
}

impl From<PrincipalKind> for KindShown {
    fn from(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::ServiceAccount => Self::ServiceAccount,
            PrincipalKind::Workload => Self::Workload,
            PrincipalKind::Person => Self::Person,
        }
    }
}

/// A new principal.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePrincipal {
    /// The principal's name, unique in the tenant.
    pub name: Name,
    /// What kind; `service_account` where left out.
    #[serde(default)]
    pub kind: Option<KindShown>,
}

/// A principal.
#[derive(Serialize, ToSchema)]
pub struct PrincipalShown {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The name.
    pub name: String,
    /// The tenant's id; zeros for a platform operator.
    pub tenant: String,
    /// What kind.
    pub kind: KindShown,
    /// When it was made.
    pub created: Moment,
}

/// A page of principals.
#[derive(Serialize, ToSchema)]
pub struct PrincipalList {
    /// The principals, by name.
    pub items: Vec<PrincipalShown>,
    /// For the next page, absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

fn shown(principal: &Principal) -> PrincipalShown {
    PrincipalShown {
        id: principal.id.to_string(),
        name: principal.name.clone(),
        tenant: principal.tenant.to_string(),
        kind: principal.kind.into(),
        created: Moment(principal.created),
    }
}

/// Principals may stand in a tenant or, for operators, in the installation itself.
pub(super) fn permit<O: Operation>(ask: &Ask) -> Result<Permit<O>, Failure> {
    Ok(decide(ask.cx.caller(), Target::Tenant)?)
}

/// The principal that the path names.
pub(super) async fn named(ask: &Ask) -> Result<Principal, Failure> {
    ask.broker.principal(ask.cx.tenant(), ask.name("principal")?.as_str()).await
}

#[utoipa::path(post, path = "/v1/principals", operation_id = "createPrincipal", tag = "access", request_body = CreatePrincipal,
    responses((status = 201, description = "The principal.", body = PrincipalShown)))]
/// Make a principal.
pub async fn create(ask: Ask, body: CreatePrincipal) -> Result<Reply, Failure> {
    ask.only_query(&[])?;
    let permit = permit::<op::ManagePrincipals>(&ask)?;
    let once = match ask.once().await? {
        Ok(once) => once,
        Err(reply) => return Ok(reply),
    };
    let new = NewPrincipal {
        name: body.name.into_string(),
        kind: body.kind.unwrap_or_default().into(),
    };
    let keep = once.keep(StatusCode::CREATED, |_: &Principal| None, shown);
    let principal = ask.broker.create_principal(&ask.cx, permit, new, keeper(&keep)).await?;
    json_reply(principal, StatusCode::CREATED, |principal| shown(&principal))
}

#[utoipa::path(get, path = "/v1/principals", operation_id = "listPrincipals", tag = "access",
    params(("page_size" = Option<u32>, Query, description = "1 to 1000; 100 where left out.", minimum = 1, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the page before.", pattern = "^[A-Za-z0-9_-]{2,84}$")),
    responses((status = 200, description = "A page of principals.", body = PrincipalList)))]
/// List principals, by name.
pub async fn list(ask: Ask) -> Result<Reply, Failure> {
    ask.only_query(&["page_size", "page_token"])?;
    let permit = permit::<op::ManagePrincipals>(&ask)?;
    let listed = ask.broker.list_principals(&ask.cx, &permit, &ask.page()?).await?;
    json_reply(listed, StatusCode::OK, |Listed { items, next }| PrincipalList {
        items: items.iter().map(shown).collect(),
        next_page_token: next.as_deref().map(page::encode),
    })
}

#[utoipa::path(get, path = "/v1/principals/{principal}", operation_id = "getPrincipal", tag = "access",
    params(("principal" = Name, Path, description = "The principal's name.")),
    responses((status = 200, description = "The principal.", body = PrincipalShown)))]
/// Read a principal.
pub async fn get(ask: Ask) -> Result<Reply, Failure> {
    ask.only_query(&[])?;
    let permit = permit::<op::ManagePrincipals>(&ask)?;
    ask.cx.permitted(&permit);
    json_reply(Guarded::free(named(&ask).await?), StatusCode::OK, |principal| shown(&principal))
}

#[utoipa::path(delete, path = "/v1/principals/{principal}", operation_id = "deletePrincipal", tag = "access",
    params(("principal" = Name, Path, description = "The principal's name.")),
    responses((status = 204, description = "Deleted, with its tokens.")))]
/// Delete a principal; its tokens are refused from then on.
pub async fn delete(ask: Ask) -> Result<Reply, Failure> {
    ask.only_query(&[])?;
    let permit = permit::<op::ManagePrincipals>(&ask)?;
    let principal = named(&ask).await?;
    empty_reply(ask.broker.delete_principal(&ask.cx, permit, &principal).await?)
}
