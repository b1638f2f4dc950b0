//! Parses the arguments. Error messages never repeat a value: a misplaced token or key must not
//! end up in a terminal's scrollback or a job's log.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Error, FromArgMatches};

use super::Cli;

/// Replaces a value in clap's messages.
const NOT_REPEATED: &str = "(not repeated here)";
/// Longer than any of our options, in bytes.
const LONGEST_OPTION: usize = 32;

impl Cli {
    /// Parses the process's arguments.
    ///
    /// # Errors
    /// clap's message (help and version included) without any given value. A mistyped option is
    /// named if it looks like an option.
    pub fn read() -> Result<Self, Error> {
        Self::read_from(std::env::args_os())
    }

    fn read_from(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Self, Error> {
        Self::command()
            .try_get_matches_from(arguments)
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches))
            .map_err(without_values)
    }
}

fn without_values(mut error: Error) -> Error {
    if error.kind() == ErrorKind::InvalidSubcommand {
        return no_such_command(&error);
    }
    let kinds: Vec<ContextKind> = error.context().map(|(kind, _)| kind).collect();
    for kind in kinds {
        match kind {
            ContextKind::InvalidValue => replace(&mut error, kind, false),
            // For other kinds of errors this is the name of one of our arguments.
            ContextKind::InvalidArg if error.kind() == ErrorKind::UnknownArgument => replace(&mut error, kind, true),
            // "to pass it as a value, use ..."
            ContextKind::Suggested | ContextKind::TrailingArg => drop(error.remove(kind)),
            // Names of our arguments, commands and possible values. The enum is non-exhaustive; the
            // test below tries a secret in every place.
            _ => {}
        }
    }
    error
}

/// A message with the commands that exist at that place, which clap's own lacks.
fn no_such_command(error: &Error) -> Error {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let mut parent = Cli::command();
    parent.build();
    // The usage line, which clap makes of our commands: `Usage: claviger keys [OPTIONS] <COMMAND>`.
    for word in usage.split_whitespace().skip(2) {
        match parent.find_subcommand(word).cloned() {
            Some(child) => parent = child,
            None => break,
        }
    }
    let names: Vec<&str> = parent.get_subcommands().map(Command::get_name).collect();
    let mut message = format!(
        "`{}` has no such command {NOT_REPEATED}\n\n  commands: {}",
        parent.get_bin_name().unwrap_or("claviger"),
        names.join(", ")
    );
    if let Some(ContextValue::Strings(similar)) = error.get(ContextKind::SuggestedSubcommand) {
        message.push_str(&format!("\n  did you mean: {}", similar.join(", ")));
    }
    parent.error(ErrorKind::InvalidSubcommand, message)
}

/// Replaces a value in the message. Keeps an empty value, which says that none was given.
fn replace(error: &mut Error, kind: ContextKind, option: bool) {
    let Some(ContextValue::String(given)) = error.get(kind) else {
        return;
    };
    let stays = given.is_empty() || (option && looks_like_an_option(given));
    if !stays {
        error.insert(kind, ContextValue::String(NOT_REPEATED.to_owned()));
    }
}

/// Whether this is two dashes and lower-case words. No token, and no key in base64 or hex, looks like that.
fn looks_like_an_option(given: &str) -> bool {
    given
        .strip_prefix("--")
        .is_some_and(|name| name.len() <= LONGEST_OPTION && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(arguments: &[&str]) -> String {
        let line = std::iter::once("claviger").chain(arguments.iter().copied()).map(Into::into);
        Cli::read_from(line).unwrap_err().render().to_string()
    }

    #[test]
    fn a_typing_error_is_still_helped_with() {
        let option = said(&["keys", "list", "--tenat", "acme"]);
        assert!(
            option.contains("unexpected argument '--tenat' found") && option.contains("--tenant"),
            "{option}"
        );
        let value = said(&["keys", "list", "--output", "jsn"]);
        assert!(
            value.contains("--output") && value.contains("json") && !value.contains("'jsn'"),
            "{value}"
        );
        let command = said(&["keys", "lst"]);
        for part in [
            "`claviger keys` has no such command",
            "commands: create, list, get,",
            "did you mean: list",
            "Usage: claviger keys",
        ] {
            assert!(command.contains(part), "{part}: {command}");
        }
        assert!(!command.contains("lst"), "{command}");
        let command = said(&["lst"]);
        assert!(
            command.contains("`claviger` has no such command") && command.contains("serve, dev, init,"),
            "{command}"
        );
        assert!(said(&["keys", "list", "--output"]).contains("a value is required for '--output"));
        assert!(said(&["--help"]).contains("Exit codes"));
    }

    proptest! {
        /// In every place: a command, a stray value, an option, an option's value, and after an
        /// equals sign.
        #[test]
        fn no_value_is_repeated(
            secret in prop_oneof![
                "clv_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}",
                "[0-9a-f]{64}",
                "[-_+/0-9A-Za-z]{40,44}=?",
                "-{1,3}[-_0-9A-Za-z]{40,44}",
                "[a-z]{8}[0-9]{4}",
            ],
            line in prop::sample::select(vec![
                vec!["{}"],
                vec!["keys", "{}"],
                vec!["keys", "list", "{}"],
                vec!["keys", "get", "orders", "{}"],
                vec!["keys", "list", "--{}"],
                vec!["keys", "list", "-{}"],
                vec!["keys", "list", "--token={}"],
                vec!["keys", "list", "--output", "{}"],
                vec!["keys", "list", "--output={}"],
                vec!["keys", "list", "--page-size", "{}"],
                vec!["wrap", "orders", "--context", "{}", "--contxt"],
                vec!["wrap", "orders", "{}"],
                vec!["unwrap", "--in", "file", "--", "{}"],
                vec!["tokens", "create", "ci", "--expires-in", "{}", "--operation", "Unwrap"],
                vec!["connections", "create", "x", "--provider", "{}"],
                vec!["dev", "--port", "{}"],
                vec!["dev", "--once={}"],
                vec!["help", "{}"],
                vec!["completions", "{}"],
                vec!["--address", "{}", "keys"],
                vec!["--token-file", "a", "--token-file", "{}", "keys", "list"],
            ]),
        ) {
            let line: Vec<String> = line.iter().map(|word| word.replace("{}", &secret)).collect();
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            let arguments = std::iter::once("claviger").chain(line.iter().copied()).map(Into::into);
            if let Err(error) = Cli::read_from(arguments) {
                let said = error.render().to_string();
                let kept = secret.trim_matches('-');
                prop_assert!(!said.contains(kept), "{said}");
            }
        }
    }
}
