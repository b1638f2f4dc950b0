//! An authenticated caller.

use std::net::IpAddr;
use std::sync::Arc;

use claviger_provider::{Id, PrincipalId, TenantId, TokenId};

use super::Grants;
use super::gate::{CallerGates, Ended, Gated};
use crate::store::CredentialRef;
use crate::store::model::TokenKind;

/// How a caller authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// An API token of this id.
    Token(TokenId),
    /// None: the gateway itself creates what the operator's configuration declares.
    Configuration,
}

/// Where a credential stands among tokens: what it issues inherits from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestry {
    /// Whether it has a life of its own.
    pub kind: TokenKind,
    /// The number of tokens above it.
    pub depth: u8,
    /// When it ends, in Unix microseconds; `None` for never.
    pub ends: Option<i64>,
}

/// An authenticated caller. Only [`super::Authenticator`] makes one from a credential;
/// [`Caller::configuration`] makes the one that stands for the operator's configuration.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) principal: PrincipalId,
    pub(super) home: TenantId,
    pub(super) acting: TenantId,
    pub(super) suspended: bool,
    pub(super) credential: Credential,
    pub(super) grants: Arc<Grants>,
    pub(super) ancestry: Ancestry,
    pub(super) source: Option<IpAddr>,
    /// `None` for the configuration where no request asked for its work: nothing revokes it.
    pub(super) gates: Option<CallerGates>,
}

impl Caller {
    /// The operator's configuration, acting for a tenant, or with [`TenantId::INSTALLATION`]
    /// for the installation itself. Only for work that no request asked for.
    pub fn configuration(acting: TenantId) -> Self {
        Self {
            principal: PrincipalId::from_bytes([0; 16]),
            home: TenantId::INSTALLATION,
            acting,
            suspended: false,
            credential: Credential::Configuration,
            grants: Arc::new(Grants::everything()),
            ancestry: Ancestry {
                kind: TokenKind::Standing,
                depth: 0,
                ends: None,
            },
            source: None,
            gates: None,
        }
    }

    /// The operator's configuration, acting for a tenant because this caller's request asks for it: it is in
    /// force as long as the caller's own credential is. A suspension of the tenant does not end it.
    pub fn configuration_asked_by(asker: &Self, acting: TenantId) -> Self {
        let configuration = Self::configuration(acting);
        Self {
            ancestry: Ancestry {
                ends: asker.ancestry.ends,
                ..configuration.ancestry
            },
            gates: asker.gates.as_ref().map(CallerGates::of_token),
            ..configuration
        }
    }

    /// A tenant's own caller with a token of these grants.
    #[cfg(test)]
    pub(crate) fn with_token(tenant: TenantId, grants: Grants) -> Self {
        Self {
            home: tenant,
            credential: Credential::Token(TokenId::random()),
            grants: Arc::new(grants),
            ..Self::configuration(tenant)
        }
    }

    /// The principal that the credential belongs to.
    pub const fn principal(&self) -> PrincipalId {
        self.principal
    }

    /// The tenant that the request acts for: the credential's own, or the one that a platform
    /// operator named. [`TenantId::INSTALLATION`] for an operator who named none.
    pub const fn tenant(&self) -> TenantId {
        self.acting
    }

    /// Whether the tenant that the request acts for is suspended, or was since the request began.
    /// Only a platform operator's request gets so far.
    pub fn tenant_suspended(&self) -> bool {
        let acting = self.gates.as_ref().and_then(|gates| gates.acting.as_ref());
        self.suspended || acting.is_some_and(|gate| gate.is_closed())
    }

    /// Runs `hand_over` while the gates of the credential are held shared, if it is still in force at
    /// `now` (Unix microseconds). `hand_over` must not block: a revocation waits for it.
    /// `while_suspended` says that a suspension of the tenant that an operator acts for does not matter.
    ///
    /// # Errors
    /// Why the credential is not in force; `hand_over` did not run.
    pub fn while_in_force<R>(&self, while_suspended: bool, now: i64, hand_over: impl FnOnce() -> R) -> Result<R, Ended> {
        let Some(gates) = &self.gates else { return Ok(hand_over()) };
        if self.ancestry.ends.is_some_and(|ends| ends <= now) {
            return Err(Ended::Credential);
        }
        gates.pass(while_suspended, hand_over)
    }

    /// The ids of what ends the credential when it is revoked, deleted or suspended.
    pub fn depends_on(&self) -> impl Iterator<Item = [u8; 16]> {
        let of_token = self.gates.iter().flat_map(|gates| gates.token.ids());
        of_token.chain([*self.home.bytes(), *self.acting.bytes()])
    }

    /// Whether the end of such a token, or of such a principal, ends the credential.
    pub fn ends_with(&self, is: impl Fn(TokenId, PrincipalId) -> bool) -> bool {
        self.gates.as_ref().is_some_and(|gates| gates.token.descends(is))
    }

    /// The credential, for the transaction of a change. `while_suspended` as in
    /// [`Caller::while_in_force`].
    pub fn credential_ref(&self, while_suspended: bool) -> Option<CredentialRef> {
        let gates = self.gates.as_ref()?;
        let acts_for_another = gates.acting.is_some() && !while_suspended;
        Some(CredentialRef {
            public_id: gates.token.public_id.to_string(),
            acting: acts_for_another.then_some(self.acting),
        })
    }

    /// The tenant that the credential belongs to; [`TenantId::INSTALLATION`] for a platform operator.
    pub const fn home(&self) -> TenantId {
        self.home
    }

    /// Whether this is a platform operator's credential.
    pub fn is_operator(&self) -> bool {
        self.home == TenantId::INSTALLATION
    }

    /// How the caller authenticated.
    pub const fn credential(&self) -> Credential {
        self.credential
    }

    /// Where the credential stands among tokens.
    pub const fn ancestry(&self) -> Ancestry {
        self.ancestry
    }

    /// The client's address.
    pub const fn source(&self) -> Option<IpAddr> {
        self.source
    }
}
