//! Commands that unwrap a data key without the gateway, for the server's own command line.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::{Algorithm, BoundContext, Wrapped};

use crate::key_type::KeyType;
use crate::keys::Ciphertext;
use crate::names::Engine;
use crate::settings::Settings;

/// The commands for a POSIX shell. The last one prints the data key in base64. `None` where no key of
/// the engine could have wrapped it.
///
/// They use OpenBao's `bao`. Vault's `vault` has the same arguments and variables.
pub(crate) fn commands(
    settings: &Settings,
    engine: &Engine,
    wrapped: &Wrapped,
    context: &BoundContext,
    kind: KeyType,
) -> Option<Vec<String>> {
    let key = engine.key(&wrapped.key.id)?;
    let ciphertext = std::str::from_utf8(&wrapped.ciphertext).ok()?;
    Ciphertext::parse(ciphertext).filter(|_| wrapped.algorithm == Algorithm::ProviderOpaque)?;
    let mut commands = vec![format!("export VAULT_ADDR={}", quoted(&settings.address)?)];
    if let Some(proxy) = &settings.proxy {
        commands.push(format!("export VAULT_PROXY_ADDR={}", quoted(proxy)?));
    }
    if let Some(ca) = &settings.ca {
        commands.push(format!("printf '%s' {} > vault-ca.pem", quoted(ca)?));
        commands.push("export VAULT_CACERT=vault-ca.pem".to_owned());
    }
    let namespace = settings.namespace.as_ref().map(|namespace| format!("-namespace={namespace} "));
    let associated_data = kind
        .binds_context()
        .then(|| format!(" associated_data={}", STANDARD.encode(context.bytes())));
    // Names, paths, Transit's ciphertexts and base64 have no character that is special in a shell.
    commands.push(format!(
        "bao write {}-field=plaintext {}/decrypt/{} ciphertext={ciphertext}{}",
        namespace.unwrap_or_default(),
        engine.mount.as_str(),
        key.as_str(),
        associated_data.unwrap_or_default(),
    ));
    Some(commands)
}

/// A text as one word of a POSIX shell; `None` for a text that has no such form.
fn quoted(text: &str) -> Option<Cow<'_, str>> {
    shlex::try_quote(text).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::collections::BTreeMap;

    use claviger_provider::{Algorithm, BoundContext, ProviderKeyRef, Wrapped};
    use serde_json::{Value, json};

    use super::{Engine, Settings, commands};
    use crate::key_type::{KeyType, Symmetric};
    use crate::names::Path;

    fn commands_for(more: &Value, id: &str, kind: KeyType) -> Option<Vec<String>> {
        let mut settings = json!({"address": "https://v.example/", "mount": "kms/keys", "auth": {"token": {}}});
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let engine = Engine {
            namespace: settings.namespace.as_deref().map(|text| Path::parse(text).unwrap()),
            mount: Path::parse("kms/keys").unwrap(),
        };
        let wrapped = Wrapped {
            key: ProviderKeyRef {
                id: id.to_owned(),
                version: "1".to_owned(),
            },
            algorithm: Algorithm::ProviderOpaque,
            ciphertext: b"vault:v1:AA+/".to_vec(),
            key_material: None,
            upstream_request_id: None,
        };
        commands(&settings, &engine, &wrapped, &BoundContext::new(BTreeMap::new(), vec![0xa0]), kind)
    }

    #[test]
    fn the_command_names_place_and_context() {
        let aes = KeyType::Symmetric(Symmetric::Aes256Gcm96);
        let plain = commands_for(&json!({}), "kms/keys/orders", aes).unwrap();
        assert_eq!(
            plain,
            [
                "export VAULT_ADDR=https://v.example/",
                "bao write -field=plaintext kms/keys/decrypt/orders ciphertext=vault:v1:AA+/ associated_data=oA==",
            ]
        );
        let more = json!({"namespace": "team/a", "ca": "PEM\nPEM\n", "proxy": "http://p.example:3128/"});
        assert_eq!(
            commands_for(&more, "team/a/kms/keys/orders", KeyType::Rsa3072).unwrap(),
            [
                "export VAULT_ADDR=https://v.example/",
                "export VAULT_PROXY_ADDR=http://p.example:3128/",
                "printf '%s' 'PEM\nPEM\n' > vault-ca.pem",
                "export VAULT_CACERT=vault-ca.pem",
                "bao write -namespace=team/a -field=plaintext kms/keys/decrypt/orders ciphertext=vault:v1:AA+/",
            ]
        );
        assert_eq!(commands_for(&json!({}), "transit/orders", aes), None);
    }

    #[test]
    fn no_setting_gets_out_of_its_word() {
        for odd in [
            "https://v.example/it's",
            "https://v.example/$(id)",
            "https://v.example/;id",
            "https://v.example/`id`",
        ] {
            let commands = commands_for(&json!({"address": odd}), "kms/keys/k", KeyType::Rsa3072).unwrap();
            let words = shlex::split(&commands[0]).unwrap();
            assert_eq!(words, ["export".to_owned(), format!("VAULT_ADDR={odd}")]);
        }
    }
}
