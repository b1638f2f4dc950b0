//! API tokens: issue and revoke them. A token's text is returned once and not stored.

use std::time::Duration;

use claviger_provider::{Secret, TokenId};

use super::revoke::Revoked;
use super::{Authorized, Broker, Completed, Completion, Failure, Guarded, Keep, op};
use crate::access::{Grants, NewToken};
use crate::audit::{self, Object, Verb};
use crate::store::model::Token;
use crate::store::rules;

/// The longest life of a token.
const MAX_LIFE: Duration = Duration::from_secs(366 * 86_400);

/// The life of a token where none is asked for.
const DEFAULT_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// A token and what it allows.
#[derive(Debug)]
pub struct GrantedToken {
    /// The row.
    pub row: Token,
    /// What it allows.
    pub grants: Grants,
}

impl GrantedToken {
    /// Of a stored row.
    ///
    /// # Errors
    /// `internal` when the row's grants cannot be read.
    pub(super) fn of(row: Token) -> Result<Self, Failure> {
        let grants = Grants::from_kept(&row.grants).ok_or_else(|| Failure::internal(&"a token's grants are damaged"))?;
        Ok(Self { row, grants })
    }
}

/// A new token with its text, for the one answer that returns it.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: GrantedToken,
    /// The text.
    pub text: Secret,
}

impl Broker {
    /// Issues a token with the authorized grants. It lives for `life`, or 90 days.
    ///
    /// # Errors
    /// `invalid_request` for a life of zero or of more than 366 days.
    pub async fn issue_token(
        &self,
        authorized: Authorized<op::IssueToken>,
        life: Option<Duration>,
        keep: Keep<IssuedToken>,
    ) -> Result<Guarded<Completed<IssuedToken>>, Failure> {
        let (cx, asked) = (authorized.cx(), authorized.object());
        let life = life.unwrap_or(DEFAULT_LIFE);
        if life.is_zero() || life > MAX_LIFE {
            return Err(Failure::invalid("/expires_in", "a duration of up to 366d"));
        }
        let now = self.now();
        let drawn = NewToken::draw();
        let life = i64::try_from(life.as_micros()).map_err(|_| Failure::invalid("/expires_in", "a duration of up to 366d"))?;
        let row = Token {
            id: TokenId::random(),
            tenant: asked.principal.tenant,
            principal: asked.principal.id,
            public_id: drawn.public_id,
            secret_sha256: drawn.secret_sha256,
            grants: asked.grants.to_kept(),
            created: now,
            expires: now.saturating_add(life),
            revoked: None,
        };
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Create, Object::Token, &row.id))
            .await?;
        let kept = keep.secret_gone(row.id.to_string());
        self.store.create_token(&row, &change.keeping(kept)).await?;
        let token = GrantedToken {
            row,
            grants: asked.grants.clone(),
        };
        Ok(Guarded::free(Completed {
            completion: Completion::Created,
            object: IssuedToken { token, text: drawn.text },
            revision: None,
        }))
    }

    /// Revokes a token: the next request with it is refused.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn revoke_token(&self, authorized: Authorized<op::RevokeToken>) -> Result<Guarded<()>, Failure> {
        let (cx, token) = (authorized.cx(), &authorized.object().token);
        let mut revoked = token.clone();
        rules::revoke(&mut revoked, self.now());
        let revoked = Revoked::Token(revoked);
        let change = self.announce_revocation(cx, revoked.journaled()).await;
        self.revoke(cx, revoked, &change).await?;
        Ok(Guarded::free(()))
    }
}
