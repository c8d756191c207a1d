//! The few calls to etcd that the engine makes, over gRPC.

use super::EtcdOptions;
use super::proto::*;
use crate::contract::{Error, Result};
use futures::StreamExt;
use http::uri::PathAndQuery;
use prost::Message;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Finds a server that vanished without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    /// Connects when first used.
    pub(super) fn new(options: &EtcdOptions) -> Result<Client> {
        let failed = |e: tonic::transport::Error| Error::Unavailable(format!("etcd endpoint: {}", chain(&e)));
        let mut endpoints = Vec::new();
        for url in &options.endpoints {
            let mut endpoint = Endpoint::from_shared(url.clone())
                .map_err(failed)?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(CONNECT_TIMEOUT)
                .keep_alive_while_idle(true)
                .tcp_nodelay(true);
            if url.starts_with("https://") {
                let mut tls = ClientTlsConfig::new();
                if let Some(ca) = &options.ca {
                    tls = tls.ca_certificate(Certificate::from_pem(ca));
                }
                if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
                    tls = tls.identity(Identity::from_pem(cert, key));
                }
                endpoint = endpoint.tls_config(tls).map_err(failed)?;
            }
            endpoints.push(endpoint);
        }
        let channel = match &endpoints[..] {
            [] => return Err(Error::Unavailable("no etcd endpoint was named".into())),
            [one] => one.connect_lazy(),
            _ => Channel::balance_list(endpoints.into_iter()),
        };
        Ok(Client { channel })
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q) -> std::result::Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let call = async {
            let mut grpc = self.grpc().await?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(result) => result.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {CALL_TIMEOUT:?}"))),
        }
    }

    async fn grpc(&self) -> std::result::Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|e| Status::from_error(Box::new(e)))?;
        Ok(grpc)
    }

    pub(super) async fn range(&self, request: RangeRequest) -> std::result::Result<RangeResponse, Status> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> std::result::Result<TxnResponse, Status> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }

    pub(super) async fn compact(&self, revision: i64) -> std::result::Result<CompactionResponse, Status> {
        self.call("/etcdserverpb.KV/Compact", CompactionRequest { revision }).await
    }

    pub(super) async fn grant(&self, ttl: i64) -> std::result::Result<LeaseGrantResponse, Status> {
        self.call("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl }).await
    }

    pub(super) async fn watch(
        &self,
        create: WatchCreateRequest,
    ) -> std::result::Result<Streaming<WatchResponse>, Status> {
        let open = async {
            let mut grpc = self.grpc().await?;
            // The request stream stays open: its end would end the watch.
            let first = futures::stream::iter([WatchRequest { create: Some(create) }]);
            let requests = first.chain(futures::stream::pending());
            let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            grpc.streaming(tonic::Request::new(requests), path, codec).await
        };
        match tokio::time::timeout(CALL_TIMEOUT, open).await {
            Ok(result) => result.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer to a watch")),
        }
    }
}

/// A failed write: did etcd refuse it, or is it unknown what happened?
pub(super) fn write_error(status: &Status) -> Error {
    let text = describe(status);
    match status.code() {
        Code::ResourceExhausted
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange
        | Code::NotFound => Error::Unavailable(text),
        _ if never_connected(status) => Error::Unavailable(text),
        _ => Error::Unknown(text),
    }
}

pub(super) fn read_error(status: &Status) -> Error {
    Error::Unavailable(describe(status))
}

fn describe(status: &Status) -> String {
    let cause = std::error::Error::source(status).map(|e| format!(": {}", chain(e))).unwrap_or_default();
    format!("etcd: {}{cause}", status.message())
}

fn never_connected(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
