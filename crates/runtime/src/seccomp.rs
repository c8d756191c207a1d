//! System call filters: the `RuntimeDefault` policy as a table, and profiles from files.
//!
//! The policy is the one that container users know from Docker: an allow-list, wider with some capabilities; what
//! is not on it fails with EPERM. Calls newer than the list fail with ENOSYS, so that C libraries fall back.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use sys::capability::Set;

macro_rules! calls {
    ($($constant:ident)*) => { &[$((stringify!($constant), libc::$constant)),*] };
}

/// `SYS_` name and number.
type Call = (&'static str, libc::c_long);

/// On every architecture.
const ALWAYS: &[Call] = calls![
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_adjtime
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_close_range SYS_connect SYS_copy_file_range
    SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve
    SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fanotify_mark
    SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr
    SYS_flock SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_futex_waitv
    SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups
    SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom SYS_getresgid
    SYS_getresuid SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid
    SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy
    SYS_io_getevents SYS_io_setup SYS_io_submit SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kill SYS_landlock_add_rule
    SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr SYS_linkat SYS_listen SYS_listxattr
    SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_membarrier SYS_memfd_create
    SYS_memfd_secret SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect
    SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap
    SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_name_to_handle_at
    SYS_nanosleep SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2 SYS_pkey_alloc
    SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64
    SYS_process_mrelease SYS_pselect6 SYS_ptrace SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead
    SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat2
    SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo
    SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
    SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler
    SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg
    SYS_sendto SYS_set_robust_list SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups
    SYS_setitimer SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid
    SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack
    SYS_signalfd4 SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync SYS_syncfs SYS_sysinfo SYS_tee
    SYS_tgkill SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime
    SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname
    SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4 SYS_waitid SYS_write SYS_writev
];

#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[Call] = calls![
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_ctl_old
    SYS_epoll_wait SYS_epoll_wait_old SYS_eventfd SYS_fchmodat2 SYS_fork SYS_futimesat SYS_getdents SYS_getpgrp
    SYS_getrlimit SYS_inotify_init SYS_lchown SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt SYS_open SYS_pause
    SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_renameat SYS_rmdir SYS_select SYS_setrlimit SYS_signalfd SYS_stat
    SYS_symlink SYS_sync_file_range SYS_time SYS_unlink SYS_ustat SYS_utime SYS_utimes SYS_vfork
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_HERE: &[Call] = calls![SYS_renameat];

/// Too new for the libc crate; calls of this age have one number on every architecture.
const ALWAYS_NEW: &[Call] = &[
    ("SYS_cachestat", 451),
    ("SYS_fchmodat2", 452),
    ("SYS_map_shadow_stack", 453),
    ("SYS_futex_wake", 454),
    ("SYS_futex_wait", 455),
    ("SYS_futex_requeue", 456),
];

/// Added with a capability.
const WITH_CAPABILITY: &[(&str, &[Call])] = &[
    (
        "SYS_ADMIN",
        calls![SYS_bpf SYS_clone3 SYS_fanotify_init SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick SYS_mount SYS_mount_setattr SYS_move_mount SYS_open_tree SYS_perf_event_open SYS_quotactl SYS_quotactl_fd SYS_setdomainname SYS_sethostname SYS_setns SYS_syslog SYS_umount2 SYS_unshare],
    ),
    ("SYS_BOOT", calls![SYS_reboot]),
    ("SYS_CHROOT", calls![SYS_chroot]),
    ("SYS_MODULE", calls![SYS_delete_module SYS_init_module SYS_finit_module]),
    ("SYS_PACCT", calls![SYS_acct]),
    ("SYS_TIME", calls![SYS_settimeofday SYS_clock_settime]),
    ("SYS_TTY_CONFIG", calls![SYS_vhangup]),
    ("SYS_NICE", calls![SYS_get_mempolicy SYS_mbind SYS_set_mempolicy SYS_set_mempolicy_home_node]),
    ("SYSLOG", calls![SYS_syslog]),
    ("BPF", calls![SYS_bpf]),
    ("PERFMON", calls![SYS_perf_event_open]),
    ("DAC_READ_SEARCH", calls![SYS_open_by_handle_at]),
    ("SYS_PTRACE", calls![SYS_process_vm_readv SYS_process_vm_writev SYS_kcmp SYS_pidfd_getfd SYS_process_madvise]),
];

#[cfg(target_arch = "x86_64")]
const RAW_IO: &[Call] = calls![SYS_iopl SYS_ioperm];
#[cfg(not(target_arch = "x86_64"))]
const RAW_IO: &[Call] = &[];

/// The newest call that the tables were written with; later ones fail with ENOSYS.
const NEWEST: u32 = 462;
/// Every CLONE_NEW* flag that clone(2) takes.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
const AF_VSOCK: u64 = 40;
/// Linux, BSD-like and the sign-extended query of the current one.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rule(index: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompRule, String> {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).map_err(|e| e.to_string())?;
    SeccompRule::new(vec![condition]).map_err(|e| e.to_string())
}

fn default_rules(capabilities: Set) -> Result<Rules, String> {
    let has = |name: &str| sys::capability::number(name).is_some_and(|n| capabilities.contains(n));
    let mut rules = Rules::new();
    let mut allow = |calls: &[Call]| {
        for (_, number) in calls {
            rules.insert(*number, Vec::new());
        }
    };
    allow(ALWAYS);
    allow(ALWAYS_HERE);
    allow(ALWAYS_NEW);
    for (name, calls) in WITH_CAPABILITY {
        if has(name) {
            allow(calls);
        }
    }
    if has("SYS_RAWIO") {
        allow(RAW_IO);
    }
    let clone = if has("SYS_ADMIN") { Vec::new() } else { vec![rule(0, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)?] };
    rules.insert(libc::SYS_clone, clone);
    rules.insert(libc::SYS_socket, vec![rule(0, SeccompCmpOp::Ne, AF_VSOCK)?]);
    let personalities = PERSONALITIES.iter().map(|p| rule(0, SeccompCmpOp::Eq, *p)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_personality, personalities);
    Ok(rules)
}

fn compile(rules: Rules, default: SeccompAction, on_match: SeccompAction) -> Result<BpfProgram, String> {
    let arch = std::env::consts::ARCH.try_into().map_err(|e| format!("{e}"))?;
    let filter = SeccompFilter::new(rules, default, on_match, arch).map_err(|e| e.to_string())?;
    filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())
}

/// Instructions that answer ENOSYS to what the table does not know. clone3's flags are behind a pointer, out of a
/// filter's sight: C libraries take clone when they hear ENOSYS.
fn not_implemented(capabilities: Set) -> Vec<sock_filter> {
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    const ERRNO: u32 = 0x0005_0000;
    let enosys = sock_filter { code: RETURN, jt: 0, jf: 0, k: ERRNO | libc::ENOSYS as u32 };
    let load = sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 };
    // x32 calls have bit 30 set and are refused with the rest of what is newer.
    let newer = sock_filter { code: JUMP_GREATER, jt: 0, jf: 1, k: NEWEST };
    let mut program = vec![load, newer, enosys.clone()];
    if !sys::capability::number("SYS_ADMIN").is_some_and(|n| capabilities.contains(n)) {
        program.push(sock_filter { code: JUMP_EQUAL, jt: 0, jf: 1, k: libc::SYS_clone3 as u32 });
        program.push(enosys);
    }
    program
}

fn bytes(program: &[sock_filter]) -> Vec<u8> {
    program
        .iter()
        .flat_map(|i| {
            let [a, b] = i.code.to_ne_bytes();
            let [k0, k1, k2, k3] = i.k.to_ne_bytes();
            [a, b, i.jt, i.jf, k0, k1, k2, k3]
        })
        .collect()
}

/// The compiled default policy for a process with these capabilities, as a file below `directory`.
pub fn runtime_default(directory: &Path, capabilities: Set) -> Result<PathBuf, String> {
    let path = directory.join(format!("default-{}-{:x}.bpf", env!("CARGO_PKG_VERSION"), capabilities.0));
    if !path.exists() {
        let mut program = not_implemented(capabilities);
        program.extend(compile(
            default_rules(capabilities)?,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
        )?);
        save(&path, &program)?;
    }
    Ok(path)
}

fn save(path: &Path, program: &[sock_filter]) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| e.to_string())?;
    }
    crate::state::write_bytes(path, &bytes(program), crate::state::Durability::Process)
        .map_err(|e| format!("write {}: {e}", path.display()))
}

/// A profile in Docker's and the OCI's JSON form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Compiles a profile of the node (`Localhost`). One action besides the default one is supported.
pub fn localhost(directory: &Path, profile: &Path) -> Result<PathBuf, String> {
    let failed = |e: String| format!("failed to load seccomp profile {}: {e}", profile.display());
    let text = fs::read(profile).map_err(|e| failed(e.to_string()))?;
    let program = parse_profile(&text).map_err(failed)?;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&text);
    let path = directory.join(format!("local-{}.bpf", hex::encode(digest)));
    if !path.exists() {
        save(&path, &program)?;
    }
    Ok(path)
}

fn parse_profile(text: &[u8]) -> Result<BpfProgram, String> {
    let profile: Profile = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut other = None;
    let mut rules = Rules::new();
    for group in &profile.syscalls {
        let group_action = action(&group.action, group.errno_ret)?;
        if group_action == default {
            continue;
        }
        if other.get_or_insert_with(|| group_action.clone()) != &group_action {
            return Err("more than one action besides the default one".to_owned());
        }
        for name in &group.names {
            // Names of other architectures are in every profile.
            let Some(number) = number(name) else { continue };
            let conditions =
                group.args.as_deref().unwrap_or_default().iter().map(condition).collect::<Result<Vec<_>, _>>()?;
            if conditions.is_empty() {
                rules.insert(number, Vec::new());
            } else if rules.get(&number).is_none_or(|known| !known.is_empty()) {
                rules.entry(number).or_default().push(SeccompRule::new(conditions).map_err(|e| e.to_string())?);
            }
        }
    }
    match other {
        Some(other) => compile(rules, default, other),
        // Nothing but the default: a filter of one instruction.
        None => Ok(vec![sock_filter { code: 0x06, jt: 0, jf: 0, k: default.into() }]),
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<SeccompAction, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(errno.unwrap_or(libc::EPERM as u32)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_TRACE" => SeccompAction::Trace(errno.unwrap_or(0)),
        other => return Err(format!("unknown action {other:?}")),
    })
}

fn condition(argument: &Argument) -> Result<SeccompCondition, String> {
    let (op, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, argument.value),
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, argument.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, argument.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, argument.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, argument.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, argument.value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(argument.value), argument.value_two),
        other => return Err(format!("unknown comparison {other:?}")),
    };
    SeccompCondition::new(argument.index, SeccompCmpArgLen::Qword, op, value).map_err(|e| e.to_string())
}

/// By name, among everything that the tables name.
fn number(name: &str) -> Option<i64> {
    let special: &[Call] = calls![SYS_clone SYS_clone3 SYS_socket SYS_personality];
    let tables = [ALWAYS, ALWAYS_HERE, ALWAYS_NEW, RAW_IO, special];
    let all = tables.into_iter().chain(WITH_CAPABILITY.iter().map(|(_, calls)| *calls)).flatten();
    all.into_iter().find(|(n, _)| n.strip_prefix("SYS_") == Some(name)).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_compiles_and_grows_with_capabilities() {
        let plain = default_rules(Set::default()).unwrap();
        assert!(plain.contains_key(&libc::SYS_read) && !plain.contains_key(&libc::SYS_mount));
        assert!(default_rules(Set::of(&["SYS_ADMIN"])).unwrap().contains_key(&libc::SYS_mount));
        let dir = tempfile::tempdir().unwrap();
        let path = runtime_default(dir.path(), Set::default()).unwrap();
        let length = fs::read(path).unwrap().len();
        assert!(length.is_multiple_of(8) && length / 8 < 4096, "{length}");
    }

    #[test]
    fn profiles_are_read() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat","no_such"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
        assert!(!parse_profile(text.as_bytes()).unwrap().is_empty());
        assert_eq!(parse_profile(br#"{"defaultAction":"SCMP_ACT_LOG"}"#).unwrap().len(), 1);
        assert!(parse_profile(br#"{"defaultAction":"X"}"#).is_err());
    }
}
