//! Frames: a length of four bytes, most significant first, and as many bytes of a message.

use std::io::{self, Read, Write};

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

/// The longest message, in bytes: more than the longest ciphertext, context and data key together.
pub const MAX: usize = 64 * 1024;

/// Encodes a message as a frame.
///
/// # Errors
/// `InvalidInput` for one that is longer than [`MAX`].
pub fn encode(message: &impl Encode<()>) -> io::Result<Zeroizing<Vec<u8>>> {
    // Longer than nearly all of them, so that no copy of a secret is left behind by growing.
    let mut frame = Zeroizing::new(Vec::with_capacity(16 * 1024));
    frame.extend_from_slice(&[0; 4]);
    minicbor::encode(message, &mut *frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    let length = frame.len() - 4;
    let length = u32::try_from(length).ok().filter(|_| length <= MAX);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a message that is too long"))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// The length of the message behind the first four bytes of a frame.
///
/// # Errors
/// `InvalidData` for none, or more than [`MAX`].
pub fn length(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(head) as usize;
    match length {
        1..=MAX => Ok(length),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame's length")),
    }
}

/// Decodes a message, which must be all of the bytes.
///
/// # Errors
/// `InvalidData`.
pub fn decode<'b, T: Decode<'b, ()>>(message: &'b [u8]) -> io::Result<T> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "a message");
    let mut decoder = minicbor::Decoder::new(message);
    let decoded = decoder.decode().map_err(invalid)?;
    if decoder.position() != message.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes behind a message"));
    }
    Ok(decoded)
}

/// Reads one frame; `None` where the other side has closed the socket before it.
///
/// # Errors
/// The socket's; `InvalidData`; `UnexpectedEof` within a frame.
pub fn read(from: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut head = [0; 4];
    let first = loop {
        match from.read(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[first..])?;
    let mut message = Zeroizing::new(vec![0; length(head)?]);
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Writes one frame.
///
/// # Errors
/// The socket's; `InvalidInput` for a message that is too long.
pub fn write(to: &mut impl Write, message: &impl Encode<()>) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]
mod tests {
    use std::io::ErrorKind;

    use minicbor::bytes::ByteVec;
    use zeroize::Zeroizing;

    use super::{MAX, decode, encode, length, read, write};
    use crate::messages::{Answered, Asked, KeyKind, Mechanism, Output, Request, Sensitive};

    fn request(bytes: usize) -> Asked<Request> {
        Asked {
            number: u64::MAX,
            patience: 3000,
            request: Request::Encrypt {
                kind: KeyKind::Aes,
                id: ByteVec::from(vec![1; 16]),
                mechanism: Mechanism::Gcm {
                    iv: ByteVec::from(vec![2; 12]),
                    aad: ByteVec::from(vec![3; 2048]),
                },
                plaintext: Sensitive::new(Zeroizing::new(vec![4; bytes])),
            },
        }
    }

    #[test]
    fn a_message_comes_back_and_shows_no_secret() {
        let mut socket = Vec::new();
        for bytes in [1, 4096] {
            write(&mut socket, &request(bytes)).unwrap();
        }
        let mut from = socket.as_slice();
        for bytes in [1, 4096] {
            let message = read(&mut from).unwrap().unwrap();
            let asked: Asked<Request> = decode(&message).unwrap();
            let Request::Encrypt { plaintext, .. } = &asked.request else {
                panic!("another request");
            };
            assert_eq!((asked.number, plaintext.expose()), (u64::MAX, vec![4; bytes].as_slice()));
            assert!(format!("{asked:?}").contains(&format!("Sensitive({bytes} bytes)")));
        }
        assert!(read(&mut from).unwrap().is_none());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(encode(&request(MAX)).unwrap_err().kind(), ErrorKind::InvalidInput);
        for head in [[0; 4], [0, 1, 0, 1], [0xff; 4]] {
            assert_eq!(length(head).unwrap_err().kind(), ErrorKind::InvalidData);
        }
        let whole = encode(&request(32)).unwrap();
        for cut in 1..whole.len() {
            assert_eq!(read(&mut &whole[..cut]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
            assert!(decode::<Asked<Request>>(&whole[4..][..cut.min(whole.len() - 5)]).is_err());
        }
        let longer = [&whole[4..], &[0]].concat();
        assert!(decode::<Asked<Request>>(&longer).is_err() && decode::<Answered>(&whole[4..]).is_err());
        let answer = Answered {
            number: 1,
            output: Output::Done,
        };
        assert!(decode::<Answered>(&encode(&answer).unwrap()[4..]).is_ok());
    }
}
