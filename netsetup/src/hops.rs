//! How many hops an answer may have left to be taken.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Has an IPv4 TCP connection take no packet that has fewer hops left (`IP_MINTTL`).
/// What the kernel drops so is as if it had never come.
pub fn take_with_hops(socket: BorrowedFd<'_>, least: u8) -> io::Result<()> {
    let value = libc::c_int::from(least);
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("a small constant");
    // SAFETY: the kernel reads `length` bytes of the integer, which has as many
    // and lives until the call returns.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_MINTTL,
            (&raw const value).cast(),
            length,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
