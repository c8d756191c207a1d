//! Processes: fork with namespaces, signals back to their defaults, descriptors closed at exec, identity.
//!
//! Written for the shim: one thread, which forks the first process of a container and goes on serving.

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Which side of a fork we are on.
pub enum Fork {
    Child,
    Parent(Pid),
}

/// Forks into new namespaces (`CLONE_NEW*` in `flags`), under v2 straight into `cgroup`.
///
/// Errors: `EINVAL` if this process has more than one thread. The child of a threaded process could find a lock
/// held for ever; that check is what makes this a safe function.
pub fn fork(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: all-zero is a valid value of this plain struct and means "nothing special".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags.bits() as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM and no stack, so this behaves as fork(2): the child gets a copy of everything. We have
    // checked that no other thread exists, so no lock is held by anyone but the caller.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid as i32))),
    }
}

/// Ends the process at once: no destructors, no buffers, as a forked child must.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Every signal back to its default and none blocked: what a new program may expect. (Rust ignores SIGPIPE, and
/// an ignored signal stays ignored across exec.)
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: installing SIG_DFL runs no code of ours; numbers that can't be changed fail without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Marks every descriptor from `first` on to be closed at exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: only sets a flag on descriptors; nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` on, whoever thinks to own it: for a fork that will never return to the
/// code that opened them.
pub fn close_from_in_fork(first: u32) {
    // SAFETY: the caller's contract; in a forked child that only makes system calls from here on, a stale
    // `OwnedFd` is never used nor dropped.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Sends a signal by number, also real-time ones, which nix' enum does not know.
pub fn signal(pid: i32, number: i32) -> io::Result<()> {
    if pid == 0 || pid == -1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill(2) touches no memory of ours.
    check(libc::c_long::from(unsafe { libc::kill(pid, number) })).map(drop)
}

/// Takes all groups, then user and group, for good.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // Raw calls: glibc's wrappers would signal other threads, of which there are none after a fork.
    // SAFETY: `groups` is a valid array of the given length.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// A process named by a descriptor, which can't be mistaken for a later one with the same number.
pub fn pidfd_open(pid: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: plain numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal through a pidfd.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed and means the default one.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, std::ptr::null::<libc::siginfo_t>(), 0)
    })
    .map(drop)
}

/// A signal's number from `SIGTERM`, `TERM`, `SIGRTMIN+3` or `15`.
pub fn signal_number(name: &str) -> Option<i32> {
    let name = name.trim();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = |rest: &str| {
        if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() }
    };
    if let Some(rest) = short.strip_prefix("RTMIN") {
        return realtime(rest).map(|n| 34 + n).filter(|n| (34..=64).contains(n));
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        return realtime(rest).map(|n| 64 + n).filter(|n| (34..=64).contains(n));
    }
    format!("SIG{short}").parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
}

pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(Errno::last().into()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn signals_have_many_spellings() {
        for (name, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGRTMIN", 34),
            ("SIGQUIT", 3),
        ] {
            assert_eq!(super::signal_number(name), Some(number), "{name}");
        }
        for name in ["", "SIGFOO", "0", "65", "RTMIN+99"] {
            assert_eq!(super::signal_number(name), None, "{name}");
        }
    }

    #[test]
    fn a_threaded_process_may_not_fork() {
        // The test harness runs us on a thread of its own.
        assert!(super::fork(nix::sched::CloneFlags::empty(), None).is_err());
    }
}
