//! What a vault says about the tokens that it takes, held against what the connection's are.
//!
//! Nothing is taken from it: a challenge that fits changes nothing, and one that does not ends the
//! call with what to do. Otherwise a vault could have itself shown a token for something else.

/// What a challenge may say.
pub(crate) struct Expected {
    /// The resource that tokens are made out to, without a closing slash.
    pub(crate) resource: String,
    /// Addresses of the authority, each with its closing slash.
    pub(crate) authorities: Vec<String>,
    /// The directory, where the connection names one.
    pub(crate) directory: Option<String>,
}

/// In what a challenge does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It wants tokens for another resource.
    Resource,
    /// It wants tokens of another authority.
    Authority,
    /// It wants tokens of another directory.
    Directory,
}

impl Mismatch {
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Resource => {
                "The vault asks for tokens of another resource than Azure's key service: the connection's address may lead to something else."
            }
            Self::Authority => {
                "The vault asks for tokens of another authority than that of its cloud: the connection's address may lead to something else."
            }
            Self::Directory => {
                "The vault belongs to another directory than the connection's setting `directory` names: make a connection with the directory \
                 that the vault's subscription is in."
            }
        }
    }
}

impl Expected {
    /// Holds a challenge against it.
    ///
    /// # Errors
    /// In what it does not fit.
    pub(crate) fn judge(&self, challenge: &str) -> Result<(), Mismatch> {
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

/// The value of a quoted parameter.
fn parameter<'c>(challenge: &'c str, name: &str) -> Option<&'c str> {
    challenge.match_indices(name).find_map(|(at, _)| {
        let before = challenge[..at].chars().next_back();
        let value = challenge[at + name.len()..].strip_prefix("=\"")?;
        let whole = before.is_none_or(|before| matches!(before, ' ' | ','));
        value.split_once('"').map(|(value, _)| value).filter(|_| whole)
    })
}

#[cfg(test)]
mod tests {
    use super::{Expected, Mismatch};

    const OWN: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    fn judged(challenge: &str) -> Result<(), Mismatch> {
        let expected = Expected {
            resource: "https://vault.azure.net".to_owned(),
            authorities: ["https://login.microsoftonline.com/", "https://login.windows.net/"]
                .map(str::to_owned)
                .into(),
            directory: Some(OWN.to_owned()),
        };
        expected.judge(challenge)
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
