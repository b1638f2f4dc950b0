//! The codes of Key Vault, Managed HSM and Entra, and what each means here.

use claviger_provider::{ErrorKind, Retry};

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) kind: ErrorKind,
    pub(crate) retry: Retry,
    pub(crate) advice: Option<&'static str>,
}

const fn never(kind: ErrorKind, advice: Option<&'static str>) -> Meaning {
    Meaning {
        kind,
        retry: Retry::Never,
        advice,
    }
}

const fn again(kind: ErrorKind) -> Meaning {
    Meaning {
        kind,
        retry: Retry::Backoff,
        advice: None,
    }
}

/// Codes of a 403 by which a vault says that the identity has not the right.
pub(crate) const DENIED: [&str; 5] = [
    "ForbiddenByRbac",
    "ForbiddenByPolicy",
    "AccessDenied",
    "AccessForbidden",
    "Forbidden",
];

const GRANT: &str = "The connection's identity has not the right at the vault: grant the role or the access policy that the connection's check \
                     prints. A new grant takes some minutes.";

/// Each code that a vault is known to tell, the inner one where there are two.
const VAULT: &[(&str, Meaning)] = &[
    ("ForbiddenByRbac", never(ErrorKind::ProviderDenied, Some(GRANT))),
    ("ForbiddenByPolicy", never(ErrorKind::ProviderDenied, Some(GRANT))),
    ("AccessDenied", never(ErrorKind::ProviderDenied, Some(GRANT))),
    ("AccessForbidden", never(ErrorKind::ProviderDenied, Some(GRANT))),
    ("Forbidden", never(ErrorKind::ProviderDenied, Some(GRANT))),
    (
        "ForbiddenByFirewall",
        never(
            ErrorKind::ProviderDenied,
            Some(
                "The vault's firewall does not let the gateway's address in: add it to the vault's networks (`az keyvault network-rule add`).",
            ),
        ),
    ),
    (
        "ForbiddenByConnection",
        never(
            ErrorKind::ProviderDenied,
            Some(
                "The vault takes calls over its private endpoints alone: have the gateway's network reach one, or open the vault's public access.",
            ),
        ),
    ),
    (
        "KeyDisabled",
        never(
            ErrorKind::KeyState,
            Some("The version of the key is disabled; its owner can enable it (`az keyvault key set-attributes --enabled true`)."),
        ),
    ),
    (
        "KeyNotYetValid",
        never(
            ErrorKind::KeyState,
            Some(
                "The version of the key is not valid yet; its owner can move its activation date (`az keyvault key set-attributes --not-before`).",
            ),
        ),
    ),
    (
        "KeyExpired",
        never(
            ErrorKind::KeyState,
            Some(
                "The version of the key has expired: rotate the key, or have its owner move the date (`az keyvault key set-attributes --expires`).",
            ),
        ),
    ),
    (
        "KeyOperationForbidden",
        never(
            ErrorKind::KeyState,
            Some(
                "The key's permitted operations lack this one: its owner can set them (`az keyvault key set-attributes --ops wrapKey unwrapKey`).",
            ),
        ),
    ),
    ("KeyNotFound", never(ErrorKind::KeyNotFound, None)),
    ("ObjectIsDeletedButRecoverable", never(ErrorKind::KeyState, Some(RECOVER))),
    (
        "ObjectIsBeingDeleted",
        never(
            ErrorKind::KeyState,
            Some("The key is just being deleted. When that is done, its owner can bring it back (`az keyvault key recover`)."),
        ),
    ),
    (
        "ObjectIsBeingRecovered",
        never(ErrorKind::KeyState, Some("The key is just being recovered; try again in a minute.")),
    ),
    ("Conflict", never(ErrorKind::Conflict, None)),
    ("BadParameter", never(ErrorKind::InvalidInput, None)),
    ("Throttled", again(ErrorKind::RateLimited)),
    ("TooManyRequests", again(ErrorKind::RateLimited)),
    ("RequestTimeout", again(ErrorKind::UpstreamTimeout)),
    ("InternalServerError", again(ErrorKind::UpstreamUnavailable)),
    ("ServiceUnavailable", again(ErrorKind::UpstreamUnavailable)),
    ("NotSupported", never(ErrorKind::Unsupported, None)),
];

/// What to do about a key that was deleted softly.
pub(crate) const RECOVER: &str = "The key was deleted and can still be recovered; its owner does it with `az keyvault key recover --vault-name VAULT \
                                  --name NAME` (`--hsm-name` for a Managed HSM).";

/// What an answer of a vault means.
pub(crate) fn meaning(status: u16, code: &str) -> Meaning {
    if let Some((_, meaning)) = VAULT.iter().find(|(known, _)| *known == code) {
        // Throttling is told by the status, whatever word comes with it.
        return if status == 429 { again(ErrorKind::RateLimited) } else { *meaning };
    }
    match status {
        300..=399 => never(
            ErrorKind::UpstreamProtocol,
            Some("The vault's address redirects, which is never followed: the connection's address must be the vault's own."),
        ),
        401 => never(
            ErrorKind::ProviderDenied,
            Some(
                "The vault does not take the connection's token: it has expired or was revoked, or is one of another directory or for another resource.",
            ),
        ),
        403 => match code {
            "" => never(
                ErrorKind::UpstreamProtocol,
                Some("Something between the gateway and the vault refused the call: the answer is not one of Azure's."),
            ),
            _ => never(ErrorKind::ProviderDenied, Some(GRANT)),
        },
        404 | 410 => match code {
            "" => never(
                ErrorKind::UpstreamProtocol,
                Some("The answer is not one of Azure's: something else answers at the connection's address."),
            ),
            _ => never(ErrorKind::KeyNotFound, None),
        },
        408 => again(ErrorKind::UpstreamTimeout),
        409 => never(ErrorKind::Conflict, None),
        413 => never(ErrorKind::TooLarge, None),
        429 => again(ErrorKind::RateLimited),
        501 => never(ErrorKind::Unsupported, None),
        500..=599 => again(ErrorKind::UpstreamUnavailable),
        _ => never(ErrorKind::UpstreamProtocol, None),
    }
}

const SECRET: &str = "Entra does not take the application's secret: it is wrong or has expired (the secret's value is wanted, not its id).";
const CERTIFICATE: &str =
    "Entra does not take the application's certificate: add its public part to the application, and see that it has not expired.";
const FEDERATED: &str = "Entra does not take the other issuer's token: it has expired, or the application has no federated credential with its issuer, \
                         subject and audience.";
const NOBODY: &str =
    "The directory does not know the application: it must be made there, or an administrator of that directory must admit it.";
const NOWHERE: &str =
    "There is no directory of that id in this cloud: compare the connection's setting `directory` with `az account show`.";

/// Each code of Entra's that says what to do.
const ENTRA: &[(&str, &str)] = &[
    ("AADSTS7000215", SECRET),
    ("AADSTS7000222", SECRET),
    ("AADSTS7000216", SECRET),
    ("AADSTS700027", CERTIFICATE),
    ("AADSTS7000214", CERTIFICATE),
    ("AADSTS700024", FEDERATED),
    ("AADSTS70021", FEDERATED),
    ("AADSTS700211", FEDERATED),
    ("AADSTS700212", FEDERATED),
    ("AADSTS700213", FEDERATED),
    ("AADSTS700016", NOBODY),
    ("AADSTS65001", NOBODY),
    ("AADSTS7000112", "The application is disabled in the directory."),
    ("AADSTS90002", NOWHERE),
    ("AADSTS900023", NOWHERE),
    (
        "AADSTS53003",
        "A policy of the directory (conditional access) does not let the application in from here.",
    ),
];

/// What a refusal of whoever gives out tokens means.
pub(crate) fn login(status: u16, code: &str) -> Meaning {
    if let Some((_, advice)) = ENTRA.iter().find(|(known, _)| *known == code) {
        return never(ErrorKind::ProviderDenied, Some(advice));
    }
    match (status, code) {
        (429, _) => again(ErrorKind::RateLimited),
        (500..=599, _) | (_, "temporarily_unavailable" | "AADSTS90033") => again(ErrorKind::UpstreamUnavailable),
        (300..=399, _) | (_, "") => never(
            ErrorKind::UpstreamProtocol,
            Some("Something else than the cloud's authority answered the request for a token: look at the proxy."),
        ),
        (400..=499, _) => never(
            ErrorKind::ProviderDenied,
            Some("Entra gives the connection's identity no token: compare directory, application and secret with those at Entra."),
        ),
        (_, _) => never(ErrorKind::UpstreamProtocol, None),
    }
}

#[cfg(test)]
mod tests {
    use claviger_provider::{ErrorKind, Retry};

    use super::{ENTRA, VAULT, login, meaning};

    #[test]
    fn a_code_stands_once_and_says_what_the_table_says() {
        for (code, expected) in VAULT {
            assert_eq!(VAULT.iter().filter(|(other, _)| other == code).count(), 1, "{code}");
            assert_eq!(meaning(400, code), *expected, "{code}");
        }
        for (code, _) in ENTRA {
            assert_eq!(ENTRA.iter().filter(|(other, _)| other == code).count(), 1, "{code}");
            assert_eq!(login(401, code).kind, ErrorKind::ProviderDenied, "{code}");
        }
    }

    #[test]
    fn a_status_without_a_known_code_has_a_meaning() {
        for (status, code, kind, again) in [
            (302, "", ErrorKind::UpstreamProtocol, false),
            (400, "", ErrorKind::UpstreamProtocol, false),
            (401, "Unauthorized", ErrorKind::ProviderDenied, false),
            (401, "", ErrorKind::ProviderDenied, false),
            (403, "SomethingNew", ErrorKind::ProviderDenied, false),
            (403, "", ErrorKind::UpstreamProtocol, false),
            (404, "SomethingNew", ErrorKind::KeyNotFound, false),
            (404, "", ErrorKind::UpstreamProtocol, false),
            (408, "", ErrorKind::UpstreamTimeout, true),
            (409, "SomethingNew", ErrorKind::Conflict, false),
            (413, "", ErrorKind::TooLarge, false),
            (429, "", ErrorKind::RateLimited, true),
            (429, "Forbidden", ErrorKind::RateLimited, true),
            (500, "", ErrorKind::UpstreamUnavailable, true),
            (501, "", ErrorKind::Unsupported, false),
            (502, "", ErrorKind::UpstreamUnavailable, true),
            (503, "", ErrorKind::UpstreamUnavailable, true),
            (504, "", ErrorKind::UpstreamUnavailable, true),
            (418, "", ErrorKind::UpstreamProtocol, false),
        ] {
            let found = meaning(status, code);
            assert_eq!((found.kind, found.retry == Retry::Backoff), (kind, again), "{status} {code}");
        }
    }
}
