//! Variables with our prefix that name no setting: each is reported, unless somebody else reads it.

use super::document::PREFIX;
use super::errors::{Journal, Place};

/// Variables that the command line reads. None of them is a setting.
pub const COMMAND_LINE: [&str; 6] = [
    "CLAVIGER_ADDRESS",
    "CLAVIGER_CONFIG",
    "CLAVIGER_ROOT_KEY",
    "CLAVIGER_TENANT",
    "CLAVIGER_TOKEN",
    "CLAVIGER_TOKEN_FILE",
];
/// Prefix of the variables that our own tests read.
const TESTS: &str = "CLAVIGER_TEST";

/// Reports each of these variables that nobody reads, with the names that were probably meant.
pub(super) fn report_unknown(variables: &[(String, String)], journal: &Journal) {
    let settings: Vec<String> = journal.settings().into_iter().collect();
    for (name, value) in variables {
        let known = COMMAND_LINE.contains(&name.as_str()) || name.starts_with(TESTS) || is_service_link(name, value);
        if known {
            continue;
        }
        let meant = meant(name, &settings);
        let (wrong, expected) = if meant.is_empty() {
            let others = COMMAND_LINE.join(", ");
            (
                "there is no such setting",
                format!("a setting, such as CLAVIGER_SERVER__LISTEN for `server.listen`, or one of {others}"),
            )
        } else {
            (
                "there is no such setting (two underscores separate the parts of a setting's name)",
                meant.join(" or "),
            )
        };
        journal.report(Place::Variable(name.clone()), wrong, expected);
    }
}

/// The names that differ from `name` in underscores only, or that end with it.
fn meant(name: &str, settings: &[String]) -> Vec<String> {
    let squash = |text: &str| text.replace(['_', '.'], "").to_ascii_uppercase();
    let given = squash(name.strip_prefix(PREFIX).unwrap_or(name));
    let ends_with_given = |setting: &str| {
        let later = setting.match_indices('.').map(|(at, _)| at + 1);
        std::iter::once(0).chain(later).any(|from| squash(&setting[from..]) == given)
    };
    let variable = |setting: &String| format!("{PREFIX}{}", setting.replace('.', "__").to_ascii_uppercase());
    let own = COMMAND_LINE.iter().filter(|known| squash(&known[PREFIX.len()..]) == given);
    let settings = settings.iter().filter(|setting| ends_with_given(setting)).map(variable);
    settings.chain(own.map(|&known| known.to_owned())).collect()
}

/// Whether Kubernetes sets this variable, in each container beside a Service that is named `claviger` or
/// `claviger-...`: `CLAVIGER_SERVICE_HOST`, `CLAVIGER_PORT`, `CLAVIGER_PORT_8420_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let words: Vec<&str> = name.split('_').collect();
    let of_port =
        |three: &[&str]| matches!(three, ["PORT", number, protocol] if number.parse::<u16>().is_ok() && PROTOCOLS.contains(protocol));
    let service = words.windows(2).any(|two| matches!(two, ["SERVICE", "HOST" | "PORT"]));
    let address = PROTOCOLS
        .iter()
        .any(|protocol| value.starts_with(&format!("{}://", protocol.to_ascii_lowercase())));
    service || words.windows(3).any(of_port) || (words.last() == Some(&"PORT") && address)
}
