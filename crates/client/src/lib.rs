//! How components hear of the world and change it: a `kube::Client`, in-process or over TLS, shared informers,
//! a work queue and an event recorder. Knows nothing of the server's inside.

pub mod events;
pub mod informer;
pub mod queue;
pub mod queue_metrics;

pub use events::Recorder;
pub use informer::{Change, Informer, Informers};
pub use kube::Client;
pub use queue::Queue;
