//! Session tokens: how they are had, and what they open.

use std::sync::atomic::Ordering;

use super::*;

#[tokio::test]
async fn a_session_lasts_as_long_as_was_asked_for() {
    apart(async || {
        let front = v2_only().await;
        let answer = session(WEB, &front, "60").await;
        assert_eq!(answer.status, 200);
        // The Rust SDK takes its end from it.
        assert_eq!(answer.header(LIFE), Some("60"));
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        let shown = [(TOKEN, &*answer.body)];
        assert_eq!(get(WEB, &front, CREDENTIALS, &shown).await.status, 200);

        front.ahead.store(59, Ordering::Relaxed);
        assert_eq!(get(WEB, &front, CREDENTIALS, &shown).await.status, 200);
        front.ahead.store(60, Ordering::Relaxed);
        let late = get(WEB, &front, CREDENTIALS, &shown).await;
        assert_eq!(late.status, 401);
        assert!(late.body.starts_with("BadSessionToken: "), "{}", late.body);
    })
    .await;
}

#[tokio::test]
async fn a_life_that_is_none_is_refused() {
    apart(async || {
        let front = front().await;
        for life in [
            "",
            "0",
            "21601",
            "-1",
            "+60",
            "60s",
            "1e3",
            "6 0",
            "999999999999",
        ] {
            let answer = session(WEB, &front, life).await;
            assert_eq!(answer.status, 400, "{life}");
            assert!(answer.body.starts_with("BadTtl: "), "{}", answer.body);
        }
        let to = front.imds.unwrap();
        let line = format!("PUT {SESSION}");
        assert_eq!(ask(WEB, to, &line, &[]).await.status, 400);
        let twice = [(LIFE, "60"), (LIFE, "60")];
        assert_eq!(ask(WEB, to, &line, &twice).await.status, 400);
        for life in ["1", "21600"] {
            assert_eq!(session(WEB, &front, life).await.status, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn each_version_of_the_api_gives_sessions_and_a_body_changes_nothing() {
    apart(async || {
        let front = v2_only().await;
        let to = front.imds.unwrap();
        let line = "PUT /2021-07-15/api/token";
        for extra in [("content-length", "0"), ("user-agent", "curl")] {
            let answer = ask(WEB, to, line, &[(LIFE, "60"), extra]).await;
            assert_eq!(answer.status, 200);
            let shown = [(TOKEN, &*answer.body)];
            assert_eq!(get(WEB, &front, ROLE, &shown).await.status, 200);
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_session_v1_is_answered_unless_v2_is_required() {
    apart(async || {
        let (either, strict) = (front().await, v2_only().await);
        for path in [ROLE, CREDENTIALS, "/latest/meta-data/iam/info"] {
            assert_eq!(get(WEB, &either, path, &[]).await.status, 200, "{path}");
            let refused = get(WEB, &strict, path, &[]).await;
            assert_eq!(refused.status, 401, "{path}");
            assert!(
                refused.body.starts_with("NoSessionToken: "),
                "{}",
                refused.body
            );
            let token = token(WEB, &strict, "60").await;
            let shown = [(TOKEN, &*token)];
            assert_eq!(get(WEB, &strict, path, &shown).await.status, 200, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_opens_nothing_to_another_pod() {
    apart(async || {
        let front = front().await;
        let token = token(API, &front, "21600").await;
        let shown = [(TOKEN, &*token)];
        for path in [ROLE, CREDENTIALS, "/latest/meta-data/iam/info"] {
            assert_eq!(get(WEB, &front, path, &shown).await.status, 401, "{path}");
        }
        assert_eq!(get(API, &front, ROLE, &shown).await.body, "api");
    })
    .await;
}

#[tokio::test]
async fn a_token_of_another_agent_or_a_corrupted_one_is_a_401_even_where_none_is_needed() {
    apart(async || {
        let (front, other) = (front().await, with(Imds::default()).await);
        let foreign = token(WEB, &other, "60").await;
        let good = token(WEB, &front, "60").await;
        let mut wrong = vec![
            foreign,
            String::new(),
            "none".into(),
            format!("{good}0"),
            format!("\"{good}\""),
            format!("Bearer {good}"),
            good.to_uppercase(),
            good[1..].to_owned(),
            good[..good.len() - 1].to_owned(),
            format!("{good},{good}"),
            "A".repeat(good.len()),
            "0".repeat(good.len()),
            "x".repeat(4000),
        ];
        for at in (0..good.len()).step_by(7) {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            wrong.push(String::from_utf8(bytes).unwrap());
        }
        for token in &wrong {
            let answer = get(WEB, &front, CREDENTIALS, &[(TOKEN, token)]).await;
            assert_eq!(answer.status, 401, "{token}");
        }
        let twice = [(TOKEN, &*good), (TOKEN, &*good)];
        assert_eq!(get(WEB, &front, CREDENTIALS, &twice).await.status, 401);
        assert_eq!(get(WEB, &front, CREDENTIALS, &twice[1..]).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn headers_are_known_in_any_case() {
    apart(async || {
        let front = v2_only().await;
        let to = front.imds.unwrap();
        let line = format!("PUT {SESSION}");
        for (life, token) in [
            (LIFE.to_lowercase(), TOKEN.to_lowercase()),
            (LIFE.to_uppercase(), TOKEN.to_uppercase()),
            (
                "x-Aws-eC2-metadata-token-Ttl-seconds".into(),
                "X-AWS-ec2-Metadata-Token".into(),
            ),
        ] {
            let answer = ask(WEB, to, &line, &[(&life, "60")]).await;
            assert_eq!(answer.status, 200, "{life}");
            let shown = [(&*token, &*answer.body)];
            assert_eq!(get(WEB, &front, ROLE, &shown).await.status, 200, "{token}");
        }
    })
    .await;
}
