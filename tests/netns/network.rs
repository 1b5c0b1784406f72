//! The link and addresses: made, kept and taken away in a node's namespace.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use credlet_tests::node::{NODE_IPV4, Namespace, Node, Pod, netlink};
use futures::TryStreamExt;
use netsetup::{Error, Ipv6State, Link, LinkKind, LoReason, Outcome, Place, Spec, Step};
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::{LinkUnspec, LinkVeth};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

const V4: &str = "169.254.170.23";
const V6: &str = "fd00:ec2::23";

/// For what the kernel does within milliseconds.
const SOON: Duration = Duration::from_secs(10);

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn addresses() -> Vec<IpAddr> {
    [V4, V6]
        .map(|text| text.parse().expect("a constant"))
        .to_vec()
}

fn spec() -> Spec {
    Spec::new(addresses())
}

async fn ensure(ns: &Namespace, spec: Spec) -> std::result::Result<Outcome, Error> {
    ns.run(async move || netsetup::ensure(&spec).await).await
}

async fn remove(ns: &Namespace) -> std::result::Result<Vec<Step>, Error> {
    ns.run(async || netsetup::remove(&spec()).await).await
}

/// The source address that a listener at `address` on the node sees when the pod connects.
async fn source_seen(node: &Node, pod: &Pod, address: SocketAddr) -> io::Result<IpAddr> {
    let listener = node
        .ns
        .run(async move || TcpListener::bind(address).await)
        .await?;
    let _client = pod
        .ns
        .run(async move || TcpStream::connect(address).await)
        .await?;
    Ok(listener.accept().await?.1.ip())
}

/// Takes an address from whichever link has it.
async fn take_away(ns: &Namespace, address: IpAddr) -> Result {
    ns.run(async move || {
        let handle = netlink()?;
        let mut held = Box::pin(handle.address().get().set_address_filter(address).execute());
        let message = held.try_next().await?.ok_or("the address is not there")?;
        Ok(handle.address().del(message).execute().await?)
    })
    .await
}

async fn change_link(ns: &Namespace, change: LinkMessage) -> Result {
    ns.run(async move || Ok(netlink()?.link().change(change).execute().await?))
        .await
}

/// Everything in the namespace that `ensure` might touch: its links and addresses.
async fn inventory(ns: &Namespace) -> Result<Vec<String>> {
    ns.run(async || {
        let handle = netlink()?;
        let links: Vec<_> = handle.link().get().execute().try_collect().await?;
        let held: Vec<_> = handle.address().get().execute().try_collect().await?;
        // Up, and not running: a carrier comes in its own time.
        let links = links.iter().map(|link| {
            let is_up = link.header.flags.contains(LinkFlags::Up);
            format!("{} up: {is_up}", link.header.index)
        });
        let held = held
            .iter()
            .map(|held| format!("{} {:?}", held.header.index, held.attributes));
        Ok(links
            .chain(held.filter(|text| text.contains(V4) || text.contains(V6)))
            .collect())
    })
    .await
}

/// What `keep` reports of a disturbance that it can only have heard of by a notification.
async fn heard(node: &Node, disturb: impl AsyncFnOnce(&Namespace) -> Result) -> Result<Outcome> {
    let ensured = ensure(&node.ns, spec()).await?;
    // A first look that differs from this is reported, and so seen to be over.
    let outdated = Outcome {
        addresses: Vec::new(),
        ..ensured
    };
    let (reports, mut reported) = mpsc::unbounded_channel();
    let kept = node.ns.run(async move || {
        let report = |outcome: &Outcome| drop(reports.send(outcome.clone()));
        netsetup::keep(&spec(), outdated, report).await
    });
    let disturbed = async {
        let first = timeout(SOON, reported.recv()).await?.ok_or("keep ended")?;
        assert_eq!((first.steps, first.addresses), (vec![], addresses()));
        disturb(&node.ns).await?;
        Ok(timeout(SOON, reported.recv()).await?.ok_or("keep ended")?)
    };
    tokio::select! {
        error = kept => Err(error.into()),
        report = disturbed => report,
    }
}

#[tokio::test]
async fn pods_reach_the_node_from_their_own_addresses() -> Result {
    let node = Node::new().await?;
    let first = node.add_pod([10, 250, 1, 2].into(), None).await?;
    let second = node.add_pod([10, 250, 1, 3].into(), None).await?;
    let address = (NODE_IPV4, 80).into();
    assert_eq!(source_seen(&node, &first, address).await?, first.ipv4);
    assert_eq!(source_seen(&node, &second, address).await?, second.ipv4);
    assert_ne!(first.node_link, second.node_link);

    let heir = node.add_pod(first.ipv4, None).await?;
    node.remove_pod(first).await?;
    assert_eq!(source_seen(&node, &heir, address).await?, heir.ipv4);
    Ok(())
}

#[tokio::test]
async fn pods_reach_the_ensured_addresses_from_their_own() -> Result {
    let node = Node::new().await?;
    let pod = node
        .add_pod([10, 250, 1, 2].into(), "fd00:250::2".parse().ok())
        .await?;
    let outcome = ensure(&node.ns, spec()).await?;
    assert_eq!(
        (&outcome.addresses, outcome.ipv6),
        (&addresses(), Ipv6State::Available)
    );
    let [v4, v6] = outcome.addresses[..] else {
        panic!("two were asked for")
    };
    assert_eq!(source_seen(&node, &pod, (v4, 80).into()).await?, pod.ipv4);
    assert_eq!(
        Some(source_seen(&node, &pod, (v6, 80).into()).await?),
        pod.ipv6.map(IpAddr::V6)
    );
    Ok(())
}

/// A kubelet's probe from 169.254.170.23 would be answered to the wrong node.
#[tokio::test]
async fn the_nodes_own_connections_to_pods_do_not_leave_from_the_ensured_address() -> Result {
    let node = Node::new().await?;
    ensure(
        &node.ns,
        Spec {
            kind: LinkKind::Lo,
            ..spec()
        },
    )
    .await?;
    let pod = node.add_pod([10, 250, 1, 2].into(), None).await?;
    let address = SocketAddr::from((pod.ipv4, 8080));
    let listener = pod
        .ns
        .run(async move || TcpListener::bind(address).await)
        .await?;
    let _probe = node
        .ns
        .run(async move || TcpStream::connect(address).await)
        .await?;
    assert_eq!(listener.accept().await?.1.ip(), NODE_IPV4);
    Ok(())
}

#[tokio::test]
async fn a_restart_finds_its_link_and_changes_nothing() -> Result {
    let node = Node::new().await?;
    let first = ensure(&node.ns, spec()).await?;
    assert!(first.steps.len() >= 2, "{first:?}");
    let before = inventory(&node.ns).await?;
    let second = ensure(&node.ns, spec()).await?;
    assert_eq!((second.steps, second.addresses), (vec![], first.addresses));
    assert_eq!(inventory(&node.ns).await?, before);
    Ok(())
}

#[tokio::test]
async fn two_agents_can_ensure_at_once() -> Result {
    let node = Node::new().await?;
    let (one, other) = tokio::try_join!(ensure(&node.ns, spec()), ensure(&node.ns, spec()))?;
    assert_eq!((one.addresses, other.addresses), (addresses(), addresses()));
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_removed_comes_back() -> Result {
    let node = Node::new().await?;
    for address in addresses() {
        let report = heard(&node, async move |ns| take_away(ns, address).await).await?;
        let [Step::AddAddress(_, added)] = report.steps[..] else {
            panic!("{report:?}")
        };
        assert_eq!((added, report.addresses), (address, addresses()));
    }
    Ok(())
}

#[tokio::test]
async fn a_link_that_is_set_down_comes_up_with_its_addresses() -> Result {
    let node = Node::new().await?;
    let set_down = async |ns: &Namespace| {
        let outcome = ensure(ns, spec()).await?;
        let name = match outcome.link {
            Link::Dummy => spec().name,
            Link::Lo(_) => "lo".into(),
        };
        change_link(ns, LinkUnspec::new_with_name(&name).down().build()).await
    };
    let report = heard(&node, set_down).await?;
    let came_up = |step: &Step| matches!(step, Step::SetUp(_));
    assert!(report.steps.iter().any(came_up), "{report:?}");
    assert_eq!(report.addresses, addresses());
    Ok(())
}

#[tokio::test]
async fn ipv6_that_is_disabled_by_sysctl_is_told_and_no_error() -> Result {
    let node = Node::new().await?;
    let disable = || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    let report = heard(&node, async |ns| {
        Ok(ns.run(async move || disable()).await?)
    })
    .await?;
    assert_eq!(
        (report.ipv6, report.steps),
        (Ipv6State::DisabledBySysctl, vec![])
    );
    let outcome = ensure(&node.ns, spec()).await?;
    assert_eq!(
        (outcome.ipv6, outcome.addresses),
        (report.ipv6, addresses()[..1].to_vec())
    );
    Ok(())
}

#[tokio::test]
async fn removal_leaves_the_node_as_it_was_and_can_be_repeated() -> Result {
    let node = Node::new().await?;
    let before = inventory(&node.ns).await?;
    ensure(&node.ns, spec()).await?;
    assert_ne!(inventory(&node.ns).await?, before);
    assert!(!remove(&node.ns).await?.is_empty());
    assert_eq!(inventory(&node.ns).await?, before);
    assert_eq!(remove(&node.ns).await?, []);
    Ok(())
}

#[tokio::test]
async fn removal_spares_an_address_on_lo_that_others_put_there() -> Result {
    let node = Node::new().await?;
    let address: Ipv4Addr = V4.parse()?;
    let put = async move || -> Result {
        Ok(netlink()?
            .address()
            .add(1, address.into(), 32)
            .execute()
            .await?)
    };
    node.ns.run(put).await?;
    let outcome = ensure(&node.ns, spec()).await?;
    assert_eq!(outcome.link, Link::Lo(LoReason::FoundThere));
    assert_eq!(
        remove(&node.ns).await?,
        [Step::RemoveAddress(Place::Lo, addresses()[1])]
    );
    Ok(())
}

#[tokio::test]
async fn a_name_that_another_kind_of_link_has_is_refused() -> Result {
    let node = Node::new().await?;
    let name = spec().name;
    let veth = LinkVeth::new(&name, "peer").build();
    node.ns
        .run(async move || -> Result { Ok(netlink()?.link().add(veth).execute().await?) })
        .await?;
    let refused = ensure(&node.ns, spec())
        .await
        .expect_err("the name is taken");
    let hint = "the link credlet0 exists and is a veth, not a dummy: remove or rename it";
    assert_eq!(refused.to_string(), hint);
    Ok(())
}

#[tokio::test]
async fn missing_privilege_is_refused_with_what_to_do() -> Result {
    let node = Node::new().await?;
    let unprivileged = || {
        drop_capabilities()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok::<_, io::Error>(runtime.block_on(netsetup::ensure(&spec())))
    };
    let thread = node
        .ns
        .run(async move || std::thread::spawn(unprivileged))
        .await;
    let result = thread.join().expect("it does not panic")?;
    let hint = result.expect_err("it has no capability").to_string();
    assert!(
        hint.ends_with(": grant CAP_NET_ADMIN, or set up the network beforehand"),
        "{hint}"
    );
    Ok(())
}

/// Takes all capabilities from the calling thread, and from no other.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    // _LINUX_CAPABILITY_VERSION_3 and this thread; then effective, permitted and
    // inheritable, twice 32 bits each (capset(2)).
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: both point to memory of the size and layout that capset(2) reads.
    match unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
