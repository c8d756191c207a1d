//! Pseudo terminals.

use crate::process::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Opens a new pair through the multiplexer at `ptmx` (a container has its own). Returns master, slave, and the
/// slave's number.
pub fn open(ptmx: &Path) -> io::Result<(OwnedFd, OwnedFd, u32)> {
    use std::os::unix::fs::OpenOptionsExt;
    let master =
        std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC).open(ptmx)?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }))?;
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int.
    check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) }))?;
    // Through the master, so that no path of the container is trusted.
    // SAFETY: TIOCGPTPEER takes open flags.
    let slave = check(libc::c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
    }))?;
    // SAFETY: the kernel has just given us this descriptor.
    let slave = unsafe { OwnedFd::from_raw_fd(slave as i32) };
    Ok((master.into(), slave, number))
}

/// Makes `slave` the controlling terminal of our session, of which we must be the leader.
pub fn make_controlling(slave: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a plain number.
    check(libc::c_long::from(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) })).map(drop)
}

/// Sets the size in characters; the foreground processes get SIGWINCH.
pub fn resize(master: BorrowedFd<'_>, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`.
    check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })).map(drop)
}

/// Makes `fd` our standard input (0), output (1) or error (2).
pub fn become_standard(fd: BorrowedFd<'_>, number: u8) -> io::Result<()> {
    if number > 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: replaces one of the three standard descriptors, which no `OwnedFd` owns.
    check(libc::c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), i32::from(number)) })).map(drop)
}
