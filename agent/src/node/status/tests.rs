//! What an account's row says.

use std::time::UNIX_EPOCH;

use super::*;
use crate::model::{AssumedRole, Grant, RoleArn, ServiceAccount, Subject};

const ROLE: &str = "arn:aws:iam::111122223333:role/pods/checkout";

fn now() -> Moment {
    Moment {
        wall: UNIX_EPOCH + Duration::from_hours(480_000),
        at: Instant::now(),
    }
}

fn arn(text: &str) -> RoleArn {
    text.parse().expect("a role's ARN")
}

fn grant() -> Association {
    Association::Role(Grant::of(arn(ROLE)))
}

fn key(association: Association) -> Key {
    Key {
        account: ServiceAccount::new("shop", "checkout").expect("legal names"),
        pod: None,
        association: Arc::new(association),
    }
}

fn account(known: Known) -> broker::Account {
    let key = match &known {
        Known::Is(association) => Some(key(Association::clone(association))),
        Known::None | Known::Refused(_) | Known::Unknown => None,
    };
    broker::Account {
        subject: Subject::Account(ServiceAccount::new("shop", "checkout").expect("legal names")),
        pod: None,
        known,
        source: Some("crd"),
        key,
        pods: (0..120).map(|it| format!("checkout-{it}").into()).collect(),
    }
}

fn entry(association: Association, state: cache::State, patience: Option<Patience>) -> Entry {
    let has_session = matches!(state, cache::State::Fresh | cache::State::Stale);
    let at = now().wall;
    let session = "arn:aws:sts::111122223333:assumed-role/checkout/shop.checkout";
    let role = AssumedRole::new(session, "AROAEXAMPLE:shop.checkout").expect("a session");
    Entry {
        key: key(association),
        state,
        role: has_session.then_some(role),
        issued_at: has_session.then(|| at - Duration::from_mins(10)),
        expires_at: has_session.then(|| at + Duration::from_mins(50)),
        next_at: Some(at + Duration::from_mins(17)),
        failing: patience.map(|patience| Failing {
            why: "AWS throttles".to_owned(),
            at: at - Duration::from_secs(3),
            in_a_row: 4,
            patience,
        }),
    }
}

fn row_of(known: Known, entries: Vec<Entry>) -> Account {
    row_where(known, entries, SourceState::Good)
}

fn row_where(known: Known, entries: Vec<Entry>, state: SourceState) -> Account {
    let source = Source {
        name: "crd".to_owned(),
        state,
        known: 1,
        heard_at: None,
        error: matches!(state, SourceState::Failing).then(|| "no answer".to_owned()),
    };
    let mut rows = accounts(vec![account(known)], entries, &[source], now());
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[test]
fn a_session_that_is_well_is_told_whole() {
    let known = Known::Is(Arc::new(grant()));
    let row = row_of(known, vec![entry(grant(), cache::State::Fresh, None)]);
    assert_eq!(row.state, State::Fresh);
    assert_eq!(row.role.as_deref(), Some(ROLE));
    assert_eq!(row.via_role, None);
    assert_eq!(row.exchange, Some(Exchange::AssumeRole));
    assert_eq!(row.session.as_deref(), Some("shop.checkout"));
    assert_eq!(row.source.as_deref(), Some("crd"));
    let [refreshed, next, expires] = [row.refreshed_at, row.next_at, row.expires_at].map(|at| {
        let since = at.expect("known").duration_since(date(now().wall));
        since.as_mins()
    });
    assert_eq!([refreshed, next, expires], [-10, 17, 50]);
    assert_eq!(row.trouble, None);
}

#[test]
fn a_target_role_is_the_role_and_the_first_one_the_way() {
    let target = "arn:aws:iam::444455556666:role/far";
    let chained = Association::Role(Grant {
        target_role: Some(arn(target)),
        means: Means::WebIdentity {
            audience: "sts.amazonaws.com".into(),
        },
        ..Grant::of(arn(ROLE))
    });
    let row = row_of(Known::Is(Arc::new(chained)), vec![]);
    assert_eq!(row.role.as_deref(), Some(target));
    assert_eq!(row.via_role.as_deref(), Some(ROLE));
    assert_eq!(row.exchange, Some(Exchange::WebIdentity));
}

#[test]
fn each_way_to_stand_has_a_state_of_its_own() {
    use cache::State::{Failed, Fresh, Pending, Stale};
    let is = || Known::Is(Arc::new(grant()));
    let of = |state, patience| vec![entry(grant(), state, patience)];
    for (known, entries, state) in [
        (is(), of(Fresh, None), State::Fresh),
        (is(), of(Stale, Some(Patience::Soon)), State::Stale),
        (is(), of(Failed, Some(Patience::Soon)), State::Failed),
        (is(), of(Failed, Some(Patience::Late)), State::Failed),
        (is(), of(Failed, Some(Patience::AtOnce)), State::OnRequest),
        (is(), of(Failed, Some(Patience::OnDemand)), State::NoRole),
        (is(), of(Pending, None), State::Pending),
        (is(), vec![], State::Pending),
        (Known::None, vec![], State::NoRole),
        (Known::Unknown, vec![], State::NoRole),
        (Known::Unknown, of(Fresh, None), State::Fresh),
    ] {
        let row = row_of(known.clone(), entries);
        assert_eq!(row.state, state, "{known:?}");
    }
}

#[test]
fn while_a_source_does_not_say_it_is_not_known_whether_there_is_a_role() {
    let row = row_where(Known::Unknown, vec![], SourceState::Waiting);
    assert_eq!((row.state, row.trouble), (State::Unknown, None));
    let row = row_where(Known::Unknown, vec![], SourceState::Failing);
    assert_eq!(row.state, State::Unknown);
    assert_eq!(row.trouble.expect("why").message, "no answer");
}

#[test]
fn what_is_wrong_is_told_with_how_often_and_since_when() {
    let known = Known::Is(Arc::new(grant()));
    let stale = entry(grant(), cache::State::Stale, Some(Patience::Soon));
    let trouble = row_of(known, vec![stale]).trouble.expect("there is");
    assert_eq!((&*trouble.message, trouble.attempts), ("AWS throttles", 4));
    assert_eq!(trouble.at, Some(date(now().wall - Duration::from_secs(3))));

    let refused = Arc::new(crate::associations::Refused::Unusable {
        account: ServiceAccount::new("shop", "checkout").expect("legal names"),
        origin: "crd",
        why: "roleArn is missing".to_owned(),
    });
    let row = row_of(Known::Refused(refused), vec![]);
    assert_eq!(row.state, State::Refused);
    let trouble = row.trouble.expect("there is");
    assert!(
        trouble.message.contains("roleArn is missing"),
        "{trouble:?}"
    );
}

#[test]
fn a_hundred_pods_are_named_and_all_are_counted() {
    let row = row_of(Known::None, vec![]);
    assert_eq!((row.users, row.pods.len()), (120, MOST_NAMES));
}
