//! Deciding: attributes of caller, object and request in; allowed or denied out.

use std::borrow::Cow;

use claviger_provider::ProviderKind;
use futures::future::BoxFuture;

use super::{Caller, Grants, KeySet};
use crate::audit::Action;
use crate::store::model::{Connection, Key, TokenKind};

/// Which policy decided, for the audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRef {
    /// The policy's id, such as `builtin/token`.
    pub id: Cow<'static, str>,
    /// The policy's version.
    pub version: u64,
}

/// The object that an action is requested on, with its attributes.
///
/// `None` stands for a name that no object has. The authorizer then decides whether the
/// caller would have been allowed: only such a caller is told that the object is missing.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// The installation, which holds the tenants.
    Installation,
    /// The tenant's keys and connections as a whole: to list them.
    Tenant,
    /// The tenant's principals and their tokens.
    Principals,
    /// The token that authenticated the caller: its holder may read and revoke it.
    OwnToken,
    /// A connection that does not exist yet.
    NewConnection {
        /// The kind of provider that it reaches.
        provider: ProviderKind,
    },
    /// A key that does not exist yet.
    NewKey {
        /// The connection that it is created through.
        connection: Option<&'a Connection>,
    },
    /// A key.
    Key(Option<&'a Key>),
    /// A connection.
    Connection(Option<&'a Connection>),
}

/// Everything that a decision can depend on.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What they ask for.
    pub action: Action,
    /// On which object.
    pub resource: Resource<'a>,
    /// The reason that the caller stated in `Claviger-Justification`: at most 256 printable ASCII characters.
    pub justification: Option<&'a str>,
}

/// The result of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by this policy.
    Allow(PolicyRef),
    /// Denied.
    Deny,
}

/// A decision that is made already, or one to wait for. An authorizer that needs no I/O
/// decides without an allocation.
pub enum Deciding<'a> {
    /// Decided.
    Now(Decision),
    /// Decided once the future completes.
    Later(BoxFuture<'a, Decision>),
}

impl Deciding<'_> {
    /// Waits for the decision.
    pub async fn decision(self) -> Decision {
        match self {
            Self::Now(decision) => decision,
            Self::Later(decision) => decision.await,
        }
    }
}

/// What a token that is to be issued would give. Its expiry is not here: whoever may issue a
/// delegated token is bound by the end of the caller's own.
#[derive(Debug, Clone, Copy)]
pub struct NewGrant<'a> {
    /// The operations and keys.
    pub grants: &'a Grants,
    /// Whether it would survive the caller's own token.
    pub kind: TokenKind,
}

/// Decides what a caller may do. Nothing else in the gateway looks at grants.
///
/// An implementation answers [`Decision::Deny`] when it cannot decide.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the caller could be allowed this action on any object at all. A caller for
    /// whom this is `false` is denied before the body is read and before any lookup.
    fn could_allow(&self, caller: &Caller, action: Action) -> bool;

    /// The keys on which the caller may do this, of those in the tenant that it acts for. A list reads
    /// these rows and no others, so this and [`Authorizer::decide`] agree on every key.
    fn keys<'a>(&self, caller: &'a Caller, action: Action) -> &'a KeySet;

    /// Decides one request.
    fn decide<'a>(&'a self, request: AccessRequest<'a>) -> Deciding<'a>;

    /// Whether the caller may issue this token: nobody hands out what they lack.
    fn may_issue(&self, caller: &Caller, new: NewGrant<'_>) -> bool;

    /// Whether the caller may end a token with these grants, by revoking it or by deleting its
    /// principal: nobody takes away what they lack. Neither expiry nor ancestry counts, so that a
    /// short-lived credential can end a lasting one in an emergency.
    fn may_end(&self, caller: &Caller, grants: &Grants) -> bool;
}
