//! An authenticated caller.

use std::net::IpAddr;
use std::sync::Arc;

use claviger_provider::{PrincipalId, TenantId, TokenId};

use super::Grants;

/// How a caller authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// An API token of this id.
    Token(TokenId),
    /// None: the gateway itself creates what the operator's configuration declares.
    Configuration,
}

/// An authenticated caller. Only [`super::Authenticator`] makes one from a credential;
/// [`Caller::configuration`] makes the one that stands for the operator's configuration.
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
    /// The operator's configuration, acting for a tenant, or with [`TenantId::INSTALLATION`]
    /// for the installation itself. Only for work that no request asked for.
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

    /// The principal that the credential belongs to.
    pub const fn principal(&self) -> PrincipalId {
        self.principal
    }

    /// The tenant that the request acts for: the credential's own, or the one that a platform
    /// operator named. [`TenantId::INSTALLATION`] for an operator who named none.
    pub const fn tenant(&self) -> TenantId {
        self.acting
    }

    /// Whether this is a platform operator's credential.
    pub fn is_operator(&self) -> bool {
        self.home == TenantId::INSTALLATION
    }

    /// How the caller authenticated.
    pub const fn credential(&self) -> Credential {
        self.credential
    }

    /// The client's address.
    pub const fn source(&self) -> Option<IpAddr> {
        self.source
    }
}
