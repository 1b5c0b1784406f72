//! What the nouns accept, and what a secret does not do.

use std::cell::Cell;
use std::marker::PhantomData;

use super::*;

#[test]
fn a_service_account_takes_every_name_that_the_api_server_takes() {
    let namespace = "n".repeat(63);
    let name = format!("{}.b-2", "a".repeat(249));
    for (namespace, name) in [("default", "0"), (&namespace, &name), ("a--b", "x.y.z")] {
        let account = ServiceAccount::new(namespace, name).expect("legal");
        assert_eq!(account.to_string(), format!("{namespace}/{name}"));
        assert_eq!((account.namespace(), account.name()), (namespace, name));
    }
}

#[test]
fn a_service_account_refuses_what_the_api_server_refuses() {
    let long = "n".repeat(64);
    for namespace in ["", "-a", "a-", "A", "a.b", "a/b", "a_b", "é", "a\n", &long] {
        let refused = ServiceAccount::new(namespace, "app");
        assert_eq!(refused, Err(Invalid::Namespace), "{namespace:?}");
    }
    let long = "n".repeat(254);
    for name in [
        "", ".", "a.", ".a", "a..b", "a-.b", "A", "a/b", "a b", "a\0", &long,
    ] {
        let refused = ServiceAccount::new("default", name);
        assert_eq!(refused, Err(Invalid::ServiceAccountName), "{name:?}");
    }
}

#[test]
fn a_pod_uid_is_not_empty() {
    assert_eq!(PodUid::new(""), Err(Invalid::PodUid));
    assert_eq!(
        PodUid::new("7c1").map(|uid| uid.to_string()),
        Ok("7c1".to_owned())
    );
}

#[test]
fn a_role_arn_is_taken_from_any_partition_and_path() {
    for text in [
        "arn:aws:iam::123456789012:role/app",
        "arn:aws-cn:iam::123456789012:role/app",
        "arn:aws-us-gov:iam::123456789012:role/team/app+=,.@_-1",
        "arn:aws-iso-b:iam::123456789012:role/app",
        "arn:aws-eusc:iam::123456789012:role/app",
    ] {
        let role: RoleArn = text.parse().expect(text);
        assert_eq!((role.as_str(), role.account_id()), (text, "123456789012"));
    }
}

#[test]
fn a_role_arn_is_refused_when_any_part_of_it_is_another() {
    for text in [
        "",
        "app",
        "arn:aws:iam::123456789012:user/app",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::123456789012:role/team/",
        "arn:aws:iam::123456789012:role/a b",
        "arn:aws:iam::123456789012:role/a:b",
        "arn:aws:iam::12345678901:role/app",
        "arn:aws:iam::12345678901x:role/app",
        "arn:aws:iam:us-east-1:123456789012:role/app",
        "arn:aws:sts::123456789012:assumed-role/app/x",
        "arn:gcp:iam::123456789012:role/app",
        "ARN:aws:iam::123456789012:role/app",
        " arn:aws:iam::123456789012:role/app",
    ] {
        assert_eq!(text.parse::<RoleArn>(), Err(Invalid::RoleArn), "{text:?}");
    }
}

#[test]
fn the_final_role_is_the_last_of_the_chain() {
    let role: RoleArn = "arn:aws:iam::123456789012:role/app".parse().expect("valid");
    let target: RoleArn = "arn:aws:iam::210987654321:role/far".parse().expect("valid");
    let mut grant = Grant::of(role.clone());
    assert_eq!(grant.final_role(), &role);
    grant.target_role = Some(target.clone());
    assert_eq!(grant.final_role(), &target);
}

/// `Probe::<T>::PRINTS` is the inherent constant where `T` can be printed, and
/// only else the trait's.
struct Probe<T>(PhantomData<T>);

trait Unprintable {
    const PRINTS: bool = false;
    const DISPLAYS: bool = false;
}

impl<T> Unprintable for Probe<T> {}

impl<T: fmt::Debug> Probe<T> {
    const PRINTS: bool = true;
}

impl<T: fmt::Display> Probe<T> {
    const DISPLAYS: bool = true;
}

#[test]
fn nothing_prints_a_secret_or_what_holds_one() {
    const {
        assert!(Probe::<String>::PRINTS && Probe::<String>::DISPLAYS);
        assert!(!Probe::<Secret>::PRINTS && !Probe::<Secret>::DISPLAYS);
        assert!(!Probe::<Credentials>::PRINTS && !Probe::<Credentials>::DISPLAYS);
    }
}

fn credentials(expires_at: SystemTime) -> Credentials {
    Credentials::new(
        "ASIA".to_owned(),
        Secret::new("secret".to_owned()),
        Secret::new("token".to_owned()),
        expires_at,
        AssumedRole::new(
            "arn:aws:sts::123456789012:assumed-role/app/session",
            "AROAEXAMPLE:session",
        )
        .unwrap(),
    )
}

#[test]
fn a_body_of_each_form_is_rendered_once() {
    let credentials = credentials(SystemTime::UNIX_EPOCH);
    let rendered = Cell::new(0);
    let render = |of: &Credentials| {
        rendered.set(rendered.get() + 1);
        of.secret_access_key.expose().as_bytes().to_vec()
    };
    for form in [Form::Container, Form::Imds] {
        assert_eq!(credentials.body(form, render), "secret");
        assert_eq!(credentials.body(form, render), "secret");
    }
    assert_eq!(rendered.get(), 2);
}

#[test]
fn expired_credentials_have_no_time_left() {
    let minute = Duration::from_mins(1);
    let end = SystemTime::UNIX_EPOCH + 2 * minute;
    let credentials = credentials(end);
    assert_eq!(credentials.left(end - minute), minute);
    assert_eq!(credentials.left(end + minute), Duration::ZERO);
}

#[test]
fn of_a_text_that_is_too_long_for_a_role_no_role_is_left() {
    let account = ServiceAccount::new("shop", "cart").unwrap();
    let own = |text: &str| OwnRole::new(account.clone(), text);
    let role = "arn:aws:iam::111122223333:role/cart";
    assert_eq!(own(role).text(), role);
    // Cut off after some letters, it would be one.
    let long = format!(
        "arn:aws{}:iam::111122223333:role/{}",
        "-".repeat(900),
        "a".repeat(200)
    );
    for text in [long, "ä".repeat(200_000)] {
        let own = own(&text);
        assert!(own.text().len() < 1100, "{}", own.text().len());
        assert_eq!(own.text().parse::<RoleArn>(), Err(Invalid::RoleArn));
    }
}
