//! The node's name. The file `node` in the data folder contains it, beside the audit log. The store
//! keeps the name, too, with the node's last position in the log. So a start notices that the log
//! is lost even if the file `node` is lost with it.

use std::io;
use std::path::{Path, PathBuf};

use claviger_provider::Node;

use crate::store::{KnownNode, write_new_file};

/// Name of the file. Its content is the node's name and a newline.
pub(super) const FILE: &str = "node";

/// Why the node has no name.
#[derive(Debug, thiserror::Error)]
pub enum NodeNameError {
    /// The file is missing. Only the operator knows whether the newest log is lost, too.
    #[error(
        "{} does not exist: it has the node's name, under which the store keeps {}. If only this file is lost, and the audit log \
         beside it is the newest, write the name into it (`echo {name} > {}`). If the log is lost, too, copy both, node and audit-*.log, from the newest \
         backup, and start again. If there is no backup, start once with --accept-lost-log: it writes the name, goes on with what is left of the \
         log, and records what is lost. The lost records stay lost, and a revocation that only they have is not applied again",
        path.display(), .known.join(", "), path.display()
    )]
    Missing {
        /// Path of the file.
        path: PathBuf,
        /// The name to write, where it is known, or a placeholder.
        name: String,
        /// What the store knows of its nodes.
        known: Vec<String>,
    },
    /// The file is another node's.
    #[error(
        "{} has the node name {found}, but the store beside it was used by {}: restore both from the same copy",
        path.display(), .known.join(", ")
    )]
    Other {
        /// Path of the file.
        path: PathBuf,
        /// The name in the file.
        found: Node,
        /// What the store knows of its nodes.
        known: Vec<String>,
    },
    /// The file contains no valid name.
    #[error(
        "{} does not contain a node name: restore it from a copy, or write the name into it, which is the third word of the first \
         line of the audit log, audit-00000000000000000000.log or audit.log", .0.display()
    )]
    Malformed(PathBuf),
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// The name in this data folder, for a store that is about to be made. Draws one and writes it if
/// there is none: the name is durable before anything is written under it.
///
/// # Errors
/// [`NodeNameError::Malformed`], [`NodeNameError::Io`].
pub(super) fn first_name(folder: &Path) -> Result<Node, NodeNameError> {
    let path = folder.join(FILE);
    match read(&path)? {
        Some(name) => Ok(name),
        None => written(&path, Node::random()),
    }
}

/// The name in this data folder, whose store knows these nodes.
///
/// Without the file the name is taken from the store in two cases: a migration has just moved it
/// there, or the operator accepts what may be lost with it.
///
/// # Errors
/// [`NodeNameError`].
pub(super) fn known_name(folder: &Path, known: &[KnownNode], accept_lost_log: bool) -> Result<Node, NodeNameError> {
    let path = folder.join(FILE);
    if let Some(found) = read(&path)? {
        return if known.iter().any(|node| node.name == found) {
            Ok(found)
        } else {
            Err(NodeNameError::Other {
                path,
                found,
                known: described(known),
            })
        };
    }
    match known {
        // The store is in this data folder and knows one node, so that is this node.
        [node] if !node.named || accept_lost_log => written(&path, node.name.clone()),
        [node] => Err(NodeNameError::Missing {
            path,
            name: node.name.to_string(),
            known: described(known),
        }),
        _ => Err(NodeNameError::Missing {
            path,
            name: "NAME".to_owned(),
            known: described(known),
        }),
    }
}

/// The name in a data folder that may be in use.
///
/// # Errors
/// [`NodeNameError::Malformed`], also without the file; [`NodeNameError::Io`].
pub(super) fn name_in(folder: &Path) -> Result<Node, NodeNameError> {
    let path = folder.join(FILE);
    read(&path)?.ok_or(NodeNameError::Malformed(path))
}

fn described(known: &[KnownNode]) -> Vec<String> {
    let describe = |node: &KnownNode| match node.last {
        Some(last) => format!("node {} with changes up to byte {last} of its audit log", node.name),
        None => format!("node {} without a change", node.name),
    };
    known.iter().map(describe).collect()
}

fn read(path: &Path) -> Result<Option<Node>, NodeNameError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let name = text.strip_suffix('\n').unwrap_or(&text);
            name.parse().map(Some).map_err(|_| NodeNameError::Malformed(path.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(NodeNameError::Malformed(path.to_owned())),
        Err(source) => Err(NodeNameError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

fn written(path: &Path, name: Node) -> Result<Node, NodeNameError> {
    write_new_file(path, &[name.as_str().as_bytes(), b"\n"]).map_err(|source| NodeNameError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(name)
}
