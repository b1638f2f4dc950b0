//! The error codes of Key Vault, Managed HSM and Entra, and what each means to the gateway.

use claviger_provider::ErrorKind;
use claviger_provider::kit::meaning::{CodeTable, Meaning};

/// Codes of a 403 that mean that the identity lacks the permission.
pub(crate) const DENIED: [&str; 5] = [
    "ForbiddenByRbac",
    "ForbiddenByPolicy",
    "AccessDenied",
    "AccessForbidden",
    "Forbidden",
];

const GRANT: &str = "The connection's identity lacks the permission at the vault: grant the role or the access policy that the connection's check \
                     prints. A new grant takes effect after some minutes.";

/// What to do about a key in soft-deleted state.
pub(crate) const RECOVER: &str = "The key was deleted and can still be recovered; its owner does it with `az keyvault key recover --vault-name VAULT \
                                  --name NAME` (`--hsm-name` for a Managed HSM).";

const fn denied(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::ProviderDenied).advice(advice)
}

const fn key_state(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::KeyState).advice(advice)
}

const fn retryable(kind: ErrorKind) -> Meaning {
    Meaning::of(kind).retryable()
}

const fn malformed(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::UpstreamProtocol).advice(advice)
}

/// The known codes of a vault. Of two codes, the inner one counts.
const VAULT: CodeTable = CodeTable::new(&[
    (&DENIED, denied(GRANT)),
    (
        &["ForbiddenByFirewall"],
        denied("The vault's firewall blocks the gateway's address: add it to the vault's networks (`az keyvault network-rule add`)."),
    ),
    (
        &["ForbiddenByConnection"],
        denied(
            "The vault accepts calls over its private endpoints only: connect the gateway's network to one, or enable the vault's public access.",
        ),
    ),
    (
        &["KeyDisabled"],
        key_state(
            "The key version is disabled; its owner can enable it (`az keyvault key set-attributes --enabled true`). If it was disabled \
             through the gateway: `claviger keys enable --at-provider`.",
        ),
    ),
    (
        &["KeyNotYetValid"],
        key_state(
            "The key version is not valid yet; its owner can change its activation date (`az keyvault key set-attributes --not-before`).",
        ),
    ),
    (
        &["KeyExpired"],
        key_state(
            "The key version has expired: rotate the key, or have its owner change the date (`az keyvault key set-attributes --expires`).",
        ),
    ),
    (
        &["KeyOperationForbidden"],
        key_state(
            "The key's permitted operations do not include this one: its owner can set them (`az keyvault key set-attributes --ops wrapKey \
             unwrapKey`).",
        ),
    ),
    (&["KeyNotFound"], Meaning::of(ErrorKind::KeyNotFound)),
    (&["ObjectIsDeletedButRecoverable"], key_state(RECOVER)),
    (
        &["ObjectIsBeingDeleted"],
        key_state("The key is being deleted. After that, its owner can recover it (`az keyvault key recover`)."),
    ),
    (
        &["ObjectIsBeingRecovered"],
        key_state("The key is being recovered; try again in a minute."),
    ),
    (&["Conflict"], Meaning::of(ErrorKind::Conflict)),
    (&["BadParameter"], Meaning::REJECTED_VALUE),
    (&["Throttled", "TooManyRequests"], retryable(ErrorKind::RateLimited)),
    (&["RequestTimeout"], retryable(ErrorKind::UpstreamTimeout)),
    (
        &["InternalServerError", "ServiceUnavailable"],
        retryable(ErrorKind::UpstreamUnavailable),
    ),
    (&["NotSupported"], Meaning::of(ErrorKind::Unsupported)),
]);

/// What a vault's error response means; `code` is empty for a response in another format.
pub(crate) fn of_vault(status: u16, code: &str) -> Meaning {
    if status == 429 {
        // Throttling is known by the status, whatever the code.
        return retryable(ErrorKind::RateLimited);
    }
    if let Some(meaning) = VAULT.meaning(code) {
        return meaning;
    }
    match (status, code) {
        (300..=399, _) => malformed("The vault redirects, which is never followed: the connection's address must be the vault's own."),
        (401, _) => denied(
            "The vault does not accept the connection's token: it has expired or was revoked, or it is for another directory or resource.",
        ),
        (403, "") => malformed("Something between the gateway and the vault refused the call: the response is not one of Azure's."),
        (403, _) => denied(GRANT),
        (404 | 410, "") => malformed("The response is not one of Azure's: another server responds at the connection's address."),
        (404 | 410, _) => Meaning::of(ErrorKind::KeyNotFound),
        (408, _) => retryable(ErrorKind::UpstreamTimeout),
        (409, _) => Meaning::of(ErrorKind::Conflict),
        (413, _) => Meaning::of(ErrorKind::TooLarge),
        (501, _) => Meaning::of(ErrorKind::Unsupported),
        (status, _) => Meaning::of_status(status),
    }
}

/// Entra's error codes with their own advice.
const ENTRA: CodeTable = CodeTable::new(&[
    (
        &["AADSTS7000215", "AADSTS7000222", "AADSTS7000216"],
        denied("Entra does not accept the application's secret: it is wrong or has expired (use the secret's value, not its id)."),
    ),
    (
        &["AADSTS700027", "AADSTS7000214"],
        denied(
            "Entra does not accept the application's certificate: add its public part to the application, and check that it has not expired.",
        ),
    ),
    (
        &["AADSTS700024"],
        denied(
            "Entra says that the assertion is not valid at this time. With a certificate, the gateway signs it with the time of this machine: \
             set its clock. A token of another issuer has expired.",
        ),
    ),
    (
        &["AADSTS70021", "AADSTS700211", "AADSTS700212", "AADSTS700213"],
        denied(
            "Entra does not accept the other issuer's token: it has expired, or the application has no federated credential with its issuer, \
             subject and audience.",
        ),
    ),
    (
        &["AADSTS700016", "AADSTS65001"],
        denied(
            "The directory does not know the application: create it there, or have an administrator of the directory give consent to it.",
        ),
    ),
    (&["AADSTS7000112"], denied("The application is disabled in the directory.")),
    (
        &["AADSTS90002", "AADSTS900023"],
        denied("There is no directory of that id in this cloud: compare the connection's setting `directory` with `az account show`."),
    ),
    (
        &["AADSTS53003"],
        denied("A conditional access policy of the directory blocks the application from this network."),
    ),
]);

/// What an error response of a token endpoint means; `code` is empty for a response in another
/// format.
pub(crate) fn of_token_endpoint(status: u16, code: &str) -> Meaning {
    if let Some(meaning) = ENTRA.meaning(code) {
        return meaning;
    }
    match (status, code) {
        (429 | 500..=599, _) => Meaning::of_status(status),
        (_, "temporarily_unavailable" | "AADSTS90033") => retryable(ErrorKind::UpstreamUnavailable),
        (300..=399, _) | (_, "") => malformed("Another server than the cloud's authority responded to the token request: check the proxy."),
        (400..=499, _) => {
            denied("Entra issues no token for the connection's identity: compare directory, application and secret with those in Entra.")
        }
        (_, _) => Meaning::of(ErrorKind::UpstreamProtocol),
    }
}

#[cfg(test)]
mod tests {
    use claviger_provider::{ErrorKind, Retry};

    use super::{ENTRA, VAULT, of_token_endpoint, of_vault};

    #[test]
    fn a_code_has_one_meaning() {
        assert_eq!((VAULT.repeated(), ENTRA.repeated()), (None, None));
        for code in ["ForbiddenByRbac", "KeyDisabled", "Throttled", "NotSupported"] {
            assert_eq!(Some(of_vault(400, code)), VAULT.meaning(code), "{code}");
        }
        for code in ["AADSTS7000215", "AADSTS65001", "AADSTS53003"] {
            assert_eq!(of_token_endpoint(401, code).kind, ErrorKind::ProviderDenied, "{code}");
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
            let found = of_vault(status, code);
            assert_eq!((found.kind, found.retry == Retry::Backoff), (kind, again), "{status} {code}");
        }
    }
}
