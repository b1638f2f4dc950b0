//! Principals and tokens as objects of operations: how a request names each, how it is found, and
//! what is decided on it.

use std::collections::BTreeSet;

use claviger_provider::{KeyId, TenantId, TokenId};

use super::decide;
use super::objects::Names;
use super::scopes::decided;
use crate::access::{Action, ActionSet, Credential, Grants, KeySet, NewGrant, PolicyRef, Resource};
use crate::broker::{Broker, Code, Failure, RequestContext};
use crate::store::StoreError;
use crate::store::model::{Page, Principal, Token, TokenKind};

/// The principals of the caller's tenant, or, for an operator who names no tenant, those of
/// the installation.
pub struct PrincipalScope(());

impl Names<PrincipalScope> for () {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(PrincipalScope, PolicyRef), Failure> {
        let policy = decide::allowed(broker, cx, action, Resource::Principals).await?;
        Ok((PrincipalScope(()), policy))
    }
}

impl Names<Principal> for &str {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(Principal, PolicyRef), Failure> {
        let policy = decided(broker, cx, action, Resource::Principals).await?;
        Ok((present_principal(broker, cx, self).await?, policy))
    }
}

/// The principal of this name where the request looks: in its tenant, or, without one, among the operators.
///
/// # Errors
/// `not_found`.
async fn named_principal(broker: &Broker, cx: &RequestContext, name: &str) -> Result<Principal, Failure> {
    match broker.store.principal_by_name(cx.tenant(), name).await {
        Ok(principal) => Ok(principal),
        Err(StoreError::NotFound) => Err(no_principal(cx)),
        Err(error) => Err(error.into()),
    }
}

/// As [`named_principal`], of one that was not deleted: its deletion may be in force before the store has it.
async fn present_principal(broker: &Broker, cx: &RequestContext, name: &str) -> Result<Principal, Failure> {
    let as_revoked = broker.as_revoked();
    let principal = named_principal(broker, cx, name).await?;
    if as_revoked.is_deleted(&principal) {
        return Err(no_principal(cx));
    }
    Ok(principal)
}

fn no_principal(cx: &RequestContext) -> Failure {
    if cx.tenant() != TenantId::INSTALLATION {
        return Failure::none_named("principal");
    }
    Failure::new(Code::NotFound, "There is no platform operator of that name.").advice(
        "The request names no tenant, so it looked among the operators. To name a tenant: header Claviger-Tenant (in the CLI: --tenant or CLAVIGER_TENANT).",
    )
}

/// A principal that is to be deleted, whose tokens end with it.
pub enum EndingPrincipal {
    /// It exists.
    Present(Principal),
    /// One of this name was deleted lately.
    Deleted,
}

impl Names<EndingPrincipal> for &str {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(EndingPrincipal, PolicyRef), Failure> {
        let policy = decided(broker, cx, action, Resource::Principals).await?;
        let principal = match named_principal(broker, cx, self).await {
            Ok(principal) => principal,
            Err(failure) if failure.code == Code::NotFound && broker.store.was_principal_deleted(cx.tenant(), self).await? => {
                return Ok((EndingPrincipal::Deleted, policy));
            }
            Err(failure) => return Err(failure),
        };
        let now = broker.now();
        let mut page = Page { after: None, size: 1000 };
        loop {
            let tokens = broker.store.tokens(principal.tenant, principal.id, &page).await?;
            for token in tokens.iter().filter(|token| token.revoked.is_none() && now < token.expires) {
                may_end(broker, cx, token)?;
            }
            match tokens.last() {
                Some(last) => page.after = Some(last.id.to_string()),
                None => return Ok((EndingPrincipal::Present(principal), policy)),
            }
        }
    }
}

/// Whether the caller may end a token. If a token's grants cannot be read, it allows nothing, so
/// every caller who may end tokens may end it.
///
/// # Errors
/// `permission_denied`.
fn may_end(broker: &Broker, cx: &RequestContext, token: &Token) -> Result<(), Failure> {
    match Grants::from_kept(&token.grants) {
        Some(grants) if !broker.authorizer.may_end(cx.caller(), &grants) => Err(Failure::new(
            Code::PermissionDenied,
            "A credential cannot end a token that allows more than itself.",
        )
        .advice("Use a credential that allows every operation of the token, on every key of it.")),
        Some(_) | None => Ok(()),
    }
}

/// A token to be issued to a principal, with what it is to allow.
pub struct NewTokenFor {
    pub(in crate::broker) principal: Principal,
    pub(in crate::broker) grants: Grants,
    pub(in crate::broker) kind: TokenKind,
}

/// How a request names a token to be issued.
#[derive(Debug, Clone, Copy)]
pub struct NewTokenNamed<'a> {
    /// The principal, by name.
    pub principal: &'a str,
    /// The operations that the token is to allow.
    pub operations: ActionSet,
    /// The keys that it is to reach, by name; `None` for every key.
    pub keys: Option<&'a [&'a str]>,
    /// Whether it is to survive the caller's own token.
    pub kind: TokenKind,
}

impl Names<NewTokenFor> for NewTokenNamed<'_> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(NewTokenFor, PolicyRef), Failure> {
        // The decision is complete, and the policy known, only after the grants were compared too.
        let policy = decide::allowed(broker, cx, action, Resource::Principals).await?;
        let principal = present_principal(broker, cx, self.principal).await?;
        let keys = match self.keys {
            None => KeySet::All,
            Some(names) => named_keys(broker, cx, action, names).await?,
        };
        let grants = Grants::new(self.operations, keys)
            .map_err(|_| Failure::invalid("", "at least one operation, and 1 to 256 keys or none named"))?;
        let kind = self.kind;
        let may_issue = |kind| {
            let new = NewGrant { grants: &grants, kind };
            broker.authorizer.may_issue(cx.caller(), new)
        };
        if !may_issue(kind) {
            return Err(if may_issue(TokenKind::Delegated) {
                Failure::new(
                    Code::PermissionDenied,
                    "A standing token is issued by a standing one that may manage tokens and reaches every key.",
                )
                .at("/kind", "delegated, or left out")
            } else {
                Failure::new(
                    Code::PermissionDenied,
                    "A token cannot allow more than the credential that issues it.",
                )
                .at("/operations", "operations that the caller's own credential names")
                .at("/keys", "keys that the caller's own credential reaches")
            });
        }
        Ok((NewTokenFor { principal, grants, kind }, policy))
    }
}

/// The ids of the keys that a new token names: each must be one that the caller reaches.
async fn named_keys(broker: &Broker, cx: &RequestContext, action: Action, names: &[&str]) -> Result<KeySet, Failure> {
    cx.require_tenant()?;
    if names.is_empty() || names.len() > Grants::MAX_KEYS {
        return Err(Failure::invalid("/keys", "1 to 256 names, or left out for every key"));
    }
    let reached = broker.authorizer.keys(cx.caller(), action);
    let mut ids = BTreeSet::<KeyId>::new();
    for (number, name) in names.iter().enumerate() {
        let found = broker.directory.key_by_name(cx.tenant(), name, reached.only()).await?;
        let key = found.and_then(|entry| entry.view().ok()).map(|view| view.key);
        decide::allowed(broker, cx, action, Resource::Key(key.as_deref())).await?;
        let absent = || Failure::none_named("key").at(format!("/keys/{number}"), "a key's name");
        ids.insert(key.ok_or_else(absent)?.id);
    }
    Ok(KeySet::Only(ids))
}

/// A token of a principal.
pub struct TokenOf {
    pub(in crate::broker) token: Token,
}

/// How a request names a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenNamed<'a> {
    /// The principal, by name.
    pub principal: &'a str,
    /// The token's id.
    pub token: TokenId,
}

impl Names<TokenOf> for TokenNamed<'_> {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(TokenOf, PolicyRef), Failure> {
        // One's own token is found only under one's own principal: every other name is decided as those of all other
        // tokens are, so that the answer does not tell whether there is such a principal.
        let own = match cx.caller().credential() == Credential::Token(self.token) && cx.tenant() == cx.caller().home() {
            true => Some(broker.store.principal(cx.caller().home(), cx.caller().principal()).await?),
            false => None,
        };
        let own = own.filter(|principal| principal.name == self.principal);
        let resource = if own.is_some() { Resource::OwnToken } else { Resource::Principals };
        let policy = decided(broker, cx, action, resource).await?;
        let is_own = own.is_some();
        let principal = match own {
            Some(principal) => principal,
            None => named_principal(broker, cx, self.principal).await?,
        };
        let token = broker.store.token(principal.tenant, self.token).await?;
        if token.principal != principal.id {
            return Err(Failure::not_found());
        }
        // A descendant allows no more than the caller's own token, which issued it or one above it.
        if !is_own {
            may_end(broker, cx, &token)?;
        }
        Ok((TokenOf { token }, policy))
    }
}

/// The token that authenticated the caller.
pub struct OwnToken {
    pub(in crate::broker) principal: Principal,
    pub(in crate::broker) token: Token,
}

impl Names<OwnToken> for () {
    async fn admit(self, broker: &Broker, cx: &RequestContext, action: Action) -> Result<(OwnToken, PolicyRef), Failure> {
        let policy = decided(broker, cx, action, Resource::OwnToken).await?;
        let caller = cx.caller();
        let Credential::Token(id) = caller.credential() else {
            return Err(Failure::not_found());
        };
        Ok((
            OwnToken {
                principal: broker.store.principal(caller.home(), caller.principal()).await?,
                token: broker.store.token(caller.home(), id).await?,
            },
            policy,
        ))
    }
}
