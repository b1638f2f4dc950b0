//! Refused adoptions. Where a claim on a provider key spans the installation, the response must not show that another
//! tenant has the key: it is the one to a key that the provider denies or whose owner is not proven, after as much work.

use claviger_provider::{ClaimSpan, Error, ErrorKind, Kek, KeyRequest, ProviderKeyRef, TenantId};

use super::reach::Reach;
use super::{Broker, Failure, RequestContext};
use crate::access::Credential;
use crate::store::StoreError;
use crate::store::model::Connection;

/// Whether an error is the provider's word on the key, and not one on the connection or the service.
const fn is_about_the_key(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::InvalidInput
        | ErrorKind::KeyNotFound
        | ErrorKind::Conflict
        | ErrorKind::KeyState
        | ErrorKind::TooLarge
        | ErrorKind::CiphertextRejected
        | ErrorKind::ProviderDenied
        | ErrorKind::ExternalDenied
        | ErrorKind::Unsupported => true,
        ErrorKind::RateLimited
        | ErrorKind::UpstreamUnavailable
        | ErrorKind::CircuitOpen
        | ErrorKind::Severed
        | ErrorKind::UpstreamProtocol
        | ErrorKind::UpstreamTimeout
        | ErrorKind::Misconfigured
        | ErrorKind::Internal => false,
    }
}

impl Broker {
    /// The id of a provider key that another tenant has claimed for the installation, where it is known without a
    /// call. Such a key is not tried: that takes one of the other tenant's nonces.
    pub(super) async fn claimed_elsewhere(&self, tenant: TenantId, through: &Connection, adopt: &str) -> Result<Option<String>, Failure> {
        let ClaimSpan::Installation { service } = &through.claims else {
            return Ok(None);
        };
        let factory = self.directory().factories().get(through.provider);
        let Some(id) = factory.and_then(|factory| factory.claimed_id(&through.settings, adopt)) else {
            return Ok(None);
        };
        let claimant = self.store.claimant_of(through.provider, &id, service).await?;
        Ok(claimant.filter(|claimant| *claimant != tenant).map(|_| id))
    }

    /// Reads a key that another tenant has claimed, as the adoption of one that the provider denies would do. Returns
    /// the failure of that adoption.
    pub(super) async fn read_in_vain(&self, cx: &RequestContext, through: &Reach, request: &KeyRequest, id: String) -> Failure {
        let kek = Kek {
            key: ProviderKeyRef {
                id,
                version: String::new(),
            },
            spec: request.spec,
            id: request.key_id,
        };
        match through.pipeline.describe(&cx.op_context(), &kek).await {
            Err(error) if !is_about_the_key(error.kind) => self.refused_adoption(cx, &through.row, error),
            Ok(_) | Err(_) => self.refused_claim(&through.row, StoreError::ClaimedElsewhere),
        }
    }

    /// The failure of a change that claims provider keys through a connection. If another tenant
    /// has claimed one of them for the installation, the caller gets the same error as for a failed
    /// proof of ownership, so that the response does not reveal the other tenant's key.
    pub(super) fn refused_claim(&self, through: &Connection, error: StoreError) -> Failure {
        match (&error, self.directory().factories().get(through.provider)) {
            (StoreError::ClaimedElsewhere, Some(factory)) => factory.unproven(&through.settings).into(),
            (_, _) => error.into(),
        }
    }

    /// The failure of an adoption. A name that the provider does not know is told apart from a key that is not
    /// there any more, which [`Failure`] reports of a key in use. Where a claim spans the installation, a denial gets
    /// the words of a failed proof of ownership, whatever the provider says; the log has its own words, and what the
    /// operator's configuration declares is refused with them.
    pub(super) fn refused_adoption(&self, cx: &RequestContext, through: &Connection, mut error: Error) -> Failure {
        let is_denied = matches!(error.kind, ErrorKind::ProviderDenied | ErrorKind::ExternalDenied);
        let may_tell = through.claims == ClaimSpan::Tenant || cx.caller().credential() == Credential::Configuration;
        if is_denied
            && !may_tell
            && let Some(factory) = self.directory().factories().get(through.provider)
        {
            let mut unproven = factory.unproven(&through.settings);
            unproven.origin = error.origin.take();
            return unproven.source(error).into();
        }
        let (is_unknown, advice) = (error.kind == ErrorKind::KeyNotFound, error.advice);
        let mut failure = Failure::from(error);
        if is_unknown {
            failure.detail = "The provider has no such key, or hides it from the connection's identity.".into();
            failure.advice = advice.or(Some(
                "Check the provider key's id, that it is where the connection points (account and region, vault, key ring, mount), and that \
                 it was not deleted.",
            ));
            failure = failure.at("/provider_key", "a key that exists at the provider");
        }
        failure
    }
}
