//! The ciphertext of an external key manager that does AES-256-GCM: [`Algorithm::CborGcm`](crate::Algorithm::CborGcm),
//! the deterministic CBOR (RFC 8949, section 4.2.1) of `[iv, ct, tag, metadata]` (`docs/format.md`, Recipient).

use std::convert::Infallible;

use minicbor::{Decoder, Encoder, encode};

/// Length of a tag, in bytes.
const TAG: usize = 16;
/// The lengths that an IV can have, in bytes.
const IV: [usize; 2] = [12, 16];
/// Maximum length of the metadata, in bytes.
const MAX_METADATA: usize = 20;

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
        (parts.encode()? == encoded).then_some(parts)
    }

    /// The deterministic encoding; `None` if a part has a length that it cannot have, as in a wrong response of a key
    /// manager.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if !self.have_lengths() {
            return None;
        }
        let mut encoder = Encoder::new(Vec::new());
        self.write(&mut encoder).ok()?;
        Some(encoder.into_writer())
    }

    fn have_lengths(&self) -> bool {
        IV.contains(&self.iv.len()) && !self.ciphertext.is_empty() && self.tag.len() == TAG && self.metadata.len() <= MAX_METADATA
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
        for (iv, length, metadata) in [(12, 1, 0), (16, 23, 20), (12, 24, 1), (12, 255, 0), (16, 256, 0), (12, 4096, 20)] {
            let (iv, ciphertext, metadata) = (vec![1; iv], vec![2; length], vec![4; metadata]);
            let parts = GcmParts {
                iv: &iv,
                ciphertext: &ciphertext,
                metadata: &metadata,
                ..PARTS
            };
            let encoded = parts.encode().unwrap();
            assert_eq!(GcmParts::parse(&encoded), Some(parts));
            for at in 0..encoded.len() {
                assert_eq!(GcmParts::parse(&encoded[..at]), None);
            }
            assert_eq!(GcmParts::parse(&[&encoded[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn the_encoding_is_that_of_the_format() {
        let expected = [&[0x84, 0x4c][..], &[1; 12], &[0x58, 32], &[2; 32], &[0x50], &[3; 16], &[0x40]].concat();
        assert_eq!(PARTS.encode().unwrap(), expected);
    }

    #[test]
    fn a_length_that_no_part_has_is_refused() {
        for (iv, length, tag, metadata) in [
            (0, 32, 16, 0),
            (11, 32, 16, 0),
            (13, 32, 16, 0),
            (12, 0, 16, 0),
            (12, 32, 15, 0),
            (12, 32, 16, 21),
        ] {
            let (iv, ciphertext, tag, metadata) = (vec![1; iv], vec![2; length], vec![3; tag], vec![4; metadata]);
            let parts = GcmParts {
                iv: &iv,
                ciphertext: &ciphertext,
                tag: &tag,
                metadata: &metadata,
            };
            assert_eq!(parts.encode(), None, "{parts:?}");
            let mut encoder = minicbor::Encoder::new(Vec::new());
            parts.write(&mut encoder).unwrap();
            assert_eq!(GcmParts::parse(&encoder.into_writer()), None, "{parts:?}");
        }
    }

    #[test]
    fn there_is_one_encoding() {
        let tail = [&[0x50][..], &[3; 16], &[0x40]].concat();
        // The length of the IV, and twice that of the ciphertext, in a longer form than it needs; a text; five parts;
        // an array without a length.
        for head in [
            [&[0x84, 0x58, 12][..], &[1; 12], &[0x41, 2]].concat(),
            [&[0x84, 0x4c][..], &[1; 12], &[0x58, 1, 2]].concat(),
            [&[0x84, 0x4c][..], &[1; 12], &[0x59, 0, 1, 2]].concat(),
            [&[0x84, 0x4c][..], &[1; 12], &[0x61, 2]].concat(),
            [&[0x85, 0x4c][..], &[1; 12], &[0x41, 2]].concat(),
            [&[0x9f, 0x4c][..], &[1; 12], &[0x41, 2]].concat(),
        ] {
            assert_eq!(GcmParts::parse(&[&head[..], &tail, &[0xff]].concat()), None);
            assert_eq!(GcmParts::parse(&[head, tail.clone()].concat()), None);
        }
        let three = [&[0x83, 0x4c][..], &[1; 12], &[0x41, 2], &[0x50], &[3; 16]].concat();
        assert_eq!(GcmParts::parse(&three), None);
    }
}
