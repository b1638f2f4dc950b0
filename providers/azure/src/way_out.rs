//! How a blob is opened without the gateway: by Microsoft's own client for Python.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use claviger_provider::{BoundContext, Wrapped};
use serde_json::json;

use crate::client::API_VERSION;
use crate::names::{Vault, Version};
use crate::way::{Way, split};

/// The commands. The last prints the data key in base64. `authority` is where an installation's
/// own vaults have their tokens from.
pub(crate) fn way_out(vault: &Vault, authority: Option<&str>, resource: &str, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
    let named = vault.key(&wrapped.key.id).zip(Version::parse(&wrapped.key.version));
    let Some((name, version)) = named else {
        return Vec::new();
    };
    let id = format!("{}/{}", vault.id(&name), version.as_str());
    // Base64 has no character that Python or a shell reads.
    let bytes = |bytes: &[u8]| format!("b64decode(\"{}\")", STANDARD.encode(bytes));
    let web = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let ciphertext = wrapped.ciphertext.as_slice();
    let Some(way) = Way::written(wrapped.algorithm) else {
        return Vec::new();
    };
    let unwrap = |word: &str, constant: &str| {
        (
            "unwrapkey",
            json!({"alg": word, "value": web(ciphertext)}),
            format!("unwrap_key(KeyWrapAlgorithm.{constant}, {}).key", bytes(ciphertext)),
        )
    };
    let (operation, body, call) = match way {
        Way::RsaOaep256 => unwrap("RSA-OAEP-256", "rsa_oaep_256"),
        Way::KeyWrap => unwrap("A256KW", "aes_256"),
        Way::Gcm => {
            let Some((iv, value, tag)) = split(ciphertext) else {
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
    // Outside Azure's clouds neither the authority nor the vault's host is one that the client knows.
    let (login, verified) = match authority {
        Some(authority) => {
            let host = authority.trim_start_matches("https://").trim_end_matches('/');
            (
                format!("authority=\"{host}\", disable_instance_discovery=True"),
                ", verify_challenge_resource=False",
            )
        }
        None => (String::new(), ""),
    };
    let mut commands = vec![
        "# With Azure's command line, which prints the data key in base64url without padding:".to_owned(),
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
        format!("client = CryptographyClient(\"{id}\", DefaultAzureCredential({login}){verified})"),
        format!("print(b64encode(client.{call}).decode())"),
        "PYTHON".to_owned(),
        "python3 claviger-open.py".to_owned(),
    ]);
    commands
}
