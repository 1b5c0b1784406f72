//! Who answers whom, in each mode, while an agent runs.

use credlet_tests::process::DOOR;

use super::*;
use crate::cluster::{DOOR_V6, ask, owner};

/// What one and the same credentials have in common at both doors.
const FIELDS: [&str; 4] = ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"];

/// By both versions, at both addresses, what the other door gives.
async fn assert_has_its_credentials(pod: &Pod, account: &str) {
    for (at, door) in IMDS.into_iter().zip([DOOR, DOOR_V6]) {
        let other = ask(pod, door).await;
        assert_eq!(owner(&other), format!("shop/{account}"));
        for version in [Version::V1, Version::V2] {
            let listed = fetch(&pod.ns, at, version, LIST).await.expect("an answer");
            assert_eq!(listed.text(), account);
            let path = format!("{LIST}{account}");
            let had = fetch(&pod.ns, at, version, &path).await;
            let had = had.expect("an answer");
            assert_eq!(had.status, 200, "{at} {version:?}: {}", had.text());
            for field in FIELDS {
                assert_ne!(had.field(field), "", "{field}");
                assert_eq!(had.field(field), other.field(field), "{at} {version:?}");
            }
        }
    }
}

/// A pod that the API server knows nothing of never meets the real service.
async fn assert_captures_who_is_unknown(rig: &Rig) {
    let unknown = rig.cluster.plug(9).await;
    for at in IMDS {
        let met = rig.meets(&unknown.ns, at).await;
        assert!(matches!(met, Met::Refused(_) | Met::Nobody), "{met:?}");
    }
    assert_eq!(rig.fell_through(&unknown), [] as [IpAddr; 0]);
}

#[tokio::test]
async fn where_others_are_blocked_no_pod_meets_the_real_service_and_the_node_does() {
    for rig in Rig::both().await {
        let _agent = rig.cluster.ready(rig.command("block")).await;
        for at in IMDS {
            rig.comes_to_meet(&rig.opted.ns, at, &role("opted")).await;
            rig.comes_to_meet(&rig.plain.ns, at, &Met::Refused(403))
                .await;
        }
        assert_has_its_credentials(&rig.opted, "opted").await;
        rig.assert_the_node_meets_the_real_service().await;
        assert_captures_who_is_unknown(&rig).await;
        for pod in [&rig.opted, &rig.plain] {
            assert_eq!(rig.fell_through(pod), [] as [IpAddr; 0]);
        }
    }
}

#[tokio::test]
async fn where_others_are_let_go_they_meet_the_real_service_and_who_has_asked_does_not() {
    for rig in Rig::both().await {
        let _agent = rig.cluster.ready(rig.command("real")).await;
        for at in IMDS {
            rig.comes_to_meet(&rig.opted.ns, at, &role("opted")).await;
            rig.comes_to_meet(&rig.plain.ns, at, &Met::Real).await;
        }
        assert_has_its_credentials(&rig.opted, "opted").await;
        rig.assert_the_node_meets_the_real_service().await;
        assert_captures_who_is_unknown(&rig).await;
        assert_eq!(rig.fell_through(&rig.opted), [] as [IpAddr; 0]);
    }
}

#[tokio::test]
async fn where_it_is_for_all_pods_none_is_blocked_or_let_go() {
    for (rig, others) in Rig::both().await.into_iter().zip(["block", "real"]) {
        let mut command = rig.command(others);
        command.args(["--imds-pods", "all"]);
        let _agent = rig.cluster.ready(command).await;
        for (pod, account) in [(&rig.opted, "opted"), (&rig.plain, "plain")] {
            for at in IMDS {
                rig.comes_to_meet(&pod.ns, at, &role(account)).await;
            }
            assert_has_its_credentials(pod, account).await;
            assert_eq!(rig.fell_through(pod), [] as [IpAddr; 0]);
        }
        rig.assert_the_node_meets_the_real_service().await;
        assert_captures_who_is_unknown(&rig).await;
    }
}

#[tokio::test]
async fn after_removal_pods_meet_the_real_service_again() {
    for rig in Rig::both().await {
        let agent = rig.cluster.ready(rig.command("block")).await;
        assert_eq!(agent.terminate().await, Some(0));
        for at in IMDS {
            let met = rig.meets(&rig.plain.ns, at).await;
            assert_eq!(met, Met::Nobody, "{at}");
        }
        let (said, code) = rig.cluster.run(&["netsetup", "--remove"]).await;
        assert_eq!(code, Some(0), "{said}");
        for at in IMDS {
            rig.comes_to_meet(&rig.plain.ns, at, &Met::Real).await;
        }
    }
}
