//! The rows of the store as the rest of the gateway uses them. Times are in Unix microseconds.

mod creations;
mod keys;
mod quotas;
mod states;
mod weight;

use std::collections::{BTreeMap, BTreeSet};

use claviger_provider::{ClaimSpan, ConnectionId, KeyId, PrincipalId, ProviderKind, Secret, TenantId, TokenId};
use serde::{Deserialize, Serialize};

pub use creations::{Creation, CredentialRef, Wanted, WantedKey};
pub use keys::{
    CacheSettings, Claim, ConnectionRef, DetachedFilter, DetachedKey, Holder, Key, KeyFilter, KeyPatch, KeySelector, KeySnapshot,
    KeyVersion, MAX_HOLDERS, SeenVersion, VersionCanary, WrapsReserved,
};
pub use quotas::{Quotas, Resource, Usage};
pub use states::{Custody, DeclaredRow, KeyState, Liftable, Material, ProviderState, Releasable};
pub use weight::Weight;

/// Labels: at most 64 pairs; names after the API's name rule, values at most 256 bytes.
pub type Labels = BTreeMap<String, String>;

/// One customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Immutable.
    pub id: TenantId,
    /// Unique in the installation.
    pub name: String,
    /// Requests of a suspended tenant are refused.
    pub suspended: bool,
    /// Grows with each resume.
    pub lifts: u64,
    /// The time of creation.
    pub created: i64,
}

/// The kind of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A program that authenticates with an API token.
    ServiceAccount,
    /// A program that authenticates with its platform's identity.
    Workload,
    /// A human being.
    Person,
}

impl PrincipalKind {
    /// The name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service_account",
            Self::Workload => "workload",
            Self::Person => "person",
        }
    }
}

impl std::str::FromStr for PrincipalKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::ServiceAccount, Self::Workload, Self::Person]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(())
    }
}

/// A caller: a program or a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Immutable.
    pub id: PrincipalId,
    /// [`TenantId::INSTALLATION`] for a platform operator.
    pub tenant: TenantId,
    /// Unique in the tenant.
    pub name: String,
    /// Its kind.
    pub kind: PrincipalKind,
    /// The time of creation.
    pub created: i64,
}

/// Whether a token ends with the token that issued it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// It survives the token that issued it.
    Standing,
    /// It ends with its parent, the token that issued it.
    Delegated,
}

impl TokenKind {
    /// The name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standing => "standing",
            Self::Delegated => "delegated",
        }
    }
}

impl std::str::FromStr for TokenKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Standing, Self::Delegated]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(())
    }
}

/// An API token as it is stored: without its text and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Immutable; names the token in the API and the record.
    pub id: TokenId,
    /// The principal's tenant.
    pub tenant: TenantId,
    /// The principal that it authenticates.
    pub principal: PrincipalId,
    /// The 12 base62 characters of the token's text that are no secret; unique.
    pub public_id: String,
    /// SHA-256 of the 43 characters of the secret.
    pub secret_sha256: [u8; 32],
    /// What it may do, as JSON that `access` writes and reads.
    pub grants: String,
    /// Whether it has a life of its own.
    pub kind: TokenKind,
    /// The token that issued a delegated one: of the same tenant, or of the installation.
    pub parent: Option<TokenId>,
    /// The number of tokens above it, up to the standing one: 0 for that one,
    /// [`rules::MAX_DEPTH`](super::rules::MAX_DEPTH) at most.
    pub depth: u8,
    /// Counts undone revocations. Nothing undoes one yet, so it is 0.
    pub lifts: u64,
    /// The time of creation.
    pub created: i64,
    /// The time of expiry. From then on the token is refused. Never later than the parent's.
    pub expires: i64,
    /// The time of revocation, its own or an ancestor's; `None` while it is valid.
    pub revoked: Option<i64>,
}

/// A token with every row that decides whether it is in force, read in one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSnapshot {
    /// The token.
    pub token: Token,
    /// Its principal.
    pub principal: Principal,
    /// Its tenant.
    pub tenant: Tenant,
    /// The tokens above it, its parent first. Rows that are gone are left out.
    pub ancestors: Vec<Token>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("principal", &self.principal)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A connection: one set of credentials and settings to reach a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Immutable.
    pub id: ConnectionId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Unique in the tenant.
    pub name: String,
    /// The provider family.
    pub provider: ProviderKind,
    /// The provider's settings without secrets, as JSON. Only the network settings can change.
    pub settings: String,
    /// The user's labels.
    pub labels: Labels,
    /// The timeouts of its calls.
    pub timeouts: Timeouts,
    /// Within which span its provider keys are claimed; decided with the settings.
    pub claims: ClaimSpan,
    /// Severed connections are not used for calls.
    pub severed: bool,
    /// Grows with each sever and restore; part of the DEK cache's keys.
    pub epoch: u64,
    /// Grows with each restore: a sever that the journal has under a smaller number is lifted.
    pub lifts: u64,
    /// `config` if the operator's configuration declares it.
    pub managed_by: Option<String>,
    /// 128 random bits that the gateway drew, for a provider's trust policy.
    pub external_id: String,
    /// Grows with each change; the etag.
    pub revision: u64,
    /// The time of creation.
    pub created: i64,
    /// The time of the last change.
    pub updated: i64,
}

/// The changes of a PATCH; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct ConnectionPatch {
    /// The revision that the caller saw.
    pub expected_revision: u64,
    /// The new labels; they replace all old ones.
    pub labels: Option<Labels>,
    /// The new timeouts; they replace all old ones.
    pub timeouts: Option<Timeouts>,
    /// New network settings.
    pub network: Option<NetworkPatch>,
    /// Within which span its provider keys are claimed from now on: as its new settings or secrets say.
    pub claims: Option<ClaimSpan>,
    /// The time of the change.
    pub at: i64,
}

/// Settings of a connection that lead to its provider in another way.
#[derive(Debug, Clone)]
pub struct NetworkPatch {
    /// All settings without secrets, as JSON.
    pub settings: String,
    /// The primary versions whose canaries opened through the new settings. The change is refused if the
    /// connection has others meanwhile that may wrap. `None` where the operator's configuration makes the change, which
    /// needs none.
    pub proven: Option<BTreeSet<(KeyId, u32)>>,
}

/// A connection's own timeouts; `None` means the installation's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// One attempt of a call, in milliseconds: 100 to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_ms: Option<u32>,
}

/// A connection and its opened secrets, read together.
pub struct ConnectionSnapshot {
    /// The connection's row.
    pub connection: Connection,
    /// The secrets by the column that they are sealed for, in byte order.
    pub secrets: Vec<(String, Secret)>,
}

/// A page of a list that is ordered by name (tokens: by id in hex).
#[derive(Debug, Clone)]
pub struct Page {
    /// Start after this name.
    pub after: Option<String>,
    /// The largest number of rows.
    pub size: u32,
}

impl Page {
    /// The most rows that a list reads for this page while its filters pass over them. A filter that
    /// few rows match then costs a bounded time, and a page that has fewer rows, or none, and a next one.
    pub fn max_reads(&self) -> u32 {
        self.size.saturating_mul(100).min(10_000)
    }
}

/// The rows of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<T> {
    /// The rows, in the list's order; at most as many as the page's size.
    pub items: Vec<T>,
    /// Where the next page starts: after this name, or id in hex. `None` if there is no next page.
    pub next: Option<String>,
}

/// The scope of an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// The tenant that the caller acts in.
    pub tenant: TenantId,
    /// The caller.
    pub principal: PrincipalId,
    /// Method and route with its names filled in.
    pub route: String,
    /// The header's value.
    pub key: String,
}

/// A kept answer to a repeated request. It never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// The request's idempotency key, with its scope.
    pub key: IdempotencyKey,
    /// HMAC of the request's body.
    pub body_hmac: [u8; 32],
    /// The answer's HTTP status.
    pub status: u16,
    /// The answer's body (JSON); of a token creation only the id.
    pub body: String,
    /// The answer's etag, if it had one.
    pub etag: Option<String>,
    /// The time of creation.
    pub created: i64,
}

impl IdempotencyRecord {
    /// The status of a request that has not succeeded: its body says what it began at a provider. The row
    /// of its answer replaces this one.
    pub const BEGUN: u16 = 102;
}
