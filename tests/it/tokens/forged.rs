//! Tokens that must be refused, in every way that one can be wrong.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credlet::identity::tokens::{Error, Flaw};
use credlet_tests::fake_kube::claims;
use credlet_tests::fake_kube::signer::{Algorithm, SigningKey, sign_with_secret, unsigned};
use serde_json::{Value, json};

use super::{AUDIENCE, HOUR, Rig, later, pod, refused, says_the_pod};

const LOCAL: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384];

fn good() -> Value {
    claims(&pod(), &[AUDIENCE], HOUR)
}

/// The claims with one of them replaced, or gone.
fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut claims = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
    claims
}

/// Where everything is, in a document.
fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        pointers(value, &at, into);
        into.push(at);
    }
}

/// A rig whose stand-in publishes a key of each kind, and signs with `algorithm`.
async fn rig(algorithm: Algorithm) -> (Rig, SigningKey) {
    let kube = credlet_tests::fake_kube::FakeKube::start().await;
    for other in LOCAL {
        if other != algorithm && other != Algorithm::Rs256 {
            kube.sign_with(SigningKey::generate(other));
        }
    }
    let key = match algorithm {
        Algorithm::Rs256 => SigningKey::shared(),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => SigningKey::generate(algorithm),
    };
    kube.sign_with(key.clone());
    let rig = Rig::with(kube, None, std::time::SystemTime::now()).await;
    (rig, key)
}

#[tokio::test]
async fn a_token_of_each_algorithm_that_is_verified_here_says_its_pod() {
    for algorithm in LOCAL {
        let (rig, key) = rig(algorithm).await;
        let token = key.sign(&key.header(), &good());
        says_the_pod(&rig.verify(&token).await.unwrap());
        // Remembered.
        says_the_pod(&rig.verify(&token).await.unwrap());
        assert_eq!(rig.metrics.remembered.get(), 1);
    }
}

#[tokio::test]
async fn a_token_with_any_bit_of_its_signature_flipped_is_refused() {
    for algorithm in LOCAL {
        let (rig, key) = rig(algorithm).await;
        let token = key.sign(&key.header(), &good());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        for bit in 0..signature.len() * 8 {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(flipped));
            assert_eq!(rig.verify(&token).await, refused(Flaw::Signature), "{bit}");
        }
        for other in [&[][..], &signature[1..], &[0; 64], &[0; 256]] {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(other));
            assert_eq!(rig.verify(&token).await, refused(Flaw::Signature));
        }
        says_the_pod(&rig.verify(&token).await.unwrap());
    }
}

#[tokio::test]
async fn a_token_with_any_character_changed_is_not_accepted() {
    let (rig, key) = rig(Algorithm::Es256).await;
    let token = key.sign(&key.header(), &good());
    for at in 0..token.len() {
        for other in ["A", "_", ".", "=", "\0"] {
            let mut changed = token.clone();
            changed.replace_range(at..=at, other);
            if changed != token {
                // Of another key id it could be good, if there were such a key.
                let result = rig.verify_within(&changed, Duration::ZERO).await;
                assert!(result.is_err(), "{at} {other}");
            }
        }
        let mut shorter = token.clone();
        shorter.remove(at);
        let result = rig.verify_within(&shorter, Duration::ZERO).await;
        assert!(result.is_err(), "{at}");
    }
}

#[tokio::test]
async fn a_claim_that_is_missing_or_of_another_type_is_refused() {
    let (rig, key) = rig(Algorithm::Es256).await;
    let mut all = Vec::new();
    pointers(&good(), "", &mut all);
    assert_eq!(all.len(), 18, "{all:?}");
    // When and as what it was made: nothing rests on it.
    all.retain(|pointer| pointer != "/iat" && pointer != "/jti");
    let corruptions = [
        None,
        Some(Value::Null),
        Some(json!(true)),
        Some(json!(-1)),
        Some(json!(1.5)),
        Some(json!("")),
        Some(json!("\u{7f} \n")),
        Some(json!([])),
        Some(json!([7])),
        Some(json!({})),
    ];
    for pointer in &all {
        for corruption in &corruptions {
            let claims = with(pointer, corruption.clone());
            let result = rig.verify(&key.sign(&key.header(), &claims)).await;
            let gone = corruption.as_ref().is_none_or(Value::is_null);
            let expected = match pointer.as_str() {
                // Nodes are named since 1.30 only.
                "/kubernetes.io/node" if gone => {
                    assert_eq!(result.unwrap().node, None);
                    continue;
                }
                // Nor does the API server know the UID of each that it names.
                "/kubernetes.io/node/uid" if gone => {
                    assert!(result.unwrap().node.is_some());
                    continue;
                }
                "/kubernetes.io/pod" if gone => Flaw::Unbound,
                // No audience, or one that is not ours.
                "/aud" if *corruption == Some(json!([])) => Flaw::Audience,
                "/aud" if corruption.as_ref().is_some_and(Value::is_string) => Flaw::Audience,
                "/iss" if corruption.as_ref().is_some_and(Value::is_string) => Flaw::Issuer,
                _ => Flaw::Malformed,
            };
            assert_eq!(result, refused(expected), "{pointer} {corruption:?}");
        }
    }
}

#[tokio::test]
async fn a_claim_of_another_value_is_refused() {
    let (rig, key) = rig(Algorithm::Es256).await;
    let now = good()["iat"].as_u64().unwrap();
    let values = [
        ("/aud", json!("vault"), Flaw::Audience),
        ("/aud", json!(["vault", "nomad"]), Flaw::Audience),
        (
            "/aud",
            json!(["pods.eks.amazonaws.com.evil"]),
            Flaw::Audience,
        ),
        ("/iss", json!("https://oidc.example.com/id/1"), Flaw::Issuer),
        ("/exp", json!(now - 11), Flaw::Expired),
        ("/exp", json!(0), Flaw::Expired),
        ("/exp", json!(u64::MAX), Flaw::Malformed),
        ("/nbf", json!(now + 20), Flaw::NotYetValid),
        ("/nbf", json!(u64::MAX), Flaw::Malformed),
        (
            "/sub",
            json!("system:serviceaccount:shop:till"),
            Flaw::Malformed,
        ),
        ("/sub", json!("system:node:node-1"), Flaw::Malformed),
        ("/kubernetes.io/namespace", json!("bank"), Flaw::Malformed),
        (
            "/kubernetes.io/namespace",
            json!("../shop"),
            Flaw::Malformed,
        ),
        (
            "/kubernetes.io/serviceaccount/name",
            json!("till"),
            Flaw::Malformed,
        ),
        (
            "/kubernetes.io/pod/name",
            json!("../cart-0"),
            Flaw::Malformed,
        ),
        (
            "/kubernetes.io/pod/uid",
            json!("u".repeat(200)),
            Flaw::Malformed,
        ),
        ("/kubernetes.io/node/name", json!("node 1"), Flaw::Malformed),
    ];
    for (pointer, value, flaw) in values {
        let token = key.sign(&key.header(), &with(pointer, Some(value.clone())));
        assert_eq!(rig.verify(&token).await, refused(flaw), "{pointer} {value}");
    }
}

#[tokio::test]
async fn clocks_may_differ_by_ten_seconds() {
    let (rig, key) = rig(Algorithm::Es256).await;
    let now = good()["iat"].as_u64().unwrap();
    for (pointer, value) in [("/exp", now - 5), ("/nbf", now + 5)] {
        let token = key.sign(&key.header(), &with(pointer, Some(value.into())));
        says_the_pod(&rig.verify(&token).await.unwrap());
    }
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_expires() {
    let (rig, key) = rig(Algorithm::Es256).await;
    let token = key.sign(
        &key.header(),
        &claims(&pod(), &[AUDIENCE], Duration::from_mins(10)),
    );
    says_the_pod(&rig.verify(&token).await.unwrap());
    later(Duration::from_mins(10)).await;
    says_the_pod(&rig.verify(&token).await.unwrap());
    later(Duration::from_secs(11)).await;
    assert_eq!(rig.verify(&token).await, refused(Flaw::Expired));
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_pod_is_told_apart() {
    let (rig, key) = rig(Algorithm::Es256).await;
    let created = with("/kubernetes.io/pod", None);
    let secret = json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "shop",
        "kubernetes.io/serviceaccount/secret.name": "cart-token-x7x7x",
        "kubernetes.io/serviceaccount/service-account.name": "cart",
        "kubernetes.io/serviceaccount/service-account.uid": "uid-of-shop-cart",
        "sub": "system:serviceaccount:shop:cart",
    });
    for claims in [created, secret] {
        let result = rig.verify(&key.sign(&key.header(), &claims)).await;
        assert_eq!(result, refused(Flaw::Unbound));
        assert!(
            result
                .unwrap_err()
                .to_string()
                .contains("mount a projected token")
        );
    }
}

#[tokio::test]
async fn a_header_that_is_not_as_the_api_server_writes_it_is_refused() {
    let (rig, key) = rig(Algorithm::Es256).await;
    let kid = key.kid();
    let headers = [
        (json!({"kid": kid}), Flaw::Malformed),
        (json!({"alg": null, "kid": kid}), Flaw::Malformed),
        (json!({"alg": 7, "kid": kid}), Flaw::Malformed),
        (json!({"alg": ["ES256"], "kid": kid}), Flaw::Malformed),
        (json!({"alg": "", "kid": kid}), Flaw::Algorithm),
        (json!({"alg": "es256", "kid": kid}), Flaw::Algorithm),
        (json!({"alg": "ES256"}), Flaw::Malformed),
        (json!({"alg": "ES256", "kid": null}), Flaw::Malformed),
        (json!({"alg": "ES256", "kid": 7}), Flaw::Malformed),
        (json!({"alg": "ES256", "kid": ""}), Flaw::UnknownKey),
        (json!({"alg": "ES256", "kid": "other"}), Flaw::UnknownKey),
        (
            json!({"alg": "ES256", "kid": kid, "crit": ["b64"], "b64": false}),
            Flaw::Malformed,
        ),
        (json!([]), Flaw::Malformed),
        (json!("ES256"), Flaw::Malformed),
    ];
    for (header, flaw) in headers {
        // Else there is no new look for the key.
        later(Duration::from_secs(10)).await;
        let token = key.sign(&header, &good());
        assert_eq!(rig.verify(&token).await, refused(flaw), "{header}");
    }
}

#[tokio::test]
async fn what_only_looks_like_a_token_is_refused() {
    let (rig, key) = rig(Algorithm::Es256).await;
    let (header, good) = (key.header().to_string(), good().to_string());
    let twice = good.replacen('{', "{\"sub\":\"system:serviceaccount:shop:cart\",", 1);
    let pod_twice = good.replacen("\"pod\":{", "\"pod\":{\"uid\":\"other\",", 1);
    let alg_twice = header.replacen('{', "{\"alg\":\"none\",", 1);
    let texts = [
        key.sign_text(&header, &twice),
        key.sign_text(&header, &pod_twice),
        key.sign_text(&alg_twice, &good),
        key.sign_text(&header, ""),
        key.sign_text(&header, "[]"),
        key.sign_text(&header, "null"),
        key.sign_text(&header, &format!("{good}{good}")),
        key.sign_text(&header, &good[..good.len() - 1]),
        key.sign_text("", &good),
        key.sign_text(
            &header,
            &format!("{}{}", "[".repeat(3000), "]".repeat(3000)),
        ),
        format!("{}.x", key.sign_text(&header, &good)),
        format!(" {}", key.sign_text(&header, &good)),
        format!("{}\n", key.sign_text(&header, &good)),
        format!("{}=", key.sign_text(&header, &good)),
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "a.b".to_owned(),
        "\u{e9}.\u{e9}.\u{e9}".to_owned(),
    ];
    for text in texts {
        let result = rig.verify(&text).await;
        let refused = matches!(
            result,
            Err(Error::Refused(Flaw::Malformed | Flaw::Signature))
        );
        assert!(refused, "{text}: {result:?}");
    }
    let mut long = serde_json::from_str::<Value>(&good).unwrap();
    long["jti"] = "j".repeat(8 * 1024).into();
    let token = key.sign(&key.header(), &long);
    assert_eq!(rig.verify(&token).await, refused(Flaw::Malformed));
}

#[tokio::test]
async fn an_algorithm_that_is_not_the_key_s_own_is_refused() {
    let (rig, rsa) = rig(Algorithm::Rs256).await;
    let ec = SigningKey::generate(Algorithm::Es256);
    for name in [
        "none", "None", "HS256", "HS384", "HS512", "PS256", "RS512", "EdDSA",
    ] {
        let header = json!({"alg": name, "kid": rsa.kid()});
        for token in [
            unsigned(&header, &good()),
            sign_with_secret(&header, &good(), rsa.public()),
            sign_with_secret(
                &header,
                &good(),
                rsa.jwk()["n"].as_str().unwrap().as_bytes(),
            ),
            sign_with_secret(&header, &good(), b""),
            rsa.sign(&header, &good()),
        ] {
            assert_eq!(rig.verify(&token).await, refused(Flaw::Algorithm), "{name}");
        }
    }
    // As if the RSA key were of another kind, and the other way round.
    for name in ["ES256", "ES384", "ES512"] {
        let header = json!({"alg": name, "kid": rsa.kid()});
        let tokens = [
            ec.sign(&header, &good()),
            rsa.sign(&header, &good()),
            sign_with_secret(&header, &good(), rsa.public()),
        ];
        for token in tokens {
            assert_eq!(rig.verify(&token).await, refused(Flaw::Algorithm), "{name}");
        }
    }
    let (rig, ec) = self::rig(Algorithm::Es256).await;
    for name in ["RS256", "ES384", "ES512"] {
        let header = json!({"alg": name, "kid": ec.kid()});
        for token in [ec.sign(&header, &good()), rsa.sign(&header, &good())] {
            assert_eq!(rig.verify(&token).await, refused(Flaw::Algorithm), "{name}");
        }
    }
}

#[tokio::test]
async fn another_key_under_the_id_of_one_of_the_cluster_is_refused() {
    for algorithm in LOCAL {
        let (rig, ours) = rig(algorithm).await;
        let theirs = SigningKey::generate(algorithm).named(ours.kid());
        let token = theirs.sign(&theirs.header(), &good());
        assert_eq!(rig.verify(&token).await, refused(Flaw::Signature));
        let unsigned = unsigned(&ours.header(), &good());
        assert_eq!(rig.verify(&unsigned).await, refused(Flaw::Signature));
        let secret = sign_with_secret(&ours.header(), &good(), ours.public());
        assert_eq!(rig.verify(&secret).await, refused(Flaw::Signature));
    }
}
