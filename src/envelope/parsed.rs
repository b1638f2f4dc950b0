//! A well-formed envelope: the strict parser, and the encoder that is its inverse.

use std::borrow::Cow;
use std::ops::Range;

use aws_lc_rs::digest;
use minicbor::data::Type;
use minicbor::encode::Write;
use minicbor::{Decoder, Encoder, encode};

use super::errors::{BuildError, ParseError};
use super::header::Header;
use super::recipient::{self, Recipient};
use super::seal::Seal;
use super::{cbor, commitment, text};

/// The longest binary form, in bytes.
pub const MAX_BINARY: usize = 16 * 1024;
/// The longest text form, in bytes: the prefix and the base64url of [`MAX_BINARY`] bytes.
pub const MAX_TEXT: usize = text::PREFIX.len() + (MAX_BINARY * 4).div_ceil(3);

/// `CLV` and the version byte, in front of the CBOR item.
const MAGIC: [u8; 4] = *b"CLV\x01";

/// A well-formed envelope. That it parses says nothing about who made it: see
/// [`Envelope::seal_status`] and [`Envelope::open`].
pub struct Envelope {
    text: Box<str>,
    binary: Vec<u8>,
    pub(super) header: Header,
    header_at: Range<usize>,
    pub(super) commitment: [u8; commitment::LEN],
    recipients: Vec<Recipient>,
    recipients_at: Range<usize>,
    payload_at: Option<Range<usize>>,
    pub(super) seal: Option<Seal>,
}

impl Envelope {
    /// Reads the text form. The work is bounded by [`MAX_TEXT`].
    ///
    /// # Errors
    /// See [`ParseError`]; the page's order of checks decides which one.
    pub fn parse<'t>(text: impl Into<Cow<'t, str>>) -> Result<Self, ParseError> {
        let text = text.into();
        if text.len() > MAX_TEXT {
            return Err(ParseError::TooLarge);
        }
        Self::read(text::decode(&text)?, text.into())
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// As [`Envelope::parse`].
    pub fn parse_binary(binary: &[u8]) -> Result<Self, ParseError> {
        if binary.len() > MAX_BINARY {
            return Err(ParseError::TooLarge);
        }
        Self::read(binary.to_vec(), text::encode(binary).into())
    }

    /// The text form, exactly as it was parsed: there is only one for a binary form.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// The binary form.
    pub fn as_binary(&self) -> &[u8] {
        &self.binary
    }

    /// SHA-256 of the text form: how the record names a wrapped key.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, self.text.as_bytes()).as_ref());
        out
    }

    /// What the envelope says about itself; authenticated only by seal or commitment.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The 1 to 8 recipients, in their order in the envelope.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The encoded header, over which commitment and seal are computed.
    pub fn header_bytes(&self) -> &[u8] {
        &self.binary[self.header_at.clone()]
    }

    /// The encoded array of recipients, over which the seal is computed.
    pub(super) fn recipients_bytes(&self) -> &[u8] {
        &self.binary[self.recipients_at.clone()]
    }

    /// Suite 2: the plaintext encrypted under the data key, with the tag at its end. Suite 1: `None`.
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload_at.clone().map(|at| &self.binary[at])
    }

    /// Decodes strictly: encodes the decoded envelope again and compares all bytes. `minicbor` alone
    /// accepts integers that are not in their shortest form.
    fn read(binary: Vec<u8>, text: Box<str>) -> Result<Self, ParseError> {
        if !binary.starts_with(&MAGIC) {
            return Err(ParseError::VersionUnsupported);
        }
        let mut d = Decoder::new(&binary);
        d.set_position(MAGIC.len());
        if d.array()? != Some(5) {
            return Err(ParseError::Invalid);
        }

        let header_bytes = d.bytes()?;
        let header_at = d.position() - header_bytes.len()..d.position();
        let header = Header::decode(header_bytes)?;

        let commitment = *cbor::fixed(d.bytes()?)?;

        let recipients_start = d.position();
        let recipients = recipient::decode_all(&mut d, header.data_key_len())?;
        let recipients_at = recipients_start..d.position();

        let payload = optional_bytes(&mut d)?;
        let payload_at = payload.map(|bytes| d.position() - bytes.len()..d.position());
        if payload.map(<[u8]>::len) != header.payload_len() {
            return Err(ParseError::Invalid);
        }

        let seal = match optional_bytes(&mut d)? {
            Some(bytes) => Some(Seal::from_bytes(bytes)?),
            None => None,
        };

        let again = Item {
            header: header_bytes,
            commitment: &commitment,
            recipients: &recipients,
            payload,
            seal: seal.as_ref(),
        };
        if !cbor::is_exactly(&binary[MAGIC.len()..], |e| again.encode(e)) {
            return Err(ParseError::Invalid);
        }

        Ok(Self {
            text,
            header,
            header_at,
            commitment,
            recipients,
            recipients_at,
            payload_at,
            seal,
            binary,
        })
    }

    /// Encodes an envelope and parses it again, so that only the parser has to check the limits.
    pub(super) fn assemble(item: &Item<'_>) -> Result<Self, BuildError> {
        let mut binary = MAGIC.to_vec();
        binary.extend_from_slice(&cbor::to_vec(|e| item.encode(e)));
        Self::parse_binary(&binary).map_err(|error| match error {
            ParseError::TooLarge => BuildError::TooLarge,
            ParseError::Invalid | ParseError::VersionUnsupported => BuildError::Recipient,
        })
    }
}

impl std::fmt::Debug for Envelope {
    /// Ids and lengths only, so that scope, provider keys and ciphertexts stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope")
            .field("suite", &self.header.suite)
            .field("tenant", &self.header.tenant)
            .field("key", &self.header.key)
            .field("dek_id", &self.header.dek_id)
            .field("recipients", &self.recipients.len())
            .field("bytes", &self.binary.len())
            .finish_non_exhaustive()
    }
}

/// The five members of the outer array.
pub(super) struct Item<'a> {
    pub(super) header: &'a [u8],
    pub(super) commitment: &'a [u8; commitment::LEN],
    pub(super) recipients: &'a [Recipient],
    pub(super) payload: Option<&'a [u8]>,
    pub(super) seal: Option<&'a Seal>,
}

impl Item<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>) -> Result<(), encode::Error<W::Error>> {
        e.array(5)?.bytes(self.header)?.bytes(self.commitment)?;
        recipient::encode_all(self.recipients, e)?;
        let seal = self.seal.map(Seal::to_bytes);
        for optional in [self.payload, seal.as_ref().map(|bytes| bytes.as_slice())] {
            match optional {
                Some(bytes) => e.bytes(bytes)?,
                None => e.null()?,
            };
        }
        Ok(())
    }
}

fn optional_bytes<'b>(d: &mut Decoder<'b>) -> Result<Option<&'b [u8]>, ParseError> {
    if d.datatype()? == Type::Null {
        d.null()?;
        return Ok(None);
    }
    Ok(Some(d.bytes()?))
}
