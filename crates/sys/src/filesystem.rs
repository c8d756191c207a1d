//! File system calls that std and nix lack: extended attributes, reflinks, waiting for a whole file system's disk.

use crate::process::check;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Sets an extended attribute on the file itself, not on what a symlink points to.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let path = c_string(path.as_os_str().as_bytes())?;
    let name = c_string(name.as_bytes())?;
    // SAFETY: two C strings and a buffer with its length.
    check(libc::c_long::from(unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    }))
    .map(drop)
}

/// Reads a short extended attribute (up to 256 bytes) of the file itself.
pub fn get_xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let path = c_string(path.as_os_str().as_bytes())?;
    let name = c_string(name.as_bytes())?;
    let mut value = vec![0u8; 256];
    // SAFETY: two C strings and a buffer with its length.
    let length =
        check(unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) }
            as libc::c_long)?;
    value.truncate(length as usize);
    Ok(value)
}
