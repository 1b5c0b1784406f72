//! Answers as kernels give them, as data.

use std::net::{Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::route::{RouteAddress, RouteNextHop, RouteVia};

use super::*;

const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const MAC: Mac = [0x0a, 0x58, 10, 0, 0, 2];

fn route(kind: RouteType, address: IpAddr, prefix: u8, how: RouteAttribute) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.kind = kind;
    message.header.address_family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = prefix;
    let destination = RouteAttribute::Destination(address.into());
    message.attributes = vec![destination, how];
    message
}

fn entry(state: NeighbourState, mac: &[u8]) -> NeighbourMessage {
    let mut message = about(7, V4.into(), state);
    let mac = NeighbourAttribute::LinkLayerAddress(mac.to_vec());
    message.attributes.push(mac);
    message
}

fn link(kind: InfoKind, settings: Vec<InfoBridge>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    let data = LinkInfo::Data(InfoData::Bridge(settings));
    message.attributes = vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), data])];
    message
}

#[test]
fn only_a_route_to_one_address_covers_a_host() {
    let (v4, v6) = (IpAddr::from(V4), IpAddr::from(V6));
    let wanted = [
        (v4, 32, Extent::Host),
        (v4, 24, Extent::Network),
        (v6, 128, Extent::Host),
        (v6, 64, Extent::Network),
        // As many bits as an IPv4 address has.
        (v6, 32, Extent::Network),
    ];
    for (address, prefix, extent) in wanted {
        let route = route(RouteType::Unicast, address, prefix, RouteAttribute::Oif(7));
        assert_eq!(way(&route), Way::Link { link: 7, extent });
    }
}

#[test]
fn a_route_that_is_not_straight_out_of_one_link_leads_elsewhere() {
    let gateway = RouteAddress::Inet(V4);
    let around = [
        RouteAttribute::Gateway(gateway),
        RouteAttribute::Via(RouteVia::Inet6(V6)),
        RouteAttribute::MultiPath(vec![RouteNextHop::default()]),
        RouteAttribute::Encap(Vec::new()),
    ];
    for how in around {
        let mut route = route(RouteType::Unicast, V4.into(), 32, RouteAttribute::Oif(7));
        route.attributes.push(how);
        assert_eq!(way(&route), Way::Elsewhere);
    }
    let without_link = route(RouteType::Unicast, V4.into(), 32, RouteAttribute::NhId(1));
    assert_eq!(way(&without_link), Way::Elsewhere);
    for kind in [RouteType::Local, RouteType::Anycast, RouteType::BlackHole] {
        let route = route(kind, V4.into(), 32, RouteAttribute::Oif(7));
        assert_eq!(way(&route), Way::Elsewhere);
    }
}

#[test]
fn a_bridge_goes_by_its_vlan_only_where_it_filters() {
    let settings = |on| {
        vec![
            InfoBridge::VlanFiltering(on),
            InfoBridge::VlanDefaultPvid(5),
        ]
    };
    let vlan = |settings| bridge(&link(InfoKind::Bridge, settings)).map(|bridge| bridge.vlan);
    assert_eq!(vlan(settings(true)), Some(Some(5)));
    assert_eq!(vlan(settings(false)), Some(None));
    assert_eq!(vlan(vec![]), Some(None));
    assert_eq!(bridge(&link(InfoKind::Veth, vec![])), None);
    assert_eq!(bridge(&LinkMessage::default()), None);
}

#[test]
fn a_neighbour_that_could_not_be_sent_to_is_unknown_whatever_it_was() {
    use NeighbourState as State;
    for state in [State::Reachable, State::Stale, State::Delay, State::Probe] {
        assert_eq!(neighbour(&entry(state, &MAC)), Neighbour::Learnt(MAC));
    }
    for state in [State::Permanent, State::Noarp] {
        assert_eq!(neighbour(&entry(state, &MAC)), Neighbour::Fixed(MAC));
    }
    for state in [State::Failed, State::Incomplete, State::None] {
        assert_eq!(neighbour(&entry(state, &MAC)), Neighbour::Unknown);
    }
    for mac in [&MAC[..4], &[0; 20][..], &[]] {
        let entry = entry(State::Reachable, mac);
        assert_eq!(neighbour(&entry), Neighbour::Unknown);
    }
}

#[test]
fn the_nodes_own_link_layer_addresses_are_at_no_port() {
    assert_eq!(port(&entry(NeighbourState::Reachable, &MAC)), Some(7));
    assert_eq!(port(&entry(NeighbourState::Noarp, &MAC)), Some(7));
    assert_eq!(port(&entry(NeighbourState::Permanent, &MAC)), None);
}

#[test]
fn a_blackhole_is_an_answer_and_a_closed_socket_is_none() {
    for code in [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL] {
        assert!(leads_nowhere(&io::Error::from_raw_os_error(code)));
    }
    for code in [libc::EPERM, libc::ENOBUFS, libc::EPIPE] {
        assert!(!leads_nowhere(&io::Error::from_raw_os_error(code)));
    }
}
