//! Commands for a POSIX shell that open a wrapped key without this gateway, or that set up another
//! installation to open it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::ProviderKind;

use crate::broker::{Inspected, VersionPlace};
use crate::envelope::{Envelope, Suite};

/// A Python script that decrypts the payload of suite 2 (wrapped bytes of a caller); the same lines
/// as in `docs/format.md`.
const OPEN_PAYLOAD: &str = include_str!("offline_decrypt.py");

/// A script that writes the plaintext to the file `k` (suite 1) or `plaintext` (suite 2). Only
/// comments where the provider has no tool that decrypts.
pub(super) fn without_claviger(envelope: &Envelope, inspected: &Inspected) -> Vec<String> {
    let openable = inspected.recipients.iter().map(|recipient| &recipient.commands);
    let Some((last, before)) = openable.filter_map(|commands| commands.split_last()).next() else {
        return why_not(inspected);
    };
    let mut lines = vec![
        "# First log in to the provider as an identity that may decrypt with this key. The commands contain the context, so".to_owned(),
        "# inspect with exactly the context of the wrap. The plaintext is written to the current folder.".to_owned(),
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
            lines.push("# This needs the Python package `cryptography`: pip install cryptography".to_owned());
            lines.push("python3 - <<'PYTHON'".to_owned());
            lines.extend(OPEN_PAYLOAD.lines().map(str::to_owned));
            lines.push("PYTHON".to_owned());
            lines.push("# The plaintext is in the file plaintext.".to_owned());
        }
    }
    lines
}

/// Comments for a wrapped key that no command line opens.
fn why_not(inspected: &Inspected) -> Vec<String> {
    let opens = inspected.opens.as_ref().unwrap_or(&inspected.primary);
    let lines = if opens.provider == ProviderKind::Local {
        [
            "# The embedded provider keeps the key in this installation's own store, sealed under the root key, and no other tool",
            "# opens it: keep a copy of both, or rewrap to a key of another provider.",
        ]
    } else {
        [
            "# No recipient belongs to a version of this key, or the provider has no command line: pass the ciphertext, and the",
            "# part of the context that the provider gets, to the provider's own decrypt call.",
        ]
    };
    lines.map(str::to_owned).into()
}

/// The commands that create this key on another installation, so that it opens this envelope: with the
/// version that opens it, and after a move with the primary version, too.
pub(super) fn on_another_installation(envelope: &Envelope, inspected: &Inspected) -> Vec<String> {
    let Inspected { tenant, key, primary, .. } = inspected;
    let opens = inspected.opens.as_ref().unwrap_or(primary);
    if opens.provider == ProviderKind::Local {
        return vec![
            "# A key of the embedded provider cannot be created again: its material is only in the store of the installation that"
                .to_owned(),
            "# created it, and is lost with that store or its root key. Restore both, or rewrap to a key of another provider while"
                .to_owned(),
            "# both exist.".to_owned(),
        ];
    }
    let header = envelope.header();
    let moved_to = (opens != primary && primary.provider != ProviderKind::Local).then_some(primary);
    let second_connection = moved_to.filter(|to| to.connection.is_none() || to.connection != opens.connection);
    // Two connections need two files of settings.
    let settings = |place: &VersionPlace| match second_connection {
        Some(_) => format!("settings-{}.json", connection(place, opens)),
        None => "settings.json".to_owned(),
    };
    let create_connection = |place: &VersionPlace| {
        format!(
            "claviger connections create {} --provider {} --settings {}",
            connection(place, opens),
            place.provider,
            settings(place)
        )
    };
    let mut lines = vec![
        format!("claviger tenants create {tenant} --id {}", header.tenant()),
        format!("export CLAVIGER_TENANT={tenant}"),
        "# The settings name the same destination as this installation's connection, and contain a credential.".to_owned(),
        create_connection(opens),
    ];
    if opens != primary {
        lines.push("# This provider key opens the wrapped key. The primary version is on another one since.".to_owned());
    }
    lines.push(format!(
        "claviger keys create {key} --connection {} --spec {} --provider-key {} --id {}",
        connection(opens, opens),
        opens.spec.as_str(),
        quoted(&opens.provider_key),
        header.key()
    ));
    if let Some(to) = moved_to {
        lines.push(
            "# The other provider key, as the primary version. Wrapped keys of other versions need theirs first: claviger keys".to_owned(),
        );
        lines.push("# versions lists them.".to_owned());
        lines.extend(second_connection.map(create_connection));
        lines.push(format!(
            "claviger keys rotate {key} --connection {} --spec {} --provider-key {}",
            connection(to, opens),
            to.spec.as_str(),
            quoted(&to.provider_key)
        ));
    } else if opens != primary {
        lines.push(
            "# The key was moved to the embedded provider, whose keys cannot be created again: what was wrapped there opens".to_owned(),
        );
        lines.push("# only in this installation.".to_owned());
    }
    lines.push(
        "# Unwrapping there requires the permission UnwrapUnsealed, because that installation cannot verify this one's seals.".to_owned(),
    );
    lines
}

/// The name of a version's connection, or a word in its place if the connection was deleted.
fn connection<'p>(place: &'p VersionPlace, opens: &VersionPlace) -> &'p str {
    match &place.connection {
        Some(name) => name,
        None if place == opens => "CONNECTION",
        None => "NEW-CONNECTION",
    }
}

/// Quotes a text as one word of a POSIX shell. A text with NUL cannot be quoted; providers' ids have none.
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
