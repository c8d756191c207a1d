//! Loading a system call filter.

use crate::process::check;
use std::io;

/// Loads a classic BPF program of 8-byte instructions (`struct sock_filter` in native byte order).
///
/// Unlike the loaders of filter crates it leaves `no_new_privs` alone, which would break setuid programs; without
/// it the caller needs CAP_SYS_ADMIN.
pub fn load(program: &[u8]) -> io::Result<()> {
    let (chunks, rest) = program.as_chunks::<8>();
    if !rest.is_empty() || chunks.is_empty() || chunks.len() > 4096 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut filters: Vec<libc::sock_filter> = chunks
        .iter()
        .map(|c| libc::sock_filter {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect();
    let program = libc::sock_fprog { len: filters.len() as u16, filter: filters.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions that live until the call returns; the kernel copies and checks them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) }).map(drop)
}
