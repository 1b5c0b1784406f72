//! Who is told, and what a browser may do with the page.

use http_body_util::BodyExt;

use super::*;

const LOOPBACK: &str = "127.0.0.1";
const POD: &str = "10.0.0.9";

fn page(access: StatusAccess) -> Page {
    Page::new(access, Arc::new(|| b"{}".to_vec()))
}

/// The answer's status; `None` where the path is not one of the page's.
fn ask(page: &Page, peer: &str, path: &str, hosts: &[&str]) -> Option<u16> {
    let mut request = Request::builder().uri(path);
    for host in hosts {
        request = request.header(HOST, *host);
    }
    let request = request.body(()).expect("a request");
    let peer = peer.parse().expect("an address");
    let answer = page.answer(&request, peer);
    answer.map(|answer| answer.status().as_u16())
}

#[test]
fn processes_of_the_node_are_told_and_nobody_else() {
    let page = page(StatusAccess::Loopback);
    for path in ["/", "/status", "/status?x"] {
        assert_eq!(ask(&page, LOOPBACK, path, &["localhost:2705"]), Some(200));
        assert_eq!(
            ask(&page, "::ffff:127.0.0.1", path, &["[::1]:1"]),
            Some(200)
        );
        assert_eq!(ask(&page, "::1", path, &["127.0.0.1:2705"]), Some(200));
        assert_eq!(ask(&page, POD, path, &["127.0.0.1:2705"]), Some(403));
    }
}

#[test]
fn a_web_site_whose_name_leads_here_is_told_nothing() {
    let page = page(StatusAccess::Loopback);
    for hosts in [
        &["evil.example:2705"][..],
        &["localhost.evil.example"],
        &["10.0.0.9:2705"],
        &["127.0.0.1@evil.example"],
        &["localhost", "evil.example"],
        &[""],
        &[],
    ] {
        assert_eq!(
            ask(&page, LOOPBACK, "/status", hosts),
            Some(403),
            "{hosts:?}"
        );
    }
}

#[test]
fn others_are_told_where_a_setting_says_so() {
    let page = page(StatusAccess::Any);
    assert_eq!(
        ask(&page, POD, "/status", &["node-1.internal:2705"]),
        Some(200)
    );
    assert_eq!(ask(&page, POD, "/", &[]), Some(200));
}

#[test]
fn nobody_is_told_where_it_is_off() {
    let page = page(StatusAccess::None);
    assert_eq!(ask(&page, LOOPBACK, "/status", &["localhost"]), Some(403));
}

#[test]
fn other_paths_are_not_its_own() {
    for path in ["/metrics", "/Status", "/status/", "//"] {
        assert_eq!(
            ask(&page(StatusAccess::Any), LOOPBACK, path, &[]),
            None,
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_page_is_whole_and_may_run_nothing_but_itself() {
    let request = Request::get("/").header(HOST, "localhost").body(());
    let answer = page(StatusAccess::Loopback)
        .answer(&request.expect("a request"), [127, 0, 0, 1].into())
        .expect("the page");
    let policy = answer.headers()["content-security-policy"].to_str();
    let policy = policy.expect("text").to_owned();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    assert_eq!(body, PAGE.as_bytes());
    for tag in ["script", "style"] {
        assert_eq!(
            PAGE.matches(&format!("<{tag}")).count(),
            1,
            "one {tag}, or a hash lacks"
        );
    }
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let others = PAGE.replace("http://www.w3.org/2000/svg", "");
        assert!(!others.contains(outside), "{outside}");
    }
}
