//! Refused adoptions. Where a claim on a provider key spans the installation, the response must not show that another
//! tenant has the key: it is the one to a key that the provider denies or whose owner is not proven, after as much work.

use std::sync::Arc;

use claviger_provider::{ClaimSpan, Error, ErrorKind, Factory, KeyDescription, KeyRequest, TenantId};

use super::reach::Reach;
use super::{Broker, Failure, RequestContext};
use crate::access::Credential;
use crate::store::StoreError;
use crate::store::model::Connection;

impl Broker {
    /// Whether another tenant has claimed a provider key for the installation, where its id is known without a call
    /// ([`KeyRequest::taken`]).
    pub(super) async fn is_taken(&self, tenant: TenantId, through: &Connection, adopt: &str) -> Result<bool, Failure> {
        let ClaimSpan::Installation { service } = &through.claims else {
            return Ok(false);
        };
        let factory = self.directory().factories().get(through.provider);
        let Some(id) = factory.and_then(|factory| factory.claimed_id(&through.settings, adopt)) else {
            return Ok(false);
        };
        let claimant = self.store.claimant_of(through.provider, &id, service).await?;
        Ok(claimant.is_some_and(|claimant| claimant != tenant))
    }

    /// Adopts at the provider; a key that another tenant has claimed is read there, and refused.
    ///
    /// # Errors
    /// See [`Broker::refused_adoption`].
    pub(super) async fn adopted(&self, cx: &RequestContext, through: &Reach, request: &KeyRequest) -> Result<KeyDescription, Failure> {
        match through.pipeline.create_key(&cx.op_context(), request).await {
            Ok(_) if request.taken => Err(self.refused_claim(&through.row, StoreError::ClaimedElsewhere)),
            adopted => {
                let adopt = request.adopt.as_deref().unwrap_or_default();
                adopted.map_err(|error| self.refused_adoption(cx, &through.row, adopt, error))
            }
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
    /// there any more, which [`Failure`] reports of a key in use. Where a key can be taken by another tenant, a denial gets
    /// the words of a failed proof of ownership, whatever the provider says; the log has its own words, and an operator
    /// is refused with them.
    fn refused_adoption(&self, cx: &RequestContext, through: &Connection, adopt: &str, mut error: Error) -> Failure {
        let is_denied = matches!(error.kind, ErrorKind::ProviderDenied | ErrorKind::ExternalDenied);
        let may_know = cx.caller().is_operator() || cx.caller().credential() == Credential::Configuration;
        let factory = self.directory().factories().get(through.provider);
        // Other providers' keys name their tenant, whoever has claimed them.
        let can_be_taken = |factory: &Arc<dyn Factory>| factory.claimed_id(&through.settings, adopt).is_some();
        if is_denied
            && !may_know
            && through.claims != ClaimSpan::Tenant
            && let Some(factory) = factory.filter(|factory| can_be_taken(factory))
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
