//! The rules, as a table: who is whom by an address, a path and a token.

use std::time::SystemTime;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::super::paths::book::Since;
use super::super::paths::{Kernel, Path};
use super::super::pods::Report;
use super::*;
use crate::model::{PodUid, ServiceAccount};

const DOOR: &str = "169.254.170.23";
const NODE: &str = "node-1";
const LOOPBACK: u32 = 1;
const LINK_A: u32 = 10;
const LINK_B: u32 = 11;
const BRIDGE: u32 = 5;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(name: &str, addresses: &[&str]) -> Report {
    Report {
        namespace: "shop".into(),
        name: name.into(),
        uid: name.into(),
        account: format!("account-of-{name}"),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..Report::default()
    }
}

fn host_pod(name: &str) -> Report {
    Report {
        network: Network::Node,
        node_addresses: vec!["192.0.2.1".into()],
        ..pod(name, &["192.0.2.1"])
    }
}

fn own(link: u32) -> Shown {
    let port = Port::Own;
    Shown::Path(Path { link, port })
}

fn bridged(port: u32, last: u8) -> Shown {
    let mac = [2, 0, 0, 0, 0, last];
    Shown::Path(Path {
        link: BRIDGE,
        port: Port::Bridged { port, mac },
    })
}

/// What is known: pods, and what the kernel showed for their addresses.
fn known(reports: impl IntoIterator<Item = Report>, shown: &[(&str, Shown)]) -> Known {
    let mut known = Known::default();
    let mut pods = PodIndex::default();
    for report in reports {
        pods.apply(report);
    }
    known.paths.follow(&pods);
    for (address, shown) in shown {
        known.paths.learn(&pods, ip(address), *shown, Since::Start);
    }
    known.heard = Some(Instant::now());
    known.pods = Some(pods);
    known
}

fn from(peer: &str, link: u32) -> Origin {
    Origin::new(ip(peer), ip(DOOR), Some(link))
}

/// As `from`, on a connection for which the kernel has shown this.
fn seen(peer: &str, link: u32, shown: Shown) -> Origin {
    struct Shows(Shown);
    impl Kernel for Shows {
        fn path(&self, _: IpAddr) -> BoxFuture<'_, std::io::Result<Shown>> {
            std::future::ready(Ok(self.0)).boxed()
        }
        fn resolve(&self, _: IpAddr) -> BoxFuture<'_, std::io::Result<()>> {
            std::future::ready(Ok(())).boxed()
        }
        fn is_heard(&self) -> bool {
            true
        }
    }
    let origin = from(peer, link);
    let looked = origin.look(&Shows(shown)).now_or_never();
    assert!(looked.is_some());
    origin
}

fn token(name: &str) -> Claims {
    Claims {
        pod: PodUid::new(name).unwrap(),
        pod_name: name.into(),
        account: ServiceAccount::new("shop", &format!("account-of-{name}")).unwrap(),
        node: Some(NODE.into()),
        audiences: Vec::new(),
        expires: SystemTime::UNIX_EPOCH,
    }
}

fn rules(mode: IdentityMode) -> Rules {
    Rules {
        node: NODE.into(),
        mode,
        max_pod_staleness: Duration::from_mins(5),
    }
}

/// The verdict in a word, under `--identity address`.
fn say(known: &Known, origin: &Origin, token: Option<&Claims>) -> String {
    say_in(IdentityMode::Address, known, origin, token)
}

fn say_in(mode: IdentityMode, known: &Known, origin: &Origin, token: Option<&Claims>) -> String {
    match judge(known, origin, token, &rules(mode)) {
        Verdict::Is(caller) => caller.pod().to_string(),
        Verdict::Refuse(error) => format!("never: {}", name(&error)),
        Verdict::Wait(error) => format!("later: {}", name(&error)),
        Verdict::Look => "look".to_owned(),
        Verdict::Confirm => "confirm".to_owned(),
    }
}

fn name(error: &Error) -> String {
    let text = format!("{error:?}");
    text.split('(').next().unwrap().to_owned()
}

/// Two pods, each on a veth pair of its own.
fn two() -> Known {
    let pods = [pod("a", &["10.0.0.1"]), pod("b", &["10.0.0.2"])];
    known(
        pods,
        &[("10.0.0.1", own(LINK_A)), ("10.0.0.2", own(LINK_B))],
    )
}

#[test]
fn an_address_is_believed_on_the_path_of_its_pod_and_on_no_other() {
    let known = two();
    assert_eq!(say(&known, &from("10.0.0.1", LINK_A), None), "a");
    for link in [LINK_B, LOOPBACK, 99] {
        let origin = from("10.0.0.1", link);
        assert_eq!(say(&known, &origin, None), "confirm", "{link}");
    }
    let untold = Origin::new(ip("10.0.0.1"), ip(DOOR), None);
    assert_eq!(say(&known, &untold, None), "confirm");
}

#[test]
fn on_a_bridge_the_port_and_the_link_layer_address_must_be_the_pod_s_too() {
    let known = known([pod("a", &["10.0.0.1"])], &[("10.0.0.1", bridged(20, 1))]);
    let by = |shown| seen("10.0.0.1", BRIDGE, shown);
    assert_eq!(say(&known, &from("10.0.0.1", BRIDGE), None), "look");
    assert_eq!(say(&known, &by(bridged(20, 1)), None), "a");
    for other in [bridged(21, 1), bridged(20, 2), own(BRIDGE), Shown::Hidden] {
        assert_eq!(say(&known, &by(other), None), "confirm", "{other:?}");
    }
}

#[test]
fn where_the_network_shows_no_path_the_address_speaks_while_the_pods_are_fresh() {
    let mut known = known([pod("a", &["10.0.0.1"])], &[("10.0.0.1", Shown::Hidden)]);
    assert_eq!(say(&known, &from("10.0.0.1", 7), None), "look");
    let origin = seen("10.0.0.1", 7, Shown::Hidden);
    assert_eq!(say(&known, &origin, None), "a");
    let shown = seen("10.0.0.1", LINK_A, own(LINK_A));
    assert_eq!(say(&known, &shown, None), "confirm");

    known.heard = Instant::now().checked_sub(Duration::from_secs(301));
    assert_eq!(say(&known, &origin, None), "later: Outdated");
    assert_eq!(say(&known, &origin, Some(&token("a"))), "a");
}

#[test]
fn a_path_that_is_known_needs_no_fresh_pods() {
    let mut known = two();
    known.heard = Instant::now().checked_sub(Duration::from_hours(1));
    assert_eq!(say(&known, &from("10.0.0.1", LINK_A), None), "a");
}

#[test]
fn an_address_whose_path_is_not_learnt_yet_waits() {
    let known = known([pod("a", &["10.0.0.1"])], &[]);
    assert_eq!(say(&known, &from("10.0.0.1", LINK_A), None), "confirm");
}

#[test]
fn an_address_that_is_nobody_s_several_pods_or_the_node_s_names_nobody() {
    let pods = [
        pod("a", &["10.0.0.1"]),
        pod("b", &["10.0.0.1"]),
        host_pod("proxy"),
    ];
    let known = known(pods, &[]);
    let cases = [
        ("10.0.0.9", LINK_A, "later: Unknown"),
        ("10.0.0.1", LINK_A, "later: Ambiguous"),
        ("192.0.2.1", LOOPBACK, "never: Node"),
        (DOOR, LOOPBACK, "never: Node"),
    ];
    for (peer, link, said) in cases {
        assert_eq!(say(&known, &from(peer, link), None), said, "{peer}");
    }
}

#[test]
fn nothing_is_said_before_the_first_list() {
    let known = Known::default();
    let origin = from("10.0.0.1", LINK_A);
    assert_eq!(say(&known, &origin, None), "later: NotSynced");
    assert_eq!(say(&known, &origin, Some(&token("a"))), "later: NotSynced");
}

#[test]
fn a_token_must_be_of_the_pod_that_has_the_address() {
    let known = two();
    let origin = from("10.0.0.1", LINK_A);
    assert_eq!(say(&known, &origin, Some(&token("a"))), "a");
    assert_eq!(say(&known, &origin, Some(&token("b"))), "never: Elsewhere");
    let hidden = known_hidden();
    let origin = seen("10.0.0.1", 7, Shown::Hidden);
    assert_eq!(say(&hidden, &origin, Some(&token("a"))), "a");
    assert_eq!(say(&hidden, &origin, Some(&token("b"))), "later: Elsewhere");
}

fn known_hidden() -> Known {
    let pods = [pod("a", &["10.0.0.1"]), pod("b", &[])];
    known(pods, &[("10.0.0.1", Shown::Hidden)])
}

#[test]
fn a_token_must_agree_with_its_pod_in_every_claim() {
    let known = two();
    let origin = from("10.0.0.1", LINK_A);
    let spoilt: [fn(&mut Claims); 4] = [
        |claims| claims.pod_name = "b".into(),
        |claims| claims.account = ServiceAccount::new("shop", "account-of-b").unwrap(),
        |claims| claims.account = ServiceAccount::new("bank", "account-of-a").unwrap(),
        |claims| claims.node = Some("node-2".into()),
    ];
    for spoil in spoilt {
        let mut claims = token("a");
        spoil(&mut claims);
        assert_eq!(say(&known, &origin, Some(&claims)), "never: Elsewhere");
    }
    let before_nodes_were_named = Claims {
        node: None,
        ..token("a")
    };
    assert_eq!(say(&known, &origin, Some(&before_nodes_were_named)), "a");
}

#[test]
fn a_token_of_a_pod_that_has_gone_is_refused_at_once_and_an_unknown_one_waits() {
    let mut known = two();
    known.pods.as_mut().unwrap().remove(pod("a", &[]));
    let origin = from("10.0.0.1", LINK_A);
    assert_eq!(say(&known, &origin, Some(&token("a"))), "never: GonePod");
    assert_eq!(say(&known, &origin, Some(&token("c"))), "later: UnknownPod");
}

#[test]
fn a_token_settles_an_address_that_nobody_has_yet() {
    let pods = [pod("a", &["10.0.0.1"]), pod("new", &[])];
    let known = known(pods, &[("10.0.0.1", own(LINK_A))]);
    let by = |link| seen("10.0.0.9", link, own(link));
    assert_eq!(
        say(&known, &from("10.0.0.9", 12), Some(&token("new"))),
        "look"
    );
    assert_eq!(say(&known, &by(12), Some(&token("new"))), "new");
    // By the link of a pod that is not the token's.
    assert_eq!(
        say(&known, &by(LINK_A), Some(&token("new"))),
        "never: Elsewhere"
    );
    // The token's pod has another address.
    assert_eq!(say(&known, &by(12), Some(&token("a"))), "never: Elsewhere");
    let both = say_in(IdentityMode::Both, &known, &by(12), Some(&token("new")));
    assert_eq!(both, "later: Unknown");
}

#[test]
fn a_token_settles_an_address_that_the_watch_still_gives_to_another() {
    let pods = [pod("a", &["10.0.0.1"]), pod("new", &[])];
    let known = known(pods, &[("10.0.0.1", own(LINK_A))]);
    let origin = seen("10.0.0.1", 12, own(12));
    assert_eq!(say(&known, &origin, None), "confirm");
    assert_eq!(say(&known, &origin, Some(&token("new"))), "new");
    let both = say_in(IdentityMode::Both, &known, &origin, Some(&token("new")));
    assert_eq!(both, "confirm");
}

#[test]
fn a_stolen_token_is_of_no_use_on_the_path_of_another_pod() {
    let known = two();
    let origin = seen("10.0.0.1", LINK_B, own(LINK_A));
    assert_eq!(say(&known, &origin, Some(&token("a"))), "never: Elsewhere");
}

#[test]
fn a_stolen_token_is_of_no_use_by_the_port_of_another_pod_on_a_bridge() {
    let pods = [pod("a", &["10.0.0.1"]), pod("b", &["10.0.0.2"])];
    let shown = [("10.0.0.1", bridged(20, 1)), ("10.0.0.2", bridged(21, 2))];
    let known = known(pods, &shown);
    let origin = seen("10.0.0.1", BRIDGE, bridged(21, 2));
    assert_eq!(say(&known, &origin, None), "confirm");
    assert_eq!(say(&known, &origin, Some(&token("a"))), "never: Elsewhere");
}

#[test]
fn a_host_network_pod_is_known_by_its_token_on_the_node_s_own_addresses() {
    let known = known(
        [host_pod("proxy"), pod("a", &["10.0.0.1"])],
        &[("10.0.0.1", own(LINK_A))],
    );
    let proxy = token("proxy");
    for own in [DOOR, "192.0.2.1"] {
        let said = say(&known, &from(own, LOOPBACK), Some(&proxy));
        assert_eq!(said, "proxy", "{own}");
    }
    for (peer, link) in [("192.0.2.77", LINK_A), ("10.0.0.1", LINK_A)] {
        let said = say(&known, &from(peer, link), Some(&proxy));
        assert_eq!(said, "never: Elsewhere", "{peer} {link}");
    }
    let said = say(&known, &from(DOOR, LOOPBACK), Some(&token("a")));
    assert_eq!(said, "never: Elsewhere");
    let both = say_in(
        IdentityMode::Both,
        &known,
        &from(DOOR, LOOPBACK),
        Some(&proxy),
    );
    assert_eq!(both, "never: Node");
}

#[test]
fn a_token_does_not_make_an_ambiguous_address_plain() {
    let known = known([pod("a", &["10.0.0.1"]), pod("b", &["10.0.0.1"])], &[]);
    let said = say(&known, &from("10.0.0.1", LINK_A), Some(&token("a")));
    assert_eq!(said, "later: Ambiguous");
}

#[test]
fn a_token_is_required_where_the_setting_says_so() {
    let known = two();
    let origin = from("10.0.0.1", LINK_A);
    for mode in [IdentityMode::Token, IdentityMode::Both] {
        assert_eq!(say_in(mode, &known, &origin, None), "never: NoToken");
        assert_eq!(say_in(mode, &known, &origin, Some(&token("a"))), "a");
    }
}
