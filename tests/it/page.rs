//! The page in a real browser: what it shows, how it is used, and that it stays up to date.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use credlet::config::StatusAccess;
use credlet::node::ops::{self, Desk};
use credlet::node::page::Page;
use credlet::serve::{Listeners, Prefer};
use credlet::status::Status;
use credlet_tests::browser::{Browser, Scheme};
use credlet_tests::fake_aws::{Answer, Api, Entry};
use credlet_tests::fake_kube::Pod;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::agent::rig::Rig;

mod example;

const CHECKOUT: &str = "arn:aws:iam::111122223333:role/pods/checkout";

/// The page before an agent that stands as the test says.
struct Told {
    url: String,
    status: Arc<Mutex<Status>>,
    server: JoinHandle<()>,
}

impl Told {
    fn new(status: Status) -> Self {
        let loopback = [IpAddr::from([127, 0, 0, 1])];
        let bound = Listeners::bind(&loopback, 0, Prefer::Incumbent, Duration::from_secs(5));
        let listeners = bound.expect("loopback has a free port");
        let address: SocketAddr = listeners.addresses()[0];
        let status = Arc::new(Mutex::new(status));
        let told = Arc::clone(&status);
        let json = move || serde_json::to_vec(&*told.lock().expect("sound")).expect("JSON");
        let page = Page::new(StatusAccess::Loopback, Arc::new(json));
        let desk = Desk::Metrics(Arc::new(String::new), page);
        Self {
            url: format!("http://{address}/"),
            status,
            server: tokio::spawn(ops::run(listeners, desk)),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().expect("sound"));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The page of an example, which is told as long as the first is there.
async fn shown() -> (Told, Browser) {
    let told = Told::new(example::status());
    let mut browser = Browser::start(1280, 940).await;
    show(&mut browser, &told).await;
    (told, browser)
}

async fn show(browser: &mut Browser, told: &Told) {
    browser.go(&told.url).await;
    browser
        .until("document.querySelectorAll('#accounts tbody').length === 9")
        .await;
}

/// What the rows that are to be seen say of an account, as one line of text.
async fn rows(browser: &mut Browser) -> Vec<String> {
    let rows = browser
        .evaluate(
            "[...document.querySelectorAll('#accounts tbody')].filter(it => !it.hidden)
               .map(it => it.innerText.replace(/\\s+/g, ' ').trim())",
        )
        .await;
    let rows = rows.as_array().expect("a list").clone();
    let text = |row: serde_json::Value| row.as_str().expect("text").to_owned();
    rows.into_iter().map(text).collect()
}

async fn type_in(browser: &mut Browser, text: &str) {
    for letter in text.chars() {
        browser.press(&letter.to_string()).await;
    }
}

fn assert_well(browser: &Browser) {
    assert!(
        browser.complaints().is_empty(),
        "{:#?}",
        browser.complaints()
    );
}

#[tokio::test]
async fn it_shows_each_account_with_its_role_its_state_and_what_is_wrong() {
    let (_told, mut browser) = shown().await;
    let rows = rows(&mut browser).await;
    // What is in trouble comes first, and who has no role last.
    assert!(rows[0].starts_with("batch/nightly Failing"), "{rows:#?}");
    assert!(rows[0].contains("AccessDenied"), "{rows:#?}");
    assert!(rows[0].contains("attempts"), "{rows:#?}");
    let stale = rows
        .iter()
        .find(|row| row.starts_with("payments/api"))
        .expect("a row");
    assert!(
        stale.contains("Refresh failing") && stale.contains("AWS throttles"),
        "{stale}"
    );
    let fresh = rows
        .iter()
        .find(|row| row.starts_with("shop/checkout"))
        .expect("a row");
    assert!(
        fresh.contains("Fresh pods/checkout 111122223333 45 min"),
        "{fresh}"
    );
    assert!(rows[8].contains("No role"), "{rows:#?}");

    let text = browser.evaluate("document.body.innerText").await;
    let text = text.as_str().expect("text");
    for shown in [
        "ip-10-0-12-7",
        "Ready",
        "crd",
        "Not in this cluster",
        "7 of 8",
        "2 in trouble",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let title = browser.evaluate("document.title").await;
    assert_eq!(
        title,
        "ip-10-0-12-7.eu-central-1.compute.internal · credlet"
    );
    assert_well(&browser);
}

#[tokio::test]
async fn its_picture_has_the_bars_and_the_colours_of_both_themes() {
    let told = Told::new(example::status());
    let mut browser = Browser::start(1280, 940).await;
    for (scheme, name, back, card, good, warn) in [
        (
            Scheme::Light,
            "light",
            [0xf5, 0xf6, 0xf8],
            [0xff; 3],
            [0x35, 0xa0, 0x6c],
            [0xd9, 0x90, 0x2f],
        ),
        (
            Scheme::Dark,
            "dark",
            [0x0e, 0x11, 0x16],
            [0x16, 0x1a, 0x21],
            [0x3a, 0xa3, 0x74],
            [0xd2, 0x95, 0x3f],
        ),
    ] {
        browser.prefer(scheme).await;
        show(&mut browser, &told).await;
        let bars = browser
            .evaluate(
                "[...document.querySelectorAll('#accounts tbody')].filter(it => it.querySelector('.track:not([hidden])'))
                   .map(it => { const box = it.querySelector('.track').getBoundingClientRect();
                     return [it.querySelector('strong').textContent, box.left, box.right, box.top + box.height / 2,
                       it.querySelector('.track').getAttribute('aria-valuenow') / it.querySelector('.track').getAttribute('aria-valuemax')]; })",
            )
            .await;
        let picture = browser.picture().await;
        if let Ok(folder) = std::env::var("CREDLET_PICTURES") {
            std::fs::write(format!("{folder}/status-{name}.png"), &picture.png).expect("writable");
        }
        assert_eq!(picture.at(3, 500), back, "{name}: the page's ground");
        assert_eq!(picture.at(400, 8), card, "{name}: the head's ground");
        let bars = bars.as_array().expect("a list");
        assert_eq!(bars.len(), 7, "{bars:?}");
        for bar in bars {
            let number = |at: usize| bar[at].as_f64().expect("a number");
            let (left, right, y, part) = (number(1), number(2), number(3), number(4));
            let at = |share: f64| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "pixels"
                )]
                let (x, y) = ((left + share * (right - left)) as usize, y as usize);
                picture.at(x, y)
            };
            let filled = if bar[0] == "api" { warn } else { good };
            assert_eq!(at(part / 2.0), filled, "{name}: {bar}");
            assert_ne!(at(part + (1.0 - part) * 0.9), filled, "{name}: {bar}");
        }
    }
    assert_well(&browser);
}

#[tokio::test]
async fn accounts_are_found_by_keyboard_alone() {
    let (_told, mut browser) = shown().await;
    browser.press("/").await;
    type_in(&mut browser, "shop rep").await;
    let found = rows(&mut browser).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("shop/reports"), "{found:#?}");
    let said = browser
        .evaluate("document.getElementById('found').textContent")
        .await;
    assert_eq!(said, "1 of 9");
    // A search is part of the address, so that it can be passed on.
    assert_eq!(browser.evaluate("location.hash").await, "#shop%20rep");
    type_in(&mut browser, "xyz").await;
    let empty = browser
        .evaluate("document.getElementById('empty').innerText")
        .await;
    assert_eq!(empty, "No account matches.");
    browser.press("Escape").await;
    assert_eq!(rows(&mut browser).await.len(), 9);

    // Pods and errors are found, too.
    type_in(&mut browser, "nightly-2").await;
    assert_eq!(rows(&mut browser).await.len(), 1);
    browser.press("Escape").await;
    type_in(&mut browser, "throttles").await;
    assert_eq!(rows(&mut browser).await.len(), 1);
    assert_well(&browser);
}

#[tokio::test]
async fn who_cannot_see_it_is_told_the_same() {
    let (_told, mut browser) = shown().await;
    let facts = browser
        .evaluate(
            "({
               heads: [...document.querySelectorAll('#accounts thead th')].every(it => it.scope === 'col'),
               rows: [...document.querySelectorAll('#accounts tbody')].every(it => it.querySelectorAll('th[scope=row]').length === 1),
               captions: [...document.querySelectorAll('table')].every(it => it.caption.textContent.length > 10),
               label: document.querySelector('label[for=q]').textContent.length > 10,
               meters: [...document.querySelectorAll('.track:not([hidden])')].every(it => it.getAttribute('role') === 'meter'
                 && / of /.test(it.getAttribute('aria-valuetext')) && it.getAttribute('aria-label')),
               controls: [...document.querySelectorAll('[aria-controls]')].every(it => document.getElementById(it.getAttribute('aria-controls'))),
               names: [...document.querySelectorAll('button')].every(it => it.textContent.trim()),
               ids: new Set([...document.querySelectorAll('[id]')].map(it => it.id)).size === document.querySelectorAll('[id]').length,
             })",
        )
        .await;
    for (what, holds) in facts.as_object().expect("facts") {
        assert_eq!(holds, &json!(true), "{what}");
    }
    // A row opens and sorting turns by the keyboard's way of clicking.
    let opened = browser
        .evaluate("(() => { const it = document.querySelector('.who'); it.focus(); it.click(); return it.getAttribute('aria-expanded'); })()")
        .await;
    assert_eq!(opened, "true");
    let more = browser
        .evaluate("document.querySelector('.more').innerText")
        .await;
    assert!(
        more.as_str().is_some_and(|it| it.contains("batch.nightly")),
        "{more}"
    );
    browser
        .evaluate("document.querySelector('[data-sort=name]').click()")
        .await;
    let sorted = browser
        .evaluate("document.querySelector('#accounts th').getAttribute('aria-sort')")
        .await;
    assert_eq!(sorted, "ascending");
    assert_well(&browser);
}

#[tokio::test]
async fn what_changes_is_written_and_what_does_not_is_left_alone() {
    let (told, mut browser) = shown().await;
    // Every change of the tree and of attributes in the rows, from now on.
    browser
        .evaluate(
            "window.before = [...document.querySelectorAll('#accounts tbody')]; window.moved = 0;
             new MutationObserver(all => { for (const it of all) if (it.type === 'childList' && it.target.id === 'accounts') moved += 1; })
               .observe(document.body, { subtree: true, childList: true });
             document.querySelector('.who').click();",
        )
        .await;
    told.change(|status| {
        let nightly = status
            .accounts
            .iter_mut()
            .find(|it| it.service_account == "nightly");
        let trouble = nightly.and_then(|it| it.trouble.as_mut());
        trouble.expect("it is in trouble").attempts = 77;
    });
    browser
        .until("document.body.innerText.includes('77 attempts')")
        .await;
    let same = browser
        .evaluate("[...document.querySelectorAll('#accounts tbody')].every((it, at) => it === before[at]) && moved === 0")
        .await;
    assert_eq!(same, true, "rows were made anew or moved");
    let open = browser
        .evaluate("document.querySelector('.who').getAttribute('aria-expanded')")
        .await;
    assert_eq!(open, "true", "an open row closed");
    told.change(|status| status.accounts.retain(|it| it.service_account != "nightly"));
    browser
        .until("document.querySelectorAll('#accounts tbody').length === 8")
        .await;
    assert_well(&browser);
}

#[tokio::test]
async fn it_follows_a_live_agent_and_says_when_that_has_left() {
    let rig = Rig::start().await;
    rig.aws.associate("shop", "checkout", Entry::of(CHECKOUT));
    rig.synced().await;
    let mut browser = Browser::start(1280, 940).await;
    browser.go(&format!("http://{}/", rig.metrics)).await;
    browser
        .until("document.body.innerText.includes('No pod of this node is known')")
        .await;

    let pod = |name: &str, account: &str, address: &str| {
        Pod::new("shop", name).account(account).addresses([address])
    };
    rig.kube.apply(pod("checkout-1", "checkout", "127.0.4.1"));
    browser
        .until("document.body.innerText.includes('Fresh')")
        .await;
    assert!(rows(&mut browser).await[0].starts_with("shop/checkout Fresh pods/checkout"));

    rig.aws.associate(
        "shop",
        "refused",
        Entry::of("arn:aws:iam::111122223333:role/refused"),
    );
    rig.aws.script(Api::AssumeRole, Answer::Denied);
    rig.kube.apply(pod("refused-1", "refused", "127.0.4.2"));
    browser
        .until("document.body.innerText.includes('Failing')")
        .await;
    let rows = rows(&mut browser).await;
    assert!(
        rows[0].starts_with("shop/refused Failing") && rows[0].contains("AccessDenied"),
        "{rows:#?}"
    );
    assert_well(&browser);

    rig.leave().await;
    browser
        .until("document.body.innerText.includes('The agent cannot be asked: it does not answer.')")
        .await;
    let text = browser.evaluate("document.body.innerText").await;
    assert!(
        text.as_str().is_some_and(|it| it.contains("shop/checkout")),
        "{text}"
    );
}
