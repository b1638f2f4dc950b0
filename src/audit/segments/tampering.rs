//! What something else did to a file of the log.

/// What something else did to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::audit) enum Tampering {
    /// It has no name any more.
    Removed,
    /// Its path leads to another file, or nowhere.
    Moved,
    /// It is shorter than what was written, or has zeros in place of it.
    Cut,
    /// The path of the folder leads to another one, or nowhere.
    FolderMoved,
}

impl Tampering {
    pub(in crate::audit) const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Moved => "moved",
            Self::Cut => "cut",
            Self::FolderMoved => "folder_moved",
        }
    }
}
