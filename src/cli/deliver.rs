//! Writes keys and wrapped keys to files or standard output, and prints the rest of the response.
//! Every destination is checked and opened before the call is sent.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::Secret;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::terminal::{Output, Terminal};
use crate::client::Failure;
use crate::io_reason::IoReason;

/// Encoding of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoding {
    /// The bytes themselves
    Raw,
    /// One line of standard base64
    Base64,
}

/// A member of the response that is written separately.
pub(super) struct Product<'a> {
    pub(super) member: &'static str,
    /// Destination. None: standard output.
    pub(super) to: Option<&'a Path>,
    pub(super) kind: Kind,
}

/// Type of a product.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Base64 in the response, secret.
    Bytes(Encoding),
    /// Secret text.
    SecretText,
    /// Text that is not secret.
    Text,
}

impl Kind {
    fn is_secret(self) -> bool {
        match self {
            Self::Bytes(_) | Self::SecretText => true,
            Self::Text => false,
        }
    }

    /// Converts the member of the response to the bytes to write.
    fn content(self, member: &Value) -> Option<Secret> {
        let text = member.as_str()?;
        match self {
            Self::Bytes(Encoding::Raw) => STANDARD.decode(text).ok().map(Secret::new),
            Self::Bytes(Encoding::Base64) | Self::SecretText | Self::Text => Some(Secret::new([text.as_bytes(), b"\n"].concat())),
        }
    }
}

/// Products with open destinations.
pub(super) struct Delivery {
    products: Vec<(&'static str, Kind, Option<Destination>)>,
}

pub(super) enum Destination {
    /// A file that gets its name when it is complete.
    New { file: NamedTempFile, path: PathBuf, replace: bool },
    /// A device or a pipe.
    Open(File),
}

impl Delivery {
    /// Opens the destinations. With `force`, keys may be written to a terminal, and files replaced.
    ///
    /// # Errors
    /// [`Failure::Usage`] if a key would be written to a terminal, two products to one output, or a
    /// file would be replaced.
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
                "standard output is a terminal, which would keep the key in its scrollback: use --out FILE, a pipe, or --force".to_owned(),
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

    /// Writes the products, then the rest of the response: always as JSON; as a table only if no
    /// product was written to standard output.
    pub(super) fn finish(self, mut response: Value, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let mut output_taken = false;
        for (member, kind, to) in self.products {
            if to.is_none() && terminal.output == Output::Json {
                continue;
            }
            let content = response.get(member).and_then(|member| kind.content(member));
            let content = content.ok_or_else(|| Failure::Protocol(format!("the response has no `{member}`")))?;
            if let Some(members) = response.as_object_mut() {
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
        if output_taken { Ok(()) } else { terminal.show(&response) }
    }
}

impl Destination {
    /// Opens a destination. Without `force`, no file is replaced and nothing secret goes to a terminal.
    ///
    /// # Errors
    /// [`Failure::Usage`] when it must not or cannot be written.
    pub(super) fn open(path: &Path, secret: bool, force: bool) -> Result<Self, Failure> {
        let cannot = |error: &std::io::Error| Failure::Usage(format!("{}: cannot be written ({})", path.display(), IoReason(error.kind())));
        match std::fs::metadata(path) {
            // Write into a device or pipe; replacing it with a file would destroy it.
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
                // Created with mode 0600.
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
        let name = match &self {
            Self::Open(_) => "the output".to_owned(),
            Self::New { path, .. } => path.display().to_string(),
        };
        self.write_with(|target| target.write_all(content.expose()).map_err(|error| unwritable(&name, &error)))
    }

    /// Writes with `write`. A new file gets its name once that has succeeded and the content is on the disk.
    ///
    /// # Errors
    /// That of `write`, or [`Failure::Local`].
    pub(super) fn write_with<T>(self, write: impl FnOnce(&mut dyn Write) -> Result<T, Failure>) -> Result<T, Failure> {
        match self {
            Self::Open(mut file) => write(&mut file),
            Self::New { mut file, path, replace } => {
                let written = write(&mut file)?;
                let named = file.as_file().sync_all().and_then(|()| {
                    let kept = if replace {
                        file.persist(&path)
                    } else {
                        file.persist_noclobber(&path)
                    };
                    kept.map(drop).map_err(|error| error.error)
                });
                named.map_err(|error| unwritable(&path.display().to_string(), &error))?;
                Ok(written)
            }
        }
    }
}

fn unwritable(name: &str, error: &std::io::Error) -> Failure {
    Failure::Local(format!("{name}: cannot be written ({})", IoReason(error.kind())))
}
