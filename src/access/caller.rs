//! An authenticated caller.

use std::net::IpAddr;
use std::sync::Arc;

use claviger_provider::{PrincipalId, TenantId, TokenId};

use super::Grants;

/// How a caller showed who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// An API token of this id.
    Token(TokenId),
    /// The operator's configuration, which a start carries out.
    Configuration,
}

/// Whoever calls, made only by [`super::Authenticator`], and for a start by
/// [`Caller::configuration`].
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) principal: PrincipalId,
    pub(super) home: TenantId,
    pub(super) acting: TenantId,
    pub(super) credential: Credential,
    pub(super) grants: Arc<Grants>,
    pub(super) source: Option<IpAddr>,
}

impl Caller {
    /// The operator's configuration, acting for a tenant; [`TenantId::INSTALLATION`] for the
    /// installation's own things. Only a start may call for it: there is no request.
    pub fn configuration(acting: TenantId) -> Self {
        Self {
            principal: PrincipalId::from_bytes([0; 16]),
            home: TenantId::INSTALLATION,
            acting,
            credential: Credential::Configuration,
            grants: Arc::new(Grants::everything()),
            source: None,
        }
    }

    /// Who it is.
    pub const fn principal(&self) -> PrincipalId {
        self.principal
    }

    /// The tenant on whose behalf this request is: the credential's own, or the one that a
    /// platform operator named. [`TenantId::INSTALLATION`] for an operator who named none.
    pub const fn tenant(&self) -> TenantId {
        self.acting
    }

    /// Whether this is a platform operator's credential.
    pub fn is_operator(&self) -> bool {
        self.home == TenantId::INSTALLATION
    }

    /// How they showed who they are.
    pub const fn credential(&self) -> Credential {
        self.credential
    }

    /// What the credential allows.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Where the request came from.
    pub const fn source(&self) -> Option<IpAddr> {
        self.source
    }
}
