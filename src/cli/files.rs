//! The commands `encrypt` and `decrypt`: whole files, each with a data key of its own (`docs/file-format.md`).

use std::io::Write;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Args;
use claviger_encrypted_file::{Error, KEY, Reader, Writer};
use claviger_provider::Secret;
use reqwest::Method;
use serde_json::{Value, json};

use super::data::{body, unwrap_call};
use super::deliver::Destination;
use super::input::{Context, Input};
use super::terminal::Terminal;
use crate::client::{Call, Client, Failure};
use crate::io_reason::IoReason;

/// The prefix of the text of a wrapped key (`docs/format.md`, Form).
const TEXT: &str = "clv1.";

/// Options for the destination.
#[derive(Debug, Args)]
struct Out {
    /// File to write (mode 0600); it appears when it is complete [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write even to a terminal, and replace an existing file
    #[arg(long)]
    force: bool,
}

impl Out {
    /// Opens it, before anything is called.
    fn open(&self, terminal: &Terminal<'_>) -> Result<Option<Destination>, Failure> {
        match &self.out {
            Some(path) => Destination::open(path, true, self.force).map(Some),
            None if terminal.is_terminal && !self.force => Err(Failure::Usage(
                "standard output is a terminal: use --out FILE, a pipe, or --force".to_owned(),
            )),
            None => Ok(None),
        }
    }
}

/// Arguments of `encrypt`.
#[derive(Debug, Args)]
pub struct Encrypt {
    /// Key (KEK) that wraps the file's data key
    key: String,
    /// Scope
    #[arg(long)]
    scope: Option<String>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    out: Out,
}

impl Encrypt {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let (mut source, name) = self.input.open()?;
        let out = self.out.open(terminal)?;
        let mut body = body(&self.context, self.scope.as_deref())?;
        body.insert("bytes".to_owned(), KEY.into());
        let call = Call::new(Method::POST, &["keys", &self.key, "data-keys"]).json(body.into());
        let made = client.send(call).await?.body;
        let key = plaintext(&made)?;
        let envelope = made["wrapped"].as_str().and_then(|text| text.strip_prefix(TEXT));
        let envelope = envelope.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let envelope = envelope.ok_or_else(|| Failure::Protocol("the response has no `wrapped`".to_owned()))?;
        let write = |target: &mut dyn Write| {
            let written = Writer::new(&envelope).and_then(|writer| writer.write(key.expose(), &mut source, &mut { target }));
            written.map_err(|error| failure(&name, error))
        };
        deliver(out, terminal, write, &made)
    }
}

/// Arguments of `decrypt`.
#[derive(Debug, Args)]
pub struct Decrypt {
    /// Key (KEK) that must have wrapped the file's data key [default: the one that the file names]
    key: Option<String>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    out: Out,
}

impl Decrypt {
    pub(super) async fn run(self, client: &Client, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let (source, name) = self.input.open()?;
        let out = self.out.open(terminal)?;
        let reader = Reader::new(source).map_err(|error| failure(&name, error))?;
        let wrapped = format!("{TEXT}{}", URL_SAFE_NO_PAD.encode(reader.envelope()));
        let call = unwrap_call(self.key.as_deref(), &wrapped, &self.context)?;
        let opened = client.send(call).await?.body;
        let key = plaintext(&opened)?;
        let write = |target: &mut dyn Write| reader.read(key.expose(), &mut { target }).map_err(|error| failure(&name, error));
        deliver(out, terminal, write, &opened)
    }
}

/// The data key in a response.
fn plaintext(response: &Value) -> Result<Secret, Failure> {
    let decoded = response["plaintext"].as_str().and_then(|text| STANDARD.decode(text).ok());
    decoded
        .map(Secret::new)
        .ok_or_else(|| Failure::Protocol("the response has no `plaintext`".to_owned()))
}

/// Writes to the file, and shows what was done; or to standard output, and shows nothing.
fn deliver(
    out: Option<Destination>,
    terminal: &mut Terminal<'_>,
    write: impl FnOnce(&mut dyn Write) -> Result<u64, Failure>,
    response: &Value,
) -> Result<(), Failure> {
    match out {
        Some(destination) => {
            let content = destination.write_with(write)?;
            let done = json!({"content_bytes": content, "key": response["key"], "version": response["version"]});
            terminal.show(&done)
        }
        None => write(&mut terminal.out).map(drop),
    }
}

/// A failure to read or write this input.
fn failure(name: &str, error: Error) -> Failure {
    match error {
        Error::Io(error) => Failure::Local(format!("{name}: cannot be read or written ({})", IoReason(error.kind()))),
        Error::TooLong | Error::KeyLength => Failure::Local(format!("{name}: {error}")),
        refused => Failure::Rejected(format!("{name}: {refused} ({})", refused.code().unwrap_or_default())),
    }
}
