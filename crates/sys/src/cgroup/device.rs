//! Which devices a group may use: lines in v1's `devices.allow`, a small BPF program under v2.

use super::{Error, Result, io_error};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    All,
    Char,
    Block,
}

/// One kind of access that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub kind: DeviceKind,
    /// `None` is any.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Of `r`, `w`, `m`.
    pub access: String,
}

impl DeviceRule {
    pub fn new(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
        DeviceRule { kind, major, minor, access: access.to_owned() }
    }

    pub(super) fn to_v1(&self) -> String {
        let kind = match self.kind {
            DeviceKind::All => "a",
            DeviceKind::Char => "c",
            DeviceKind::Block => "b",
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

// Numbers of the kernel's BPF interface (linux/bpf.h).
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    let registers = (src << 4) | dst;
    u64::from(code) | u64::from(registers) << 8 | u64::from(offset as u16) << 16 | u64::from(immediate as u32) << 32
}

/// The filter: r2 = type, r3 = access, r4 = major, r5 = minor; every rule is a block that returns 1 when it
/// matches and else falls to the next; at the end 0.
fn program(rules: &[DeviceRule]) -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const AND_IMMEDIATE: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const MOVE: u8 = 0xbc;
    const MOVE_IMMEDIATE: u8 = 0xb4;
    const JUMP_UNLESS_EQUAL: u8 = 0x56;
    const JUMP_UNLESS_EQUAL_REGISTER: u8 = 0x5e;
    const EXIT: u8 = 0x95;
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let mut block = Vec::new();
        let kind = match rule.kind {
            DeviceKind::All => None,
            DeviceKind::Block => Some(1),
            DeviceKind::Char => Some(2),
        };
        let access = rule.access.chars().fold(0, |bits, c| {
            bits | match c {
                'm' => 1,
                'r' => 2,
                'w' => 4,
                _ => 0,
            }
        });
        // Jump distances are patched below: to just after this block.
        if let Some(kind) = kind {
            block.push((JUMP_UNLESS_EQUAL, 2, 0, kind));
        }
        if access != 7 {
            block.push((MOVE, 1, 3, 0));
            block.push((AND_IMMEDIATE, 1, 0, access));
            block.push((JUMP_UNLESS_EQUAL_REGISTER, 1, 3, 0));
        }
        if let Some(major) = rule.major {
            block.push((JUMP_UNLESS_EQUAL, 4, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            block.push((JUMP_UNLESS_EQUAL, 5, 0, minor as i32));
        }
        block.push((MOVE_IMMEDIATE, 0, 0, 1));
        block.push((EXIT, 0, 0, 0));
        let length = block.len();
        for (at, (op, dst, src, immediate)) in block.into_iter().enumerate() {
            let jumps = op == JUMP_UNLESS_EQUAL || op == JUMP_UNLESS_EQUAL_REGISTER;
            let offset = if jumps { (length - at - 1) as i16 } else { 0 };
            code.push(instruction(op, dst, src, offset, immediate));
        }
    }
    code.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// Attaches the filter to a v2 group. It stays for as long as the group does.
pub(super) fn attach_filter(dir: &Path, rules: &[DeviceRule]) -> Result<()> {
    #[repr(C)]
    struct LoadAttributes {
        kind: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
    }
    #[repr(C)]
    struct AttachAttributes {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let failed = |what| move || -> Error { io_error(what, dir, std::io::Error::last_os_error()) };
    let code = program(rules);
    let license = c"Apache-2.0";
    let load = LoadAttributes {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `load` is a valid attribute block of the given size; `code` and `license` live until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<LoadAttributes>()) };
    if fd < 0 {
        return Err(failed("load device filter for")());
    }
    // SAFETY: the kernel has just given us this descriptor and nobody else knows it.
    let filter = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let group = std::fs::File::open(dir).map_err(|e| io_error("open", dir, e))?;
    let attach = AttachAttributes {
        target: group.as_raw_fd() as u32,
        program: filter.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attach` is a valid attribute block; both descriptors are open for the duration of the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<AttachAttributes>()) };
    if result < 0 { Err(failed("attach device filter to")()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_v1_lines() {
        assert_eq!(DeviceRule::new(DeviceKind::Char, Some(1), Some(3), "rwm").to_v1(), "c 1:3 rwm");
        assert_eq!(DeviceRule::new(DeviceKind::Block, None, None, "m").to_v1(), "b *:* m");
    }

    /// A model of the few BPF instructions in use, to prove that jumps land where they should.
    fn run(code: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> u32 {
        let mut registers = [0u32; 11];
        let context = [(access << 16) | kind, major, minor];
        let mut at = 0usize;
        loop {
            let word = code[at];
            let (op, dst, src) = (word as u8, (word >> 8 & 0xf) as usize, (word >> 12 & 0xf) as usize);
            let (offset, immediate) = ((word >> 16) as i16, (word >> 32) as u32);
            at += 1;
            match op {
                0x61 => registers[dst] = context[offset as usize / 4],
                0x54 => registers[dst] &= immediate,
                0x74 => registers[dst] >>= immediate,
                0xbc => registers[dst] = registers[src],
                0xb4 => registers[dst] = immediate,
                0x56 if registers[dst] != immediate => at += offset as usize,
                0x5e if registers[dst] != registers[src] => at += offset as usize,
                0x56 | 0x5e => {}
                0x95 => return registers[0],
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_allows_what_the_rules_name() {
        let code = program(&[
            DeviceRule::new(DeviceKind::Char, None, None, "m"),
            DeviceRule::new(DeviceKind::Char, Some(1), Some(3), "rwm"),
            DeviceRule::new(DeviceKind::Char, Some(136), None, "rw"),
        ]);
        let (mknod, read, write) = (1, 2, 4);
        assert_eq!(run(&code, 2, mknod, 8, 0), 1);
        assert_eq!(run(&code, 1, mknod, 8, 0), 0);
        assert_eq!(run(&code, 2, read | write, 1, 3), 1);
        assert_eq!(run(&code, 2, read, 1, 1), 0);
        assert_eq!(run(&code, 2, read, 136, 9), 1);
        assert_eq!(run(&code, 2, read | mknod, 136, 9), 0);
    }
}
