//! What a person reads.

use serde_json::json;

use super::*;

/// As an agent writes it.
fn status() -> Status {
    let told = json!({
        "version": "0.1.0", "node": "node-1", "cluster": "blue",
        "now": "2026-11-25T12:00:00Z", "startedAt": "2026-11-22T07:00:00Z",
        "gates": [{"name": "network", "open": true}, {"name": "pods", "open": true}],
        "pods": {"known": 5, "heardAt": "2026-11-25T11:59:46Z", "keysAt": "2026-11-25T11:09:00Z"},
        "sources": [
            {"name": "crd", "state": "good", "known": 2, "heardAt": "2026-11-25T11:59:50Z", "error": null},
            {"name": "annotation", "state": "absent", "known": 0, "heardAt": null, "error": "forbidden"},
        ],
        "accounts": [
            {"namespace": "kube-system", "serviceAccount": "default", "pod": null, "state": "no-role",
             "source": null, "role": null, "viaRole": null, "exchange": null, "session": null,
             "refreshedAt": null, "nextAt": null, "expiresAt": null, "trouble": null, "users": 2, "pods": []},
            {"namespace": "shop", "serviceAccount": "checkout", "pod": null, "state": "fresh",
             "source": "crd", "role": "arn:aws:iam::111122223333:role/checkout", "viaRole": null,
             "exchange": "assume-role", "session": "shop.checkout", "refreshedAt": "2026-11-25T11:45:00Z",
             "nextAt": "2026-11-25T12:12:00Z", "expiresAt": "2026-11-25T12:45:00Z", "trouble": null,
             "users": 2, "pods": ["checkout-1", "checkout-2"]},
            {"namespace": "batch", "serviceAccount": "nightly", "pod": "nightly-7", "state": "failed",
             "source": "crd", "role": "arn:aws:iam::111122223333:role/nightly", "viaRole": null,
             "exchange": "assume-role", "session": null, "refreshedAt": null,
             "nextAt": "2026-11-25T12:00:41Z", "expiresAt": null,
             "trouble": {"message": "AWS refuses\u{1b}[2J the role", "at": "2026-11-25T11:59:41Z", "attempts": 12},
             "users": 1, "pods": ["nightly-7"]},
        ],
    });
    serde_json::from_value(told).expect("the form of a status")
}

#[test]
fn trouble_stands_first_and_columns_stand_under_each_other() {
    let said = text(&status(), Paint::Plain);
    let expected = "\
node-1 in blue: ready
credlet 0.1.0, up 3d5h; pods: 5; API server heard 14s ago, token keys 51m old

SOURCE      STATE   KNOWN  HEARD
crd         good    2      10s ago
annotation  absent  0      never    forbidden

ACCOUNT                    STATE    LEFT            REFRESHED  PODS  ROLE
batch/nightly (nightly-7)  failing  -               -          1     arn:aws:iam::111122223333:role/nightly
    AWS refuses [2J the role (12 times, last 19s ago)
shop/checkout              fresh    ████████░░ 45m  15m ago    2     arn:aws:iam::111122223333:role/checkout
kube-system/default        no role  -               -          2     -
";
    assert_eq!(said, expected, "\n{said}");
}

#[test]
fn a_gate_that_is_closed_is_named() {
    let mut status = status();
    status.gates[1].open = false;
    let said = text(&status, Paint::Coloured);
    assert!(
        said.starts_with("node-1 in blue: \x1b[31mnot ready: pods\x1b[0m\n"),
        "{said}"
    );
    assert!(!status.is_ready());
}

#[test]
fn a_session_with_little_left_is_a_warning() {
    let mut status = status();
    status.accounts[1].expires_at = Some("2026-11-25T12:14:00Z".parse().expect("a date"));
    let said = text(&status, Paint::Coloured);
    assert!(said.contains("\x1b[33m█████░░░░░ 14m\x1b[0m"), "{said}");
}
