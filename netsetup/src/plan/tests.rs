//! Plans for kernels of every kind, as data.

use super::*;
use Step::{AddAddress, CreateDummy, DeleteDummy, RemoveAddress, SetUp};

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 170, 23));
const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23));
pub(super) const LO: u32 = 1;
const DUMMY: u32 = 7;
const ETH0: u32 = 2;

fn spec(kind: LinkKind) -> Spec {
    Spec {
        kind,
        ..Spec::new(vec![V4, V6])
    }
}

pub(super) fn link(index: u32, admin: Admin, ipv6: Ipv6State) -> LinkState {
    LinkState { index, admin, ipv6 }
}

/// A node with nothing of ours.
pub(super) fn bare() -> Observed {
    Observed {
        lo: link(LO, Admin::Up, Ipv6State::Available),
        named: Named::Nothing,
        dummies: Dummies::Untried,
        addresses: Vec::new(),
        rules: Vec::new(),
        routes: Vec::new(),
        names: BTreeMap::new(),
    }
}

fn with_dummy(admin: Admin, ipv6: Ipv6State) -> Observed {
    Observed {
        named: Named::Dummy(link(DUMMY, admin, ipv6)),
        ..bare()
    }
}

fn holding(observed: Observed, link: u32, origin: Origin) -> Observed {
    let addresses = [V4, V6]
        .map(|address| Held {
            link,
            address,
            origin,
        })
        .to_vec();
    Observed {
        addresses,
        ..observed
    }
}

fn steps(kind: LinkKind, observed: &Observed) -> Vec<Step> {
    plan(&spec(kind), observed).unwrap().steps
}

#[test]
fn a_missing_dummy_is_created_before_anything_else_is_decided() {
    for kind in [LinkKind::Auto, LinkKind::Dummy] {
        assert_eq!(steps(kind, &bare()), [CreateDummy]);
    }
}

#[test]
fn a_new_dummy_is_set_up_and_gets_its_addresses() {
    let seen = with_dummy(Admin::Down, Ipv6State::Available);
    let wanted = [
        SetUp(Place::Dummy),
        AddAddress(Place::Dummy, V4),
        AddAddress(Place::Dummy, V6),
    ];
    assert_eq!(steps(LinkKind::Auto, &seen), wanted);
}

#[test]
fn nothing_is_done_when_all_is_there() {
    let seen = holding(
        with_dummy(Admin::Up, Ipv6State::Available),
        DUMMY,
        Origin::Ours,
    );
    let plan = plan(&spec(LinkKind::Auto), &seen).unwrap();
    assert_eq!(
        plan,
        Plan {
            link: Link::Dummy,
            ipv6: Ipv6State::Available,
            steps: vec![]
        }
    );
}

#[test]
fn only_what_is_missing_is_added() {
    let mut seen = holding(
        with_dummy(Admin::Up, Ipv6State::Available),
        DUMMY,
        Origin::Ours,
    );
    seen.addresses.remove(0);
    assert_eq!(steps(LinkKind::Auto, &seen), [AddAddress(Place::Dummy, V4)]);
}

#[test]
fn an_address_that_the_node_has_on_another_link_stays_there() {
    let seen = holding(
        with_dummy(Admin::Up, Ipv6State::Available),
        ETH0,
        Origin::Foreign,
    );
    assert_eq!(steps(LinkKind::Auto, &seen), []);
}

#[test]
fn auto_uses_lo_where_the_kernel_has_no_dummy() {
    let seen = Observed {
        dummies: Dummies::Unsupported,
        ..bare()
    };
    let plan = plan(&spec(LinkKind::Auto), &seen).unwrap();
    assert_eq!(plan.link, Link::Lo(LoReason::NoDummy));
    assert_eq!(
        plan.steps,
        [AddAddress(Place::Lo, V4), AddAddress(Place::Lo, V6)]
    );
}

#[test]
fn a_dummy_that_was_asked_for_is_an_error_where_the_kernel_has_none() {
    let seen = Observed {
        dummies: Dummies::Unsupported,
        ..bare()
    };
    let refused = plan(&spec(LinkKind::Dummy), &seen);
    assert!(matches!(refused, Err(Error::NoDummy)), "{refused:?}");
}

#[test]
fn auto_leaves_on_lo_what_an_earlier_run_put_there() {
    let seen = holding(bare(), LO, Origin::Ours);
    let plan = plan(&spec(LinkKind::Auto), &seen).unwrap();
    let link = Link::Lo(LoReason::FoundThere);
    assert_eq!(
        plan,
        Plan {
            link,
            ipv6: Ipv6State::Available,
            steps: vec![]
        }
    );
}

#[test]
fn lo_is_set_up_when_it_carries_the_addresses() {
    let seen = Observed {
        lo: link(LO, Admin::Down, Ipv6State::Available),
        ..bare()
    };
    assert_eq!(steps(LinkKind::Lo, &seen)[0], SetUp(Place::Lo));
}

#[test]
fn a_name_that_another_kind_of_link_has_is_refused_unless_lo_was_asked_for() {
    let seen = Observed {
        named: Named::Other {
            kind: "veth".into(),
        },
        ..bare()
    };
    for kind in [LinkKind::Auto, LinkKind::Dummy] {
        let refused = plan(&spec(kind), &seen);
        assert!(
            matches!(refused, Err(Error::NameTaken { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(steps(LinkKind::Lo, &seen).len(), 2);
    assert_eq!(plan_removal(&spec(LinkKind::Auto), &seen), []);
}

#[test]
fn without_ipv6_only_the_ipv4_address_is_wanted_and_the_reason_is_told() {
    for missing in [Ipv6State::DisabledBySysctl, Ipv6State::NoKernelSupport] {
        let plan = plan(&spec(LinkKind::Auto), &with_dummy(Admin::Up, missing)).unwrap();
        assert_eq!(
            (plan.ipv6, plan.steps),
            (missing, vec![AddAddress(Place::Dummy, V4)])
        );
    }
}

#[test]
fn loopback_and_unspecified_addresses_need_nothing_and_are_never_removed() {
    let everyones = ["127.0.0.1", "::1", "0.0.0.0", "::"].map(|text| text.parse().unwrap());
    let spec = Spec {
        kind: LinkKind::Lo,
        ..Spec::new(everyones.to_vec())
    };
    assert_eq!(plan(&spec, &bare()).unwrap().steps, []);
    let held = everyones.map(|address| Held {
        link: LO,
        address,
        origin: Origin::Ours,
    });
    let seen = Observed {
        addresses: held.to_vec(),
        ..bare()
    };
    assert_eq!(plan_removal(&spec, &seen), []);
}

#[test]
fn removal_takes_the_dummy_and_what_is_ours_on_lo() {
    let seen = holding(
        with_dummy(Admin::Up, Ipv6State::Available),
        LO,
        Origin::Ours,
    );
    let ours = [
        RemoveAddress(Place::Lo, V4),
        RemoveAddress(Place::Lo, V6),
        DeleteDummy,
    ];
    assert_eq!(plan_removal(&spec(LinkKind::Auto), &seen), ours);
    assert_eq!(
        plan_removal(&spec(LinkKind::Auto), &holding(bare(), LO, Origin::Foreign)),
        []
    );
    assert_eq!(plan_removal(&spec(LinkKind::Auto), &bare()), []);
}
