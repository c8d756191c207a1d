//! One suite of behaviours, run over every engine.

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
                let store =
                    store::embedded::open(store::embedded::Options::new(dir.path())).expect("open");
                crate::suite::$name(store).await;
            }
        };
    }
    crate::behaviours!(each);
}
