//! `kill -9` under load, again and again, on the real file system.
//!
//! The test starts itself as a writer process, which tells each answer on its standard output. After the kill, the
//! store must hold all that was told: no acknowledged write lost, no revision given out twice, no watch event
//! missing or doubled. (A kill cannot show a missing fsync; `faulty_disk.rs` does.)
//!
//! `STORE_KILLS=1000 cargo test -p store --test crash` for a long run.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use store::{Cas, Change, Error, ListOptions, Revision, Store, embedded};

const WRITER_DIR: &str = "STORE_CRASH_WRITER_DIR";

fn options(dir: &Path) -> embedded::Options {
    embedded::Options {
        history_window: Duration::from_millis(50),
        history_revisions_min: 500,
        segment_bytes_max: 20_000,
        checkpoint_bytes_min: 40_000,
        ..embedded::Options::new(dir)
    }
}

/// Not a test: the process that gets killed. Does nothing in a normal run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_process() {
    let Ok(dir) = std::env::var(WRITER_DIR) else {
        return;
    };
    let store = embedded::open(options(Path::new(&dir))).expect("open");
    let say = |line: String| {
        // One write each, so that the reader gets whole lines up to the kill.
        let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
    };
    say(format!("open {}", store.revision().0));
    let mut watcher = store.watch("/", store.revision()).expect("watch");
    tokio::spawn(async move {
        while let Ok(events) = watcher.next(100).await {
            for event in events {
                let what = match &event.change {
                    Change::Put { entry, .. } => String::from_utf8_lossy(&entry.value).into_owned(),
                    Change::Delete { .. } => "gone".into(),
                };
                let _ = std::io::stdout()
                    .lock()
                    .write_all(format!("saw {} {} {what}\n", event.revision.0, event.change.key()).as_bytes());
            }
        }
    });
    let writer = |w: u64| {
        let store: Arc<dyn Store> = store.clone();
        tokio::spawn(async move {
            for i in 0u64.. {
                let key = format!("/registry/pods/ns{w}/{}", (i * 7 + w) % 23);
                let value = format!("{w}-{i}-{}-{}", std::process::id(), "x".repeat((i % 40) as usize * 10));
                let result = match store.get(&key) {
                    None => store.create(&key, Bytes::from(value.clone()), None).await,
                    Some(e) if i % 5 == 0 => store.delete(&key, Some(e.mod_revision)).await,
                    Some(e) => store.update(&key, Bytes::from(value.clone()), e.mod_revision, None).await,
                };
                match result.expect("write") {
                    Cas::Done { revision, .. } => {
                        let what = if store.get_at(&key, revision).expect("get").is_some() { &*value } else { "gone" };
                        let line = format!("did {} {key} {what}\n", revision.0);
                        let _ = std::io::stdout().lock().write_all(line.as_bytes());
                    }
                    Cas::Conflict(current) => panic!("each writer has its own keys: {current:?}"),
                }
            }
        })
    };
    futures::future::join_all((0..8).map(writer)).await;
}

/// Key and value (`gone` for a deletion) by revision, of all that was ever told.
type Told = BTreeMap<u64, (String, String)>;

fn tell(told: &mut Told, revision: u64, key: &str, what: &str) {
    let now = (key.to_owned(), what.to_owned());
    let was = told.entry(revision).or_insert_with(|| now.clone());
    assert_eq!(*was, now, "revision {revision} was given out twice");
}

/// Runs the writer for a while and kills it. Adds what it told.
fn run_and_kill(dir: &Path, millis: u64, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "writer_process", "--nocapture"])
        .env(WRITER_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start writer");
    let out = BufReader::new(child.stdout.take().expect("stdout"));
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in out.split(b'\n') {
            match line {
                Ok(line) => lines.push(String::from_utf8_lossy(&line).into_owned()),
                Err(_) => break,
            }
        }
        lines
    });
    std::thread::sleep(Duration::from_millis(millis));
    child.kill().and_then(|()| child.wait()).expect("kill");
    let mut lines = reader.join().expect("reader");
    // The last one may be cut off.
    lines.pop();
    for line in lines {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["did" | "saw", revision, key, what] => tell(told, revision.parse().expect("number"), key, what),
            ["open", revision] => {
                let revision: u64 = revision.parse().expect("number");
                assert!(revision >= told.keys().last().copied().unwrap_or(0), "went back");
            }
            _ => {}
        }
    }
}

async fn verify(dir: &Path, told: &mut Told) {
    let store = embedded::open(options(dir)).expect("open after kill");
    assert!(store.revision().0 >= told.keys().last().copied().unwrap_or(0), "acknowledged revisions are lost");
    let base = Revision(store.compacted().0 + 1);
    if store.revision().0 == 0 {
        return;
    }
    let page = store.list("/", &ListOptions { revision: Some(base), ..ListOptions::default() }).expect("list");
    let mut state: BTreeMap<String, String> =
        page.entries.iter().map(|e| (e.key.to_string(), String::from_utf8_lossy(&e.value).into_owned())).collect();
    let mut watcher = store.watch("/", base).expect("watch");
    let mut last = base.0;
    let mut seen = 0;
    while watcher.position() < store.revision() {
        for event in watcher.next(1000).await.expect("next") {
            assert_eq!(event.revision.0, last + 1, "an event is missing or doubled");
            last = event.revision.0;
            seen += 1;
            let key = event.change.key().to_string();
            let what = match &event.change {
                Change::Put { entry, .. } => String::from_utf8_lossy(&entry.value).into_owned(),
                Change::Delete { .. } => "gone".into(),
            };
            tell(told, last, &key, &what);
            match &*what {
                "gone" => drop(state.remove(&key)),
                _ => drop(state.insert(key, what)),
            }
        }
    }
    assert_eq!(last, store.revision().0.max(base.0));
    assert!(seen >= store.revision().0 - base.0);
    // All that was ever told, replayed, is the state: `told` has no holes, because its own gaps are filled above
    // as long as history reaches back to the life before.
    let mut replayed = BTreeMap::new();
    for (key, what) in told.values() {
        match &**what {
            "gone" => drop(replayed.remove(key)),
            _ => drop(replayed.insert(key.clone(), what.clone())),
        }
    }
    let page = store.list("/", &ListOptions::default()).expect("list");
    let listed: BTreeMap<String, String> =
        page.entries.iter().map(|e| (e.key.to_string(), String::from_utf8_lossy(&e.value).into_owned())).collect();
    assert_eq!(listed, state);
    assert_eq!(listed, replayed);
    store.shutdown().await;
}

#[test]
fn kill_under_load_loses_nothing() {
    if std::env::var(WRITER_DIR).is_ok() {
        return;
    }
    let kills: u64 = std::env::var("STORE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let dir = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let mut told = Told::new();
    for i in 0..kills {
        run_and_kill(dir.path(), 60 + i * 37 % 240, &mut told);
        // Not after each, so that some recoveries are cut short by nothing but the next kill.
        if i % 3 != 1 {
            runtime.block_on(verify(dir.path(), &mut told));
        }
    }
    runtime.block_on(verify(dir.path(), &mut told));
    assert!(told.len() as u64 > kills * 20, "the writers hardly wrote: {}", told.len());
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = embedded::open(options(dir.path())).expect("open");
    let Err(Error::InUse(why)) = embedded::open(options(dir.path())) else { panic!("opened twice") };
    assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
    store.shutdown().await;
    // Let go at shutdown, though the handle lives on.
    drop(embedded::open(options(dir.path())).expect("open again"));
    // And when dropped without one.
    drop(embedded::open(options(dir.path())).expect("and again"));
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    embedded::open(options(dir.path())).expect("open").shutdown().await;
    std::fs::write(dir.path().join("FORMAT"), "skiff store format 7\n").expect("write");
    let result = embedded::open(options(dir.path()));
    assert!(matches!(result, Err(Error::NewerFormat { found: 7, known: 1 })));
}

#[tokio::test]
async fn the_directory_is_private_and_a_quiet_store_does_not_touch_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("store");
    let store = embedded::open(embedded::Options::new(&path)).expect("open");
    store.create("/registry/secrets/ns/s", Bytes::from_static(b"x"), None).await.expect("create");
    let stamps = || {
        let files = std::fs::read_dir(&path).expect("list");
        let stamp = |f: std::fs::DirEntry| (f.file_name(), f.metadata().and_then(|m| m.modified()).expect("time"));
        let mut stamps: Vec<_> = files.map(|f| stamp(f.expect("file"))).collect();
        stamps.sort();
        stamps
    };
    assert_eq!(std::fs::metadata(&path).expect("directory").permissions().mode() & 0o777, 0o700);
    let log = path.join("0000000000000001.log");
    assert_eq!(std::fs::metadata(log).expect("log").permissions().mode() & 0o777, 0o600);
    let before = stamps();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(stamps(), before);
}
