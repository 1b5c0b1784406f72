//! Plans for addresses that are captured, as data.

use super::super::tests::{LO, bare, link};
use super::*;
use Step::{AddRoute, AddRule, RemoveRoute, RemoveRule};

const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

fn captured(others: Others) -> Captured {
    Captured {
        v4: std::net::Ipv4Addr::new(169, 254, 169, 254),
        v6: std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        others,
    }
}

/// A node to which all was done that is wanted.
fn after(mut observed: Observed, captured: &Captured) -> Observed {
    for step in steps(Some(captured), &observed) {
        act(&mut observed, step);
    }
    observed
}

fn act(observed: &mut Observed, step: Step) {
    match step {
        AddRule(rule) => observed.rules.push((rule, Origin::Ours)),
        RemoveRule(rule) => observed.rules.retain(|(there, _)| *there != rule),
        AddRoute(address) => observed.routes.push(Local {
            address,
            origin: Origin::Ours,
        }),
        RemoveRoute(address) => observed.routes.retain(|there| there.address != address),
        Step::SetUp(_) => observed.lo.admin = Admin::Up,
        other => panic!("{other}"),
    }
}

fn written(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

fn exempt(link: Option<u32>) -> BTreeSet<Exempt> {
    BTreeSet::from([Exempt { address: POD, link }])
}

/// A node whose link 9 is a pod's.
fn with_pod() -> Observed {
    Observed {
        names: [(LO, "lo".to_owned()), (9, "veth9".to_owned())].into(),
        ..after(bare(), &captured(Others::Pass))
    }
}

#[test]
fn what_lets_the_node_go_is_there_before_what_captures() {
    let observed = Observed {
        lo: link(LO, Admin::Up, Ipv6State::NoKernelSupport),
        ..bare()
    };
    let wanted = [
        "add the route local 169.254.169.254 dev lo table 2703",
        "add the rule 8: from all nop",
        "add the rule 3: not from all to 169.254.169.254 goto 8",
        "add the rule 4: from all to 169.254.169.254 iif lo goto 8",
        "add the rule 7: from all to 169.254.169.254 unreachable",
        "add the rule 6: from all to 169.254.169.254 lookup 2703",
    ];
    let planned = steps(Some(&captured(Others::Block)), &observed);
    assert_eq!(written(&planned), wanted);
}

#[test]
fn each_family_has_rules_of_its_own_and_nothing_is_done_when_all_is_there() {
    let captured = captured(Others::Block);
    let planned = steps(Some(&captured), &bare());
    assert_eq!(planned.len(), 12);
    assert_eq!(steps(Some(&captured), &after(bare(), &captured)), []);
}

#[test]
fn where_ipv6_is_only_disabled_on_lo_it_reaches_nobody() {
    let observed = Observed {
        lo: link(LO, Admin::Up, Ipv6State::DisabledBySysctl),
        ..bare()
    };
    let captured = captured(Others::Block);
    let planned = steps(Some(&captured), &observed);
    assert!(!planned.contains(&AddRoute(captured.v6.into())));
    assert_eq!(planned.len(), 11);
}

#[test]
fn lo_is_set_up_for_its_routes() {
    let observed = Observed {
        lo: link(LO, Admin::Down, Ipv6State::Available),
        ..bare()
    };
    let planned = steps(Some(&captured(Others::Block)), &observed);
    assert_eq!(planned[0], Step::SetUp(Place::Lo));
}

#[test]
fn what_captures_goes_first_and_only_what_is_ours() {
    let mut observed = after(bare(), &captured(Others::Pass));
    let foreign = goto(EXEMPT, To::Only(POD), None);
    observed.rules.push((foreign, Origin::Foreign));
    let planned = steps(None, &observed);
    let captures = |step: &Step| {
        matches!(step, RemoveRule(rule)
            if matches!(rule.action, Action::Lookup(_) | Action::Unreachable))
    };
    assert!(planned[..4].iter().all(captures), "{planned:?}");
    for step in planned {
        act(&mut observed, step);
    }
    assert_eq!((observed.rules.len(), observed.routes.len()), (1, 0));
}

#[test]
fn a_rule_that_another_made_alike_is_taken_for_it() {
    let captured = captured(Others::Block);
    let mut observed = after(bare(), &captured);
    for (_, origin) in &mut observed.rules {
        *origin = Origin::Foreign;
    }
    assert_eq!(steps(Some(&captured), &observed), []);
    assert_eq!(steps(None, &observed).len(), 2, "the routes");
}

#[test]
fn an_address_is_exempted_by_its_link_and_no_longer_than_it_is_wanted() {
    let captured = captured(Others::Pass);
    let mut observed = with_pod();
    let planned = exemptions(&captured, &exempt(Some(9)), &observed);
    let wanted = ["add the rule 5: from 10.0.0.7 to 169.254.169.254 iif veth9 goto 8"];
    assert_eq!(written(&planned), wanted);
    for step in planned {
        act(&mut observed, step);
    }
    assert_eq!(exemptions(&captured, &exempt(Some(9)), &observed), []);
    let planned = exemptions(&captured, &exempt(None), &observed);
    let wanted = [
        "remove the rule 5: from 10.0.0.7 to 169.254.169.254 iif veth9 goto 8",
        "add the rule 5: from 10.0.0.7 to 169.254.169.254 goto 8",
    ];
    assert_eq!(written(&planned), wanted);
    let gone = exemptions(&captured, &BTreeSet::new(), &observed);
    assert_eq!(written(&gone), wanted[..1]);
}

#[test]
fn an_address_whose_link_has_gone_is_exempted_no_more() {
    let captured = captured(Others::Pass);
    let mut observed = with_pod();
    for step in exemptions(&captured, &exempt(Some(9)), &observed) {
        act(&mut observed, step);
    }
    observed.names.remove(&9);
    let planned = exemptions(&captured, &exempt(Some(9)), &observed);
    assert!(matches!(planned[..], [RemoveRule(_)]), "{planned:?}");
}

#[test]
fn exemptions_outlive_a_start_that_lets_others_pass_and_no_other() {
    let mut observed = with_pod();
    for step in exemptions(&captured(Others::Pass), &exempt(Some(9)), &observed) {
        act(&mut observed, step);
    }
    assert_eq!(steps(Some(&captured(Others::Pass)), &observed), []);
    let planned = steps(Some(&captured(Others::Block)), &observed);
    assert!(matches!(planned[..], [RemoveRule(_)]), "{planned:?}");
}
