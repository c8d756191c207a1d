//! rtnetlink: links, addresses, routes and neighbours. Source: rtnetlink(7), `linux/if_link.h`, `linux/rtnetlink.h`.

use super::message::{
    Attributes, Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
};
use super::{Error, Result, Socket};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// IPv6: usable at once, without duplicate address detection.
const IFA_F_NODAD: u32 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const IFF_UP: u32 = libc::IFF_UP as u32;

/// What [`Route::link`] and [`Route::links`] tell of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `bridge`, `veth`, …; empty for physical links and `lo`.
    pub kind: String,
    pub master: Option<u32>,
    pub mtu: u32,
    pub mac: Vec<u8>,
    pub up: bool,
}

/// A veth pair whose peer is born in another network namespace.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    pub name: &'a str,
    pub mac: Option<[u8; 6]>,
    /// The bridge that the near end joins.
    pub master: Option<u32>,
    pub mtu: u32,
    pub peer_name: &'a str,
    pub peer_mac: Option<[u8; 6]>,
    pub peer_netns: BorrowedFd<'a>,
}

/// One route. `gateway: None` is a directly reachable destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    pub destination: IpAddr,
    pub prefix_len: u8,
    pub gateway: Option<IpAddr>,
    pub link: u32,
    /// The source address that local programs use when they have not bound one.
    pub source: Option<IpAddr>,
}

/// A routing socket, tied to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// `struct ifinfomsg`
fn ifinfo(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

impl Route {
    pub fn open() -> Result<Route> {
        Ok(Route { socket: Socket::route()? })
    }

    /// Opens the socket inside another network namespace; it works there from any thread.
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Route> {
        super::in_netns(netns, Route::open)
            .map_err(|source| Error::Socket { what: "enter network namespace", source })?
    }

    /// The link of that name, or `None`.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = Message::new(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, &ifinfo(0, 0, 0, 0));
        message.attr_str(IFLA_IFNAME, name);
        let mut found = None;
        match self.socket.dump(&format!("get link {name}"), message, |payload| found = parse_link(payload)) {
            Ok(()) => Ok(found),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = Message::new(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &ifinfo(0, 0, 0, 0));
        let mut links = Vec::new();
        self.socket.dump("list links", message, |payload| links.extend(parse_link(payload)))?;
        Ok(links)
    }

    /// Makes a bridge, up, with that MAC (a bridge without one takes its lowest port's, which changes as ports come and go).
    pub fn add_bridge(&mut self, name: &str, mac: [u8; 6], mtu: u32) -> Result<()> {
        let mut message = Message::new(
            RTM_NEWLINK,
            NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
            &ifinfo(0, 0, IFF_UP, IFF_UP),
        );
        message.attr_str(IFLA_IFNAME, name).attr(IFLA_ADDRESS, &mac).attr_u32(IFLA_MTU, mtu);
        message.nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_KIND, "bridge");
        });
        self.socket.request(&format!("add bridge {name}"), message)
    }

    /// Makes both ends of a veth pair at once, the near one up, the far one directly in its namespace: creating it here and
    /// moving it there costs the kernel four times as long.
    pub fn add_veth(&mut self, veth: &Veth<'_>) -> Result<()> {
        let up = ifinfo(0, 0, IFF_UP, IFF_UP);
        let mut message = Message::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &up);
        message.attr_str(IFLA_IFNAME, veth.name).attr_u32(IFLA_MTU, veth.mtu);
        if let Some(mac) = veth.mac {
            message.attr(IFLA_ADDRESS, &mac);
        }
        if let Some(master) = veth.master {
            message.attr_u32(IFLA_MASTER, master);
        }
        message.nest(IFLA_LINKINFO, |m| {
            m.attr_str(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |m| {
                let peer = m.open(VETH_INFO_PEER);
                // A veth can't be up while its partner is not yet its partner: the far end is raised in its namespace.
                m.raw(&ifinfo(0, 0, 0, 0));
                m.attr_str(IFLA_IFNAME, veth.peer_name).attr_u32(IFLA_MTU, veth.mtu);
                if let Some(mac) = veth.peer_mac {
                    m.attr(IFLA_ADDRESS, &mac);
                }
                m.attr_u32(IFLA_NET_NS_FD, veth.peer_netns.as_raw_fd() as u32);
                m.close(peer);
            });
        });
        self.socket.request(&format!("add veth {}", veth.name), message)
    }

    pub fn set_up(&mut self, index: u32) -> Result<()> {
        let message = Message::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &ifinfo(0, index, IFF_UP, IFF_UP));
        self.socket.request(&format!("set link {index} up"), message)
    }

    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &ifinfo(0, index, 0, 0));
        message.attr_u32(IFLA_MTU, mtu);
        self.socket.request(&format!("set mtu of link {index}"), message)
    }

    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &ifinfo(0, index, 0, 0));
        message.attr(IFLA_ADDRESS, &mac);
        self.socket.request(&format!("set mac of link {index}"), message)
    }

    /// Lets a bridge port send a frame back out of the port it came in on.
    pub fn set_hairpin(&mut self, index: u32, on: bool) -> Result<()> {
        let mut message =
            Message::new(RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, &ifinfo(libc::AF_BRIDGE as u8, index, 0, 0));
        message.nest(IFLA_PROTINFO, |m| {
            m.attr_u8(IFLA_BRPORT_MODE, on as u8);
        });
        self.socket.request(&format!("set hairpin of link {index}"), message)
    }

    /// Deletes a link by name; `false` when there was none.
    pub fn delete_link(&mut self, name: &str) -> Result<bool> {
        let mut message = Message::new(RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, &ifinfo(0, 0, 0, 0));
        message.attr_str(IFLA_IFNAME, name);
        match self.socket.request(&format!("delete link {name}"), message) {
            Ok(()) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn address_message(&self, kind: u16, flags: u16, link: u32, address: IpAddr, prefix_len: u8) -> Message {
        let mut fixed = [0u8; 8];
        fixed[0] = family(address);
        fixed[1] = prefix_len;
        fixed[4..8].copy_from_slice(&link.to_ne_bytes());
        let mut message = Message::new(kind, NLM_F_REQUEST | NLM_F_ACK | flags, &fixed);
        message.attr(IFA_LOCAL, &octets(address)).attr(IFA_ADDRESS, &octets(address));
        if address.is_ipv6() {
            message.attr_u32(IFA_FLAGS, IFA_F_NODAD);
        }
        message
    }

    /// Succeeds when the address is there already.
    pub fn add_address(&mut self, link: u32, address: IpAddr, prefix_len: u8) -> Result<()> {
        let message = self.address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, link, address, prefix_len);
        self.socket.request(&format!("add address {address}/{prefix_len}"), message)
    }

    pub fn delete_address(&mut self, link: u32, address: IpAddr, prefix_len: u8) -> Result<()> {
        let message = self.address_message(RTM_DELADDR, 0, link, address, prefix_len);
        self.socket.request(&format!("delete address {address}/{prefix_len}"), message)
    }

    /// All addresses: link index, address, prefix length.
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpAddr, u8)>> {
        let message = Message::new(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &[0; 8]);
        let mut addresses = Vec::new();
        self.socket.dump("list addresses", message, |payload| {
            let Some(fixed) = payload.get(..8) else {
                return;
            };
            let attributes = Attributes::new(&payload[8..]);
            let address = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS)).and_then(|a| a.ip());
            if let Some(address) = address {
                addresses.push((u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]), address, fixed[1]));
            }
        })?;
        Ok(addresses)
    }

    fn route_message(&self, kind: u16, flags: u16, route: &RouteSpec) -> Message {
        let mut fixed = [0u8; 12];
        fixed[0] = family(route.destination);
        fixed[1] = route.prefix_len;
        fixed[4] = libc::RT_TABLE_MAIN;
        fixed[5] = libc::RTPROT_STATIC;
        fixed[6] = if route.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        fixed[7] = libc::RTN_UNICAST;
        let mut message = Message::new(kind, NLM_F_REQUEST | NLM_F_ACK | flags, &fixed);
        if route.prefix_len > 0 {
            message.attr(RTA_DST, &octets(route.destination));
        }
        if let Some(gateway) = route.gateway {
            message.attr(RTA_GATEWAY, &octets(gateway));
        }
        if let Some(source) = route.source {
            message.attr(RTA_PREFSRC, &octets(source));
        }
        message.attr_u32(RTA_OIF, route.link);
        message
    }

    /// Adds or replaces a route of the main table.
    pub fn add_route(&mut self, route: &RouteSpec) -> Result<()> {
        let message = self.route_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
        self.socket.request(&format!("add route {}/{}", route.destination, route.prefix_len), message)
    }

    /// Unicast routes of the main table, of both families.
    pub fn routes(&mut self) -> Result<Vec<RouteSpec>> {
        let message = Message::new(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, &[0; 12]);
        let mut routes = Vec::new();
        self.socket.dump("list routes", message, |payload| {
            let Some(fixed) = payload.get(..12) else {
                return;
            };
            if fixed[4] != libc::RT_TABLE_MAIN || fixed[7] != libc::RTN_UNICAST {
                return;
            }
            let attributes = Attributes::new(&payload[12..]);
            let any: IpAddr = if fixed[0] == libc::AF_INET as u8 { [0u8; 4].into() } else { [0u8; 16].into() };
            routes.push(RouteSpec {
                destination: attributes.find(RTA_DST).and_then(|a| a.ip()).unwrap_or(any),
                prefix_len: fixed[1],
                gateway: attributes.find(RTA_GATEWAY).and_then(|a| a.ip()),
                link: attributes.find(RTA_OIF).and_then(|a| a.u32()).unwrap_or(0),
                source: attributes.find(RTA_PREFSRC).and_then(|a| a.ip()),
            });
        })?;
        Ok(routes)
    }

    fn neighbour_message(&self, kind: u16, flags: u16, link: u32, address: IpAddr) -> Message {
        let mut fixed = [0u8; 12];
        fixed[0] = family(address);
        fixed[4..8].copy_from_slice(&link.to_ne_bytes());
        fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
        let mut message = Message::new(kind, NLM_F_REQUEST | NLM_F_ACK | flags, &fixed);
        message.attr(NDA_DST, &octets(address));
        message
    }

    /// A permanent neighbour entry: no ARP question is ever asked for it.
    pub fn add_neighbour(&mut self, link: u32, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        let mut message = self.neighbour_message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, link, address);
        message.attr(NDA_LLADDR, &mac);
        self.socket.request(&format!("add neighbour {address}"), message)
    }

    pub fn delete_neighbour(&mut self, link: u32, address: IpAddr) -> Result<()> {
        let message = self.neighbour_message(RTM_DELNEIGH, 0, link, address);
        self.socket.request(&format!("delete neighbour {address}"), message)
    }
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let fixed = payload.get(..16)?;
    let attributes = Attributes::new(&payload[16..]);
    Some(Link {
        index: u32::from_ne_bytes(fixed[4..8].try_into().ok()?),
        name: attributes.find(IFLA_IFNAME)?.str().to_string(),
        kind: attributes
            .find(IFLA_LINKINFO)
            .and_then(|i| i.nested().find(IFLA_INFO_KIND))
            .map(|k| k.str().to_string())
            .unwrap_or_default(),
        master: attributes.find(IFLA_MASTER).and_then(|a| a.u32()),
        mtu: attributes.find(IFLA_MTU).and_then(|a| a.u32()).unwrap_or(0),
        mac: attributes.find(IFLA_ADDRESS).map(|a| a.value.to_vec()).unwrap_or_default(),
        up: u32::from_ne_bytes(fixed[8..12].try_into().ok()?) & IFF_UP != 0,
    })
}
