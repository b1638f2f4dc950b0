//! Commands that decrypt a wrapped key without the gateway, with Microsoft's tools.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use claviger_provider::{BoundContext, Wrapped};
use serde_json::json;

use crate::client::API_VERSION;
use crate::names::{Vault, Version};
use crate::wrap_algorithm::{WrapAlgorithm, split_gcm};

/// The commands, the last of which prints the data key in base64; none for a wrapped key of another
/// connection. `authority` is set for vaults outside of Azure's public cloud.
pub(crate) fn offline_decrypt(
    vault: &Vault,
    authority: Option<&str>,
    resource: &str,
    wrapped: &Wrapped,
    context: &BoundContext,
) -> Vec<String> {
    let key = vault.key(&wrapped.key.id).zip(Version::parse(&wrapped.key.version));
    let Some((name, version)) = key else {
        return Vec::new();
    };
    let id = format!("{}/{}", vault.id(&name), version.as_str());
    // Base64 has no character that is special to Python or a shell.
    let bytes = |bytes: &[u8]| format!("b64decode(\"{}\")", STANDARD.encode(bytes));
    let web = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let ciphertext = wrapped.ciphertext.as_slice();
    let Some(algorithm) = WrapAlgorithm::from_algorithm(wrapped.algorithm) else {
        return Vec::new();
    };
    let unwrap = |name: &str, constant: &str| {
        (
            "unwrapkey",
            json!({"alg": name, "value": web(ciphertext)}),
            format!("unwrap_key(KeyWrapAlgorithm.{constant}, {}).key", bytes(ciphertext)),
        )
    };
    let (operation, body, call) = match algorithm {
        WrapAlgorithm::RsaOaep256 => unwrap("RSA-OAEP-256", "rsa_oaep_256"),
        WrapAlgorithm::KeyWrap => unwrap("A256KW", "aes_256"),
        WrapAlgorithm::Gcm => {
            let Some((iv, value, tag)) = split_gcm(ciphertext) else {
                return Vec::new();
            };
            (
                "decrypt",
                json!({"alg": "A256GCM", "value": web(value), "iv": web(iv), "tag": web(tag), "aad": web(context.bytes())}),
                format!(
                    "decrypt(EncryptionAlgorithm.a256_gcm, {}, iv={}, authentication_tag={}, additional_authenticated_data={}).plaintext",
                    bytes(value),
                    bytes(iv),
                    bytes(tag),
                    bytes(context.bytes())
                ),
            )
        }
    };
    // Outside of Azure's public cloud, the client must be told the authority, and not to verify the
    // vault's host.
    let (credential, verification) = match authority {
        // With its scheme: of a host with a port and no scheme, Microsoft's library takes the host for
        // the scheme.
        Some(authority) => (
            format!("authority=\"{}\", disable_instance_discovery=True", authority.trim_end_matches('/')),
            ", verify_challenge_resource=False",
        ),
        None => (String::new(), ""),
    };
    let mut commands = vec![
        "# With the Azure CLI, which prints the data key in base64url without padding:".to_owned(),
        format!(
            "# az rest --method post --resource {resource} --url '{id}/{operation}?api-version={API_VERSION}' --body '{body}' --query value \
             --output tsv"
        ),
        "# With Microsoft's client for Python: pip install azure-identity azure-keyvault-keys".to_owned(),
        "cat > claviger-open.py <<'PYTHON'".to_owned(),
    ];
    commands.extend([
        "from base64 import b64decode, b64encode".to_owned(),
        "from azure.identity import DefaultAzureCredential".to_owned(),
        "from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm".to_owned(),
        format!("client = CryptographyClient(\"{id}\", DefaultAzureCredential({credential}){verification})"),
        format!("print(b64encode(client.{call}).decode())"),
        "PYTHON".to_owned(),
        "python3 claviger-open.py".to_owned(),
    ]);
    commands
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::egress::{Egress, EgressPolicy};
    use claviger_provider::{Algorithm, BoundContext, ProviderKeyRef, Wrapped};

    use super::offline_decrypt;
    use crate::installation::Installation;
    use crate::names::Vault;

    const RESOURCE: &str = "https://vault.azure.net";

    fn commands(host: &str, algorithm: Algorithm, len: usize, authority: Option<&str>) -> String {
        let egress = Egress::new(EgressPolicy::default());
        let vault = Vault::parse("https://acme.vault.azure.net", &Installation::default(), &egress).unwrap();
        let wrapped = Wrapped {
            key: ProviderKeyRef {
                id: format!("https://{host}/keys/orders"),
                version: "0123456789abcdef0123456789abcdef".to_owned(),
            },
            algorithm,
            ciphertext: vec![0xff; len],
            key_material: None,
            upstream_request_id: None,
        };
        let context = BoundContext::new([("note".to_owned(), "it's; $(HOME)".to_owned())].into(), b"it's; $(HOME)".to_vec());
        offline_decrypt(&vault, authority, RESOURCE, &wrapped, &context).join("\n")
    }

    #[test]
    fn the_call_is_that_of_the_algorithm() {
        let host = "acme.vault.azure.net";
        let rsa = commands(host, Algorithm::RsaOaep256, 384, None);
        assert!(
            rsa.contains("/unwrapkey?api-version") && rsa.contains("unwrap_key(KeyWrapAlgorithm.rsa_oaep_256"),
            "{rsa}"
        );
        assert!(
            rsa.contains("DefaultAzureCredential())") && rsa.ends_with("python3 claviger-open.py"),
            "{rsa}"
        );
        let kw = commands(host, Algorithm::A256Kw, 40, None);
        assert!(kw.contains("\"alg\":\"A256KW\"") && kw.contains("KeyWrapAlgorithm.aes_256"), "{kw}");
        let gcm = commands(host, Algorithm::Aes256Gcm, 60, Some("https://login.microsoftonline.us/"));
        assert!(
            gcm.contains("/decrypt?api-version") && gcm.contains("additional_authenticated_data="),
            "{gcm}"
        );
        assert!(gcm.contains("authority=\"https://login.microsoftonline.us\""), "{gcm}");
        let own = commands(host, Algorithm::A256Kw, 40, Some("https://login.internal.example:8443/"));
        assert!(own.contains("authority=\"https://login.internal.example:8443\","), "{own}");
        // The context appears as base64 only.
        assert!(!gcm.contains("HOME"), "{gcm}");
    }

    #[test]
    fn wrapped_keys_of_other_connections_have_no_commands() {
        for (host, algorithm, len) in [
            ("other.vault.azure.net", Algorithm::RsaOaep256, 384),
            ("acme.vault.azure.net", Algorithm::ProviderOpaque, 384),
            ("acme.vault.azure.net", Algorithm::Aes256Gcm, 28),
            ("acme.vault.azure.net", Algorithm::Aes256Gcm, 3),
        ] {
            assert_eq!(commands(host, algorithm, len, None), "", "{host} {algorithm:?}");
        }
    }
}
