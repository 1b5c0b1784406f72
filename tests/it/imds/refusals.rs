//! What is not answered: 404, or 401 where there is no session, and nothing else.

use super::*;

/// Paths that name nothing, or not what they seem to.
const WRONG: &[&str] = &[
    "/",
    "/latest",
    "/latest/",
    "/latest/api",
    "/latest/api/",
    "/latest/api/token",
    "/latest/api/token/",
    "/latest/dynamic/",
    "/latest/dynamic/instance-identity/document",
    "/latest/user-data",
    "/latest/meta-data",
    "/latest/meta-data/",
    "/latest/meta-data/ami-id",
    "/latest/meta-data/hostname",
    "/latest/meta-data/instance-id",
    "/latest/meta-data/local-ipv4",
    "/latest/meta-data/iam",
    "/latest/meta-data/iam/",
    "/latest/meta-data/iam/info/",
    "/latest/meta-data/iam/info.json",
    "/latest/meta-data/iam/security-credentials-extended/",
    "/latest/meta-data/iam/security-credentials-extended/web",
    "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
    "/latest/meta-data/placement/",
    "/latest/meta-data/placement/region",
    "/latest/meta-data/placement/availability-zone",
    "/latest/meta-data/placement/availability-zone/",
    "/latest/meta-data/placement/availability-zone-id",
    "/latest/meta-data/public-keys/0/openssh-key",
    "/meta-data/iam/security-credentials/",
    "/iam/security-credentials/",
    "/computeMetadata/v1/",
    "/metadata/identity/oauth2/token",
    "/v1/credentials",
    "/v2/credentials/web",
    "/favicon.ico",
    // Slashes.
    "//",
    "//latest/meta-data/iam/security-credentials/",
    "/latest//meta-data/iam/security-credentials/",
    "/latest/meta-data//iam/security-credentials/",
    "/latest/meta-data/iam//security-credentials/",
    "/latest/meta-data/iam/security-credentials//",
    "/latest/meta-data/iam/security-credentials//web",
    "/latest/meta-data/iam/security-credentials/web/",
    "/latest/meta-data/iam/security-credentials/web//",
    "/latest/meta-data/iam/security-credentials/web/x",
    // Dots.
    "/./latest/meta-data/iam/security-credentials/",
    "/latest/./meta-data/iam/security-credentials/",
    "/latest/meta-data/iam/security-credentials/.",
    "/latest/meta-data/iam/security-credentials/./web",
    "/latest/meta-data/iam/security-credentials/..",
    "/latest/meta-data/iam/security-credentials/../info",
    "/latest/meta-data/iam/security-credentials/../security-credentials/web",
    "/latest/meta-data/x/../iam/security-credentials/web",
    "/v1/../latest/meta-data/iam/security-credentials/web",
    "/../latest/meta-data/iam/security-credentials/web",
    // Escapes.
    "/%6catest/meta-data/iam/security-credentials/",
    "/latest%2fmeta-data/iam/security-credentials/web",
    "/latest/meta-data/iam/security-credentials%2fweb",
    "/latest/meta-data/iam/security-credentials/%77eb",
    "/latest/meta-data/iam/security-credentials/web%00",
    "/latest/meta-data/iam/security-credentials/web%20",
    "/latest/meta-data/iam/security-credentials/web%2f",
    "/latest/meta-data/iam/security-credentials/%2e/web",
    "/latest/meta-data/iam/security-credentials/%2e%2e/info",
    "/latest/meta-data/iam/security-credentials/%252e%252e/info",
    "/latest/meta-data/iam/security%2dcredentials/web",
    // Backslashes: one of them was enough for another cloud's.
    "/latest\\meta-data\\iam\\security-credentials\\web",
    "/latest/meta-data/iam\\security-credentials/web",
    "/latest/meta-data/iam/security-credentials\\web",
    "/latest/meta-data/iam/security-credentials/\\web",
    "/latest/meta-data/iam/security-credentials/web\\",
    "/latest/meta-data/iam/security-credentials/..\\web",
    // Letters, parameters, queries.
    "/Latest/meta-data/iam/security-credentials/",
    "/latest/Meta-Data/iam/security-credentials/",
    "/latest/meta-data/IAM/security-credentials/",
    "/latest/meta-data/iam/security-credentials/WEB",
    "/latest/meta-data/iam/security-credentials/Web",
    "/latest/meta-data/iam/security-credentials/web;a=b",
    "/latest;a/meta-data/iam/security-credentials/web",
    "/latest/meta-data/iam/security-credentials/web?",
    "/latest/meta-data/iam/security-credentials/web?a=b",
    "/latest/meta-data/iam/security-credentials/?web",
    // Versions.
    "/1.1/meta-data/iam/security-credentials/web",
    "/2014-11-5/meta-data/iam/security-credentials/web",
    "/2014-11-051/meta-data/iam/security-credentials/web",
    "/20xx-11-05/meta-data/iam/security-credentials/web",
    "/latest/latest/meta-data/iam/security-credentials/web",
    // Other roles.
    "/latest/meta-data/iam/security-credentials/api",
    "/latest/meta-data/iam/security-credentials/we",
    "/latest/meta-data/iam/security-credentials/webb",
    "/latest/meta-data/iam/security-credentials/shop/web",
    "/latest/meta-data/iam/security-credentials/*",
    "/latest/meta-data/iam/security-credentials/arn:aws:iam::123456789012:role/web",
    "/latest/meta-data/iam/security-credentials/arn:aws:iam::123456789012:role/api",
];

#[tokio::test]
async fn every_other_path_is_a_404_with_a_session_and_without() {
    apart(async || {
        let front = front().await;
        let token = token(WEB, &front, "21600").await;
        for path in WRONG {
            for headers in [&[][..], &[(TOKEN, &*token)]] {
                let answer = get(WEB, &front, path, headers).await;
                assert_eq!(answer.status, 404, "{path}: {}", answer.body);
                assert!(!answer.body.contains("shop/"), "{path}: {}", answer.body);
            }
        }
        assert_eq!(get(WEB, &front, CREDENTIALS, &[]).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn where_a_session_is_needed_a_wrong_path_is_a_404_or_a_401() {
    apart(async || {
        let front = v2_only().await;
        for path in WRONG {
            let answer = get(WEB, &front, path, &[]).await;
            assert!(
                [401, 404].contains(&answer.status),
                "{path}: {}",
                answer.status
            );
            let answer = get(WEB, &front, path, &[(TOKEN, "none")]).await;
            assert!(
                [401, 404].contains(&answer.status),
                "{path}: {}",
                answer.status
            );
        }
    })
    .await;
}

#[tokio::test]
async fn every_other_method_is_a_404() {
    apart(async || {
        let front = front().await;
        let to = front.imds.unwrap();
        let token = token(WEB, &front, "21600").await;
        for method in [
            "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "get", "Get", "put",
        ] {
            for path in [
                ROLE,
                CREDENTIALS,
                SESSION,
                "/latest/meta-data/iam/info",
                "/",
            ] {
                let headers = [(LIFE, "60"), (TOKEN, &*token)];
                let answer = ask(WEB, to, &format!("{method} {path}"), &headers).await;
                assert_eq!(answer.status, 404, "{method} {path}");
            }
        }
        for path in [
            ROLE,
            CREDENTIALS,
            "/latest/meta-data/iam/info",
            "/latest/api/token/",
            "/",
        ] {
            let headers = [(LIFE, "60"), (TOKEN, &*token)];
            let answer = ask(WEB, to, &format!("PUT {path}"), &headers).await;
            assert_eq!(answer.status, 404, "PUT {path}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_came_through_a_proxy_is_refused_with_a_session_or_for_one() {
    apart(async || {
        let front = front().await;
        let to = front.imds.unwrap();
        let token = token(WEB, &front, "21600").await;
        for header in [
            "X-Forwarded-For",
            "x-forwarded-for",
            "Forwarded",
            "Via",
            "X-Real-IP",
        ] {
            for value in ["10.250.0.2", ""] {
                let put = [(LIFE, "60"), (header, value)];
                let answer = ask(WEB, to, &format!("PUT {SESSION}"), &put).await;
                assert_eq!(answer.status, 403, "{header}");
                let shown = [(TOKEN, &*token), (header, value)];
                let answer = get(WEB, &front, CREDENTIALS, &shown).await;
                assert_eq!(answer.status, 403, "{header}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_that_resolves_to_the_address_is_not_answered() {
    apart(async || {
        let front = front().await;
        let to = front.imds.unwrap();
        for host in [
            "evil.example",
            "169.254.170.23",
            "[fd00:ec2::254]",
            "localhost",
        ] {
            let line = format!("GET http://{host}{ROLE}");
            assert_eq!(ask(WEB, to, &line, &[]).await.status, 400, "{host}");
            let twice = [("Host", host)];
            assert_eq!(get(WEB, &front, ROLE, &twice).await.status, 400, "{host}");
        }
        let line = format!("GET http://{to}{ROLE}");
        assert_eq!(ask(WEB, to, &line, &[]).await.body, "web");
    })
    .await;
}

#[tokio::test]
async fn a_question_with_a_body_is_refused_and_a_session_is_not() {
    apart(async || {
        let front = front().await;
        let to = front.imds.unwrap();
        let body = [("Transfer-Encoding", "chunked"), (LIFE, "60")];
        assert_eq!(get(WEB, &front, ROLE, &body).await.status, 413);
        // An HTTP library may send an empty body with any PUT.
        let answer = ask(WEB, to, &format!("PUT {SESSION}"), &body).await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close"))
        );
    })
    .await;
}
