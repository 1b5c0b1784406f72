//! Pods that are let go to the real service.

use std::collections::BTreeSet;
use std::net::IpAddr;

use credlet_tests::node::{IMDS, Node, Pod, REAL, netlink};
use netsetup::{Exempt, Others, Spec};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Result, Rig, SOON, captured, delete, own, rules, somebody, spec};

fn exempt(pod: &Pod, link: Option<u32>) -> BTreeSet<Exempt> {
    let exempt = |at| Exempt {
        address: own(pod, at),
        link,
    };
    IMDS.map(exempt).into()
}

/// Whatever link they come in by.
pub(super) fn unlinked(pod: &Pod) -> BTreeSet<Exempt> {
    exempt(pod, None)
}

/// Runs `exempt` beside a test, with what is wanted at first.
pub(super) async fn exempting(
    rig: &Rig,
    wanted: Option<BTreeSet<Exempt>>,
    test: impl AsyncFnOnce(&watch::Sender<Option<BTreeSet<Exempt>>>) -> Result,
) -> Result {
    let (sender, receiver) = watch::channel(wanted);
    let held = rig
        .node
        .ns
        .run(async move || netsetup::exempt(&spec(), &captured(Others::Pass), receiver).await);
    tokio::select! {
        error = held => Err(error.into()),
        outcome = test(&sender) => outcome,
    }
}

/// Asks again until it is met: the kernel is told a moment after the test.
pub(super) async fn meets(rig: &Rig, pod: usize, at: IpAddr, wanted: &str) {
    let asked = async { while !rig.pod_meets(pod, at).await.starts_with(wanted) {} };
    let met = timeout(SOON, asked).await;
    assert!(
        met.is_ok(),
        "{} instead of {wanted}",
        rig.pod_meets(pod, at).await
    );
}

#[tokio::test]
async fn an_exempted_pod_reaches_the_real_service_and_no_other_does() -> Result {
    for rig in Rig::both().await? {
        rig.ensure(spec()).await?;
        rig.listen().await?;
        let link = rig.node.bridge.unwrap_or(rig.pods[0].node_link);
        exempting(
            &rig,
            Some(exempt(&rig.pods[0], Some(link))),
            async |wanted| {
                for at in IMDS {
                    meets(&rig, 0, at, REAL).await;
                    let met = rig.pod_meets(1, at).await;
                    assert!(met.starts_with("the node"), "{met}");
                }
                wanted.send_replace(Some(exempt(&rig.pods[1], None)));
                for at in IMDS {
                    meets(&rig, 1, at, REAL).await;
                    let met = rig.pod_meets(0, at).await;
                    assert!(met.starts_with("the node"), "{met}");
                }
                wanted.send_replace(Some(BTreeSet::new()));
                for at in IMDS {
                    meets(&rig, 1, at, "the node").await;
                }
                Ok(())
            },
        )
        .await?;
        rig.assert_captured().await;
    }
    Ok(())
}

/// The kernel would have the rule apply to the next link of the name, and the VPC
/// CNI names links after pods, which are called alike in a stateful set.
#[tokio::test]
async fn an_exemption_goes_with_the_link_and_the_next_pod_of_the_address_is_captured() -> Result {
    let rig = Rig::on(Node::new().await?).await?;
    rig.ensure(spec()).await?;
    rig.listen().await?;
    let old = &rig.pods[0];
    exempting(&rig, Some(exempt(old, Some(old.node_link))), async |_| {
        meets(&rig, 0, IMDS[0], REAL).await;
        rig.node.unplug(old).await?;
        let gone = async {
            let ours = |rule: &RuleMessage| rule.header.action == RuleAction::Goto;
            while rules(&rig.node.ns)
                .await?
                .iter()
                .filter(|rule| ours(rule))
                .count()
                > 4
            {}
            Result::Ok(())
        };
        timeout(SOON, gone).await??;
        let new = rig.node.add_pod(old.ipv4, old.ipv6).await?;
        let met = somebody(&new.ns, IMDS[0]).await;
        assert_eq!(met, format!("the node {}", new.ipv4));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_exemption_that_is_removed_comes_back_and_one_that_is_added_goes() -> Result {
    let rig = Rig::on(Node::new().await?).await?;
    rig.ensure(spec()).await?;
    rig.listen().await?;
    let wanted = exempt(&rig.pods[0], None);
    exempting(&rig, Some(wanted), async |wanted| {
        meets(&rig, 0, IMDS[0], REAL).await;
        let all = rules(&rig.node.ns).await?;
        let from = RuleAttribute::Source(rig.pods[0].ipv4.into());
        let rule = all.into_iter().find(|rule| rule.attributes.contains(&from));
        let rule = rule.ok_or("it is there")?;
        delete(&rig.node.ns, rule.clone()).await?;
        meets(&rig, 0, IMDS[0], REAL).await;

        wanted.send_replace(Some(BTreeSet::new()));
        meets(&rig, 0, IMDS[0], "the node").await;
        let add = async move || -> Result {
            let mut add = netlink()?.rule().add();
            *add.message_mut() = rule;
            Ok(add.execute().await?)
        };
        rig.node.ns.run(add).await?;
        meets(&rig, 0, IMDS[0], "the node").await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_an_earlier_run_exempted_stays_until_it_is_known_who_is_to_be() -> Result {
    let rig = Rig::on(Node::new().await?).await?;
    rig.ensure(spec()).await?;
    rig.listen().await?;
    exempting(&rig, Some(exempt(&rig.pods[0], None)), async |_| {
        meets(&rig, 0, IMDS[0], REAL).await;
        Ok(())
    })
    .await?;
    exempting(&rig, None, async |wanted| {
        rig.ensure(spec()).await?;
        assert!(rig.pod_meets(0, IMDS[0]).await.starts_with(REAL));
        wanted.send_replace(Some(BTreeSet::new()));
        meets(&rig, 0, IMDS[0], "the node").await;
        Ok(())
    })
    .await?;
    let block = Spec {
        captured: Some(captured(Others::Block)),
        ..spec()
    };
    assert_eq!(rig.ensure(block).await?.steps, []);
    Ok(())
}
