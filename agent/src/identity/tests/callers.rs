//! Callers against the model of a node: whom the agent takes them for, while
//! kernel, kubelet, API server and watch disagree.

use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::agent::{Agent, Counts};
use super::node::Net;
use super::{Which, search};
use crate::config::IdentityMode;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Create(Which),
    Pod(Which, Deed),
    Stop(Which),
    Tell(usize),
    Lose,
    List,
    Api(bool),
    Delay(u64),
    Notice(usize),
    /// A sandbox connects from an address of its own.
    Connect(Which, Which, Token),
    /// It forges one of another sandbox. It could not finish a handshake.
    Forge(Which, Which),
    /// On a bridge: it answers for an address that is not its own, and goes on to.
    /// Where no port is known to be its own, that may be believed.
    Spoof(Which, Which),
    /// A process on the node's own network does.
    ConnectFromNode(Token),
    Wait(u64),
}

/// What the kubelet, or somebody at the API server, does with a pod.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Start(Which),
    LookAfter,
    Post,
    Terminate,
    Finish,
    Delete,
}

#[derive(Clone, Debug)]
pub(super) enum Token {
    None,
    Own,
    /// Of any pod that there ever was.
    Of(Which),
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let index = Which::any;
    let token = || {
        prop_oneof![
            3 => Just(Token::None),
            1 => Just(Token::Own),
            2 => index().prop_map(Token::Of),
        ]
    };
    let deed = prop_oneof![
        9 => index().prop_map(Deed::Start),
        2 => Just(Deed::LookAfter),
        9 => Just(Deed::Post),
        1 => Just(Deed::Terminate),
        1 => Just(Deed::Finish),
        2 => Just(Deed::Delete),
    ];
    let step = prop_oneof![
        6 => index().prop_map(Step::Create),
        24 => (index(), deed).prop_map(|(pod, deed)| Step::Pod(pod, deed)),
        4 => index().prop_map(Step::Stop),
        12 => (1_usize..4).prop_map(Step::Tell),
        1 => Just(Step::Lose),
        2 => Just(Step::List),
        1 => any::<bool>().prop_map(Step::Api),
        1 => (0_u64..3000).prop_map(Step::Delay),
        9 => (1_usize..6).prop_map(Step::Notice),
        9 => (index(), index(), token()).prop_map(|(pod, at, token)| Step::Connect(pod, at, token)),
        2 => (index(), index()).prop_map(|(pod, address)| Step::Forge(pod, address)),
        2 => (index(), index()).prop_map(|(pod, address)| Step::Spoof(pod, address)),
        1 => token().prop_map(Step::ConnectFromNode),
        3 => (1_u64..2500).prop_map(Step::Wait),
    ];
    // What chance alone seldom brings together.
    let runs = (index(), index(), index()).prop_map(|(name, pod, address)| {
        vec![
            Step::Create(name),
            Step::Pod(pod, Deed::Start(address)),
            Step::Pod(pod, Deed::Post),
            Step::Tell(9),
            Step::Notice(9),
        ]
    });
    let hands_on = (index(), index(), index()).prop_map(|(sandbox, pod, address)| {
        vec![
            Step::Wait(1000),
            Step::Stop(sandbox),
            Step::Pod(pod, Deed::Start(address)),
            Step::Connect(sandbox, address, Token::None),
        ]
    });
    let steps = prop_oneof![
        12 => step.prop_map(|step| vec![step]),
        1 => runs,
        1 => hands_on,
    ];
    prop::collection::vec(steps, 1..70).prop_map(|steps| steps.concat())
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build().expect("a runtime")
}

async fn play(
    net: Net,
    mode: IdentityMode,
    steps: impl IntoIterator<Item = &Step>,
    counts: &Counts,
) -> Result<(), TestCaseError> {
    let mut agent = Agent::start(net, mode);
    for step in steps {
        agent.step(step).await;
        agent.check(counts).await?;
    }
    Ok(())
}

fn hold(net: Net, mode: IdentityMode, file: &'static str) {
    let (mut runner, times) = search(file, 60, 100);
    let counts = Counts::default();
    let outcome = runner.run(&history(), |steps| {
        runtime().block_on(play(net, mode, &steps, &counts))
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (looked, taken) = (counts.look_ups.get(), counts.taken.get());
    println!("{looked} look-ups, {taken} of them answered");
    assert!(looked >= 2_000 * u64::from(times), "only {looked} look-ups");
    assert!(
        taken * 20 > looked,
        "only {taken} of {looked} were answered"
    );
}

const FIRST: Which = Which(0);
const SECOND: Which = Which(1);

/// Two pods, of which the second has got the address of the first, a second
/// after that started and was reported. Nobody has heard of that yet.
const HANDED_ON: [Step; 7] = [
    Step::Create(FIRST),
    Step::Create(SECOND),
    Step::Pod(FIRST, Deed::Start(FIRST)),
    Step::Pod(FIRST, Deed::Post),
    Step::Wait(1000),
    Step::Stop(FIRST),
    Step::Pod(SECOND, Deed::Start(FIRST)),
];

/// Histories that the search found once.
fn replay(steps: &[&[Step]]) {
    let counts = Counts::default();
    for net in [Net::Routed, Net::Moved, Net::Bridged] {
        let steps = steps.iter().copied().flatten();
        let outcome = runtime().block_on(play(net, IdentityMode::Address, steps, &counts));
        outcome.unwrap_or_else(|error| panic!("{net:?}: {error}"));
    }
    assert!(counts.look_ups.get() > 0, "nobody asked");
}

#[test]
fn a_link_that_netlink_has_not_told_of_yet_is_not_taken_for_an_old_one() {
    let asks = [
        Step::Tell(9),
        Step::Connect(FIRST, FIRST, Token::None),
        Step::Wait(1),
    ];
    replay(&[&HANDED_ON, &asks]);
}

#[test]
fn a_report_that_a_pod_lost_its_sandbox_does_not_vouch_for_the_next_one() {
    let asks = [
        Step::Pod(FIRST, Deed::LookAfter),
        Step::Pod(FIRST, Deed::Post),
        Step::Notice(9),
        Step::Tell(9),
        Step::Connect(FIRST, FIRST, Token::None),
        Step::Wait(2000),
    ];
    replay(&[&HANDED_ON, &asks]);
}

#[test]
fn with_a_link_for_each_pod_nobody_is_taken_for_another() {
    hold(Net::Routed, IdentityMode::Address, file!());
}

#[test]
fn on_a_bridge_nobody_is_taken_for_another() {
    hold(Net::Bridged, IdentityMode::Address, file!());
}

#[test]
fn with_a_link_that_has_the_index_of_the_one_before_nobody_is_taken_for_another() {
    hold(Net::Moved, IdentityMode::Address, file!());
}
