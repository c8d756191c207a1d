//! What the machine, the administrator and hostile peers can do to a server: it says what is wrong, keeps what it
//! acknowledged, and goes on.

use crate::cluster::Cluster;
use crate::wire::{Access, Connection, Who};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `skiff server` with these flags ends by itself, unsuccessfully, and says so.
fn refuses(c: &Cluster, what: &str, flags: &[&str], want: &str) -> Result<()> {
    let skiff = c.tools.skiff.display().to_string();
    let mut args = vec!["timeout", "15", &skiff, "server"];
    args.extend(flags);
    let done = c.run(&args)?;
    let said = format!("{}{}", done.stdout, done.stderr);
    ensure!(!done.ok, "{what}: it ended well: {said}");
    ensure!(said.contains(want), "{what}: wanted {want:?} in: {said}");
    ensure!(!said.contains("panicked"), "{what}: {said}");
    Ok(())
}

pub fn bad_starts_say_what_to_do(c: &Cluster) -> Result<()> {
    c.serve(&[])?;
    c.wait_api()?;
    let data = c.data_dir().display().to_string();
    let path = |name: &str| c.dir().join(name).display().to_string();
    let other = path("other");
    let free = ["--data-dir", &other, "--https-listen-port", "7443", "--kubelet-port", "11250"];
    let with = |more: &[&str]| free.iter().chain(more).map(|s| s.to_string()).collect::<Vec<_>>();
    let file = |name: &str, text: &str| std::fs::write(c.dir().join(name), text);
    file("unknown.yaml", "no-such-flag: 1")?;
    file("type.yaml", "https-listen-port: abc")?;
    file("bool.yaml", "disable-agent: perhaps")?;
    file("nested.yaml", "https-listen-port: {a: b}")?;
    file("syntax.yaml", "a: [")?;
    file("list.yaml", "- a")?;
    file("plain-file", "")?;
    for (what, flags, want) in [
        (
            "data directory in use",
            vec!["--data-dir", &data, "--https-listen-port", "7443", "--kubelet-port", "11250"],
            "is locked by process",
        ),
        (
            "API port in use",
            vec!["--data-dir", &other, "--kubelet-port", "11250"],
            "choose another port with --https-listen-port",
        ),
        (
            "kubelet port in use",
            vec!["--data-dir", &other, "--https-listen-port", "7443"],
            "choose another port with --kubelet-port",
        ),
        (
            "data directory is a file",
            vec!["--data-dir", &path("plain-file"), "--https-listen-port", "7443", "--kubelet-port", "11250"],
            "failed to make the data directory",
        ),
        ("no such configuration file", vec!["--config", "/no/such/file"], "/no/such/file"),
        ("unknown key", vec!["--config", &path("unknown.yaml")], "key \"no-such-flag\" is unknown"),
        ("wrong type", vec!["--config", &path("type.yaml")], "key \"https-listen-port\": invalid value 'abc'"),
        (
            "no boolean",
            vec!["--config", &path("bool.yaml")],
            "key \"disable-agent\": \"perhaps\" is neither true nor false",
        ),
        ("nested", vec!["--config", &path("nested.yaml")], "key \"https-listen-port\""),
        ("syntax", vec!["--config", &path("syntax.yaml")], "not valid YAML"),
        ("no mapping", vec!["--config", &path("list.yaml")], "must be a mapping"),
        ("unknown flag", vec!["--no-such-flag"], "unexpected argument '--no-such-flag'"),
        ("bad port", vec!["--https-listen-port", "70000"], "--https-listen-port"),
        ("bad range", vec!["--service-node-port-range", "9-1"], "is no range of ports"),
    ] {
        refuses(c, what, &flags, want)?;
    }
    for (what, more, want) in [
        ("bad node name", ["--node-name", "No_de"], "choose one with --node-name"),
        ("bad taint", ["--node-taint", "a"], "--node-taint=a: must be key=value:effect"),
        ("bad label", ["--node-label", "a"], "--node-label=a: must be key=value"),
        ("unknown part", ["--disable", "all"], "the parts are"),
        ("overlapping ranges", ["--service-cidr", "10.42.0.0/20"], "overlap"),
        ("DNS outside", ["--cluster-dns", "1.2.3.4"], "lies outside --service-cidr"),
        (
            "no URL of etcd",
            ["--datastore-endpoint", "localhost"],
            "--datastore-endpoint=localhost: must be https://host:port",
        ),
        ("no etcd there", ["--datastore-endpoint", "http://127.0.0.1:1"], "failed to reach the datastore"),
        ("mode", ["--write-kubeconfig-mode", "rw"], "is no octal mode"),
    ] {
        let flags = with(&more);
        refuses(c, what, &flags.iter().map(String::as_str).collect::<Vec<_>>(), want)?;
    }
    c.must(&[&c.tools.skiff.display().to_string(), "reset", "--yes", "--data-dir", &other])?;
    c.kubectl(&["get", "namespaces"])?;
    c.stop_server(libc::SIGKILL)?;

    // The store says what is wrong with it, and touches nothing.
    let store = c.data_dir().join("store");
    let flags = ["--data-dir", data.as_str()];
    let format = std::fs::read_to_string(store.join("FORMAT"))?;
    std::fs::write(store.join("FORMAT"), format.replace('1', "999"))?;
    refuses(c, "newer format", &flags, "use a newer skiff")?;
    std::fs::write(store.join("FORMAT"), "nonsense")?;
    refuses(c, "FORMAT is nonsense", &flags, "failed to open the store")?;
    std::fs::write(store.join("FORMAT"), &format)?;
    let segment = store.join("0000000000000001.log");
    let good = std::fs::read(&segment)?;
    let mut bad = good.clone();
    // In the middle, so that whole frames follow: no torn write looks like that.
    let middle = bad.len() / 2;
    bad[middle..middle + 64].fill(0xa5);
    std::fs::write(&segment, &bad)?;
    refuses(c, "damaged segment", &flags, "damaged")?;
    ensure!(std::fs::read(&segment)? == bad, "a damaged store was written to");
    std::fs::write(&segment, &good)?;
    std::fs::write(c.log(), "")?;
    c.must(&["mount", "--bind", &data, &data])?;
    c.must(&["mount", "-o", "remount,ro,bind", &data])?;
    refuses(c, "read-only data directory", &flags, "Read-only file system")?;
    c.must(&["umount", &data])?;
    c.serve(&["--disable-agent"])?;
    c.wait_api()?;
    c.kubectl(&["get", "namespace", "default"])?;
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with("VmRSS")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

fn open_files(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

pub fn hostile_peers_disturb_nobody(c: &Cluster) -> Result<()> {
    let pid = c.server_pid().context("no server")?;
    let before = (resident_kib(pid)?, open_files(pid)?);
    c.access()?.inside(async |access| {
        let mut kept = Vec::new();
        for i in 0..100u32 {
            let mut tcp = access.tcp().await?;
            match i % 4 {
                0 => {}
                1 => tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await?,
                2 => tcp.write_all(&[0x16, 3, 1, 0xff, 0xff, 1, 0]).await?,
                _ => {
                    tcp.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1]).await?;
                    tcp.shutdown().await?;
                }
            }
            kept.push(tcp);
        }
        // Inside TLS: no HTTP at all, half of a request, a head without end, more than fits.
        let mut tls = Vec::new();
        for text in [
            "\0\0\0\0\0\0".to_string(),
            "GET /livez HTTP/1.1\r\nhost: x\r\n".into(),
            "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{".into(),
            "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n".into(),
            "GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            "GET  /livez  HTTP/9.9\r\n\r\n".into(),
            format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
            format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(50_000)),
            format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "z".repeat(1 << 20)),
        ] {
            let mut io = access.tls(&Who::Admin, "http/1.1").await?;
            // The server may hang up before all is sent.
            let _ = io.write_all(text.as_bytes()).await;
            let _ = io.flush().await;
            tls.push((text.chars().take(60).collect::<String>(), io));
        }
        let (_, half) = &mut tls[2];
        half.shutdown().await?;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), half.read_to_end(&mut answer)).await;
        ensure!(ended.is_ok(), "half a body and then the end: the server waits for ever");
        let said = String::from_utf8_lossy(&answer).into_owned();
        ensure!(!said.starts_with("HTTP/1.1 5") && !said.starts_with("HTTP/1.1 2"), "half a body: {said}");
        for (text, io) in &mut tls[5..] {
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(10), io.read_to_end(&mut answer)).await;
            let said = String::from_utf8_lossy(&answer).into_owned();
            ensure!(ended.is_ok(), "{text}: the server keeps the connection: {said}");
            ensure!(answer.is_empty() || said.starts_with("HTTP/1.1 4"), "{text}: {said}");
        }
        // HTTP/2 without a preface, and with frames of nonsense.
        for frames in [&b"nonsense\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            let mut io = access.tls(&Who::Admin, "h2").await?;
            let _ = io.write_all(frames).await;
            let mut sink = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(10), io.read_to_end(&mut sink)).await;
            ensure!(ended.is_ok(), "broken HTTP/2 keeps its connection");
        }
        // Meanwhile, everybody else is served.
        let started = Instant::now();
        let mut api = access.http2(&Who::Admin).await?;
        ensure!(api.get("/api/v1/namespaces").await?.code == 200, "not served");
        ensure!(started.elapsed() < Duration::from_secs(3), "served late: {:?}", started.elapsed());
        // Go's limit is 1 MiB, and a little more.
        let long = "h".repeat(2_000_000);
        let r = api.send("GET", "/livez", &[("x-long", &long)], "").await;
        ensure!(r.as_ref().map_or(true, |r| r.code == 431), "2 MB of header: {:?}", r.map(|r| r.code));
        Ok(())
    })?;

    // 300 clients at once, then 1,000 watches on 10 connections.
    c.access()?.inside(async |access| {
        let mut clients = Vec::new();
        for _ in 0..300 {
            clients.push(access.http1(&Who::Admin).await?);
        }
        for api in &mut clients {
            ensure!(api.get("/api/v1/namespaces/default").await?.code == 200, "one of 300 was not served");
        }
        drop(clients);
        let mut open = Vec::new();
        for _ in 0..10 {
            let mut api = access.http2(&Who::Admin).await?;
            for _ in 0..100 {
                open.push(api.open("GET", "/api/v1/namespaces/default/configmaps?watch=1", &[], "").await?);
            }
            open.push(api.open("GET", "/readyz", &[], "").await?);
            // The watches keep the connection.
            std::mem::forget(api);
        }
        Ok(open.len())
    })?;
    c.wait(Duration::from_secs(30), "files of dropped connections to be closed", || {
        let now = open_files(pid)?;
        ensure!(now < before.1 + 40, "{} before, {now} now", before.1);
        Ok(true)
    })?;
    c.wait(Duration::from_secs(30), "memory of dropped watches to return", || {
        let now = resident_kib(pid)?;
        ensure!(now < before.0 + 80 * 1024, "{} KiB before, {now} now", before.0);
        Ok(true)
    })?;
    Ok(())
}

/// Makes `prefix`-0, -1, … until a request fails; gives how many were acknowledged and what the failure was.
async fn fill(api: &mut Connection, prefix: &str, bytes: usize, max: usize) -> Result<(usize, Option<(u16, Value)>)> {
    for i in 0..max {
        // Neighbours differ, so that no store can fold them.
        let data: String = (0..bytes / 8).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
        let body = json!({"metadata": {"name": format!("{prefix}-{i}")}, "data": {"a": data}});
        let r = api.json("POST", "/api/v1/namespaces/default/configmaps", &body).await?;
        if r.code != 201 {
            return Ok((i, Some((r.code, r.json()))));
        }
    }
    Ok((max, None))
}

async fn all_there(api: &mut Connection, prefix: &str, count: usize) -> Result<()> {
    for i in 0..count {
        let r = api.get(&format!("/api/v1/namespaces/default/configmaps/{prefix}-{i}")).await?;
        ensure!(r.code == 200, "{prefix}-{i} was acknowledged and is gone: {}", r.text());
    }
    Ok(())
}

pub fn a_full_disk_loses_nothing(c: &Cluster) -> Result<()> {
    let data = c.data_dir().display().to_string();
    c.must(&["mkdir", "-p", &data])?;
    c.must(&["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", &data])?;
    // PKI and kubeconfig are inside: the client finds them by way of the mount.
    c.serve(&["--disable-agent"])?;
    c.wait_api()?;
    let pki = Path::new(&format!("/proc/{}/root", c.server_pid().context("no server")?))
        .join(data.trim_start_matches('/'))
        .join("pki");
    let access = c.access_with(&pki)?;
    let (kept, failure) = access.inside(async |a| fill(&mut a.http2(&Who::Admin).await?, "a", 256 << 10, 400).await)?;
    let Some((code, status)) = failure else { bail!("24 MiB took {kept} objects of 256 KiB") };
    ensure!(code == 503 && status["kind"] == "Status" && status["reason"] == "ServiceUnavailable", "{code} {status}");
    ensure!(kept > 10, "only {kept} objects were taken");
    access.inside(async |a| {
        let mut api = a.http2(&Who::Admin).await?;
        all_there(&mut api, "a", kept).await?;
        ensure!(
            api.get(&format!("/api/v1/namespaces/default/configmaps/a-{kept}")).await?.code == 404,
            "what was refused is there"
        );
        ensure!(api.get("/api/v1/namespaces/default/configmaps").await?.code == 200, "lists fail");
        Ok(())
    })?;
    c.must(&["mount", "-o", "remount,size=96m", &data])?;
    c.wait(Duration::from_secs(20), "writes to be taken again", || {
        access.inside(async |a| {
            Ok(fill(&mut a.http2(&Who::Admin).await?, "probe", 10, 1).await?.1.is_none_or(|f| f.0 == 409))
        })
    })?;
    let (more, failure) = access.inside(async |a| fill(&mut a.http2(&Who::Admin).await?, "b", 256 << 10, 20).await)?;
    ensure!(failure.is_none(), "{failure:?}");
    // What was acknowledged before, at and after is there after a crash.
    c.stop_server(libc::SIGKILL)?;
    c.serve(&["--disable-agent"])?;
    let pid = c.server_pid().context("no server")?;
    let pki = Path::new(&format!("/proc/{pid}/root")).join(data.trim_start_matches('/')).join("pki");
    c.wait_api()?;
    let access = c.access_with(&pki)?;
    access.inside(async |a| {
        let mut api = a.http2(&Who::Admin).await?;
        all_there(&mut api, "a", kept).await?;
        all_there(&mut api, "b", more).await?;
        all_there(&mut api, "probe", 1).await
    })?;
    no_panic(c)?;
    c.stop_server(libc::SIGTERM)?;
    c.must(&["umount", &data])?;
    Ok(())
}

/// The whole data directory is full: what runs goes on, what is asked for is refused or waits, and all of it goes on by
/// itself once there is space.
pub fn pods_outlive_a_full_disk(c: &Cluster) -> Result<()> {
    let data = c.data_dir().display().to_string();
    let kubeconfig = c.dir().join("kubeconfig.yaml").display().to_string();
    let kubectl =
        |args: &str| c.run(&["sh", "-c", &format!("{} --kubeconfig {kubeconfig} {args}", c.tools.kubectl.display())]);
    let must = |args: &str| -> Result<String> {
        let d = kubectl(args)?;
        ensure!(d.ok, "kubectl {args}: {}{}", d.stdout, d.stderr);
        Ok(d.stdout)
    };
    c.must(&["mkdir", "-p", &data])?;
    c.must(&["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", &data])?;
    let archive = |name: &str| c.tools.images.join(name).display().to_string();
    c.skiff(&["images".into(), "import".into(), archive("shop_backend_v1.tar")])?;
    c.serve(&["--write-kubeconfig", &kubeconfig])?;
    c.wait(Duration::from_secs(40), "node1 to be Ready", || {
        Ok(kubectl("wait --for=condition=Ready node/node1 --timeout=1s")?.ok)
    })?;
    c.wait(Duration::from_secs(40), "the built-in image", || {
        Ok(c.skiff(&["images".into(), "list".into()])?.contains("skiff.local/hello"))
    })?;
    let run = "--image=shop/backend:v1 --image-pull-policy=Never";
    must(&format!("run before {run}"))?;
    must("wait --for=condition=Ready pod/before --timeout=30s")?;
    let fill = format!("{data}/fill");
    // Ends for lack of space, which is its purpose.
    let _ = c.run(&["dd", "if=/dev/zero", &format!("of={fill}"), "bs=16k"])?;
    let d = c.run(&[
        "sh",
        "-c",
        &format!("{} images import {} --data-dir {data}", c.tools.skiff.display(), archive("shop_redis_v1.tar")),
    ])?;
    ensure!(!d.ok && d.stderr.matches("No space left on device").count() == 1, "import: {}{}", d.stdout, d.stderr);
    ensure!(c.must(&["ls", &format!("{data}/runtime/images/tmp")])?.is_empty(), "half an image is left");
    // The store may have a little room in the file that it writes; then it refuses, and says why.
    let refused = (0..200).find_map(|i| {
        let d = kubectl(&format!("create configmap full-{i} --from-literal=a={}", "x".repeat(4000))).ok()?;
        (!d.ok).then_some(d.stderr)
    });
    let refused = refused.context("a full disk takes 200 objects")?;
    ensure!(refused.contains("No space left on device") && refused.contains("could not store"), "{refused}");
    ensure!(!kubectl(&format!("run during {run}"))?.ok, "a pod was taken that can't be stored");
    ensure!(must("exec before -- cat /www/version")? == "v1\n", "what runs goes on");
    ensure!(must("logs before")?.is_empty(), "logs");
    ensure!(must("get pod before --no-headers")?.contains("1/1"), "it stays Ready");
    c.must(&["rm", &fill])?;
    c.wait(Duration::from_secs(30), "writes to be taken again", || Ok(kubectl(&format!("run after {run}"))?.ok))?;
    must("wait --for=condition=Ready pod/after --timeout=60s")?;
    must("wait --for=condition=Ready node/node1 --timeout=60s")?;
    ensure!(must("get pod before -o jsonpath={.status.containerStatuses[0].restartCount}")? == "0", "it was restarted");
    must("delete pod before after --grace-period=1")?;
    no_panic(c)?;
    c.stop_server(libc::SIGTERM)?;
    // The directory was a disk of its own: that is emptied, and stays mounted.
    c.skiff(&["reset".into(), "--yes".into()])?;
    ensure!(c.must(&["ls", "-A", &data])?.is_empty(), "reset left files on the disk");
    c.must(&["umount", &data]).map(|_| ())
}

/// A first start that ran out of space, wherever it was, says so and leaves nothing that the next one can't use.
pub fn a_first_start_on_a_full_disk_can_be_repeated(c: &Cluster) -> Result<()> {
    let data = c.data_dir().display().to_string();
    c.must(&["mkdir", "-p", &data])?;
    for size in ["size=8k", "size=40k", "size=80k", "size=140k"] {
        c.must(&["mount", "-t", "tmpfs", "-o", size, "tmpfs", &data])?;
        refuses(c, size, &["--disable-agent", "--data-dir", &data], "No space left on device")?;
        c.must(&["mount", "-o", "remount,size=16m", &data])?;
        c.serve(&["--disable-agent"])?;
        c.wait_api().with_context(|| format!("after {size}"))?;
        c.kubectl(&["create", "configmap", "it-works"])?;
        c.stop_server(libc::SIGTERM)?;
        c.must(&["umount", &data])?;
    }
    no_panic(c)
}

fn no_panic(c: &Cluster) -> Result<()> {
    let log = std::fs::read_to_string(c.log())?;
    match log.lines().find(|l| l.contains("panicked")) {
        Some(l) => bail!("{l}"),
        None => Ok(()),
    }
}

pub fn kill_9_loses_nothing_acknowledged(c: &Cluster) -> Result<()> {
    c.serve(&["--disable-agent"])?;
    c.wait_api()?;
    let access = c.access()?;
    let mut acknowledged: Vec<String> = Vec::new();
    let start = access.inside(async |a| {
        let list = a.http1(&Who::Admin).await?.get("/api/v1/namespaces/default/configmaps").await?.json();
        Ok(list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string())
    })?;
    for round in 0..6u32 {
        // Writers go on until the server is gone; the killer is another thread.
        let pid = c.server_pid().context("no server")?;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300 + u64::from(round) * 97));
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL)
        });
        let made = access.inside(async |a| Ok(write_until_gone(a, round).await))?;
        killer.join().map_err(|_| anyhow::anyhow!("the killer died"))??;
        ensure!(made.len() > 5, "only {} writes in round {round}", made.len());
        acknowledged.extend(made);
        c.stop_server(libc::SIGKILL)?;
        c.serve(&["--disable-agent"])?;
        c.wait_api()?;
        access.inside(async |a| {
            let list = a.http1(&Who::Admin).await?.get("/api/v1/namespaces/default/configmaps").await?.json();
            let there: std::collections::HashSet<&str> =
                list["items"].as_array().into_iter().flatten().filter_map(|i| i["metadata"]["name"].as_str()).collect();
            for name in &acknowledged {
                ensure!(
                    there.contains(name.as_str()),
                    "round {round}: {name} was acknowledged and is gone ({} are there)",
                    there.len()
                );
            }
            Ok(())
        })?;
    }
    // A watch from before all the crashes tells of each object once, in order.
    access.inside(async |a| {
        let mut api = a.http1(&Who::Admin).await?;
        let path = format!("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=2&resourceVersion={start}");
        let text = api.get(&path).await?.text();
        let events: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let mut last = 0u64;
        let mut told = std::collections::HashMap::new();
        for e in &events {
            let version: u64 = e["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .parse()
                .with_context(|| e.to_string())?;
            ensure!(version > last, "revision {version} after {last}");
            last = version;
            if e["type"] == "ADDED" {
                *told.entry(e["object"]["metadata"]["name"].as_str().unwrap_or_default().to_string()).or_insert(0) += 1;
            }
        }
        for name in &acknowledged {
            ensure!(told.get(name) == Some(&1), "the watch tells of {name} {:?} times", told.get(name));
        }
        Ok(())
    })?;
    println!("     {} writes acknowledged over 6 kills", acknowledged.len());
    no_panic(c)
}

/// Names of objects whose creation was answered with 201.
async fn write_until_gone(access: &Access, round: u32) -> Vec<String> {
    let mut made = Vec::new();
    let Ok(mut api) = access.http2(&Who::Admin).await else { return made };
    for i in 0.. {
        let name = format!("k-{round}-{i}");
        let body = json!({"metadata": {"name": name}, "data": {"a": "b".repeat(500)}});
        match api.json("POST", "/api/v1/namespaces/default/configmaps", &body).await {
            Ok(r) if r.code == 201 => made.push(name),
            _ => break,
        }
    }
    made
}
