//! The `skiff` binary: flags, configuration, start order. No logic of its own.

mod audit;
mod auth;
mod commands;
mod config;
mod control_plane;
mod encryption;
mod layout;
mod node;
mod pid_file;
mod renewal;
mod server;
mod supervision;
mod version;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A complete Kubernetes in one program.
#[derive(Parser)]
#[command(name = "skiff", version = version::VERSION, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run control plane and node.
    Server(Box<config::ServerArgs>),
    /// Stop everything that belongs to a data directory and leave nothing behind.
    Reset(commands::reset::Args),
    /// Import, list and remove container images.
    Images(commands::images::Args),
    /// Print the administrator's kubeconfig.
    Kubeconfig(commands::kubeconfig::Args),
    /// Print the version.
    Version,
    /// Answer HTTP requests with what this container knows of itself (the image skiff.local/hello).
    Hello(commands::hello::Args),
    /// Put a load on any cluster and print figures.
    Bench(commands::bench::Args),
}

fn main() -> std::process::ExitCode {
    // The shim must be single-threaded and small: it starts before anything else exists.
    let mut args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "shim") {
        return std::process::ExitCode::from(runtime::shim::main(&args[2..]) as u8);
    }
    args = match config::with_config_file(args) {
        Ok(a) => a,
        Err(e) => return fail(e),
    };
    let matches = Cli::command().get_matches_from(args);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let result = match cli.command {
        Command::Server(mut a) => {
            a.flags = matches.subcommand_matches("server").map(config::in_force).unwrap_or_default();
            server::main(*a)
        }
        Command::Reset(a) => commands::reset::main(a),
        Command::Images(a) => commands::images::main(a),
        Command::Kubeconfig(a) => commands::kubeconfig::main(a),
        Command::Version => {
            println!("skiff {} (Kubernetes {})", version::VERSION, version::KUBERNETES);
            Ok(())
        }
        Command::Hello(a) => commands::hello::main(a),
        Command::Bench(a) => commands::bench::main(a),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => fail(e),
    }
}

fn fail(e: anyhow::Error) -> std::process::ExitCode {
    eprintln!("skiff: {e:#}");
    std::process::ExitCode::FAILURE
}
