//! A shim and nothing else, so that tests and benchmarks need no whole Skiff.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    std::process::exit(runtime::shim::main(&args));
}
