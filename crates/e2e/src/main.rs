//! End-to-end tests: `e2e --skiff PATH --images DIR --kubectl PATH [--filter TEXT]`.
//!
//! Each scenario is a row of [`SCENARIOS`] and a function in a file of [`scenarios`]. A scenario gets a cluster: the
//! real binary, started in network and mount namespaces of its own, with a link that leads nowhere. Scenarios that
//! say so share one cluster; the others get a fresh one. With `--older-kubectl`, those about kubectl itself run twice,
//! once with each. Ends with `N passed, N failed`.

mod bench;
mod cluster;
mod collector;
mod extension;
mod grpc;
mod kms;
mod operator;
mod peer;
mod scenarios;
mod signer;
mod wire;

use anyhow::Result;
use clap::Parser;
use cluster::{Cluster, Tools};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[derive(Parser)]
struct Args {
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    #[arg(long)]
    skiff: PathBuf,
    /// Where `examples/shop/build-images` has put the archives.
    #[arg(long)]
    images: PathBuf,
    /// Where kubectl is.
    #[arg(long)]
    kubectl: PathBuf,
    /// Where helm is, if it is there.
    #[arg(long)]
    helm: Option<PathBuf>,
    /// Where `pip install --target` has put the packages `kubernetes` and `kopf`.
    #[arg(long)]
    python: Option<PathBuf>,
    /// An older kubectl: what is about kubectl itself runs a second time, with this one.
    #[arg(long)]
    older_kubectl: Option<PathBuf>,
    /// An older helm, for that second time.
    #[arg(long)]
    older_helm: Option<PathBuf>,
    /// At the first failure leave its cluster running, say how to enter it, and begin nothing more.
    #[arg(long)]
    keep: bool,
    #[arg(long)]
    list: bool,
    /// Print figures instead of running scenarios.
    #[arg(long)]
    bench: bool,
}

/// A scenario's cluster.
#[derive(Clone, Copy, PartialEq)]
pub enum On {
    /// One for all scenarios that can live together.
    Shared,
    /// One of its own.
    Own,
    /// One of its own, beside all other scenarios: it waits for minutes.
    Patient,
    /// Namespaces only: the scenario starts the server itself.
    Empty,
}

pub struct Scenario {
    pub name: &'static str,
    pub on: On,
    pub run: fn(&Cluster) -> Result<()>,
}

fn main() -> std::process::ExitCode {
    // Started by a scenario.
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, group, namespace] = words.as_slice()
        && word == "operator"
    {
        return match operator::run(group, namespace) {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("operator: {e:#}");
                std::process::ExitCode::FAILURE
            }
        };
    }
    if let [_, word, port, dir] = words.as_slice()
        && word == "extension"
    {
        return match extension::run(port, dir) {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("extension: {e:#}");
                std::process::ExitCode::FAILURE
            }
        };
    }
    let args = Args::parse();
    let chosen: Vec<&Scenario> = scenarios::SCENARIOS.iter().filter(|s| s.name.contains(&args.filter)).collect();
    if args.list {
        chosen.iter().for_each(|s| println!("{}", s.name));
        return std::process::ExitCode::SUCCESS;
    }
    let tools = match Tools::new(&args.skiff, &args.images, &args.kubectl)
        .and_then(|t| t.with(args.helm.as_deref(), args.python.as_deref()))
    {
        Ok(t) => t,
        Err(e) => {
            eprintln!("e2e: {e:#}");
            return std::process::ExitCode::FAILURE;
        }
    };
    if args.bench {
        return match bench::run(&tools) {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("e2e: {e:#}");
                std::process::ExitCode::FAILURE
            }
        };
    }
    let mut rounds: Vec<(&Scenario, Tools, String)> =
        chosen.iter().map(|s| (*s, tools.clone(), s.name.to_string())).collect();
    if let Some(kubectl) = &args.older_kubectl {
        let older = match tools.clone().older(kubectl, args.older_helm.as_deref()) {
            Ok(t) => t,
            Err(e) => {
                eprintln!("e2e: {e:#}");
                return std::process::ExitCode::FAILURE;
            }
        };
        let which = kubectl.file_name().unwrap_or_default().to_string_lossy();
        let again = chosen.iter().filter(|s| scenarios::ABOUT_KUBECTL.iter().any(|p| s.name.starts_with(p)));
        rounds.extend(again.map(|s| (*s, older.clone(), format!("{} ({which})", s.name))));
    }
    // Scenarios with clusters of their own wait most of the time: they run beside those that share one.
    let (together, apart): (Vec<_>, Vec<_>) = rounds.into_iter().partition(|(s, ..)| s.on == On::Shared);
    let (patient, apart): (Vec<_>, Vec<_>) = apart.into_iter().partition(|(s, ..)| s.on == On::Patient);
    let keep = &Keep { wanted: args.keep, kept: AtomicBool::new(false) };
    let (mut passed, mut failed) = (0, Vec::new());
    std::thread::scope(|threads| {
        let lines = [together, apart, patient].map(|line| threads.spawn(move || in_turn(line, keep)));
        for line in lines {
            // Scenarios' panics are caught; this would be one of the runner itself.
            let (some, bad) = line.join().unwrap_or_else(|_| (0, vec!["the runner panicked".to_string()]));
            passed += some;
            failed.extend(bad);
        }
    });
    for f in &failed {
        println!("failed: {f}");
    }
    println!("{passed} passed, {} failed", failed.len());
    if failed.is_empty() && passed > 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// Whether the cluster of a failure stays, and whether one does: then every line ends after what it is at, and removes
/// its own clusters.
struct Keep {
    wanted: bool,
    kept: AtomicBool,
}

/// Runs scenarios one after another; gives how many passed, and which didn't.
fn in_turn(line: Vec<(&Scenario, Tools, String)>, keep: &Keep) -> (usize, Vec<String>) {
    let (mut passed, mut failed) = (0, Vec::new());
    let mut shared: Option<Cluster> = None;
    for (s, tools, name) in line {
        if keep.kept.load(Ordering::SeqCst) {
            break;
        }
        let started = Instant::now();
        let mut result = one(s, &tools, &mut shared, keep);
        if let Err(e) = &result
            && !keep.wanted
        {
            // A shared machine stalls now and then. What fails twice, the second time in a fresh cluster, is a fault.
            println!("again, afresh: {name}\n{e:#}\n");
            let fresh = if s.on == On::Empty { Cluster::empty(&tools) } else { Cluster::start(&tools) };
            result = fresh.and_then(|own| {
                let again = guarded(s, &own);
                own.finish();
                again
            });
        }
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                passed += 1;
                println!("PASS {name:<60} {seconds:6.1}s");
            }
            Err(e) => {
                println!("FAIL {name:<60} {seconds:6.1}s\n{e:#}\n");
                failed.push(name);
            }
        }
    }
    if let Some(c) = shared {
        c.finish();
    }
    (passed, failed)
}

fn one(s: &Scenario, tools: &Tools, shared: &mut Option<Cluster>, keep: &Keep) -> Result<()> {
    let mut own = None;
    let cluster = match s.on {
        On::Own | On::Patient => own.insert(Cluster::start(tools)?),
        On::Empty => own.insert(Cluster::empty(tools)?),
        On::Shared => {
            let c = match shared.take() {
                Some(c) => c,
                None => Cluster::start(tools)?,
            };
            let c = shared.insert(c);
            c.tools = tools.clone();
            c
        }
    };
    let result = guarded(s, cluster);
    if result.is_err() && keep.wanted && !keep.kept.swap(true, Ordering::SeqCst) {
        println!("{}", cluster.how_to_enter());
        std::mem::forget(if s.on == On::Shared { shared.take() } else { own.take() });
    }
    if let Some(c) = own {
        c.finish();
    }
    result
}

/// Runs a scenario; a panic is a failure, and a failure tells the state of the cluster.
fn guarded(s: &Scenario, c: &Cluster) -> Result<()> {
    std::panic::catch_unwind(AssertUnwindSafe(|| (s.run)(c)))
        .unwrap_or_else(|p| Err(anyhow::anyhow!("panicked: {:?}", p.downcast_ref::<String>())))
        .map_err(|e| anyhow::anyhow!("{e:#}\n{}", c.diagnosis()))
}
