//! Where products go: keys and wrapped keys to files or standard output, and the rest of
//! the answer to whom it concerns. Everything that can be refused is refused before the call.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::Secret;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::Terminal;
use super::print::Output;
use crate::client::Failure;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// As one line of standard base64.
    Base64,
}

/// A member of the answer that is wanted by itself.
pub(super) struct Product<'a> {
    pub(super) member: &'static str,
    /// Where it goes; none: standard output.
    pub(super) to: Option<&'a Path>,
    pub(super) kind: Kind,
}

/// What a product is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Base64 in the answer, secret.
    Bytes(Encoding),
    /// A secret text.
    SecretText,
    /// A text that anybody may see.
    Text,
}

impl Kind {
    fn is_secret(self) -> bool {
        match self {
            Self::Bytes(_) | Self::SecretText => true,
            Self::Text => false,
        }
    }

    /// What is written for this member of the answer.
    fn content(self, member: &Value) -> Option<Secret> {
        let text = member.as_str()?;
        match self {
            Self::Bytes(Encoding::Raw) => STANDARD.decode(text).ok().map(Secret::new),
            Self::Bytes(Encoding::Base64) | Self::SecretText | Self::Text => Some(Secret::new([text.as_bytes(), b"\n"].concat())),
        }
    }
}

/// Products with their destinations open.
pub(super) struct Delivery {
    products: Vec<(&'static str, Kind, Option<Destination>)>,
}

enum Destination {
    /// A file that appears under its name only when it is complete.
    New { file: NamedTempFile, path: PathBuf, replace: bool },
    /// A device or a pipe.
    Open(File),
}

impl Delivery {
    /// Opens the destinations. `force` writes keys to a terminal and over existing files.
    ///
    /// # Errors
    /// `Usage` when a key would go to a terminal, two products to one output, or over a file.
    pub(super) fn open(products: &[Product<'_>], force: bool, terminal: &Terminal<'_>) -> Result<Self, Failure> {
        let unplaced = || products.iter().filter(|product| product.to.is_none());
        if terminal.output == Output::Table && unplaced().count() > 1 {
            let names: Vec<&str> = unplaced().map(|product| product.member).collect();
            return Err(Failure::Usage(format!(
                "{} cannot share one output: send one of them to a file (--out, --wrapped-out), or use --output json",
                names.join(" and ")
            )));
        }
        if terminal.is_terminal && !force && unplaced().any(|product| product.kind.is_secret()) {
            return Err(Failure::Usage(
                "standard output is a terminal, and a key would stay in its history: use --out FILE, a pipe, or --force".to_owned(),
            ));
        }
        let open = |product: &Product<'_>| {
            let to = product
                .to
                .map(|path| Destination::open(path, product.kind.is_secret(), force))
                .transpose()?;
            Ok((product.member, product.kind, to))
        };
        Ok(Self {
            products: products.iter().map(open).collect::<Result<_, Failure>>()?,
        })
    }

    /// Writes the products, then what is left of the answer: all of it as JSON, or as a
    /// table unless a product already took standard output.
    pub(super) fn finish(self, mut answer: Value, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let mut output_taken = false;
        for (member, kind, to) in self.products {
            if to.is_none() && terminal.output == Output::Json {
                continue;
            }
            let content = answer.get(member).and_then(|member| kind.content(member));
            let content = content.ok_or_else(|| Failure::Protocol(format!("the answer holds no `{member}`")))?;
            if let Some(members) = answer.as_object_mut() {
                members.remove(member);
            }
            match to {
                Some(destination) => destination.write(&content)?,
                None => {
                    terminal.bytes(content.expose())?;
                    output_taken = true;
                }
            }
        }
        if output_taken { Ok(()) } else { terminal.show(&answer) }
    }
}

impl Destination {
    fn open(path: &Path, secret: bool, force: bool) -> Result<Self, Failure> {
        let cannot = |error: &std::io::Error| Failure::Usage(format!("{}: cannot be written ({})", path.display(), error.kind()));
        match std::fs::metadata(path) {
            // A device or a pipe is written to; replacing it by a file would destroy it.
            Ok(metadata) if !metadata.is_file() => {
                let file = OpenOptions::new().write(true).open(path).map_err(|error| cannot(&error))?;
                if secret && !force && file.is_terminal() {
                    return Err(Failure::Usage(format!(
                        "{} is a terminal: use --force to write a key there",
                        path.display()
                    )));
                }
                Ok(Self::Open(file))
            }
            Ok(_) if !force => Err(Failure::Usage(format!("{} exists: use --force to replace it", path.display()))),
            Ok(_) | Err(_) => {
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty())
                    .unwrap_or(Path::new("."));
                // Mode 0600 from the start.
                let file = NamedTempFile::new_in(folder).map_err(|error| cannot(&error))?;
                Ok(Self::New {
                    file,
                    path: path.to_owned(),
                    replace: force,
                })
            }
        }
    }

    fn write(self, content: &Secret) -> Result<(), Failure> {
        let (path, written) = match self {
            Self::Open(mut file) => ("the output".to_owned(), file.write_all(content.expose())),
            Self::New { mut file, path, replace } => {
                let synced = file.write_all(content.expose()).and_then(|()| file.as_file().sync_all());
                let named = synced.and_then(|()| {
                    let kept = if replace {
                        file.persist(&path)
                    } else {
                        file.persist_noclobber(&path)
                    };
                    kept.map(drop).map_err(|error| error.error)
                });
                (path.display().to_string(), named)
            }
        };
        written.map_err(|error| Failure::Local(format!("{path}: cannot be written ({})", error.kind())))
    }
}
