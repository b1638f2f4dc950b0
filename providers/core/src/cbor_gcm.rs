//! Ciphertexts of [`crate::Algorithm::CborGcm`]: what an external key manager's AES-GCM returns in parts, as
//! deterministic CBOR `[iv, ciphertext, tag, metadata]` (`docs/format.md`, Recipients).

/// The lengths of an initialization vector, in bytes.
const IV: [usize; 2] = [12, 16];
/// The length of a tag, in bytes.
const TAG: usize = 16;
/// The most bytes of the key manager's own metadata.
const MAX_METADATA: usize = 20;

/// The parts of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CborGcm<'a> {
    /// The initialization vector that the key manager used, 12 or 16 bytes.
    pub iv: &'a [u8],
    /// The encrypted data key, as long as the data key.
    pub ciphertext: &'a [u8],
    /// The tag, 16 bytes.
    pub tag: &'a [u8],
    /// What the key manager wants back for a decryption, at most 20 bytes; of KMIP and PKCS#11 always empty.
    pub metadata: &'a [u8],
}

impl<'a> CborGcm<'a> {
    /// Encodes the parts; `None` if one has another length than the format allows.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let parts = [self.iv, self.ciphertext, self.tag, self.metadata];
        let mut encoded = Vec::with_capacity(16 + parts.iter().map(|part| part.len()).sum::<usize>());
        encoded.push(0x84);
        for part in parts {
            put(&mut encoded, part)?;
        }
        self.is_sound().then_some(encoded)
    }

    /// Decodes a ciphertext; `None` for any bytes that [`CborGcm::encode`] does not return.
    pub fn decode(encoded: &'a [u8]) -> Option<Self> {
        let mut rest = encoded.strip_prefix(&[0x84])?;
        let mut take = || {
            let (part, behind) = split(rest)?;
            rest = behind;
            Some(part)
        };
        let parts = Self {
            iv: take()?,
            ciphertext: take()?,
            tag: take()?,
            metadata: take()?,
        };
        (rest.is_empty() && parts.is_sound()).then_some(parts)
    }

    fn is_sound(&self) -> bool {
        IV.contains(&self.iv.len()) && !self.ciphertext.is_empty() && self.tag.len() == TAG && self.metadata.len() <= MAX_METADATA
    }
}

/// Appends a byte string with the shortest form of its length (RFC 8949, section 4.2.1).
fn put(encoded: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    match (part.len(), u8::try_from(part.len())) {
        (0..=23, Ok(short)) => encoded.push(0x40 | short),
        (_, Ok(byte)) => encoded.extend([0x58, byte]),
        (length, Err(_)) => {
            encoded.push(0x59);
            encoded.extend(u16::try_from(length).ok()?.to_be_bytes());
        }
    }
    encoded.extend_from_slice(part);
    Some(())
}

/// The byte string at the beginning, and what follows.
fn split(encoded: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match encoded {
        [short @ 0x40..=0x57, rest @ ..] => (usize::from(short & 0x1f), rest),
        [0x58, byte @ 24..=255, rest @ ..] => (usize::from(*byte), rest),
        [0x59, high @ 1..=255, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::CborGcm;

    fn parts<'a>(iv: &'a [u8], ciphertext: &'a [u8], tag: &'a [u8], metadata: &'a [u8]) -> CborGcm<'a> {
        CborGcm {
            iv,
            ciphertext,
            tag,
            metadata,
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for (iv, length, metadata) in [(12, 1, 0), (16, 23, 20), (12, 24, 1), (12, 255, 0), (16, 256, 0), (12, 4096, 20)] {
            let (iv, ciphertext, metadata) = (vec![1; iv], vec![2; length], vec![3; metadata]);
            let sound = parts(&iv, &ciphertext, &[4; 16], &metadata);
            let encoded = sound.encode().unwrap();
            assert_eq!(CborGcm::decode(&encoded), Some(sound));
            for at in 0..encoded.len() {
                assert!(CborGcm::decode(&encoded[..at]).is_none());
            }
            assert!(CborGcm::decode(&[encoded, vec![0]].concat()).is_none());
        }
    }

    #[test]
    fn the_encoding_is_the_one_of_the_format() {
        let encoded = parts(&[1; 12], &[2; 32], &[3; 16], &[]).encode().unwrap();
        let expected = [&[0x84, 0x4c][..], &[1; 12], &[0x58, 32], &[2; 32], &[0x50], &[3; 16], &[0x40]].concat();
        assert_eq!(encoded, expected);
    }

    #[test]
    fn other_lengths_and_longer_forms_are_refused() {
        for (iv, length, tag, metadata) in [(11, 32, 16, 0), (13, 32, 16, 0), (12, 0, 16, 0), (12, 32, 15, 0), (12, 32, 16, 21)] {
            let (iv, ciphertext, tag, metadata) = (vec![0; iv], vec![0; length], vec![0; tag], vec![0; metadata]);
            assert!(parts(&iv, &ciphertext, &tag, &metadata).encode().is_none());
        }
        let tail = [&[0x50][..], &[3; 16], &[0x40]].concat();
        for head in [
            [&[0x84, 0x58, 12][..], &[1; 12], &[0x41, 2]].concat(),
            [&[0x84, 0x4c][..], &[1; 12], &[0x58, 1, 2]].concat(),
            [&[0x84, 0x4c][..], &[1; 12], &[0x59, 0, 1, 2]].concat(),
            [&[0x84, 0x4c][..], &[1; 12], &[0x61, 2]].concat(),
            [&[0x85, 0x4c][..], &[1; 12], &[0x41, 2]].concat(),
        ] {
            assert!(CborGcm::decode(&[head, tail.clone()].concat()).is_none());
        }
    }
}
