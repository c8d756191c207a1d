//! Unary gRPC calls to other programs of this machine or network: KMS plugins, the signer of tokens, the collector of
//! traces. Their few messages are written out by hand where they are used.

use prost::Message;
use std::time::Duration;
use tonic::Code;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// The wait between tries of a peer that isn't there yet.
const RETRY: Duration = Duration::from_millis(200);

/// Who is called. Connects when first asked, and again when the connection broke.
#[derive(Clone)]
pub struct Peer {
    channel: Channel,
}

/// In the words of Go's client, which people know.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("rpc error: code = {code:?} desc = {message}")]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    /// The caller's patience is at its end.
    pub fn timeout() -> Failure {
        Failure { code: Code::DeadlineExceeded, message: "context deadline exceeded".into() }
    }
}

impl Peer {
    /// Listens on a Unix socket; a path that begins with `@` is an abstract one.
    pub fn on_socket(path: &str) -> Peer {
        let path = path.to_string();
        // The address is never looked at.
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_| {
                let path = path.clone();
                async move { connect(&path).await.map(hyper_util::rt::TokioIo::new) }
            }));
        Peer { channel }
    }

    /// `host:port`, without TLS.
    pub fn at(address: &str) -> Result<Peer, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
        Ok(Peer { channel: endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy() })
    }

    /// One try, within `timeout`.
    pub async fn call<Q, A>(&self, method: &'static str, request: Q, timeout: Duration) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let call = async {
            let mut grpc = Grpc::new(self.channel.clone());
            let unavailable = |message: String| Failure { code: Code::Unavailable, message };
            grpc.ready().await.map_err(|e| unavailable(chain(&e)))?;
            let path = http::uri::PathAndQuery::from_static(method);
            let answer = grpc.unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default()).await;
            answer.map(tonic::Response::into_inner).map_err(|s| {
                // A peer that isn't there is told by the error below, not by the status' own text.
                let cause = std::error::Error::source(&s).map(|e| chain(e));
                Failure { code: s.code(), message: cause.unwrap_or_else(|| s.message().to_string()) }
            })
        };
        tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| Err(Failure::timeout()))
    }

    /// As [`Peer::call`], but waits for a peer that can't be reached, as Go's `WaitForReady` does.
    pub async fn call_when_ready<Q, A>(&self, method: &'static str, request: Q, timeout: Duration) -> Result<A, Failure>
    where
        Q: Message + Clone + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let until = tokio::time::Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            match self.call(method, request.clone(), left).await {
                Err(f) if f.code == Code::Unavailable && left > RETRY => tokio::time::sleep(RETRY).await,
                done => return done,
            }
        }
    }
}

async fn connect(path: &str) -> std::io::Result<tokio::net::UnixStream> {
    match path.strip_prefix('@') {
        // The kernel's own way to write them.
        Some(name) => tokio::net::UnixStream::connect(format!("\0{name}")).await,
        None => tokio::net::UnixStream::connect(path).await,
    }
}

fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(e) = next {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Empty {}

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_not_there_is_unavailable() {
        let dir = tempfile::tempdir().unwrap();
        let peer = Peer::on_socket(dir.path().join("none.sock").to_str().unwrap());
        let began = tokio::time::Instant::now();
        let failed = peer.call::<_, Empty>("/x.X/Y", Empty {}, Duration::from_secs(3)).await.unwrap_err();
        assert_eq!(failed.code, Code::Unavailable);
        assert!(failed.to_string().starts_with("rpc error: code = Unavailable desc = "), "{failed}");
        assert!(failed.message.contains("No such file"), "{failed}");
        assert!(began.elapsed() < Duration::from_secs(1));
        let failed = peer.call_when_ready::<_, Empty>("/x.X/Y", Empty {}, Duration::from_secs(3)).await.unwrap_err();
        assert!(matches!(failed.code, Code::Unavailable | Code::DeadlineExceeded));
        assert!(began.elapsed() > Duration::from_millis(2500), "it was waited for");
        assert!(Peer::at("not a host").is_err());
    }

    #[tokio::test]
    async fn names_that_begin_with_an_at_sign_are_abstract() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("skiff-grpc-{}", uuid::Uuid::new_v4());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        assert!(connect(&format!("@{name}")).await.is_ok());
        assert!(connect(&format!("@{name}-other")).await.is_err());
        assert!(connect(&name).await.is_err(), "a file of that name isn't there");
    }
}
