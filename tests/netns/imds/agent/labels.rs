//! Pods whose labels change while an agent runs that lets others go.

use super::*;

#[tokio::test]
async fn a_pod_that_comes_to_ask_is_captured_and_let_go_when_it_asks_no_more() {
    for rig in Rig::both().await {
        let _agent = rig.cluster.ready(rig.command("real")).await;
        // One report of one sandbox: a label says nothing of that.
        let pod = reported("plain", PLAIN);
        let asks_by_our_label = |pod: &mut serde_json::Value| {
            pod["metadata"]["labels"]["credlet.dev/imds"] = "enabled".into();
        };
        let asking = [pod.clone().opted_in(), pod.clone().edit(asks_by_our_label)];
        for asks in asking {
            rig.cluster.kube.apply(pod.clone());
            for at in IMDS {
                rig.comes_to_meet(&rig.plain.ns, at, &Met::Real).await;
            }
            rig.cluster.kube.apply(asks);
            for at in IMDS {
                rig.comes_to_meet(&rig.plain.ns, at, &role("plain")).await;
            }
            let before = rig.fell_through(&rig.plain);
            for at in IMDS {
                assert_eq!(rig.meets(&rig.plain.ns, at).await, role("plain"));
            }
            assert_eq!(rig.fell_through(&rig.plain), before);
        }
        rig.cluster.kube.apply(pod);
        for at in IMDS {
            rig.comes_to_meet(&rig.plain.ns, at, &Met::Real).await;
            rig.comes_to_meet(&rig.opted.ns, at, &role("opted")).await;
        }
        assert_eq!(rig.fell_through(&rig.opted), [] as [IpAddr; 0]);
        rig.assert_the_node_meets_the_real_service().await;
    }
}

#[tokio::test]
async fn a_pod_that_had_asked_and_asks_no_more_is_let_go_and_captured_again() {
    for rig in Rig::both().await {
        let pod = reported("opted", OPTED);
        rig.cluster.kube.apply(pod.clone().opted_in());
        let _agent = rig.cluster.ready(rig.command("real")).await;
        for at in IMDS {
            rig.comes_to_meet(&rig.opted.ns, at, &role("opted")).await;
        }
        assert_eq!(rig.fell_through(&rig.opted), [] as [IpAddr; 0]);
        rig.cluster.kube.apply(pod.clone());
        for at in IMDS {
            rig.comes_to_meet(&rig.opted.ns, at, &Met::Real).await;
        }
        rig.cluster.kube.apply(pod.opted_in());
        for at in IMDS {
            rig.comes_to_meet(&rig.opted.ns, at, &role("opted")).await;
            rig.comes_to_meet(&rig.plain.ns, at, &Met::Real).await;
        }
    }
}
