//! `skiff bench`: a load on the API of any cluster, and what it could bear. Prints figures, judges nothing.

mod fan_out;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, env = "KUBECONFIG", default_value = "/etc/skiff/kubeconfig.yaml")]
    kubeconfig: PathBuf,
    /// Made, and deleted again afterwards.
    #[arg(long, default_value = "skiff-bench")]
    namespace: String,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Objects in the LIST measurement.
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Watchers of the same objects; 0 leaves watches out.
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    /// Events per second that they hear of; several are measured one after another.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    events: Vec<u64>,
    /// The API server's process, where it is on this machine: its memory is told, too.
    #[arg(long)]
    pid: Option<u32>,
    /// Pods created one after another, and at once; 0 leaves pods out.
    #[arg(long, default_value_t = 50)]
    pods: usize,
    #[arg(long, default_value_t = 30)]
    burst: usize,
    /// Image of those pods.
    #[arg(long, default_value = "skiff.local/hello:latest")]
    image: String,
}

pub fn main(args: Args) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let watching = runtime()?;
    runtime()?.block_on(run(args, watching.handle()))
}

async fn run(args: Args, watching: &Handle) -> Result<()> {
    let text = std::fs::read_to_string(&args.kubeconfig)
        .with_context(|| format!("failed to read {}", args.kubeconfig.display()))?;
    let parsed = Kubeconfig::from_yaml(&text).context("not a kubeconfig")?;
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config.clone())?;
    let ns = format!("/api/v1/namespaces/{}", args.namespace);
    send(&client, "DELETE", &ns, None).await.ok();
    wait_gone(&client, &ns).await?;
    send(&client, "POST", "/api/v1/namespaces", Some(json!({"metadata": {"name": args.namespace}}).to_string()))
        .await?;
    let result = measure(&args, &config, &client, &ns, watching).await;
    send(&client, "DELETE", &ns, None).await.ok();
    result
}

async fn measure(args: &Args, config: &Config, client: &Client, ns: &str, watching: &Handle) -> Result<()> {
    let payload = "x".repeat(1024);
    println!("{:<58} {:>12} {:>10} {:>10}", "measurement", "per second", "p50 ms", "p99 ms");
    let serial = Arc::new(AtomicU64::new(0));
    for connections in [1, 32] {
        let (ns, payload, serial) = (ns.to_string(), payload.clone(), serial.clone());
        let f = figures(config, connections, args.seconds, move |c| {
            let n = serial.fetch_add(1, Ordering::Relaxed);
            let body = json!({"metadata": {"name": format!("c-{n}")}, "data": {"v": payload}}).to_string();
            let path = format!("{ns}/configmaps");
            async move { send(&c, "POST", &path, Some(body)).await.map(drop) }
        })
        .await?;
        f.print(&format!("ConfigMap (1 KiB) creates, durable, {connections} connections"));
    }
    let made = serial.load(Ordering::Relaxed).max(1);
    for connections in [1, 32] {
        let ns = ns.to_string();
        let f = figures(config, connections, args.seconds, move |c| {
            let path = format!("{ns}/configmaps/c-{}", rand::random_range(0..made));
            async move { send(&c, "GET", &path, None).await.map(drop) }
        })
        .await?;
        f.print(&format!("ConfigMap GETs, {connections} connections"));
    }
    storms(config, args, ns, made).await?;
    let before = args.pid.and_then(pss);
    let already = serial.load(Ordering::Relaxed);
    fill(config, ns, &serial, args.objects, &payload).await?;
    if let (Some(before), Some(after)) = (before, args.pid.and_then(pss)) {
        let added = (args.objects as u64).saturating_sub(already).max(1);
        let one = send(client, "GET", &format!("{ns}/configmaps/c-0"), None).await?.len();
        let each = after.saturating_sub(before) as f64 / added as f64;
        println!(
            "{:<58} {:>12}",
            format!("server memory (PSS), {:.1} MiB before {added} objects", before as f64 / 1048576.0),
            format!("{:.1} MiB", after as f64 / 1048576.0)
        );
        println!(
            "{:<58} {:>12}",
            format!("memory per object of {one} B JSON, times its size"),
            format!("{:.2}", each / one as f64)
        );
    }
    // A cache is asked for all that there is: limits don't count there.
    let part = args.objects.to_string();
    for (what, number, query) in
        [("consistent", part.as_str(), format!("limit={part}")), ("from cache", "all", "resourceVersion=0".to_string())]
    {
        let path = format!("{ns}/configmaps?{query}");
        let mut took = Vec::new();
        let mut bytes = 0;
        for _ in 0..7 {
            let started = Instant::now();
            bytes = send(client, "GET", &path, None).await?.len();
            took.push(started.elapsed());
        }
        took.sort();
        println!(
            "{:<58} {:>12} {:>10.1} {:>10.1}",
            format!("LIST of {number} ConfigMaps ({:.1} MB), {what}", bytes as f64 / 1e6),
            "",
            took[took.len() / 2].as_secs_f64() * 1e3,
            took[took.len() - 1].as_secs_f64() * 1e3
        );
    }
    if args.watchers > 0 {
        let (watchers, seconds) = (args.watchers, args.seconds);
        for &events in &args.events {
            fan_out::run(config, client, ns, fan_out::Load { on: watching, watchers, events, seconds }).await?;
        }
    }
    if args.pods > 0 {
        pods(args, client, ns).await?;
    }
    Ok(())
}

/// Updates, patches and applies, each by 32 writers to objects of their own choice.
async fn storms(config: &Config, args: &Args, ns: &str, made: u64) -> Result<()> {
    for (what, content_type) in [
        ("updates (PUT)", ""),
        ("merge patches", "application/merge-patch+json"),
        ("server-side applies", "application/apply-patch+yaml"),
    ] {
        let ns = ns.to_string();
        let f = figures(config, 32, args.seconds, move |c| {
            let name = format!("c-{}", rand::random_range(0..made));
            let value = rand::random::<u64>().to_string();
            let path = format!("{ns}/configmaps/{name}");
            async move {
                let body =
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"w": value}});
                match content_type {
                    "" => send(&c, "PUT", &path, Some(body.to_string())).await.map(drop),
                    "application/apply-patch+yaml" => {
                        fan_out::patch(&c, &format!("{path}?fieldManager=bench&force=true"), content_type, body).await
                    }
                    _ => fan_out::patch(&c, &path, content_type, body).await,
                }
            }
        })
        .await?;
        f.print(&format!("ConfigMap {what}, 32 connections"));
    }
    Ok(())
}

/// Proportional set size, bytes.
fn pss(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

impl Figures {
    fn print(&self, what: &str) {
        println!(
            "{what:<58} {:>12.0} {:>10.2} {:>10.2}",
            self.per_second,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3
        );
    }
}

/// Runs `one` on so many connections for so long.
async fn figures<F, Fut>(config: &Config, connections: usize, seconds: u64, one: F) -> Result<Figures>
where
    F: Fn(Client) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    let until = Instant::now() + Duration::from_secs(seconds);
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (client, one) = (Client::try_from(config.clone())?, one.clone());
        tasks.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < until {
                let t = Instant::now();
                one(client.clone()).await?;
                took.push(t.elapsed());
            }
            Ok::<_, anyhow::Error>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    if all.is_empty() {
        bail!("nothing was measured");
    }
    all.sort();
    let at = |p: usize| all[(all.len() * p / 100).min(all.len() - 1)];
    Ok(Figures { per_second: all.len() as f64 / elapsed, p50: at(50), p99: at(99) })
}

/// Brings the namespace to the wanted number of objects.
async fn fill(config: &Config, ns: &str, serial: &Arc<AtomicU64>, objects: usize, payload: &str) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let client = Client::try_from(config.clone())?;
        let (ns, payload, serial) = (ns.to_string(), payload.to_string(), serial.clone());
        tasks.spawn(async move {
            loop {
                let n = serial.fetch_add(1, Ordering::Relaxed);
                if n >= objects as u64 {
                    return Ok::<_, anyhow::Error>(());
                }
                let body = json!({"metadata": {"name": format!("c-{n}")}, "data": {"v": payload}}).to_string();
                send(&client, "POST", &format!("{ns}/configmaps"), Some(body)).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Time from a create to Running and Ready, as a watcher sees it.
async fn pods(args: &Args, client: &Client, ns: &str) -> Result<()> {
    // The namespace's service account is made by a controller; pods need it.
    for _ in 0..100 {
        if send(client, "GET", &format!("{ns}/serviceaccounts/default"), None).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pod = |name: &str| {
        json!({"metadata": {"name": name, "labels": {"bench": "pod"}}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": args.image, "imagePullPolicy": "IfNotPresent"}],
        }})
        .to_string()
    };
    let mut watch = Watch::open(client, ns).await?;
    let mut took = Vec::new();
    for i in 0..args.pods {
        let name = format!("one-{i}");
        let started = Instant::now();
        send(client, "POST", &format!("{ns}/pods"), Some(pod(&name))).await?;
        watch.until_running(&name).await?;
        took.push(started.elapsed());
        send(client, "DELETE", &format!("{ns}/pods/{name}?gracePeriodSeconds=0"), None).await?;
    }
    took.sort();
    println!(
        "{:<58} {:>12} {:>10.1} {:>10.1}",
        format!("pod create → Running, {} one after another", args.pods),
        "",
        took[took.len() / 2].as_secs_f64() * 1e3,
        took[(took.len() * 99 / 100).min(took.len() - 1)].as_secs_f64() * 1e3
    );
    if args.burst > 0 {
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..args.burst {
            let (client, path, body) = (client.clone(), format!("{ns}/pods"), pod(&format!("burst-{i}")));
            tasks.spawn(async move { send(&client, "POST", &path, Some(body)).await.map(drop) });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        for i in 0..args.burst {
            watch.until_running(&format!("burst-{i}")).await?;
        }
        println!(
            "{:<58} {:>12} {:>10.1}",
            format!("{} pods at once, until the last is Running", args.burst),
            "",
            started.elapsed().as_secs_f64() * 1e3
        );
    }
    send(client, "DELETE", &format!("{ns}/pods?gracePeriodSeconds=0"), None).await?;
    Ok(())
}

/// A watch on the namespace's pods.
struct Watch {
    lines: std::pin::Pin<Box<dyn futures::Stream<Item = std::io::Result<String>> + Send>>,
    running: std::collections::HashSet<String>,
}

impl Watch {
    async fn open(client: &Client, ns: &str) -> Result<Watch> {
        use futures::io::AsyncBufReadExt;
        let request = http::Request::get(format!("{ns}/pods?watch=1")).body(Vec::new())?;
        let reader = client.request_stream(request).await?;
        Ok(Watch { lines: Box::pin(reader.lines()), running: Default::default() })
    }

    async fn until_running(&mut self, name: &str) -> Result<()> {
        use futures::StreamExt;
        let next = async {
            while !self.running.contains(name) {
                let line = self.lines.next().await.context("the watch ended")??;
                let event: serde_json::Value = serde_json::from_str(&line)?;
                let object = &event["object"];
                if object["status"]["phase"] == "Running"
                    && let Some(n) = object["metadata"]["name"].as_str()
                {
                    self.running.insert(n.to_string());
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(Duration::from_secs(60), next)
            .await
            .with_context(|| format!("pod {name} was not Running within 60 s"))?
    }
}

async fn wait_gone(client: &Client, path: &str) -> Result<()> {
    for _ in 0..600 {
        if send(client, "GET", path, None).await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{path} is still being deleted")
}

async fn send(client: &Client, method: &str, path: &str, body: Option<String>) -> Result<String> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(body.unwrap_or_default().into_bytes())?;
    client.request_text(request).await.with_context(|| format!("{method} {path}"))
}
