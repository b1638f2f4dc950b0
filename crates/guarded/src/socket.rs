//! What the kernel has of a socket.

use std::io;
use std::os::fd::BorrowedFd;

/// The bytes that were written to a TCP socket and that the peer's kernel has not acknowledged.
///
/// # Errors
/// What the system answers, where it is no such socket; `Unsupported` on a system that does not tell.
#[cfg(all(target_os = "linux", not(miri)))]
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    use std::os::fd::AsRawFd;

    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed. `TIOCOUTQ` writes one `int` to the pointer, which is valid.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if status == 0 {
        Ok(u64::try_from(bytes).unwrap_or_default())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The bytes that were written to a TCP socket and that the peer's kernel has not acknowledged.
///
/// # Errors
/// Always `Unsupported`: this system does not tell.
#[cfg(any(not(target_os = "linux"), miri))]
pub fn unacknowledged(_: BorrowedFd<'_>) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}
