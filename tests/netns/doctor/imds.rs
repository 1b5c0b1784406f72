//! The node's own instance metadata, in each way in which EC2 can be set.

use credlet_tests::node::{Manner, Node, Tokens};

use super::look;

#[tokio::test]
async fn the_hop_limit_and_the_version_are_seen_in_the_answers() {
    let node = Node::new().await.expect("a node");
    let report = look(&node.ns, "").await;
    report.has("imds", "skipped", "no instance metadata answers here");

    let upstream = node.add_upstream().await.expect("a router");
    let ec2 = |hops, tokens| Manner::Ec2 { hops, tokens };
    for (manner, flags, verdict, words) in [
        (
            ec2(1, Tokens::Required),
            "",
            "ok",
            "the hop limit of 1 keeps pods",
        ),
        (
            ec2(2, Tokens::Required),
            "",
            "warning",
            "the hop limit of instance metadata is 2 or more",
        ),
        (ec2(64, Tokens::Required), "", "warning", "is 2 or more"),
        (
            ec2(1, Tokens::Optional),
            "",
            "warning",
            "without a session token (IMDSv1)",
        ),
        (
            ec2(2, Tokens::Optional),
            "--imds node",
            "ok",
            "pods meet the agent in place",
        ),
        (
            ec2(1, Tokens::Required),
            "--imds node --imds-others real",
            "warning",
            "whose hop limit of 1",
        ),
        (
            ec2(2, Tokens::Required),
            "--imds node --imds-others real",
            "ok",
            "pods that have not opted in meet the node's own",
        ),
    ] {
        upstream.answers(manner);
        look(&node.ns, flags).await.has("imds", verdict, words);
    }
}
