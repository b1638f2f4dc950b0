//! What the document says about each operation.

use reqwest::Method;

/// Whether a request may be sent again when its response was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Nothing changes, or the same state results, whichever attempt is carried out.
    Always,
    /// An idempotency key makes it safe.
    ByKey,
    /// The caller must look: the second attempt can fail because of the first one.
    Never,
}

/// What the document says about an operation.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: &'static str,
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) repeat: Repeat,
    pub(crate) credential: bool,
    /// An error status whose body is a result nevertheless.
    pub(crate) also_success: Option<u16>,
    /// Bounds of a batch: items, and bytes of the body.
    pub(crate) limits: Option<(usize, usize)>,
}
