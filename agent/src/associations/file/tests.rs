//! What a file may say, and what happens when it changes.

use std::os::unix::fs::symlink;

use futures::future::{Either, select};
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::model::Session;

const ONE: &str = "associations:
- namespace: shop
  serviceAccount: checkout
  roleArn: arn:aws:iam::111122223333:role/pods/checkout
";

const OTHER: &str = "associations:
- namespace: shop
  serviceAccount: checkout
  roleArn: arn:aws:iam::111122223333:role/pods/other
";

const BAD: &str = "associations:
- namespace: shop
  serviceAccount: checkout
  role: arn:aws:iam::111122223333:role/pods/checkout
";

fn checkout() -> ServiceAccount {
    ServiceAccount::new("shop", "checkout").expect("valid")
}

fn role(file: &File) -> String {
    match file.peek(&checkout()) {
        Known::Is(association) => association.grant().expect("a role").role.to_string(),
        Known::None | Known::Refused(_) | Known::Unknown => String::new(),
    }
}

fn refusal(text: &str) -> String {
    parse(text, &Defaults::default())
        .expect_err("must be refused")
        .to_string()
}

/// Runs the file's future until `done`, which must come true.
async fn until(future: &mut BoxFuture<'static, ()>, done: impl Fn() -> bool) {
    let check = async {
        while !done() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let both = select(future, Box::pin(check));
    let seen = timeout(Duration::from_secs(10), both).await;
    match seen.expect("the change is seen") {
        Either::Right(_) => {}
        Either::Left(_) => panic!("the notifications ended"),
    }
}

#[test]
fn every_field_of_eks_is_understood() {
    let table = parse(
        r#"{"associations": [
            {"namespace": "a", "serviceAccount": "b",
             "roleArn": "arn:aws-cn:iam::111122223333:role/one",
             "targetRoleArn": "arn:aws-cn:iam::444455556666:role/two",
             "externalId": "us/them", "disableSessionTags": true,
             "policy": "{\"Version\": \"2012-10-17\"}"}]}"#,
        &Defaults::default(),
    );
    let account = ServiceAccount::new("a", "b").expect("valid");
    let table = table.expect("good");
    let association = table.get(&account).expect("one").grant().expect("a role");
    assert_eq!(association.final_role().account_id(), "444455556666");
    assert_eq!(association.external_id.as_deref(), Some("us/them"));
    let policy = Some("{\"Version\": \"2012-10-17\"}".to_owned());
    assert_eq!(association.session, Session::Untagged { policy });
}

#[test]
fn sessions_are_tagged_unless_the_entry_says_otherwise() {
    let table = parse(ONE, &Defaults::default()).expect("good");
    let grant = table
        .get(&checkout())
        .expect("one")
        .grant()
        .expect("a role");
    assert_eq!(grant.session, Session::TAGGED);
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    assert!(refusal(BAD).contains("unknown field"), "{}", refusal(BAD));
}

#[test]
fn a_refusal_is_one_line_and_quotes_no_values() {
    let text = format!("{ONE}  externalId: confidential\n  nonsense: true\n");
    assert!(
        !refusal(&text).contains("confidential"),
        "{}",
        refusal(&text)
    );
    assert_eq!(refusal(&text).lines().count(), 1);
}

#[test]
fn a_second_entry_for_an_account_is_refused() {
    let twice = format!("{ONE}{}", ONE.replace("associations:\n", ""));
    assert_eq!(refusal(&twice), "entry 2: a second entry for shop/checkout");
}

#[test]
fn a_policy_needs_session_tags_to_be_off() {
    let text = format!("{ONE}  policy: '{{}}'\n");
    assert_eq!(
        refusal(&text),
        "entry 1: a policy requires disableSessionTags: true"
    );
}

#[test]
fn what_sts_would_refuse_is_refused_here() {
    let off = format!("{ONE}  disableSessionTags: true\n");
    for (field, why) in [
        (
            format!("  externalId: {}\n", "x".repeat(1225)),
            "externalId",
        ),
        ("  externalId: x\n".to_owned(), "externalId"),
        (format!("  policy: '\"{}\"'\n", "x".repeat(2047)), "policy"),
        ("  policy: '{'\n".to_owned(), "policy"),
        ("  targetRoleArn: arn:aws:iam::1:role/x\n".to_owned(), "ARN"),
    ] {
        let refusal = refusal(&format!("{off}{field}"));
        assert!(
            refusal.starts_with("entry 1: ") && refusal.contains(why),
            "{refusal}"
        );
    }
}

#[test]
fn an_endless_file_is_refused() {
    let refused = read(Path::new("/dev/zero"), &Defaults::default()).expect_err("must be refused");
    assert!(matches!(refused, LoadError::TooLarge), "{refused}");
}

#[test]
fn a_missing_or_bad_file_is_an_error_at_start() {
    let home = TempDir::new().expect("a directory");
    let path = home.path().join("associations.yaml");
    assert!(matches!(
        File::load(&path, Defaults::default()),
        Err(LoadError::Read(_))
    ));
    fs::write(&path, BAD).expect("written");
    assert!(matches!(
        File::load(&path, Defaults::default()),
        Err(LoadError::Entry(1, Fault::Form(_)))
    ));
}

#[tokio::test]
async fn a_rewritten_file_is_read_again_and_announced() {
    let home = TempDir::new().expect("a directory");
    let path = home.path().join("associations.yaml");
    fs::write(&path, ONE).expect("written");
    let (file, mut future) = File::load(&path, Defaults::default()).expect("good");
    let mut changes = file.changes();
    changes.mark_unchanged();

    fs::write(&path, OTHER).expect("written");
    until(&mut future, || role(&file).ends_with("other")).await;
    assert!(changes.has_changed().expect("the file lives"));
}

#[tokio::test]
async fn a_swapped_config_map_is_read_again() {
    let home = TempDir::new().expect("a directory");
    let at = |name: &str| home.path().join(name);
    for (version, text) in [("..1", ONE), ("..2", OTHER)] {
        fs::create_dir(at(version)).expect("made");
        fs::write(at(version).join("associations.yaml"), text).expect("written");
    }
    symlink("..1", at("..data")).expect("linked");
    symlink("..data/associations.yaml", at("associations.yaml")).expect("linked");
    let (file, mut future) =
        File::load(&at("associations.yaml"), Defaults::default()).expect("good");
    assert!(role(&file).ends_with("checkout"));

    symlink("..2", at("..data_tmp")).expect("linked");
    fs::rename(at("..data_tmp"), at("..data")).expect("swapped");
    until(&mut future, || role(&file).ends_with("other")).await;
}

#[tokio::test]
async fn a_bad_content_keeps_the_last_good_one_until_it_is_mended() {
    let home = TempDir::new().expect("a directory");
    let path = home.path().join("associations.yaml");
    fs::write(&path, ONE).expect("written");
    let (file, mut future) = File::load(&path, Defaults::default()).expect("good");

    fs::write(&path, BAD).expect("written");
    until(&mut future, || file.is_outdated()).await;
    assert!(role(&file).ends_with("checkout"));

    fs::remove_file(&path).expect("removed");
    fs::write(&path, OTHER).expect("written");
    until(&mut future, || !file.is_outdated()).await;
    assert!(role(&file).ends_with("other"));
}

#[tokio::test]
async fn reading_the_file_is_no_reason_to_read_it_again() {
    let home = TempDir::new().expect("a directory");
    let path = home.path().join("associations.yaml");
    fs::write(&path, ONE).expect("written");
    let changed = Arc::new(Notify::new());
    let _watcher = watch(&path, Arc::clone(&changed)).expect("watched");

    read(&path, &Defaults::default()).expect("good");
    fs::write(home.path().join("barrier"), "").expect("written");
    changed.notified().await;
    timeout(SETTLE, changed.notified()).await.ok();
    read(&path, &Defaults::default()).expect("good");
    let again = timeout(10 * SETTLE, changed.notified()).await;
    assert!(again.is_err(), "a reading was taken for a change");
}

#[test]
fn the_most_specific_entry_counts_and_of_equals_the_first() {
    let entry = |namespace: &str, account: &str, role: &str| {
        format!(
            "  - {{namespace: '{namespace}', serviceAccount: '{account}', \
             roleArn: 'arn:aws:iam::111122223333:role/{role}'}}\n"
        )
    };
    let text = [
        "associations:\n".to_owned(),
        entry("*", "*", "all"),
        entry("s*", "check*", "check"),
        entry("shop", "*", "shop"),
        entry("shop", "*out", "first"),
        entry("shop", "ch*", "longer"),
        entry("shop", "out*", "second"),
        entry("shop", "checkout", "own"),
    ]
    .concat();
    let table = parse(&text, &Defaults::default()).expect("good");
    for (namespace, account, role) in [
        ("shop", "checkout", "own"),
        ("shop", "shout", "first"),
        ("shop", "cheap", "longer"),
        ("shop", "out", "first"),
        ("shop", "cart", "shop"),
        ("stock", "checkin", "check"),
        ("batch", "checkin", "all"),
    ] {
        let whose = ServiceAccount::new(namespace, account).expect("legal");
        let found = table.get(&whose).expect("one");
        let found = found.grant().expect("a role").role.to_string();
        assert!(found.ends_with(&format!("/{role}")), "{whose}: {found}");
    }
    for bad in ["S*", "a/*", "a *", "*_"] {
        let text = format!("associations:\n{}", entry(bad, "a", "a"));
        assert!(refusal(&text).contains("pattern"), "{bad}");
    }
    let twice = format!("associations:\n{0}{0}", entry("*", "a", "a"));
    assert!(refusal(&twice).contains("second entry"), "{twice}");
}
