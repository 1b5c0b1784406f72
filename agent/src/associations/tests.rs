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

impl Source for Fixed {
    fn find<'a>(
        &'a self,
        _account: &'a ServiceAccount,
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

    fn peek(&self, _account: &ServiceAccount) -> Known {
        self.known.clone()
    }

    fn prefetch(&self, _account: &ServiceAccount) {
        *self.learned.lock().expect("not poisoned") += 1;
    }

    fn retain(&self, _accounts: &HashSet<ServiceAccount>) {}

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
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
    let account = ServiceAccount::new("shop", "checkout").expect("valid");
    let found = associations.find(&account, Instant::now()).await;
    let peeked = associations.peek(&account);
    associations.prefetch(&account);
    let counts = learned.map(|count| *count.lock().expect("not poisoned"));
    (found.map(Known::Is), peeked, counts)
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
