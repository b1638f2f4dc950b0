//! How a wrapped key is opened without this gateway, and what makes another installation open
//! it: lines for a POSIX shell.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::ProviderKind;

use crate::broker::Inspected;
use crate::envelope::{Envelope, Suite};

/// The step that suite 2 adds, as `docs/format.md` shows it.
const OPEN_PAYLOAD: &str = include_str!("offline_decrypt.py");

/// The script that leaves the plaintext in the file `k` (suite 1) or `plaintext` (suite 2).
/// Comments alone where the provider has no tool for it.
pub(super) fn without_claviger(envelope: &Envelope, inspected: &Inspected) -> Vec<String> {
    let openable = inspected.recipients.iter().map(|recipient| &recipient.commands);
    let Some((last, before)) = openable.filter_map(|commands| commands.split_last()).next() else {
        return why_not(inspected);
    };
    let mut lines = vec![
        "# Be logged in to the provider as somebody who may decrypt with this key. The context is in the command: inspect".to_owned(),
        "# with the very context of the wrapping. What is secret is written into the folder that you are in.".to_owned(),
        "umask 077".to_owned(),
    ];
    lines.extend_from_slice(before);
    // A pipe alone would hide that its first command failed.
    lines.push(format!("k=$({last}) && printf '%s' \"$k\" | base64 -d > k"));
    match (inspected.suite, envelope.payload()) {
        (Suite::Direct, _) | (Suite::Sealed, None) => lines.push("# The data key is in the file k.".to_owned()),
        (Suite::Sealed, Some(payload)) => {
            for (name, bytes) in [("header", envelope.header_bytes()), ("payload", payload)] {
                lines.push(format!("printf '%s' {} | base64 -d > {name}", STANDARD.encode(bytes)));
            }
            lines.push("# Python's package `cryptography` is needed: pip install cryptography".to_owned());
            lines.push("python3 - <<'PYTHON'".to_owned());
            lines.extend(OPEN_PAYLOAD.lines().map(str::to_owned));
            lines.push("PYTHON".to_owned());
            lines.push("# What was wrapped is in the file plaintext.".to_owned());
        }
    }
    lines
}

fn why_not(inspected: &Inspected) -> Vec<String> {
    let lines: &[&str] = match inspected.provider {
        ProviderKind::Local => &[
            "# The embedded provider keeps the key in this installation's own store, sealed under the root key, and no other tool",
            "# opens it: keep a copy of both, or rewrap to a key of a provider of yours.",
        ],
        ProviderKind::Aws
        | ProviderKind::Gcp
        | ProviderKind::Azure
        | ProviderKind::Vault
        | ProviderKind::Xks
        | ProviderKind::Kmip
        | ProviderKind::Pkcs11 => &[
            "# No recipient is of a version of this key, or the provider has no command line: hand the ciphertext, and what the",
            "# provider sees of the context, to the provider's own decrypt call.",
        ],
    };
    lines.iter().map(|&line| line.to_owned()).collect()
}

/// What an operator makes on another installation, so that it opens this key's blobs.
pub(super) fn on_another_installation(envelope: &Envelope, inspected: &Inspected) -> Vec<String> {
    let Inspected {
        tenant,
        key,
        connection,
        provider,
        spec,
        provider_key,
        ..
    } = inspected;
    let header = envelope.header();
    let connection = connection.as_deref().unwrap_or("CONNECTION");
    match provider {
        ProviderKind::Local => vec![
            "# A key of the embedded provider cannot be made again: its material is in the store of the installation that made it,"
                .to_owned(),
            "# and lost with that store or its root key. Restore these, or rewrap to another provider's key while they are there."
                .to_owned(),
        ],
        ProviderKind::Aws
        | ProviderKind::Gcp
        | ProviderKind::Azure
        | ProviderKind::Vault
        | ProviderKind::Xks
        | ProviderKind::Kmip
        | ProviderKind::Pkcs11 => vec![
            format!("claviger tenants create {tenant} --id {}", header.tenant()),
            format!("export CLAVIGER_TENANT={tenant}"),
            "# The settings lead to the same place as this installation's connection and hold a credential.".to_owned(),
            format!("claviger connections create {connection} --provider {provider} --settings settings.json"),
            format!(
                "claviger keys create {key} --connection {connection} --spec {} --provider-key {} --id {}",
                spec.as_str(),
                quoted(provider_key),
                header.key()
            ),
            "# To unwrap there needs the permission UnwrapUnsealed: this installation's seals are not known there.".to_owned(),
        ],
    }
}

/// As one word of a POSIX shell. Providers' ids have no NUL, the one byte that no word has.
fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| "PROVIDER-KEY".to_owned(), |word| word.into_owned())
}

#[cfg(test)]
mod tests {
    use super::OPEN_PAYLOAD;

    #[test]
    fn the_page_shows_the_same_lines() {
        assert!(include_str!("../../../docs/format.md").contains(&format!("```python\n{OPEN_PAYLOAD}```")));
    }
}
