//! One suite of behaviours, run over every engine; and what only etcd can do wrong.

mod etcd_server;
mod suite;

mod memory {
    macro_rules! each {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::suite::$name(store::memory::open()).await;
            }
        };
    }
    crate::behaviours!(each);
}

mod embedded {
    macro_rules! each {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let dir = tempfile::tempdir().expect("temporary directory");
                let store = store::embedded::open(store::embedded::Options::new(dir.path())).expect("open");
                crate::suite::$name(store).await;
            }
        };
    }
    crate::behaviours!(each);
}

/// Segments of a few writes each, and at the end the power goes: what was there must be there again.
mod faulty_disk {
    use std::sync::Arc;
    use store::embedded::{Options, faulty::FaultyDisk, open_on};
    use store::{ListOptions, Store};

    fn state(store: &Arc<dyn Store>) -> (u64, Vec<(String, u64, u64, bytes::Bytes)>) {
        let page = store.list("/", &ListOptions::default()).expect("list");
        let entries = page.entries.iter();
        let entries = entries.map(|e| (e.key.to_string(), e.create_revision.0, e.mod_revision.0, e.value.clone()));
        (page.revision.0, entries.collect())
    }

    macro_rules! each {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let disk = FaultyDisk::new(stringify!($name).len() as u64);
                let options = Options { segment_bytes_max: 1000, checkpoint_bytes_min: 2000, ..Options::new("") };
                let store = open_on(Arc::new(disk.clone()), options.clone()).expect("open");
                crate::suite::$name(store.clone()).await;
                let (before, compacted) = (state(&store), store.compacted());
                disk.cut_power_after(0);
                drop(store);
                disk.crash();
                let store = open_on(Arc::new(disk), options).expect("open again");
                assert_eq!(state(&store), before);
                assert!(store.compacted() >= compacted);
            }
        };
    }
    crate::behaviours!(each);
}

mod etcd {
    use crate::etcd_server::{Etcd, Proxy, options};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
    use store::etcd::EtcdOptions;
    use store::{Cas, Change, Error, Event, Revision, SEALED, Store, Transformer};

    macro_rules! each {
        ($name:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(etcd) = Etcd::start().await {
                    crate::suite::$name(etcd.open("").await).await;
                }
            }
        };
    }
    crate::behaviours!(each);

    async fn put(store: &Arc<dyn Store>, key: &str, text: &'static str) -> Revision {
        let value = Bytes::from_static(text.as_bytes());
        let cas = match store.get(key) {
            None => store.create(key, value, None).await,
            Some(e) => store.update(key, value, e.mod_revision, None).await,
        };
        match cas.expect("write") {
            Cas::Done { revision, .. } => revision,
            Cas::Conflict(current) => panic!("{current:?}"),
        }
    }

    fn show(event: &Event) -> String {
        match &event.change {
            Change::Put { entry, prev } => {
                format!("{} {} {:?}", if prev.is_some() { "~" } else { "+" }, entry.key, entry.value)
            }
            Change::Delete { prev } => format!("- {}", prev.key),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_barrier_sees_what_another_server_wrote() {
        let Some(etcd) = Etcd::start().await else {
            return;
        };
        let (a, b) = (etcd.open("").await, etcd.open("").await);
        for i in 0..50 {
            let key = format!("/registry/pods/ns/{i}");
            let revision = put(&a, &key, "x").await;
            assert!(b.barrier().await.expect("barrier") >= revision);
            assert_eq!(b.get(&key).expect("visible").mod_revision, revision);
        }
    }

    /// Revisions that others take must not make a barrier wait for a change that never comes.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn clusters_share_an_etcd() {
        let Some(etcd) = Etcd::start().await else {
            return;
        };
        let (a, b) = (etcd.open("/one").await, etcd.open("/two").await);
        put(&b, "/registry/pods/ns/mine", "b").await;
        for _ in 0..3 {
            let revision = put(&a, "/registry/pods/ns/x", "a").await;
            assert!(b.barrier().await.expect("barrier") >= revision);
        }
        assert!(b.get("/registry/pods/ns/x").is_none());
        assert_eq!(b.count("/registry/"), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn goes_on_after_a_restart_of_etcd() {
        let Some(mut etcd) = Etcd::start().await else {
            return;
        };
        let store = etcd.open("").await;
        let first = put(&store, "/registry/pods/ns/x", "1").await;
        let mut watcher = store.watch("/registry/pods/", first).expect("watch");
        etcd.restart().await;
        let other = etcd.open("").await;
        put(&other, "/registry/pods/ns/x", "2").await;
        let mut seen = Vec::new();
        while seen.is_empty() {
            let next = tokio::time::timeout(Duration::from_secs(20), watcher.next(10));
            seen.extend(next.await.expect("in time").expect("next").iter().map(show));
        }
        assert_eq!(seen, ["~ /registry/pods/ns/x b\"2\""]);
        store.barrier().await.expect("barrier");
        put(&store, "/registry/pods/ns/x", "3").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_compacted_meanwhile_is_told_as_a_difference() {
        let Some(etcd) = Etcd::start().await else {
            return;
        };
        let proxy = Proxy::before(&etcd).await;
        let cut_off = store::etcd::open(options(proxy.port, "")).await.expect("open");
        let other = etcd.open("").await;
        for name in ["stays", "changes", "goes", "again"] {
            put(&other, &format!("/registry/pods/ns/{name}"), "1").await;
        }
        let start = cut_off.barrier().await.expect("barrier");
        let mut watcher = cut_off.watch("/registry/pods/", start).expect("watch");
        proxy.cut();
        let unsure = cut_off.create("/registry/pods/ns/lost", Bytes::new(), None).await;
        assert!(matches!(unsure, Err(Error::Unknown(_) | Error::Unavailable(_))), "{unsure:?}");
        put(&other, "/registry/pods/ns/changes", "2").await;
        put(&other, "/registry/pods/ns/changes", "3").await;
        other.delete("/registry/pods/ns/goes", None).await.expect("delete");
        other.delete("/registry/pods/ns/again", None).await.expect("delete");
        put(&other, "/registry/pods/ns/again", "2").await;
        put(&other, "/registry/pods/ns/new", "1").await;
        other.compact(other.revision()).await.expect("compact");
        put(&other, "/registry/pods/ns/last", "1").await;
        proxy.heal();
        let mut seen = Vec::new();
        while !seen.iter().any(|e: &String| e.contains("last")) {
            let next = tokio::time::timeout(Duration::from_secs(30), watcher.next(10));
            let events = next.await.expect("in time").expect("next");
            seen.extend(events.iter().map(show).filter(|e| !e.contains("lost")));
        }
        let mut expected = vec![
            "~ /registry/pods/ns/changes b\"3\"",
            "- /registry/pods/ns/again",
            "+ /registry/pods/ns/again b\"2\"",
            "+ /registry/pods/ns/new b\"1\"",
            "+ /registry/pods/ns/last b\"1\"",
        ];
        // When exactly the deletion happened is not known any more.
        let goes = seen.iter().position(|e| e == "- /registry/pods/ns/goes").expect("deleted");
        seen.remove(goes);
        expected.retain(|e| !e.contains("goes"));
        assert_eq!(seen, expected);
        assert!(matches!(cut_off.watch("/registry/pods/", Revision(start.0 + 1)), Err(Error::Compacted { .. })));
    }

    /// Opens nothing while the keys are away.
    #[derive(Debug, Default)]
    struct Keyed {
        away: AtomicBool,
    }

    impl Transformer for Keyed {
        fn seal(&self, _: &str, value: &Bytes) -> Result<Option<Bytes>, String> {
            Ok(Some([SEALED, &value[..]].concat().into()))
        }

        fn open(&self, key: &str, stored: Bytes) -> Bytes {
            assert!(key.starts_with("/shared/registry/"), "{key}");
            match stored.strip_prefix(SEALED).filter(|_| !self.away.load(Ordering::Acquire)) {
                Some(plain) => Bytes::copy_from_slice(plain),
                None => stored,
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_came_while_the_keys_were_away_is_opened_later() {
        let Some(etcd) = Etcd::start().await else { return };
        let keyed = Arc::new(Keyed::default());
        let open = |transformer: Arc<Keyed>| {
            let options = options(etcd.port(), "/shared");
            async move { store::etcd::open(EtcdOptions { transformer: Some(transformer), ..options }).await.expect("open") }
        };
        let writer = open(Arc::default()).await;
        put(&writer, "/registry/pods/ns/before", "1").await;
        let start = put(&writer, "/registry/services/ns/other", "1").await;
        let store = open(keyed.clone()).await;
        let watch = |resource: &str, after| store.watch(&format!("/registry/{resource}/"), after).expect("watch");
        let (mut pods, mut services) = (watch("pods", start), watch("services", start));
        keyed.away.store(true, Ordering::Release);
        put(&writer, "/registry/pods/ns/before", "2").await;
        let last = put(&writer, "/registry/pods/ns/new", "1").await;
        store.barrier().await.expect("barrier");
        let seen = pods.changes().await.expect("changes");
        assert_eq!((seen.len(), store.reopen()), (2, 0), "still away");
        let new = || store.get("/registry/pods/ns/new").expect("there");
        assert!(new().is_sealed());

        keyed.away.store(false, Ordering::Release);
        assert_eq!((store.reopen(), store.reopen()), (2, 0), "once");
        assert_eq!((&new().value[..], new().mod_revision), (&b"1"[..], last));
        assert!(matches!(pods.changes().await, Err(Error::Compacted { .. })), "what it saw is another thing now");
        let seen = watch("pods", start).changes().await.expect("changes");
        let seen: Vec<String> = seen.iter().map(show).collect();
        assert_eq!(seen, ["~ /registry/pods/ns/before b\"2\"", "+ /registry/pods/ns/new b\"1\""]);
        // Of other resources nobody is told.
        put(&writer, "/registry/services/ns/other", "2").await;
        assert_eq!(services.changes().await.expect("changes").len(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn speaks_tls_and_shows_its_certificate() {
        let Some(etcd) = crate::etcd_server::TlsEtcd::start().await else {
            return;
        };
        let store = store::etcd::open(etcd.options.clone()).await.expect("open");
        put(&store, "/registry/pods/ns/x", "1").await;
        let stranger = EtcdOptions { cert: None, key: None, ..etcd.options.clone() };
        let refused = store::etcd::open(stranger).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))));
        let other = crate::etcd_server::TlsEtcd::start().await.expect("another etcd");
        let distrusting = EtcdOptions { ca: other.options.ca.clone(), ..etcd.options.clone() };
        let refused = store::etcd::open(distrusting).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))));
    }

    #[tokio::test]
    async fn no_etcd_is_a_clear_error() {
        let result = store::etcd::open(options(1, "")).await;
        let Err(Error::Unavailable(why)) = result else { panic!("opened") };
        assert!(why.contains("refused"), "{why}");
    }
}
