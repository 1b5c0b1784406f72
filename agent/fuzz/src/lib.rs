//! What the fuzzer calls. `tests/it` calls the same with the corpus, so that
//! what was once found stays found.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use credlet::associations::file;
use credlet::associations::spec::Defaults;
use credlet::identity::pods::{Life, Network, Owner, PodIndex, Report};
use credlet::identity::tokens::unverified;
use credlet::model::Session;
use serde::Deserialize;
use serde_json::Value;

/// An event of a watch of pods.
#[derive(Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum Event {
    Added(Report),
    Modified(Report),
    Deleted(Report),
}

/// An event a line, as the API server sends them; what is none is skipped. No
/// address may ever be answered with a pod that does not own it alone.
pub fn pod_events(bytes: &[u8]) {
    let mut index = PodIndex::default();
    let mut reports: HashMap<(String, String), Report> = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice(line) else {
            continue;
        };
        let (Event::Added(report) | Event::Modified(report) | Event::Deleted(report)) = &event;
        let name = (report.namespace.clone(), report.name.clone());
        let mut asked = addresses(report);
        asked.extend(reports.get(&name).map(addresses).unwrap_or_default());
        match event {
            Event::Added(report) | Event::Modified(report) if report.life != Life::Over => {
                index.apply(report.clone());
                reports.insert(name, report);
            }
            Event::Added(report) | Event::Modified(report) => {
                index.apply(report);
                reports.remove(&name);
            }
            Event::Deleted(report) => {
                index.remove(report);
                reports.remove(&name);
            }
        }
        for address in asked {
            let Owner::Pod(_, caller) = index.owner(address) else {
                continue;
            };
            let owners: Vec<&Report> = reports
                .values()
                .filter(|report| addresses(report).contains(&address))
                .collect();
            let [owner] = owners[..] else {
                panic!("{address} has {} owners and a caller", owners.len());
            };
            assert_eq!(owner.network, Network::Pod);
            assert_eq!(owner.uid, caller.pod().to_string());
            assert_eq!(owner.namespace, caller.account().namespace());
            assert_eq!(owner.account, caller.account().name());
        }
    }
}

fn addresses(report: &Report) -> Vec<IpAddr> {
    let of_the_node = match report.network {
        Network::Node => &report.node_addresses[..],
        Network::Pod | Network::Unclear => &[],
    };
    let texts = report.addresses.iter().chain(of_the_node);
    let parsed = texts.filter_map(|text| text.parse::<IpAddr>().ok());
    parsed.map(|address| address.to_canonical()).collect()
}

/// A file of associations: what is accepted must be what STS can be asked for,
/// and what is not must be named briefly enough for a log.
pub fn associations(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match file::parse(text, &Defaults::default()) {
        Ok(table) => {
            for association in table.associations() {
                let Some(grant) = association.grant() else {
                    continue;
                };
                assert_eq!(grant.role.account_id().len(), 12);
                assert_eq!(grant.final_role().account_id().len(), 12);
                if let Session::Untagged {
                    policy: Some(policy),
                } = &grant.session
                {
                    assert!(serde_json::from_str::<serde::de::IgnoredAny>(policy).is_ok());
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A token as it comes, or three lines to make one of: a header, a payload and a
/// signature. What is accepted must be meant for us, and now, and for a pod.
pub fn token(bytes: &[u8]) {
    const AUDIENCE: &str = "pods.eks.amazonaws.com";
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    let token = match lines[..] {
        [header, payload, signature] => {
            format!("{}.{}.{signature}", base64(header), base64(payload))
        }
        _ => text.to_owned(),
    };
    // 2026, whenever it is.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    let Ok(claims) = unverified(&token, &[AUDIENCE.to_owned()], now) else {
        return;
    };
    assert!(!claims.pod.to_string().is_empty() && !claims.pod_name.is_empty());
    let [header, payload, _] = lines[..] else {
        return;
    };
    let header: Value = serde_json::from_str(header).expect("it was read");
    assert!(
        ["RS256", "ES256", "ES384", "ES512"]
            .map(Value::from)
            .contains(&header["alg"])
    );
    let payload: Value = serde_json::from_str(payload).expect("it was read");
    let audiences = match &payload["aud"] {
        Value::Array(several) => several.clone(),
        one => vec![one.clone()],
    };
    assert!(audiences.contains(&AUDIENCE.into()));
    assert!(
        payload["exp"]
            .as_u64()
            .is_some_and(|exp| exp > 1_780_000_000 - 60)
    );
    assert!(
        payload["nbf"]
            .as_u64()
            .is_some_and(|nbf| nbf < 1_780_000_000 + 60)
    );
    let bound = &payload["kubernetes.io"];
    assert_eq!(bound["pod"]["uid"], claims.pod.to_string());
    assert_eq!(bound["namespace"], claims.account.namespace());
    assert_eq!(bound["serviceaccount"]["name"], claims.account.name());
}

/// As JWTs have it: for URLs, and without padding.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three
            .iter()
            .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            encoded.push(char::from(DIGITS[bits >> (18 - 6 * digit) & 63]));
        }
    }
    encoded
}
