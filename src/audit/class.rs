//! How a record is treated while the log is not sound.

/// What happens to a record that the log refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is lost. The next `restarted` record counts it.
    Lost,
    /// Nothing is lost: the operation has not begun, or the caller keeps the record.
    Harmless,
    /// The log keeps it and writes it once it can.
    Deferred,
}

/// How a record is treated while the log is not sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    /// Whether the disk reserve may be used for it.
    pub(super) reserve: bool,
    /// What happens to the record if the log refuses it.
    pub(super) refusal: Refusal,
}
