//! Sockets, and the index kept in step with the cluster.

use crate::forward::Forwarder;
use crate::index::Index;
use crate::wire::{self, Data, Name, Query, Rcode, Reply, Section, Unreadable};
use crate::zone::{Outcome, Zone};
use crate::{DnsOptions, Error};
use client::{Change, Informers};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stdx::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Questions that may wait for upstream at once; beyond it clients are told to try again.
const FORWARDS_MAX: usize = 1024;
const TCP_CONNECTIONS_MAX: usize = 256;
const TCP_IDLE: Duration = Duration::from_secs(10);
const TCP_LEN_MAX: usize = u16::MAX as usize;

struct Server {
    zone: Zone,
    index: Arc<RwLock<Index>>,
    synced: AtomicBool,
    forwarder: Arc<Forwarder>,
    forwards: Arc<Semaphore>,
}

/// What to do with a packet.
enum Step {
    Reply(Vec<u8>),
    Ignore,
    /// Upstream must be asked.
    Wait(Box<Query>, Waiting),
}

enum Waiting {
    Forward,
    Alias(Name),
}

/// Serves until shutdown. Fails only if it can't listen. Until the first complete lists have arrived, names of the
/// cluster are answered with SERVFAIL: clients retry that, while "no such name" would be believed.
pub async fn run(informers: &Informers, options: DnsOptions, shutdown: Shutdown) -> Result<(), Error> {
    let domain = Name::parse(&options.cluster_domain)
        .filter(|d| !d.labels().is_empty())
        .ok_or_else(|| Error::Domain(options.cluster_domain.clone()))?;
    let index: Arc<RwLock<Index>> = Arc::default();
    let server = Arc::new(Server {
        zone: Zone {
            domain,
            ttl_seconds: options.ttl_seconds,
            cluster_dns: options.cluster_dns,
            cluster_cidrs: options.cluster_cidrs.clone(),
        },
        index: index.clone(),
        synced: AtomicBool::new(false),
        forwarder: Arc::new(Forwarder::new(&options)),
        forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
    });

    let mut sockets = Vec::new();
    for address in &options.listen {
        let fail = |protocol| move |source| Error::Listen { address: *address, protocol, source };
        let udp = UdpSocket::bind(address).await.map_err(fail("UDP"))?;
        let tcp = TcpListener::bind(address).await.map_err(fail("TCP"))?;
        sockets.push((udp, tcp));
    }
    tracing::info!(listen = ?options.listen, domain = %options.cluster_domain, "cluster DNS is listening");

    let services = informers.of::<Service>();
    let slices = informers.of::<EndpointSlice>();
    let names = index.clone();
    services.on_change(move |change| match change {
        Change::Deleted(service) => names.write().remove_service(service),
        change => names.write().apply_service(change.object()),
    });
    let names = index;
    slices.on_change(move |change| {
        let mut names = names.write();
        // The label may have moved it to another Service.
        if let Some(old) = change.old() {
            names.remove_slice(old);
        }
        match change {
            Change::Deleted(slice) => names.remove_slice(slice),
            change => names.apply_slice(change.object()),
        }
    });

    let mut tasks = JoinSet::new();
    for (udp, tcp) in sockets {
        tasks.spawn(serve_udp(server.clone(), Arc::new(udp)));
        tasks.spawn(serve_tcp(server.clone(), tcp));
    }
    let synced = async {
        services.wait_synced().await;
        slices.wait_synced().await;
        server.synced.store(true, Ordering::Release);
        shutdown.cancelled().await;
    };
    tokio::select! {
        () = synced => Ok(()),
        () = shutdown.cancelled() => Ok(()),
        // They have no end of their own.
        Some(end) = tasks.join_next() => {
            Err(Error::Serve(end.map_or_else(stdx::supervisor::panic_text, |()| "a socket's task ended".into())))
        }
    }
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (len, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Answers to clients that are gone come back as errors of the socket.
                tracing::debug!(%error, "receive DNS query");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let packet = &buffer[..len];
        match server.step(packet, None) {
            Step::Reply(reply) => send(&socket, &reply, peer).await,
            Step::Ignore => {}
            Step::Wait(query, waiting) => {
                let Ok(permit) = server.forwards.clone().try_acquire_owned() else {
                    send(&socket, &wire::refuse(&query, Rcode::ServFail), peer).await;
                    continue;
                };
                let (server, socket, packet) = (server.clone(), socket.clone(), packet.to_vec());
                tokio::spawn(async move {
                    let len_max = query.udp_len_max();
                    let reply = server.wait(&query, waiting, &packet, len_max).await;
                    send(&socket, &reply, peer).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(reply, peer).await {
        tracing::debug!(%peer, %error, "send DNS reply");
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener) {
    let connections = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve_connection(&server, stream).await {
                        tracing::debug!(%peer, %error, "DNS connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept DNS connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(server: &Arc<Server>, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let read = async {
            let len = stream.read_u16().await?;
            let mut packet = vec![0; len as usize];
            stream.read_exact(&mut packet).await?;
            std::io::Result::Ok(packet)
        };
        let packet = match tokio::time::timeout(TCP_IDLE, read).await {
            Ok(Ok(packet)) => packet,
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(e)) => return Err(e),
            Err(_) => return Ok(()),
        };
        let reply = match server.step(&packet, Some(TCP_LEN_MAX)) {
            Step::Reply(reply) => reply,
            Step::Ignore => return Ok(()),
            Step::Wait(query, waiting) => server.wait(&query, waiting, &packet, TCP_LEN_MAX).await,
        };
        let mut framed = (reply.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(&reply);
        match tokio::time::timeout(TCP_IDLE, stream.write_all(&framed)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
}

impl Server {
    /// The fast path: never waits. `len_max` is the transport's, or the client's own over UDP.
    fn step(&self, packet: &[u8], len_max: Option<usize>) -> Step {
        let query = match Query::parse(packet) {
            Ok(query) => query,
            Err(Unreadable::Ignore) => return Step::Ignore,
            Err(Unreadable::Reply(reply)) => return Step::Reply(reply),
        };
        let len_max = len_max.unwrap_or_else(|| query.udp_len_max());
        if !self.synced.load(Ordering::Acquire) && query.name.labels().ends_with(&self.zone.domain.labels()) {
            return Step::Reply(wire::refuse(&query, Rcode::ServFail));
        }
        let outcome = self.zone.answer(&self.index.read(), &query, rand::random(), len_max);
        match outcome {
            Outcome::Reply(reply) => Step::Reply(reply),
            Outcome::Alias { target } => Step::Wait(Box::new(query), Waiting::Alias(target)),
            Outcome::Forward => match self.forwarder.cached(&query, len_max) {
                Some(reply) => Step::Reply(reply),
                None if !self.forwarder.has_servers() => Step::Reply(wire::refuse(&query, Rcode::Refused)),
                None => Step::Wait(Box::new(query), Waiting::Forward),
            },
        }
    }

    async fn wait(&self, query: &Query, waiting: Waiting, packet: &[u8], len_max: usize) -> Vec<u8> {
        match waiting {
            Waiting::Forward => {
                let reply = self.forwarder.resolve(query, packet, len_max).await;
                reply.unwrap_or_else(|| wire::refuse(query, Rcode::ServFail))
            }
            Waiting::Alias(target) => {
                let upstream = match self.forwarder.has_servers() {
                    true => self.forwarder.lookup(&target, query.kind).await,
                    false => None,
                };
                let mut reply = Reply::new(query, Rcode::NoError, true);
                reply.record(Section::Answer, &query.name, self.zone.ttl_seconds, &Data::Cname(target.clone()));
                // Only addresses: that is what aliases are asked for; the client can ask the target for the rest.
                for (ttl, address) in upstream.iter().flat_map(|u| addresses(u, query.kind)) {
                    reply.record(Section::Answer, &target, ttl.min(self.zone.ttl_seconds), &Data::Address(address));
                }
                reply.finish(len_max)
            }
        }
    }
}

/// The addresses of a kind in an upstream's reply, whatever aliases lead to them there.
fn addresses(packet: &[u8], kind: u16) -> Vec<(u32, std::net::IpAddr)> {
    let found = wire::records(packet).filter(|r| r.kind == kind).filter_map(|r| {
        let data = packet.get(r.data_at..r.end)?;
        let address = match kind {
            wire::A => <[u8; 4]>::try_from(data).ok()?.into(),
            wire::AAAA => <[u8; 16]>::try_from(data).ok()?.into(),
            _ => return None,
        };
        Some((r.ttl, address))
    });
    found.collect()
}
