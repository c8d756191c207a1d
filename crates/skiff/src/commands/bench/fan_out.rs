//! Watch fan-out: many watchers of the same objects, events at a given rate, and how late each watcher hears of each.
//!
//! Each write carries the moment at which it was sent; a watcher compares it with its own clock, which is the same. So the
//! latency is all of it: the write, its commit, the frame's way to this very watcher.

use super::send;
use anyhow::{Context, Result};
use futures::io::{AsyncBufRead, AsyncBufReadExt};
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Objects that are written in turn, so that writes don't wait for each other.
const OBJECTS: u64 = 50;
/// Events of the first seconds don't count: writers make their connections meanwhile.
const WARM_UP_SECONDS: u64 = 2;
/// What marks the moment in an object; frames are searched for it, not parsed.
const MARK: &str = "\"sent\":\"";

pub struct Load<'a> {
    /// Where watchers run: with threads of their own, so that writes needn't wait behind a thousand of them in here.
    pub on: &'a Handle,
    pub watchers: usize,
    /// Writes per second.
    pub events: u64,
    pub seconds: u64,
}

pub async fn run(config: &Config, client: &Client, ns: &str, load: Load<'_>) -> Result<()> {
    let path = format!("{ns}/configmaps");
    for i in 0..OBJECTS {
        let name = format!("fan-{i}");
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"bench": "fan-out"}}, "data": {"sent": "0"},
        });
        let path = format!("{path}/{name}?fieldManager=bench&force=true");
        patch(client, &path, "application/apply-patch+yaml", body).await?;
    }
    let epoch = Instant::now();
    let micros = move || epoch.elapsed().as_micros() as u64;
    // When the events begin that count.
    let counts_from = Arc::new(AtomicU64::new(u64::MAX));
    let late: Arc<Mutex<Vec<u32>>> = Arc::default();
    let mut watchers = tokio::task::JoinSet::new();
    // As informers do: from where a list has ended.
    let listed: serde_json::Value =
        serde_json::from_str(&send(client, "GET", &format!("{path}?limit=1"), None).await?)?;
    let from = listed["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let watch = format!("{path}?watch=1&labelSelector=bench%3Dfan-out&resourceVersion={from}");
    // All are open before the first event, so that handshakes aren't what is measured.
    for _ in 0..load.watchers {
        let request = http::Request::get(&watch).body(Vec::new())?;
        let config = config.clone();
        let opened = load.on.spawn(async move { Client::try_from(config)?.request_stream(request).await });
        let stream = opened.await?.context("a watch was refused")?;
        let (late, counts_from) = (late.clone(), counts_from.clone());
        let hears = async move {
            let mut stream = std::pin::pin!(stream);
            let (mut frames, mut mine) = (Frames::default(), Vec::new());
            while let Ok(chunk) = stream.fill_buf().await {
                if chunk.is_empty() {
                    break;
                }
                let (now, from, size) = (micros(), counts_from.load(Relaxed), chunk.len());
                frames.read(chunk, |sent| {
                    if sent >= from {
                        mine.push(now.saturating_sub(sent).min(u64::from(u32::MAX)) as u32);
                    }
                });
                stream.as_mut().consume(size);
                if mine.len() >= 32 {
                    late.lock().append(&mut mine);
                }
            }
        };
        watchers.spawn_on(hears, load.on);
    }
    let mut writes = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / load.events.max(1) as f64));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (unmeasured, total) = (load.events * WARM_UP_SECONDS, load.events * load.seconds);
    let mut started = Instant::now();
    for i in 0..unmeasured + total {
        ticks.tick().await;
        if i == unmeasured {
            counts_from.store(micros(), Relaxed);
            started = Instant::now();
        }
        let (client, path) = (client.clone(), format!("{path}/fan-{}", i % OBJECTS));
        let sent = micros().to_string();
        writes.spawn(async move {
            let began = Instant::now();
            patch(&client, &path, "application/merge-patch+json", json!({"data": {"sent": sent}})).await?;
            anyhow::Ok((i >= unmeasured).then(|| began.elapsed().as_micros() as u32))
        });
    }
    let mut answered = Vec::new();
    while let Some(done) = writes.join_next().await {
        answered.extend(done??);
    }
    let took = started.elapsed().as_secs_f64();
    // The last events are still under way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    watchers.abort_all();
    let mut late = std::mem::take(&mut *late.lock());
    anyhow::ensure!(!late.is_empty(), "no watcher heard of anything");
    let rate = total as f64 / took;
    print(&format!("watch: {} watchers, {rate:.0} events/s, frames", load.watchers), &mut late, took);
    print(&format!("writes to what {} watch", load.watchers), &mut answered, took);
    Ok(())
}

/// `all`: how long each took, microseconds.
fn print(what: &str, all: &mut [u32], took: f64) {
    all.sort_unstable();
    let at = |p: usize| f64::from(all[(all.len() * p / 100).min(all.len() - 1)]) / 1e3;
    println!("{what:<58} {:>12.0} {:>10.2} {:>10.2}", all.len() as f64 / took, at(50), at(99));
}

/// Frames as they come in, in pieces. They are searched, not parsed: the figures are the server's, as far as one machine
/// for both allows.
#[derive(Default)]
struct Frames {
    /// The beginning of a frame whose end is still to come.
    begun: Vec<u8>,
}

impl Frames {
    /// Tells the moment that each frame carries which is whole now.
    fn read(&mut self, chunk: &[u8], mut tell: impl FnMut(u64)) {
        let Some(end) = memchr::memrchr(b'\n', chunk) else { return self.begun.extend_from_slice(chunk) };
        let (whole, rest) = chunk.split_at(end + 1);
        let whole = match self.begun.is_empty() {
            true => whole,
            false => {
                self.begun.extend_from_slice(whole);
                self.begun.as_slice()
            }
        };
        for at in memchr::memmem::find_iter(whole, MARK) {
            let digits = whole[at + MARK.len()..].iter().take_while(|b| b.is_ascii_digit());
            let sent = digits.fold(0u64, |n, d| n.wrapping_mul(10).wrapping_add(u64::from(d - b'0')));
            if sent > 0 {
                tell(sent);
            }
        }
        self.begun.clear();
        self.begun.extend_from_slice(rest);
    }
}

/// Patches of every kind that clients send in storms.
pub async fn patch(client: &Client, path: &str, content_type: &str, body: serde_json::Value) -> Result<()> {
    let request =
        http::Request::patch(path).header("content-type", content_type).body(body.to_string().into_bytes())?;
    client.request_text(request).await.map(drop).with_context(|| format!("PATCH {path}"))
}

#[cfg(test)]
mod tests {
    use super::Frames;

    #[test]
    fn frames_are_found_whole_or_in_pieces() {
        let text = "{\"sent\":\"0\"}\n{\"sent\":\"17\",\"x\":1}\n{\"sent\":\"234\"}\n";
        for size in 1..text.len() {
            let (mut frames, mut told) = (Frames::default(), Vec::new());
            text.as_bytes().chunks(size).for_each(|c| frames.read(c, |sent| told.push(sent)));
            assert_eq!(told, [17, 234], "in pieces of {size}");
        }
    }
}
