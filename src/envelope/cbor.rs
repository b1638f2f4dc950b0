//! Deterministic CBOR (RFC 8949, section 4.2.1) on top of `minicbor`.

use minicbor::encode::Write;
use minicbor::{Decoder, Encoder, decode, encode};

use super::errors::ParseError;

impl From<decode::Error> for ParseError {
    /// The parser's message may quote the input, so nothing of it is kept.
    fn from(_: decode::Error) -> Self {
        Self::Invalid
    }
}

/// Room for what is usually encoded, so that a vector seldom grows.
const USUAL: usize = 512;

/// Encodes into a new vector.
#[allow(
    clippy::expect_used,
    reason = "a vector takes every write and none of our encoders fails by itself"
)]
pub(super) fn to_vec(encode: impl FnOnce(&mut Encoder<Vec<u8>>) -> Result<(), encode::Error<std::convert::Infallible>>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(USUAL));
    encode(&mut encoder).expect("writing to a vector cannot fail");
    encoder.into_writer()
}

/// Whether what `encode` writes is exactly `bytes`: no byte differs, is missing or is left over.
pub(super) fn is_exactly<'b>(
    bytes: &'b [u8],
    encode: impl FnOnce(&mut Encoder<Compare<'b>>) -> Result<(), encode::Error<Differs>>,
) -> bool {
    let mut encoder = Encoder::new(Compare { rest: bytes });
    encode(&mut encoder).is_ok() && encoder.writer().rest.is_empty()
}

/// A writer that compares instead of storing.
pub(super) struct Compare<'b> {
    rest: &'b [u8],
}

/// The written bytes are not the expected ones.
pub(super) struct Differs;

impl Write for Compare<'_> {
    type Error = Differs;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Differs> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(Differs)?;
        Ok(())
    }
}

/// A byte string of one length.
pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], ParseError> {
    bytes.try_into().map_err(|_| ParseError::Invalid)
}

/// Reads the next key of a map. Keys are in ascending order, so only one key is possible at each
/// place: unknown, repeated and misplaced keys are errors.
pub(super) fn expect_key(d: &mut Decoder<'_>, key: u64) -> Result<(), ParseError> {
    if d.u64()? == key { Ok(()) } else { Err(ParseError::Invalid) }
}

/// A text of at most `max` bytes.
pub(super) fn text<'b>(d: &mut Decoder<'b>, max: usize) -> Result<&'b str, ParseError> {
    let text = d.str()?;
    if text.len() > max { Err(ParseError::Invalid) } else { Ok(text) }
}
