//! The ciphertext of an external key manager that does AES-256-GCM: [`Algorithm::CborGcm`](crate::Algorithm::CborGcm),
//! the deterministic CBOR (RFC 8949, section 4.2.1) of `[iv, ct, tag, metadata]` (`docs/format.md`, Recipient).

use std::convert::Infallible;

use minicbor::{Decoder, Encoder, encode};

/// Length of a tag, in bytes.
pub const TAG: usize = 16;
/// The lengths that an IV can have, in bytes.
pub const IV: [usize; 2] = [12, 16];
/// Maximum length of the metadata, in bytes.
pub const MAX_METADATA: usize = 20;

/// The parts of one encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GcmParts<'a> {
    /// The IV that the key manager used.
    pub iv: &'a [u8],
    /// The ciphertext, as long as the plaintext.
    pub ciphertext: &'a [u8],
    /// The tag.
    pub tag: &'a [u8],
    /// The key manager's own data about the encryption, which it authenticates; empty for none.
    pub metadata: &'a [u8],
}

impl<'a> GcmParts<'a> {
    /// Parses an encoding. `None` if a part has a length that it cannot have, or one byte differs from the
    /// deterministic encoding.
    pub fn parse(encoded: &'a [u8]) -> Option<Self> {
        let mut decoder = Decoder::new(encoded);
        if !matches!(decoder.array(), Ok(Some(4))) {
            return None;
        }
        let mut part = || decoder.bytes().ok();
        let parts = Self {
            iv: part()?,
            ciphertext: part()?,
            tag: part()?,
            metadata: part()?,
        };
        (parts.have_lengths() && parts.encode() == encoded).then_some(parts)
    }

    /// Whether each part has a length that it can have.
    pub fn have_lengths(&self) -> bool {
        IV.contains(&self.iv.len()) && !self.ciphertext.is_empty() && self.tag.len() == TAG && self.metadata.len() <= MAX_METADATA
    }

    /// The deterministic encoding.
    #[allow(clippy::expect_used, reason = "a vector takes every write")]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        self.write(&mut encoder).expect("writing to a vector cannot fail");
        encoder.into_writer()
    }

    fn write(&self, encoder: &mut Encoder<Vec<u8>>) -> Result<(), encode::Error<Infallible>> {
        encoder.array(4)?;
        for part in [self.iv, self.ciphertext, self.tag, self.metadata] {
            encoder.bytes(part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::GcmParts;

    const PARTS: GcmParts<'_> = GcmParts {
        iv: &[1; 12],
        ciphertext: &[2; 32],
        tag: &[3; 16],
        metadata: &[],
    };

    #[test]
    fn parts_come_back_as_they_were() {
        for parts in [
            PARTS,
            GcmParts { iv: &[1; 16], ..PARTS },
            GcmParts {
                ciphertext: &[2; 4096],
                metadata: &[4; 20],
                ..PARTS
            },
        ] {
            assert_eq!(GcmParts::parse(&parts.encode()), Some(parts));
        }
        let mut expected = vec![0x84, 0x4c];
        expected.extend([1; 12]);
        expected.extend([0x58, 32]);
        expected.extend([2; 32]);
        expected.push(0x50);
        expected.extend([3; 16]);
        expected.push(0x40);
        assert_eq!(PARTS.encode(), expected);
    }

    #[test]
    fn a_length_that_no_part_has_is_refused() {
        for parts in [
            GcmParts { iv: &[1; 13], ..PARTS },
            GcmParts { iv: &[], ..PARTS },
            GcmParts { ciphertext: &[], ..PARTS },
            GcmParts { tag: &[3; 15], ..PARTS },
            GcmParts {
                metadata: &[4; 21],
                ..PARTS
            },
        ] {
            assert_eq!(GcmParts::parse(&parts.encode()), None, "{parts:?}");
        }
    }

    #[test]
    fn there_is_one_encoding() {
        let encoded = PARTS.encode();
        assert_eq!(GcmParts::parse(&[&encoded[..], &[0]].concat()), None);
        assert_eq!(GcmParts::parse(&encoded[..encoded.len() - 1]), None);
        // The length of the IV in a longer form than it needs, an array without a length, and three parts.
        let longer = [&[0x84, 0x58, 12], &encoded[2..]].concat();
        let endless = [&[0x9f], &encoded[1..], &[0xff]].concat();
        let three = [&[0x83], &encoded[1..encoded.len() - 1]].concat();
        for other in [longer, endless, three, Vec::new()] {
            assert_eq!(GcmParts::parse(&other), None, "{other:?}");
        }
    }
}
