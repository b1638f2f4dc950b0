//! Packets: one message each, of a socket that keeps their bounds (`SOCK_SEQPACKET`).
//!
//! The kernel gives each packet to one of the threads that wait for any, and takes packets of several threads whole. So
//! neither side needs a thread that reads or writes for the others.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use minicbor::{CborLen, Decode, Encode};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send as send_on, shutdown, socketpair, sockopt,
};
use zeroize::{Zeroize, Zeroizing};

/// The longest message, in bytes: more than the longest ciphertext, context and data key together. The buffer of
/// a socket has room for three.
pub const MAX: usize = 64 * 1024;

/// Makes the gateway's side of a pair of sockets, which never blocks, and the helper's, which does.
///
/// # Errors
/// The system's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    for socket in [&ours, &theirs] {
        sockopt::set_socket_send_buffer_size(socket, 3 * MAX)?;
    }
    Ok((ours, theirs))
}

/// Checks that a descriptor is a socket for packets.
///
/// # Errors
/// `InvalidInput` for another socket; the system's.
pub fn check(socket: impl AsFd) -> io::Result<()> {
    match sockopt::socket_type(socket)? == SocketType::SEQPACKET {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket without packets")),
    }
}

/// Encodes a message as a packet.
///
/// # Errors
/// `InvalidInput` for one that is longer than [`MAX`].
pub fn encode(message: &(impl Encode<()> + CborLen<()>)) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = minicbor::len(message);
    if length > MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message that is too long"));
    }
    // As long as the message, so that no copy of a secret is left behind by growing.
    let mut packet = Zeroizing::new(Vec::with_capacity(length));
    minicbor::encode(message, &mut *packet).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    Ok(packet)
}

/// Decodes a message, which must be all of the packet.
///
/// # Errors
/// `InvalidData`.
pub fn decode<'b, T: Decode<'b, ()>>(packet: &'b [u8]) -> io::Result<T> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "a message");
    let mut decoder = minicbor::Decoder::new(packet);
    let decoded = decoder.decode().map_err(invalid)?;
    if decoder.position() != packet.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes behind a message"));
    }
    Ok(decoded)
}

/// Sends a packet, whole or not at all.
///
/// # Errors
/// The socket's: `WouldBlock` if it has no room and does not block, `BrokenPipe` if the other side is closed.
pub fn send(to: impl AsFd, packet: &[u8]) -> io::Result<()> {
    rustix::io::retry_on_intr(|| send_on(&to, packet, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Ends the traffic in both directions, for all who have either side. What was sent before still arrives.
pub fn close(socket: impl AsFd) {
    // One that the other side closed is closed.
    let _ = shutdown(socket, Shutdown::Both);
}

/// Where packets are received. It keeps none of them.
pub struct Buffer(Box<[u8]>);

impl Default for Buffer {
    fn default() -> Self {
        // One more than a packet may have, by which a longer one shows.
        Self(vec![0; MAX + 1].into())
    }
}

impl Buffer {
    /// Receives one message; `None` where the other side is closed.
    ///
    /// # Errors
    /// The socket's: `WouldBlock` if there is none and it does not block; `InvalidData`.
    pub fn receive<T>(&mut self, from: impl AsFd) -> io::Result<Option<T>>
    where
        T: for<'b> Decode<'b, ()>,
    {
        let length = loop {
            match recv(&from, &mut self.0[..], RecvFlags::empty()) {
                // Reported once, ahead of the packets that are left, where the other side closed before it received all.
                Err(Errno::CONNRESET | Errno::INTR) => {}
                Ok((0, _)) => return Ok(None),
                received => break received?.0,
            }
        };
        let decoded = match length {
            ..=MAX => decode(&self.0[..length]),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a packet's length")),
        };
        self.0[..length].zeroize();
        decoded.map(Some)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use minicbor::bytes::ByteVec;
    use zeroize::Zeroizing;

    use super::{Buffer, MAX, check, decode, encode, pair, send};
    use crate::messages::{Answered, Asked, KeyKind, Mechanism, Output, Request, Sensitive};

    fn request(number: u64, bytes: usize) -> Asked<Request> {
        let request = Request::Encrypt {
            kind: KeyKind::Aes,
            id: ByteVec::from(vec![1; 16]),
            mechanism: Mechanism::Gcm {
                iv: ByteVec::from(vec![2; 12]),
                aad: ByteVec::from(vec![3; 2048]),
            },
            plaintext: Sensitive::new(Zeroizing::new(vec![4; bytes])),
        };
        Asked::new(number, Duration::from_secs(3), request)
    }

    #[test]
    fn a_message_comes_back_and_shows_no_secret() {
        let (ours, theirs) = pair().unwrap();
        for bytes in [1, 4096] {
            send(&ours, &encode(&request(u64::MAX, bytes)).unwrap()).unwrap();
        }
        drop(ours);
        let mut buffer = Buffer::default();
        for bytes in [1, 4096] {
            let asked: Asked<Request> = buffer.receive(&theirs).unwrap().unwrap();
            let Request::Encrypt { plaintext, .. } = &asked.request else {
                panic!("another request");
            };
            assert_eq!((asked.number, plaintext.expose()), (u64::MAX, vec![4; bytes].as_slice()));
            assert!(format!("{asked:?}").contains(&format!("Sensitive({bytes} bytes)")));
            assert!(buffer.0.iter().all(|byte| *byte == 0), "it was kept");
        }
        assert!(buffer.receive::<Asked<Request>>(&theirs).unwrap().is_none());
    }

    /// However many were not received yet by who closed the socket.
    #[test]
    fn what_was_sent_before_the_end_arrives() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &encode(&request(1, 1)).unwrap()).unwrap();
        send(&theirs, &encode(&request(2, 1)).unwrap()).unwrap();
        drop(theirs);
        let mut buffer = Buffer::default();
        assert_eq!(buffer.receive::<Asked<Request>>(&ours).unwrap().unwrap().number, 2);
        assert!(buffer.receive::<Asked<Request>>(&ours).unwrap().is_none());
        let error = send(&ours, &encode(&request(3, 1)).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_gateways_side_never_blocks() {
        let (ours, _theirs) = pair().unwrap();
        let error = Buffer::default().receive::<Answered>(&ours).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        // The longest that there are, in a socket whose buffer nobody made longer.
        let longest = vec![0; MAX];
        while send(&ours, &longest).map_err(|error| error.kind()) != Err(ErrorKind::WouldBlock) {}
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert_eq!(encode(&request(1, MAX)).unwrap_err().kind(), ErrorKind::InvalidInput);
        let whole = encode(&request(1, 32)).unwrap();
        assert_eq!(whole.capacity(), whole.len(), "it has grown");
        for cut in 1..whole.len() {
            assert!(decode::<Asked<Request>>(&whole[..cut]).is_err());
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(decode::<Asked<Request>>(&longer).is_err() && decode::<Answered>(&whole).is_err());
        let answer = Answered {
            number: 1,
            output: Output::Done,
        };
        assert!(decode::<Answered>(&encode(&answer).unwrap()).is_ok());
        let (ours, theirs) = pair().unwrap();
        send(&ours, &vec![0; MAX + 1]).unwrap();
        let error = Buffer::default().receive::<Answered>(&theirs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(check(&ours).is_ok() && check(std::os::unix::net::UnixStream::pair().unwrap().0).is_err());
    }
}
