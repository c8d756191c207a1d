//! Linux capabilities: names, sets, and taking fewer of them.

use crate::process::check;
use std::io;

/// In the kernel's order: the index is the number.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, one bit for each number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    pub const ALL: Set = Set((1 << NAMES.len()) - 1);

    /// By name, with or without `CAP_`, in any case.
    pub fn of(names: &[&str]) -> Set {
        Set(names.iter().filter_map(|name| number(name)).fold(0, |bits, n| bits | 1 << n))
    }

    pub fn contains(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }

    pub fn union(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    pub fn and(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }
}

/// A capability's number from its name, with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == short).map(|at| at as u32)
}

/// What this process could have at most.
pub fn bounding() -> Set {
    let mut set = Set::default();
    for number in 0..NAMES.len() as u32 {
        // SAFETY: PR_CAPBSET_READ only reads; unknown numbers fail.
        if unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) } == 1 {
            set.0 |= 1 << number;
        }
    }
    set
}

/// Removes everything but `keep` from the bounding set, for this process and all that come from it.
pub fn limit_bounding(keep: Set) -> io::Result<()> {
    for number in 0..64u32 {
        // SAFETY: PR_CAPBSET_READ only reads.
        let present = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
        if present < 0 {
            break;
        }
        if present == 1 && !keep.contains(number) {
            // SAFETY: plain numbers.
            check(libc::c_long::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }))?;
        }
    }
    Ok(())
}

/// Sets permitted and effective; inheritable and ambient become empty, as containerd has it since CVE-2022-24769.
pub fn set(keep: Set) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |bits: u64| Data { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(keep.0), half(keep.0 >> 32)];
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes no pointers.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    // SAFETY: version 3 takes a header and two data structs, which both live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers() {
        for (name, expected) in [("CHOWN", 0), ("cap_net_admin", 12), ("SYS_ADMIN", 21), ("CAP_CHECKPOINT_RESTORE", 40)]
        {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        assert_eq!(number("FLY"), None);
        assert_eq!(Set::of(&["CHOWN", "KILL"]).0, 0b10_0001);
    }
}
