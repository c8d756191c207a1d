//! Names outside of the cluster: asked of the node's own resolvers, remembered, and never asked twice at once.
//!
//! The upstream's packets are passed on as they are (id, letter case and TTLs excepted), so every record type works.
//! A question that is already on its way is waited for rather than sent again; that also ends every forwarding loop:
//! our own question, coming back to us, waits for itself and times out. Nobody waits long for resolvers that don't
//! answer ([`crate::standing`]); what they say later is remembered for the next who asks.

use crate::standing::Standings;
use crate::wire::{self, Name, Query};
use crate::{DnsOptions, Upstream};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

/// The next resolver is asked as well when the one before hasn't answered by then.
const HEDGE: Duration = Duration::from_millis(200);
/// After these a question is sent once more: packets get lost.
const RESEND: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(1000)];
/// How long answers are listened for.
const TOTAL_TIMEOUT: Duration = Duration::from_millis(4500);
const TTL_SECONDS_MAX: u32 = 3600;
const NEGATIVE_TTL_SECONDS_MAX: u32 = 30;
const CACHE_ENTRIES_MAX: usize = 10_000;
/// `resolv.conf` names at most three servers (resolv.conf(5)).
const SERVERS_MAX: usize = 3;

/// The question in lower case, type and class, EDNS or not, DNSSEC or not, checking or not.
type Key = (Vec<u8>, bool, bool, bool);
type Answer = Option<Arc<[u8]>>;

pub(crate) struct Forwarder {
    upstream: Upstream,
    /// Addresses that lead back to us.
    own: Vec<SocketAddr>,
    cluster_dns: Option<IpAddr>,
    servers: Mutex<(Option<SystemTime>, Vec<SocketAddr>)>,
    cache: Mutex<HashMap<Key, Cached>>,
    in_flight: Mutex<HashMap<Key, watch::Receiver<Option<Answer>>>>,
    standings: Mutex<Standings>,
}

struct Cached {
    reply: Arc<[u8]>,
    since: Instant,
    lifetime: Duration,
}

impl Forwarder {
    pub(crate) fn new(options: &DnsOptions) -> Forwarder {
        Forwarder {
            upstream: options.upstream.clone(),
            own: options.listen.clone(),
            cluster_dns: options.cluster_dns,
            servers: Mutex::default(),
            cache: Mutex::default(),
            in_flight: Mutex::default(),
            standings: Mutex::default(),
        }
    }

    /// `false`: there is nobody to ask.
    pub(crate) fn has_servers(&self) -> bool {
        !self.servers().is_empty()
    }

    /// The servers, read anew when the file has changed.
    fn servers(&self) -> Vec<SocketAddr> {
        let servers = match &self.upstream {
            Upstream::None => vec![],
            Upstream::Servers(servers) => servers.clone(),
            Upstream::ResolvConf(path) => {
                let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
                let mut known = self.servers.lock();
                if known.0 != modified || modified.is_none() {
                    let text = std::fs::read_to_string(path).unwrap_or_default();
                    *known = (modified, name_servers(&text));
                }
                known.1.clone()
            }
        };
        servers.into_iter().filter(|s| !self.own.contains(s) && Some(s.ip()) != self.cluster_dns).collect()
    }

    /// A remembered reply, for the fast path.
    pub(crate) fn cached(&self, query: &Query, len_max: usize) -> Option<Vec<u8>> {
        let cache = self.cache.lock();
        let cached = cache.get(&key(query))?;
        let age = cached.since.elapsed();
        if age >= cached.lifetime {
            return None;
        }
        wire::adopt(&cached.reply, query, age.as_secs() as u32, len_max)
    }

    /// Asks upstream. `None` when nobody answered in time.
    pub(crate) async fn resolve(self: &Arc<Self>, query: &Query, packet: &[u8], len_max: usize) -> Option<Vec<u8>> {
        if let Some(reply) = self.cached(query, len_max) {
            return Some(reply);
        }
        let reply = self.ask_once(key(query), packet).await?;
        wire::adopt(&reply, query, 0, len_max)
    }

    /// Records of a name for an alias: the reply as upstream gave it, with the question as asked.
    pub(crate) async fn lookup(self: &Arc<Self>, name: &Name, kind: u16) -> Option<Arc<[u8]>> {
        let packet = wire::question(0, name, kind);
        let query = Query::parse(&packet).ok()?;
        let key = key(&query);
        if let Some(cached) = self.cache.lock().get(&key).filter(|c| c.since.elapsed() < c.lifetime) {
            return Some(cached.reply.clone());
        }
        self.ask_once(key, &packet).await
    }

    async fn ask_once(self: &Arc<Self>, key: Key, packet: &[u8]) -> Answer {
        let mut receiver = {
            let mut in_flight = self.in_flight.lock();
            match in_flight.get(&key) {
                Some(receiver) => receiver.clone(),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    in_flight.insert(key.clone(), receiver.clone());
                    let (forwarder, packet) = (self.clone(), packet.to_vec());
                    // A task of its own: the asker may go away while others wait.
                    tokio::spawn(async move { forwarder.ask(key, &packet, sender).await });
                    receiver
                }
            }
        };
        receiver.wait_for(|answer| answer.is_some()).await.ok()?.clone().flatten()
    }

    async fn ask(&self, key: Key, packet: &[u8], sender: watch::Sender<Option<Answer>>) {
        let tell = |answer: Answer| {
            self.in_flight.lock().remove(&key);
            let _ = sender.send(Some(answer));
        };
        let began = Instant::now();
        let Some((servers, patience)) = self.standings.lock().plan(self.servers(), began) else {
            return tell(None);
        };
        let mut race = std::pin::pin!(self.race(&servers, packet));
        match tokio::time::timeout(patience, &mut race).await {
            Ok(reply) => tell(reply.map(|reply| self.remember(&key, reply))),
            Err(_) => {
                let now = Instant::now();
                {
                    let mut standings = self.standings.lock();
                    servers.iter().for_each(|s| standings.silent(*s, began, now));
                }
                tell(None);
                // Later is better than never: for the next who asks, and to know that they live.
                let rest = TOTAL_TIMEOUT.saturating_sub(patience);
                if let Ok(Some(reply)) = tokio::time::timeout(rest, race).await {
                    self.remember(&key, reply);
                }
            }
        }
    }

    /// The first answer of any; each is asked a moment after the one before it, or when that has failed.
    async fn race(&self, servers: &[SocketAddr], packet: &[u8]) -> Option<Vec<u8>> {
        let mut waiting = servers.iter();
        let mut asked = FuturesUnordered::new();
        loop {
            let (more, nobody) = (waiting.len() > 0, asked.is_empty());
            let hedge = async {
                match (more, nobody) {
                    (false, _) => std::future::pending().await,
                    (true, true) => {}
                    (true, false) => tokio::time::sleep(HEDGE).await,
                }
            };
            tokio::select! {
                biased;
                Some((server, result)) = asked.next(), if !nobody => match result {
                    Ok(reply) => {
                        self.standings.lock().answered(server, Instant::now());
                        return Some(reply);
                    }
                    Err(error) => {
                        tracing::debug!(%server, %error, "upstream resolver failed");
                        self.standings.lock().failed(server, Instant::now());
                        if asked.is_empty() && waiting.len() == 0 {
                            return None;
                        }
                        // The next one needn't wait for its turn.
                        if let Some(next) = waiting.next() {
                            asked.push(named(*next, packet));
                        }
                    }
                },
                () = hedge => {
                    if let Some(next) = waiting.next() {
                        asked.push(named(*next, packet));
                    }
                }
            }
        }
    }

    fn remember(&self, key: &Key, reply: Vec<u8>) -> Arc<[u8]> {
        let reply: Arc<[u8]> = reply.into();
        let rcode = wire::reply_header(&reply).map(|(_, _, rcode)| rcode);
        let ttl_max = match rcode {
            Some(0) if reply.get(6..8) != Some(&[0, 0]) => TTL_SECONDS_MAX,
            Some(0 | 3) => NEGATIVE_TTL_SECONDS_MAX,
            _ => return reply,
        };
        let Some(ttl) = wire::lifetime(&reply).filter(|t| *t > 0) else {
            return reply;
        };
        let lifetime = Duration::from_secs(ttl.min(ttl_max).into());
        let mut cache = self.cache.lock();
        if cache.len() >= CACHE_ENTRIES_MAX {
            cache.retain(|_, c| c.since.elapsed() < c.lifetime);
            if cache.len() >= CACHE_ENTRIES_MAX {
                cache.clear();
            }
        }
        cache.insert(key.clone(), Cached { reply: reply.clone(), since: Instant::now(), lifetime });
        reply
    }
}

fn key(query: &Query) -> Key {
    let mut question = query.name.wire().to_vec();
    question.extend_from_slice(&query.question[query.question.len().saturating_sub(4)..]);
    (question, query.edns.is_some(), query.edns.is_some_and(|e| e.dnssec_ok), query.checking_disabled())
}

async fn named(server: SocketAddr, packet: &[u8]) -> (SocketAddr, std::io::Result<Vec<u8>>) {
    (server, exchange(server, packet).await)
}

/// One question to one server: over UDP from a port of its own with an id of its own, and over TCP if it was cut.
async fn exchange(server: SocketAddr, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let id: u16 = rand::random();
    let mut packet = packet.to_vec();
    packet[..2].copy_from_slice(&id.to_be_bytes());
    let any: IpAddr = if server.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the kernel drops what others send.
    socket.connect(server).await?;
    socket.send(&packet).await?;
    let mut buffer = vec![0; 4096];
    let mut again = RESEND.iter();
    loop {
        // An unreachable port or host comes back as an error (ICMP).
        let len = match again.next() {
            None => socket.recv(&mut buffer).await?,
            Some(wait) => match tokio::time::timeout(*wait, socket.recv(&mut buffer)).await {
                Ok(received) => received?,
                Err(_) => {
                    socket.send(&packet).await?;
                    continue;
                }
            },
        };
        let reply = &buffer[..len];
        match wire::reply_header(reply) {
            Some((reply_id, flags, _)) if reply_id == id && same_question(&packet, reply) => {
                if flags & wire::FLAG_TRUNCATED != 0 {
                    return exchange_tcp(server, &packet).await;
                }
                return Ok(reply.to_vec());
            }
            // Forged or late.
            _ => continue,
        }
    }
}

async fn exchange_tcp(server: SocketAddr, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(packet);
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut reply = vec![0; len as usize];
    stream.read_exact(&mut reply).await?;
    match wire::reply_header(&reply) {
        Some((id, _, _)) if packet[..2] == id.to_be_bytes() && same_question(packet, &reply) => Ok(reply),
        _ => Err(std::io::Error::other("reply to another question")),
    }
}

fn same_question(packet: &[u8], reply: &[u8]) -> bool {
    let Some(end) = wire::skip_name(packet, 12).map(|at| at + 4) else {
        return false;
    };
    match (packet.get(12..end), reply.get(12..end)) {
        (Some(asked), Some(answered)) => asked.eq_ignore_ascii_case(answered),
        _ => false,
    }
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text
        .lines()
        .filter_map(|l| l.split_whitespace().next().filter(|w| *w == "nameserver").and(l.split_whitespace().nth(1)));
    // A link-local server's zone (`%eth0`) has no place in SocketAddr's text form; such servers are left out.
    lines.filter_map(|ip| ip.parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, 53)).take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_lines() {
        let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver bogus\nnameserver fe80::1%eth0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
    }
}
