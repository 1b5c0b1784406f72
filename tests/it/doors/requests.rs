//! What is answered, and what is refused.

use credlet_tests::client::get;

use super::*;

#[tokio::test]
async fn each_pod_gets_the_credentials_of_its_own_account() {
    apart(async || {
        let front = front().await;
        for (pod, account) in [(WEB, "shop/web:"), (API, "shop/api:")] {
            let answer = get(pod.into(), front.address, PATH).await;
            assert_eq!(answer.status, 200);
            assert!(answer.field("Token").starts_with(account));
        }
    })
    .await;
}

#[tokio::test]
async fn pods_without_a_role_and_addresses_without_a_pod_are_told_apart() {
    apart(async || {
        let front = front().await;
        let answer = get(WITHOUT_ROLE.into(), front.address, PATH).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("code")),
            (404, "NoAssociation".into())
        );
        let answer = get(NOBODY.into(), front.address, PATH).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("code")),
            (503, "UnknownAddress".into())
        );
    })
    .await;
}

#[tokio::test]
async fn only_the_one_path_is_answered() {
    apart(async || {
        let front = front().await;
        let host = format!("host: {}\r\n", front.address);
        for path in [
            "/",
            "/v1",
            "/v1/credentials/",
            "/V1/credentials",
            "//v1/credentials",
            "/latest/meta-data/",
        ] {
            let answer = answer_to(front.address, &format!("GET {path}"), &host).await;
            assert_refused(&answer, 404, "WrongPath");
        }
    })
    .await;
}

#[tokio::test]
async fn only_get_is_answered() {
    apart(async || {
        let front = front().await;
        let host = format!("host: {}\r\n", front.address);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"] {
            let answer = answer_to(front.address, &format!("{method} {PATH}"), &host).await;
            assert_refused(&answer, 405, "WrongMethod");
            assert!(answer.contains("\r\nallow: GET\r\n"), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_is_not_the_address_connected_to_is_refused() {
    apart(async || {
        let front = front().await;
        let address = front.address;
        let (ip, port) = (address.ip(), address.port());
        for host in [
            "host: evil.example\r\n".to_owned(),
            format!("host: localhost:{port}\r\n"),
            format!("host: {ip}:{}\r\n", port.wrapping_add(1)),
            format!("host: {ip}.evil.example\r\n"),
            format!("host: {address}\r\nhost: {address}\r\n"),
            "host:\r\n".to_owned(),
            String::new(),
        ] {
            let answer = answer_to(address, &format!("GET {PATH}"), &host).await;
            assert_refused(&answer, 400, "WrongHost");
        }
        let answer = answer_to(address, &format!("GET {PATH}"), &format!("host: {ip}\r\n")).await;
        assert_granted(&answer);
    })
    .await;
}

#[tokio::test]
async fn an_absolute_url_is_answered_if_it_is_ours() {
    apart(async || {
        let front = front().await;
        let address = front.address;
        let host = format!("host: {address}\r\n");
        let answer = answer_to(address, &format!("GET http://{address}{PATH}"), &host).await;
        assert_granted(&answer);
        for foreign in [
            "http://evil.example",
            "http://169.254.169.254",
            &format!("http://user@{address}"),
        ] {
            let answer = answer_to(address, &format!("GET {foreign}{PATH}"), &host).await;
            assert_refused(&answer, 400, "WrongHost");
        }
    })
    .await;
}

#[tokio::test]
async fn what_came_through_a_proxy_is_refused() {
    apart(async || {
        let front = front().await;
        for header in [
            "X-Forwarded-For: 10.0.0.1",
            "forwarded: for=10.0.0.1",
            "x-real-ip: 10.0.0.1",
            "Via: 1.1 proxy",
        ] {
            let headers = format!("host: {}\r\n{header}\r\n", front.address);
            let answer = answer_to(front.address, &format!("GET {PATH}"), &headers).await;
            assert_refused(&answer, 403, "Proxied");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_is_refused_and_the_connection_closed() {
    apart(async || {
        let front = front().await;
        let to = front.address;
        let sized = request(to, "content-length: 5\r\n") + "hello";
        assert_refused(&until_closed(to, sized.as_bytes()).await, 413, "Body");
        let chunked = request(to, "transfer-encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n";
        assert_refused(&until_closed(to, chunked.as_bytes()).await, 413, "Body");
        let promised = request(to, "content-length: 999999999\r\nexpect: 100-continue\r\n");
        assert_refused(&until_closed(to, promised.as_bytes()).await, 413, "Body");
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_none_is_refused_and_an_empty_one_is_none() {
    apart(async || {
        let front = front().await;
        let host = format!("host: {}\r\n", front.address);
        let long = "x".repeat(4096);
        for (lines, code) in [
            (format!("Authorization: {long}\r\n"), "BadToken"),
            (format!("Authorization: Bearer {long}\r\n"), "BadToken"),
            (
                "Authorization: a\r\nAuthorization: a\r\n".into(),
                "Authorization",
            ),
            ("Authorization: \u{e9}\r\n".into(), "Authorization"),
        ] {
            let headers = host.clone() + &lines;
            let answer = answer_to(front.address, &format!("GET {PATH}"), &headers).await;
            assert!(
                answer.contains(&format!("\"code\":\"{code}\"")),
                "{headers:?} {answer}"
            );
        }
        let headers = host + "Authorization: \r\n";
        let answer = answer_to(front.address, &format!("GET {PATH}"), &headers).await;
        assert_granted(&answer);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_400_and_closed() {
    apart(async || {
        let front = front().await;
        let to = front.address;
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /v1/credentials HTTP/1.1\r\nho st: x\r\n\r\n",
            b"GET /v1/credentials HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        ] {
            let answer = until_closed(to, garbage).await;
            assert!(
                answer.starts_with("HTTP/1.1 400 "),
                "{answer:?} to {garbage:?}"
            );
        }
        assert_eq!(get(WEB.into(), to, PATH).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn heads_beyond_the_limits_are_answered_431_and_closed() {
    apart(async || {
        let front = front().await;
        let to = front.address;
        let large = request(to, &format!("x: {}\r\n", "x".repeat(20_000)));
        let many = request(to, &"x: y\r\n".repeat(100));
        let endless = format!("GET /{}", "x".repeat(100_000));
        for request in [large, many, endless] {
            let answer = until_closed(to, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        }
        assert_eq!(get(WEB.into(), to, PATH).await.status, 200);
    })
    .await;
}
