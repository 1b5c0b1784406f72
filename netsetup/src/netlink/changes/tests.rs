//! Notifications as the kernel sends them, as data.

use rtnetlink::packet_route::neighbour::NeighbourState;

use super::*;
use RouteNetlinkMessage as Message;

const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const MAC: [u8; 6] = [0x0a, 0x58, 10, 0, 0, 2];
const BRIDGE: u32 = 4;
const PORT: u32 = 7;

/// A reader that knows a bridge and a port.
fn links() -> Links {
    Links(BTreeSet::from([BRIDGE, PORT]))
}

fn read(message: RouteNetlinkMessage) -> Option<Change> {
    links().read(&NetlinkPayload::InnerMessage(message))
}

fn link(index: u32, family: AddressFamily) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.interface_family = family;
    message
}

fn event(index: u32, event: LinkEvent) -> Change {
    Change::Link { index, event }
}

fn route(family: AddressFamily, prefix: u8, to: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = prefix;
    message.attributes = to
        .into_iter()
        .map(|address| RouteAttribute::Destination(address.into()))
        .collect();
    message
}

fn neighbour(state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = BRIDGE;
    message.header.state = state;
    message.attributes = vec![
        NeighbourAttribute::Destination(IpAddr::from(V4).into()),
        NeighbourAttribute::LinkLayerAddress(MAC.to_vec()),
    ];
    message
}

fn station(bridge: Option<u32>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = PORT;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(MAC.to_vec())];
    let bridge = bridge.map(NeighbourAttribute::Controller);
    message.attributes.extend(bridge);
    message
}

#[test]
fn a_link_appears_once_and_goes_once() {
    let mut links = links();
    let mut read = |message| links.read(&NetlinkPayload::InnerMessage(message));
    let new = || link(9, AddressFamily::Unspec);
    assert_eq!(
        read(Message::NewLink(new())),
        Some(event(9, LinkEvent::Appeared))
    );
    assert_eq!(
        read(Message::NewLink(new())),
        Some(event(9, LinkEvent::Changed))
    );
    assert_eq!(
        read(Message::DelLink(new())),
        Some(event(9, LinkEvent::Gone))
    );
    assert_eq!(
        read(Message::NewLink(new())),
        Some(event(9, LinkEvent::Appeared))
    );
}

#[test]
fn a_port_that_leaves_its_bridge_has_not_left_the_node() {
    let port = || link(PORT, AddressFamily::Bridge);
    let changed = Some(event(PORT, LinkEvent::Changed));
    assert_eq!(read(Message::DelLink(port())), changed);
    assert_eq!(read(Message::NewLink(port())), changed);
    let mut links = links();
    links.read(&NetlinkPayload::InnerMessage(Message::DelLink(port())));
    assert!(links.0.contains(&PORT));
}

#[test]
fn a_route_concerns_the_addresses_that_it_covers() {
    let (v4, v6) = (AddressFamily::Inet, AddressFamily::Inet6);
    let host = route(v4, 32, Some(V4.into()));
    let told = Some(Change::Address(V4.into()));
    assert_eq!(read(Message::DelRoute(host.clone())), told);
    assert_eq!(read(Message::NewRoute(host)), told);
    let network = |family, prefix, to: Option<IpAddr>, address: IpAddr| {
        let told = read(Message::NewRoute(route(family, prefix, to)));
        assert_eq!(told, Some(Change::Network { address, prefix }));
    };
    network(v4, 24, Some(V4.into()), V4.into());
    network(v4, 0, None, Ipv4Addr::UNSPECIFIED.into());
    network(v6, 0, None, Ipv6Addr::UNSPECIFIED.into());
    assert_eq!(
        read(Message::NewRoute(route(AddressFamily::Mpls, 20, None))),
        None
    );
}

#[test]
fn a_neighbour_is_told_with_who_answers_and_without_when_nobody_does() {
    let told = |mac| {
        Some(Change::Neighbour {
            link: BRIDGE,
            address: V4.into(),
            mac,
        })
    };
    let stale = || neighbour(NeighbourState::Stale);
    assert_eq!(read(Message::NewNeighbour(stale())), told(Some(MAC)));
    assert_eq!(read(Message::DelNeighbour(stale())), told(None));
    let failed = neighbour(NeighbourState::Failed);
    assert_eq!(read(Message::NewNeighbour(failed)), told(None));
}

#[test]
fn a_bridges_table_is_told_and_a_tunnels_is_not() {
    let told = |event| {
        Some(Change::Station {
            mac: MAC,
            port: PORT,
            event,
        })
    };
    let seen = read(Message::NewNeighbour(station(Some(BRIDGE))));
    assert_eq!(seen, told(StationEvent::Seen));
    let forgotten = read(Message::DelNeighbour(station(Some(BRIDGE))));
    assert_eq!(forgotten, told(StationEvent::Forgotten));
    assert_eq!(read(Message::NewNeighbour(station(None))), None);
}

#[test]
fn after_an_overrun_all_is_doubted() {
    let overrun = NetlinkPayload::Overrun(Vec::new());
    assert_eq!(links().read(&overrun), Some(Change::All));
}

#[test]
fn what_no_path_is_made_of_is_not_told() {
    let address = Message::NewAddress(rtnetlink::packet_route::address::AddressMessage::default());
    assert_eq!(read(address), None);
    assert_eq!(links().read(&NetlinkPayload::Noop), None);
}
