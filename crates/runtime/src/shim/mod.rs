//! The shim: one small process for each pod, which outlives Skiff.
//!
//! It holds the pod's namespaces, is the parent of the containers' first processes, keeps their standard
//! streams, writes their logs, and persists how they ended. One thread, one poll loop, no async runtime.
//! In: `shim.json` in its directory and [`protocol::Request`]s on `shim.sock`; out: replies, log files, exit files.

mod child;
pub mod client;
pub mod log;
pub mod protocol;
mod server;
mod user;

use crate::spec::ShimSpec;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Files in a sandbox's state directory.
pub const SPEC: &str = "shim.json";
pub const SOCKET: &str = "shim.sock";
pub const PID: &str = "shim.pid";

/// What the shim writes to its standard output when it serves; anything else there is an error's text.
pub const READY: &str = "ready\n";

/// The shim's entry point (`skiff shim --sandbox <directory>`). To be called before the process has a second
/// thread. Returns the exit code.
pub fn main(args: &[OsString]) -> i32 {
    let directory = match args {
        [flag, directory] if flag == "--sandbox" => PathBuf::from(directory),
        _ => {
            eprintln!("usage: shim --sandbox <directory> (started by the runtime, not by people)");
            return 2;
        }
    };
    match run(&directory) {
        Ok(()) => 0,
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stdout(), "{error}");
            1
        }
    }
}

fn run(directory: &Path) -> Result<(), String> {
    let spec: ShimSpec =
        crate::state::read(&directory.join(SPEC)).map_err(failed("read shim.json"))?.ok_or("shim.json is missing")?;
    // Relative names from here on: a Unix socket's path may not be longer than 107 bytes.
    nix::unistd::chdir(directory).map_err(errno("enter sandbox directory"))?;

    let _ = nix::sys::prctl::set_name(c"skiff-shim");
    // Containers must not be able to look into this process, nor at its executable, while one of them is being made.
    nix::sys::prctl::set_dumpable(false).map_err(errno("set dumpable"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(errno("become subreaper"))?;
    let _ = nix::unistd::setsid();
    let _ = fs::write("/proc/self/oom_score_adj", "-998");

    let mut ready =
        std::io::stdout().as_fd().try_clone_to_owned().map(fs::File::from).map_err(failed("keep stdout"))?;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(failed("open /dev/null"))?;
    sys::terminal::become_standard(null.as_fd(), 0).map_err(failed("replace stdin"))?;

    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWNET, spec.netns.is_some());
    flags.set(CloneFlags::CLONE_NEWIPC, spec.ipc);
    flags.set(CloneFlags::CLONE_NEWUTS, spec.hostname.is_some());
    unshare(flags).map_err(errno("unshare"))?;
    if let Some(hostname) = &spec.hostname {
        nix::unistd::sethostname(hostname).map_err(errno("set hostname"))?;
    }
    let started = settle(&spec, &mut ready);
    // Whoever wanted the sandbox may be gone, and have cleared what there was of it by then.
    if started.is_err()
        && let Some(netns) = &spec.netns
    {
        crate::sandbox::detach(netns);
        let _ = fs::remove_file(netns);
    }
    let server = started?;
    drop(ready);
    sys::terminal::become_standard(null.as_fd(), 1).map_err(failed("replace stdout"))?;
    server.serve().map_err(failed("serve"))
}

/// Gives the sandbox's namespaces their names and settings, and tells whoever has started this process that it serves.
fn settle(spec: &ShimSpec, ready: &mut fs::File) -> Result<server::Server, String> {
    if let Some(netns) = &spec.netns {
        sys::mount::loopback_up().map_err(failed("bring up lo"))?;
        fs::File::create(netns).map_err(failed("create netns file"))?;
        mount(Some("/proc/self/ns/net"), netns, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(errno("mount netns"))?;
    }
    for (name, value) in &spec.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(&path, value).map_err(|e| format!("set sysctl {name}={value}: {e}"))?;
    }
    let server = server::Server::new(spec).map_err(failed("start"))?;
    fs::write(PID, std::process::id().to_string()).map_err(failed("write pid file"))?;
    ready.write_all(READY.as_bytes()).map_err(failed("report"))?;
    Ok(server)
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> String {
    move |e| format!("{what}: {e}")
}

fn errno(what: &str) -> impl FnOnce(nix::errno::Errno) -> String {
    move |e| format!("{what}: {}", e.desc())
}
