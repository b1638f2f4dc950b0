//! Authentication and permissions. Any bearer token is accepted until accounts are configured.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::material::random;
use crate::refusal::Refusal;

/// The caller while no accounts are configured.
const ANYONE: &str = "anyone";
/// The lifetime of an access token, in seconds.
const TOKEN_LIFETIME: i64 = 3600;

/// The accounts that exist (`PUT /_fake/access`). While it is set, other tokens are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Service accounts and other principals, by e-mail address or subject.
    #[serde(default)]
    pub accounts: BTreeMap<String, Account>,
    /// Workload identity pools' providers, by audience.
    #[serde(default)]
    pub pools: BTreeMap<String, Pool>,
}

/// One account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Access tokens of this account; they never expire.
    #[serde(default)]
    pub tokens: Vec<String>,
    /// Its public key as PEM, for self-signed tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Permissions by resource name, valid for the resources below it; `*` grants all.
    #[serde(default)]
    pub grants: BTreeMap<String, Vec<String>>,
    /// The accounts that may impersonate it.
    #[serde(default)]
    pub impersonators: Vec<String>,
}

/// One provider of a workload identity pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The account for each subject token.
    pub subjects: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    access: Option<Access>,
    issued: BTreeMap<String, (String, i64)>,
}

/// The configured accounts and the issued tokens.
#[derive(Default)]
pub(crate) struct AccessControl(Mutex<State>);

/// An issued access token.
pub(crate) struct Issued {
    pub(crate) token: String,
    /// In Unix seconds.
    pub(crate) expires: i64,
}

impl AccessControl {
    /// Sets the accounts and revokes all issued tokens.
    pub(crate) fn set(&self, access: Option<Access>) {
        *self.0.lock() = State {
            access,
            issued: BTreeMap::new(),
        };
    }

    /// Revokes all issued tokens.
    pub(crate) fn end_issued(&self) {
        self.0.lock().issued.clear();
    }

    /// The account of a bearer token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a missing, unknown or expired token.
    pub(crate) fn caller(&self, token: Option<&str>, now: i64) -> Result<String, Refusal> {
        let token = token.ok_or_else(|| Refusal::unauthenticated("CREDENTIALS_MISSING"))?;
        let state = self.0.lock();
        if let Some((account, expires)) = state.issued.get(token) {
            let valid = *expires > now;
            return valid
                .then(|| account.clone())
                .ok_or_else(|| Refusal::unauthenticated("ACCESS_TOKEN_EXPIRED"));
        }
        let Some(access) = &state.access else {
            return Ok(ANYONE.to_owned());
        };
        let holds = |(_, account): &(&String, &Account)| account.tokens.iter().any(|own| own == token);
        if let Some((name, _)) = access.accounts.iter().find(holds) {
            return Ok(name.clone());
        }
        let signed = signed_by(access, token, now);
        signed.ok_or_else(|| Refusal::unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED"))
    }

    /// Whether the account has this permission on the resource.
    pub(crate) fn may(&self, account: &str, permission: &str, resource: &str) -> bool {
        let state = self.0.lock();
        let Some(access) = &state.access else {
            return true;
        };
        let within = |grant: &str| {
            resource
                .strip_prefix(grant)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let grants = access.accounts.get(account).into_iter().flat_map(|account| &account.grants);
        let mut granted = grants.filter(|(on, _)| within(on)).flat_map(|(_, permissions)| permissions);
        granted.any(|own| own == permission || own == "*")
    }

    /// Fails unless the account has this permission on the resource.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub(crate) fn demand(&self, account: &str, permission: &str, resource: &str) -> Result<(), Refusal> {
        if self.may(account, permission, resource) {
            return Ok(());
        }
        Err(Refusal::denied(permission, resource))
    }

    /// The account that signed an assertion (RFC 7523).
    pub(crate) fn asserted(&self, assertion: &str, now: i64) -> Option<String> {
        match &self.0.lock().access {
            Some(access) => signed_by(access, assertion, now),
            None => Some(ANYONE.to_owned()),
        }
    }

    /// The account of a workload's token (RFC 8693).
    pub(crate) fn subject(&self, audience: &str, token: &str) -> Option<String> {
        match &self.0.lock().access {
            Some(access) => access.pools.get(audience)?.subjects.get(token).cloned(),
            None => Some(ANYONE.to_owned()),
        }
    }

    /// Whether `caller` may create access tokens for `account`.
    pub(crate) fn may_impersonate(&self, caller: &str, account: &str) -> bool {
        match &self.0.lock().access {
            Some(access) => {
                let own = access.accounts.get(account);
                own.is_some_and(|account| account.impersonators.iter().any(|name| name == caller))
            }
            None => true,
        }
    }

    /// Issues a token for an account; `lifetime` in seconds, at most an hour.
    pub(crate) fn issue(&self, account: &str, now: i64, lifetime: Option<i64>) -> Result<Issued, Refusal> {
        let bytes: [u8; 24] = random().map_err(|_| Refusal::internal("no randomness"))?;
        let token = format!("ya29.fake-{}", URL_SAFE_NO_PAD.encode(bytes));
        let expires = now + lifetime.unwrap_or(TOKEN_LIFETIME).clamp(1, TOKEN_LIFETIME);
        self.0.lock().issued.insert(token.clone(), (account.to_owned(), expires));
        Ok(Issued { token, expires })
    }
}

/// The account that signed a JSON web token (RS256), if the token is valid now.
fn signed_by(access: &Access, token: &str, now: i64) -> Option<String> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let part = |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
    let (header, claims) = (part(header)?, part(claims)?);
    let issuer = claims.get("iss")?.as_str()?;
    let public = pem::parse(access.accounts.get(issuer)?.public_key.as_deref()?).ok()?;
    let (from, until) = (claims.get("iat")?.as_i64()?, claims.get("exp")?.as_i64()?);
    let timely = from <= now + 60 && now < until && until - from <= TOKEN_LIFETIME + 60;
    let scoped = claims.get("scope").or_else(|| claims.get("aud")).is_some();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.contents());
    let genuine = key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).is_ok();
    let right = header.get("alg")?.as_str()? == "RS256" && timely && scoped && genuine;
    right.then(|| issuer.to_owned())
}
