//! Validates a vault's authentication challenge against the connection's settings.
//!
//! Nothing is taken from a challenge: a matching one changes nothing, and any other ends the call.
//! Otherwise a hostile server could obtain a token for another resource.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

use crate::errors::CallError;

/// The expected resource, authority and directory of a vault's challenge.
pub(crate) struct ChallengeGuard {
    /// The resource that tokens are issued for, without a trailing slash.
    pub(crate) resource: String,
    /// URLs of the authority, each with a trailing slash.
    pub(crate) authorities: Vec<String>,
    /// The directory, if the connection's settings contain one.
    pub(crate) directory: Option<String>,
}

/// How a challenge differs from the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It requests tokens for another resource.
    Resource,
    /// It requests tokens of another authority.
    Authority,
    /// It requests tokens of another directory.
    Directory,
}

impl Mismatch {
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Resource => {
                "The vault asks for tokens for another resource than Azure's key service: the connection's address may be that of another server. \
                 For vaults outside of Azure's clouds, the operator configures the resource (providers.azure.vault_resource, \
                 .managed_hsm_resource)."
            }
            Self::Authority => {
                "The vault asks for tokens of another authority than its cloud's: the connection's address may be that of another server."
            }
            Self::Directory => {
                "The vault belongs to another directory than the connection's setting `directory` names: create a connection with the directory \
                 of the vault's subscription."
            }
        }
    }
}

impl ChallengeGuard {
    /// Validates the challenges of a response; a response without any is valid.
    ///
    /// # Errors
    /// `NoSource` with what to do, for a challenge that does not match.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), CallError> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        let mismatch = challenges
            .filter_map(|challenge| challenge.to_str().ok())
            .try_for_each(|challenge| self.compare(challenge));
        mismatch.map_err(|mismatch| CallError::NoSource {
            advice: mismatch.advice(),
            cause: format!("the vault's challenge does not match: {mismatch:?}"),
        })
    }

    fn compare(&self, challenge: &str) -> Result<(), Mismatch> {
        let resource = parameter(challenge, "resource").or_else(|| parameter(challenge, "scope"));
        if let Some(resource) = resource {
            let resource = resource.strip_suffix("/.default").unwrap_or(resource);
            if !resource.trim_end_matches('/').eq_ignore_ascii_case(&self.resource) {
                return Err(Mismatch::Resource);
            }
        }
        let authority = parameter(challenge, "authorization").or_else(|| parameter(challenge, "authorization_uri"));
        let Some(authority) = authority else { return Ok(()) };
        let directory = self
            .authorities
            .iter()
            .find_map(|known| authority.strip_prefix(known.as_str()))
            .ok_or(Mismatch::Authority)?;
        let directory = directory.split('/').next().unwrap_or_default();
        match &self.directory {
            Some(own) if !directory.eq_ignore_ascii_case(own) => Err(Mismatch::Directory),
            Some(_) | None => Ok(()),
        }
    }
}

/// The value of a quoted parameter of a challenge.
fn parameter<'c>(challenge: &'c str, name: &str) -> Option<&'c str> {
    challenge.match_indices(name).find_map(|(at, _)| {
        let before = challenge[..at].chars().next_back();
        let value = challenge[at + name.len()..].strip_prefix("=\"")?;
        let is_name = before.is_none_or(|before| matches!(before, ' ' | ','));
        value.split_once('"').map(|(value, _)| value).filter(|_| is_name)
    })
}

#[cfg(test)]
mod tests {
    use super::{ChallengeGuard, Mismatch};

    const OWN: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    fn judged(challenge: &str) -> Result<(), Mismatch> {
        let guard = ChallengeGuard {
            resource: "https://vault.azure.net".to_owned(),
            authorities: ["https://login.microsoftonline.com/", "https://login.windows.net/"]
                .map(str::to_owned)
                .into(),
            directory: Some(OWN.to_owned()),
        };
        guard.compare(challenge)
    }

    #[test]
    fn a_vaults_own_challenge_fits() {
        for challenge in [
            format!(r#"Bearer authorization="https://login.microsoftonline.com/{OWN}", resource="https://vault.azure.net""#),
            format!(r#"Bearer authorization="https://login.windows.net/{OWN}", scope="https://vault.azure.net/.default""#),
            format!(
                r#"Bearer authorization="https://login.microsoftonline.com/{}/",resource="https://vault.azure.net/""#,
                OWN.to_uppercase()
            ),
            r#"Bearer error="invalid_token""#.to_owned(),
        ] {
            assert_eq!(judged(&challenge), Ok(()), "{challenge}");
        }
    }

    #[test]
    fn a_challenge_for_something_else_does_not() {
        let of = |authority: &str, resource: &str| format!(r#"Bearer authorization="{authority}", resource="{resource}""#);
        let (here, vaults) = (format!("https://login.microsoftonline.com/{OWN}"), "https://vault.azure.net");
        for (challenge, why) in [
            (of(&here, "https://graph.microsoft.com"), Mismatch::Resource),
            (of(&here, "https://vault.azure.net.evil.example"), Mismatch::Resource),
            (
                format!(r#"Bearer scope="https://graph.microsoft.com/.default", authorization="{here}""#),
                Mismatch::Resource,
            ),
            (of(&format!("https://login.evil.example/{OWN}"), vaults), Mismatch::Authority),
            (
                of(&format!("https://login.microsoftonline.com.evil.example/{OWN}"), vaults),
                Mismatch::Authority,
            ),
            (of(&format!("http://login.microsoftonline.com/{OWN}"), vaults), Mismatch::Authority),
            (of("https://login.microsoftonline.com/common", vaults), Mismatch::Directory),
            (
                of("https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555", vaults),
                Mismatch::Directory,
            ),
        ] {
            assert_eq!(judged(&challenge), Err(why), "{challenge}");
        }
    }
}
