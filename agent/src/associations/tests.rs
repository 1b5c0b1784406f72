//! Precedence.

use futures::FutureExt;
use futures::future;

use super::*;
use crate::model::Grant;

/// A source that always says the same, and counts who is told to learn.
struct Fixed {
    known: Known,
    learned: Arc<std::sync::Mutex<usize>>,
}

impl<S> Source<S> for Fixed {
    fn find<'a>(
        &'a self,
        _subject: &'a S,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Arc<Association>>, Error>> {
        let answer = match &self.known {
            Known::Is(association) => Ok(Some(Arc::clone(association))),
            Known::None => Ok(None),
            Known::Refused(why) => Err(Error::Refused(Arc::clone(why))),
            Known::Unknown => Err(Error::Deadline { origin: "fixed" }),
        };
        future::ready(answer).boxed()
    }

    fn peek(&self, _subject: &S) -> Known {
        self.known.clone()
    }

    fn prefetch(&self, _subject: &S) {
        *self.learned.lock().expect("not poisoned") += 1;
    }

    fn retain(&self, _subjects: &HashSet<S>) {}

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    fn name(&self) -> &'static str {
        "fixed"
    }

    fn health(&self, _now: Moment) -> Health {
        Health {
            level: Level::Good,
            known: 1,
            as_of: None,
            why: None,
        }
    }
}

fn role(name: &str) -> Known {
    let role = format!("arn:aws:iam::111122223333:role/{name}");
    let grant = Grant::of(role.parse().expect("valid"));
    Known::Is(Arc::new(Association::Role(grant)))
}

/// What `find`, `peek` and `prefetch` make of the sources: the answer, what is
/// known, and how often each source was told to learn.
async fn ask<const N: usize>(known: [Known; N]) -> (Result<Known, Error>, Known, [usize; N]) {
    let learned: [Arc<std::sync::Mutex<usize>>; N] = std::array::from_fn(|_| Arc::default());
    let sources = known.into_iter().zip(&learned).map(|(known, learned)| {
        let learned = Arc::clone(learned);
        Box::new(Fixed { known, learned }) as Box<dyn Source>
    });
    let associations = Associations::new(sources.collect(), None);
    let (found, peeked) = tell(&associations, &Subject::Account(account())).await;
    let counts = learned.map(|count| *count.lock().expect("not poisoned"));
    (found, peeked, counts)
}

fn account() -> ServiceAccount {
    ServiceAccount::new("shop", "checkout").expect("valid")
}

async fn tell(associations: &Associations, subject: &Subject) -> (Result<Known, Error>, Known) {
    let found = associations.find(subject, Instant::now()).await;
    let peeked = associations.peek(subject);
    associations.prefetch(subject);
    (found.map(Known::Is), peeked)
}

#[tokio::test]
async fn the_first_source_that_knows_one_wins() {
    let (found, peeked, learned) = ask([Known::None, role("one"), role("two")]).await;
    assert_eq!(found.expect("found"), role("one"));
    assert_eq!(peeked, role("one"));
    assert_eq!(learned, [0, 0, 0]);
}

#[tokio::test]
async fn a_source_that_does_not_answer_hides_those_behind_it() {
    let (found, peeked, learned) = ask([Known::Unknown, role("two")]).await;
    assert!(matches!(found, Err(Error::Deadline { .. })));
    assert_eq!(peeked, Known::Unknown);
    assert_eq!(learned, [1, 0]);
}

#[tokio::test]
async fn an_account_that_no_source_knows_has_no_association() {
    let (found, peeked, learned) = ask([Known::None, Known::None]).await;
    assert!(matches!(found, Err(Error::None(_))));
    assert_eq!(peeked, Known::None);
    assert_eq!(learned, [0, 0]);
}

/// Of an account's association and a pod's own role: what the pod's role comes
/// to, and what other pods of the account get.
async fn ask_with_own(
    own: Option<Known>,
    allowed: Option<&str>,
) -> ((Result<Known, Error>, Known), Known) {
    let fixed = |known| Fixed {
        known,
        learned: Arc::default(),
    };
    let allowed = allowed.map(|text| AllowedRoles::parse(text).expect("patterns"));
    let own = own.map(|known| Box::new(fixed(known)) as Box<dyn Source<OwnRole>>);
    let sources: Vec<Box<dyn Source>> = vec![Box::new(fixed(role("account")))];
    let associations = Associations::new(sources, allowed).naming(own);
    let named = Subject::Own(OwnRole::new(account(), "named"));
    let of_account = associations.peek(&Subject::Account(account()));
    (tell(&associations, &named).await, of_account)
}

#[tokio::test]
async fn a_pods_own_role_counts_before_its_accounts_association_and_for_it_alone() {
    let ((found, peeked), others) = ask_with_own(Some(role("own")), None).await;
    assert_eq!(found.expect("found"), role("own"));
    assert_eq!(peeked, role("own"));
    assert_eq!(others, role("account"));
}

#[tokio::test]
async fn what_a_pod_names_is_as_if_it_were_not_there_where_its_source_is_off() {
    for off in [None, Some(Known::None)] {
        let ((found, peeked), _) = ask_with_own(off, None).await;
        assert_eq!(found.expect("found"), role("account"));
        assert_eq!(peeked, role("account"));
    }
}

#[tokio::test]
async fn an_own_role_that_is_refused_or_not_known_yet_hides_the_accounts_association() {
    let why = Arc::new(Refused::Unusable {
        account: account(),
        origin: "fixed",
        why: "no role".to_owned(),
    });
    let ((found, peeked), _) = ask_with_own(Some(Known::Refused(Arc::clone(&why))), None).await;
    assert!(matches!(found, Err(Error::Refused(_))));
    assert_eq!(peeked, Known::Refused(why));
    let ((found, peeked), _) = ask_with_own(Some(Known::Unknown), None).await;
    assert!(matches!(found, Err(Error::Deadline { .. })));
    assert_eq!(peeked, Known::Unknown);
}

#[tokio::test]
async fn an_own_role_is_bounded_by_the_flag_as_all_roles_are() {
    let bounds = Some("arn:*:role/account");
    let ((found, peeked), others) = ask_with_own(Some(role("own")), bounds).await;
    assert!(matches!(found, Err(Error::Refused(_))));
    assert!(matches!(peeked, Known::Refused(_)));
    assert_eq!(others, role("account"));
}
