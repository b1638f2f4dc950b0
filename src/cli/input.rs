//! Reads input of commands: bounded bytes from files and standard input, pairs, contexts.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use claviger_provider::Secret;
use reqwest::Url;
use serde_json::{Map, Value};

use crate::client::Failure;
use crate::io_reason::IoReason;

/// Maximum size of a wrapped key's text, in bytes, with room for white space.
const MAX_WRAPPED: u64 = 23 << 10;
/// The name of standard input in messages.
const STDIN: &str = "standard input";
/// Maximum size of a JSON file, in bytes: that of a request body.
const MAX_JSON: u64 = 64 << 10;

/// The input of a command.
#[derive(Debug, Args)]
pub struct Input {
    /// File to read; `-` for standard input [default: standard input]
    #[arg(long = "in", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Input {
    /// Reads the input, at most `max` bytes.
    pub(super) fn bytes(&self, max: u64) -> Result<Secret, Failure> {
        read(self.file.as_deref().unwrap_or(Path::new("-")), max)
    }

    /// Opens the input, to be read piece by piece. Returns its name for messages, too.
    pub(super) fn open(&self) -> Result<(Box<dyn Read>, String), Failure> {
        let path = self.file.as_deref().unwrap_or(Path::new("-"));
        if path == Path::new("-") {
            return Ok((Box::new(stdin()?), STDIN.to_owned()));
        }
        let name = path.display().to_string();
        let file = std::fs::File::open(path).map_err(|error| unreadable(&name, &error))?;
        Ok((Box::new(file), name))
    }

    /// Reads a wrapped key.
    pub(super) fn wrapped(&self) -> Result<String, Failure> {
        let bytes = self.bytes(MAX_WRAPPED)?;
        let text = std::str::from_utf8(bytes.expose())
            .ok()
            .map(str::trim)
            .filter(|text| !text.is_empty());
        text.map(str::to_owned)
            .ok_or_else(|| Failure::Usage("the input is not the text of a wrapped key".to_owned()))
    }
}

/// Reads a file, or standard input for `-`.
fn read(path: &Path, max: u64) -> Result<Secret, Failure> {
    if path != Path::new("-") {
        return file(path, max);
    }
    bounded(stdin()?.lock(), STDIN, max)
}

/// Standard input, unless it is a terminal.
fn stdin() -> Result<io::Stdin, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::Usage(
            "standard input is a terminal, which would show what you type: name a file or use a pipe".to_owned(),
        ));
    }
    Ok(stdin)
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::Usage(format!("{name}: cannot be read ({})", IoReason(error.kind())))
}

/// Reads a file of at most `max` bytes.
pub(super) fn file(path: &Path, max: u64) -> Result<Secret, Failure> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| unreadable(&name, &error))?;
    bounded(file, &name, max)
}

fn bounded(from: impl Read, name: &str, max: u64) -> Result<Secret, Failure> {
    let limit = usize::try_from(max).unwrap_or(usize::MAX);
    // Allocate the full size first: a growing vector leaves copies in memory.
    let mut bytes = Vec::with_capacity(limit.saturating_add(1));
    let read = from.take(max + 1).read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read.map_err(|error| unreadable(name, &error))?;
    if bytes.len() > limit {
        return Err(Failure::Usage(format!("{name}: longer than {max} bytes")));
    }
    Ok(bytes)
}

/// Reads a JSON object from a file, or from standard input for `-`.
pub(super) fn json_object(path: &Path) -> Result<Map<String, Value>, Failure> {
    let bytes = read(path, MAX_JSON)?;
    // The parser's message may quote what it read.
    serde_json::from_slice(bytes.expose()).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Failure::Usage(format!("{}: not a JSON object ({place})", path.display()))
    })
}

/// Parses a JSON object.
pub(super) fn object(text: &str) -> Result<Map<String, Value>, &'static str> {
    serde_json::from_str(text).map_err(|_| "expected a JSON object")
}

/// Parses an address.
pub(super) fn url(text: &str) -> Result<Url, &'static str> {
    text.parse().map_err(|_| "expected a URL such as https://claviger.example:8420")
}

/// Parses `name=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected name=value"),
    }
}

/// Converts pairs to a JSON object.
///
/// # Errors
/// If a name is given twice.
pub(super) fn pairs(pairs: &[(String, String)]) -> Result<Value, Failure> {
    let mut all = BTreeMap::new();
    for (name, value) in pairs {
        if all.insert(name, value).is_some() {
            return Err(Failure::Usage(format!("`{name}` is given twice")));
        }
    }
    Ok(all
        .into_iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<Map<_, _>>()
        .into())
}

/// The context of a wrapped key.
#[derive(Debug, Args)]
pub struct Context {
    /// Pair of the context; repeatable
    #[arg(long = "context", value_name = "NAME=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// JSON file with the context
    #[arg(long, value_name = "FILE", conflicts_with = "pairs")]
    context_file: Option<PathBuf>,
}

impl Context {
    /// Adds `context` to a body, if it is not empty.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) -> Result<(), Failure> {
        let context = match &self.context_file {
            Some(path) => Value::Object(json_object(path)?),
            None if self.pairs.is_empty() => return Ok(()),
            None => pairs(&self.pairs)?,
        };
        body.insert("context".to_owned(), context);
        Ok(())
    }
}
