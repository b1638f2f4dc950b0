//! API tokens: issue one (its text exists in that answer alone) and revoke it.

use std::time::Duration;

use claviger_provider::{Secret, TokenId};

use super::{Broker, Code, Failure, Guarded, Keep, RequestContext};
use crate::access::{Grants, NewToken, Permit, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::store::model::{Principal, Token};

/// The longest life of a token.
const MAX_LIFE: Duration = Duration::from_secs(366 * 86_400);

/// What a new token is to be.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// What it may do.
    pub grants: Grants,
    /// How long it lives.
    pub life: Duration,
}

impl TokenRequest {
    /// A token's life where none is asked for.
    pub const DEFAULT_LIFE: Duration = Duration::from_secs(90 * 86_400);
}

/// A token with its text, for the one answer that shows it.
#[derive(Debug)]
pub struct IssuedToken {
    /// The row.
    pub row: Token,
    /// The text.
    pub text: Secret,
}

impl Broker {
    /// Issues a token. Nobody hands out what they lack.
    ///
    /// # Errors
    /// `permission_denied` when the grants go beyond the caller's own.
    pub async fn issue_token(
        &self,
        cx: &RequestContext,
        permit: Permit<op::ManageTokens>,
        principal: &Principal,
        request: TokenRequest,
        keep: Keep<'_, Token>,
    ) -> Result<Guarded<IssuedToken>, Failure> {
        if !cx.caller().grants().covers(&request.grants) {
            return Err(Failure::new(
                Code::PermissionDenied,
                "A token cannot allow more than the credential that issues it.",
            )
            .at("/operations", "operations that the caller's own credential names")
            .at("/keys", "keys that the caller's own credential reaches"));
        }
        cx.permitted(&permit);
        if request.life.is_zero() || request.life > MAX_LIFE {
            return Err(Failure::invalid("/expires_in", "a duration of up to 366d"));
        }
        let now = self.now();
        let drawn = NewToken::draw();
        let life = i64::try_from(request.life.as_micros()).map_err(|_| Failure::invalid("/expires_in", "a duration of up to 366d"))?;
        let row = Token {
            id: TokenId::random(),
            tenant: principal.tenant,
            principal: principal.id,
            public_id: drawn.public_id,
            secret_sha256: drawn.secret_sha256,
            grants: request.grants.to_kept(),
            created: now,
            expires: now.saturating_add(life),
            revoked: None,
        };
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Create, Object::Token, &row.id))
            .await?;
        self.store.create_token(&row, &change.keeping(keep(&row)?)).await?;
        Ok(Guarded::free(IssuedToken { row, text: drawn.text }))
    }

    /// Revokes a token: refused at the next request.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn revoke_token(&self, cx: &RequestContext, permit: Permit<op::ManageTokens>, token: &Token) -> Result<Guarded<()>, Failure> {
        cx.permitted(&permit);
        let revocation = EmergencyRevocation::Revoke(token.id);
        let change = self.announce_revocation(cx, revocation).await;
        let committed = self.store.revoke_token(token.tenant, token.id, self.now(), &change).await;
        if self.revocation_committed(cx, revocation, committed).await?.is_none() {
            // The row does not say so yet: memory must, until the kill file is folded in.
            self.authenticator().refuse(&token.public_id);
        }
        self.authenticator().forget_token(&token.public_id);
        Ok(Guarded::free(()))
    }
}
