//! API tokens: issue and revoke them. A token's text is returned once and not stored.

use std::time::Duration;

use claviger_provider::{Secret, TokenId};

use super::revoke::Revoked;
use super::{Authorized, Broker, Completed, Completion, Failure, Guarded, Keep, op};
use crate::access::{Caller, Credential, Grants, NewToken};
use crate::audit::{self, Object, Verb};
use crate::store::model::{Token, TokenKind};
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
    /// The name of its principal.
    pub principal: String,
    /// What it allows.
    pub grants: Grants,
}

impl GrantedToken {
    /// Of a stored row.
    ///
    /// # Errors
    /// `internal` when the row's grants cannot be read.
    pub(super) fn of(row: Token, principal: String) -> Result<Self, Failure> {
        let grants = Grants::from_kept(&row.grants).ok_or_else(|| Failure::internal(&"a token's grants are damaged"))?;
        Ok(Self { row, principal, grants })
    }
}

/// What a new token inherits from the one that issues it.
struct Inherited {
    parent: Option<TokenId>,
    depth: u8,
    /// The latest time at which it may end.
    ends: Option<i64>,
}

impl Inherited {
    /// # Errors
    /// `invalid_request` if the new token would have more than [`rules::MAX_DEPTH`] tokens above
    /// it.
    fn from(caller: &Caller, kind: TokenKind) -> Result<Self, Failure> {
        match (kind, caller.credential()) {
            (TokenKind::Standing, _) => Ok(Self {
                parent: None,
                depth: 0,
                ends: None,
            }),
            (TokenKind::Delegated, Credential::Token(parent)) => {
                let ancestry = caller.ancestry();
                if ancestry.depth >= rules::MAX_DEPTH {
                    return Err(Failure::invalid(
                        "/kind",
                        "standing, or a token that stands no more than 8 below a standing one",
                    ));
                }
                Ok(Self {
                    parent: Some(parent),
                    depth: ancestry.depth + 1,
                    ends: ancestry.ends,
                })
            }
            (TokenKind::Delegated, Credential::Configuration) => Err(Failure::internal(&"the configuration has no token to delegate from")),
        }
    }
}

/// The caller's own token, with what it inherits.
#[derive(Debug)]
pub struct WhoAmI {
    /// The token.
    pub token: GrantedToken,
    /// The tenant that the request acts for; the installation for an operator who named none.
    pub tenant: claviger_provider::TenantId,
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
    /// Issues a token with the authorized grants. The token lives for `life`. Without `life` it
    /// lives for 90 days; a delegated token at most as long as its parent.
    ///
    /// # Errors
    /// `invalid_request` for a life of zero or of more than 366 days, and for a delegated token
    /// that would end after its parent or have too many tokens above it; `not_found` when the
    /// principal was deleted, or the parent revoked, meanwhile.
    pub async fn issue_token(
        &self,
        authorized: Authorized<op::IssueToken>,
        life: Option<Duration>,
        keep: Keep<IssuedToken>,
    ) -> Result<Guarded<Completed<IssuedToken>>, Failure> {
        let (cx, asked) = (authorized.cx(), authorized.object());
        let named = life.is_some();
        let life = life.unwrap_or(DEFAULT_LIFE);
        if life.is_zero() || life > MAX_LIFE {
            return Err(Failure::invalid("/expires_in", "a duration of up to 366d"));
        }
        let now = self.now();
        let drawn = NewToken::draw();
        let inherited = Inherited::from(cx.caller(), asked.kind)?;
        let micros = i64::try_from(life.as_micros()).map_err(|_| Failure::invalid("/expires_in", "a duration of up to 366d"))?;
        let expires = match (now.saturating_add(micros), inherited.ends) {
            (expires, Some(ends)) if ends < expires && named => {
                return Err(Failure::invalid(
                    "/expires_in",
                    "a duration that ends no later than the token that issues it, or the kind standing",
                ));
            }
            (expires, Some(ends)) => expires.min(ends),
            (expires, None) => expires,
        };
        let row = Token {
            id: TokenId::random(),
            tenant: asked.principal.tenant,
            principal: asked.principal.id,
            public_id: drawn.public_id,
            secret_sha256: drawn.secret_sha256,
            grants: asked.grants.to_kept(),
            kind: asked.kind,
            parent: inherited.parent,
            depth: inherited.depth,
            lifts: 0,
            created: now,
            expires,
            revoked: None,
        };
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Create, Object::Token, &row.id))
            .await?;
        let kept = keep.secret_gone(row.id.to_string());
        self.store.create_token(&row, &change.keeping(kept)).await?;
        let token = GrantedToken {
            row,
            principal: asked.principal.name.clone(),
            grants: asked.grants.clone(),
        };
        Ok(Guarded::free(Completed {
            completion: Completion::Created,
            object: IssuedToken { token, text: drawn.text },
            revision: None,
        }))
    }

    /// The caller's own token.
    ///
    /// # Errors
    /// `internal` when its row is damaged.
    pub fn who_am_i(&self, authorized: &Authorized<op::ReadOwnToken>) -> Result<Guarded<WhoAmI>, Failure> {
        let tenant = authorized.caller().tenant();
        let own = authorized.object();
        let token = GrantedToken::of(own.token.clone(), own.principal.name.clone())?;
        Ok(Guarded::free(WhoAmI { token, tenant }))
    }

    /// Revokes a token with all its descendants. The next request with one of them is refused.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn revoke_token(&self, authorized: Authorized<op::RevokeToken>) -> Result<Guarded<()>, Failure> {
        let (cx, token) = (authorized.cx(), &authorized.object().token);
        let mut revoked = token.clone();
        let is_new = rules::revoke(&mut revoked, self.now());
        let ended = vec![revoked.public_id.clone()];
        self.revoke(cx, Revoked::Token { row: revoked, ended }, is_new).await?;
        Ok(Guarded::free(()))
    }
}
