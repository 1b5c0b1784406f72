//! What is written of what is told, through time.

use std::time::{Duration, UNIX_EPOCH};

use super::super::bucket::Rate;
use super::*;

const MINUTE: Duration = Duration::from_mins(1);
const NOTE: &str = "AWS refuses the role: AccessDenied";

/// A ledger and what time it is.
struct Desk {
    ledger: Ledger,
    now: Instant,
    wall: SystemTime,
}

impl Desk {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self {
            ledger: Ledger::new(limits),
            now: Instant::now(),
            wall: UNIX_EPOCH,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall += time;
    }

    fn hear(&mut self, pod: &str, note: &str) -> Heard {
        let (now, wall) = (self.now, self.wall);
        self.ledger
            .hear(&subject(pod), Reason::RoleRefused, note, now, wall)
    }

    /// Panics if nothing is to be written.
    fn new_one(&mut self, pod: &str, note: &str) -> Entry {
        match self.hear(pod, note) {
            Heard::New(entry) => entry,
            other @ (Heard::Repeat | Heard::Limited) => panic!("{pod}: {other:?}"),
        }
    }

    fn due(&mut self) -> Vec<What> {
        let due = self.ledger.due(self.now);
        due.into_iter().map(|entry| entry.what).collect()
    }
}

fn subject(pod: &str) -> Subject {
    Subject {
        namespace: "shop".into(),
        pod: PodName {
            uid: PodUid::new(&format!("uid-of-{pod}")).unwrap(),
            name: pod.into(),
        },
    }
}

#[test]
fn a_repeat_within_ten_minutes_is_no_new_event_and_counted_once_they_have_passed() {
    let mut desk = Desk::new();
    let first = desk.new_one("cart-1", NOTE);
    assert_eq!(first.what, What::First { at: UNIX_EPOCH });
    for _ in 0..40 {
        assert_eq!(desk.hear("cart-1", NOTE), Heard::Repeat);
    }
    desk.pass(9 * MINUTE);
    assert_eq!(desk.hear("cart-1", NOTE), Heard::Repeat);
    assert_eq!(desk.due(), []);
    desk.pass(MINUTE);
    let last = UNIX_EPOCH + 9 * MINUTE;
    assert_eq!(desk.due(), [What::Series { count: 42, last }]);
}

#[test]
fn an_event_that_goes_on_is_one_event_with_one_write_each_ten_minutes() {
    let mut desk = Desk::new();
    let first = desk.new_one("cart-1", NOTE);
    let mut writes = Vec::new();
    for _ in 0..60 {
        desk.pass(MINUTE);
        writes.extend(desk.ledger.due(desk.now));
        assert_eq!(desk.hear("cart-1", NOTE), Heard::Repeat);
    }
    // A repeat at the very end of a window belongs to the next.
    let counts: Vec<_> = writes.iter().map(|entry| entry.what).collect();
    let count = |at| match counts[at] {
        What::Series { count, .. } => count,
        What::First { .. } => panic!("{counts:?}"),
    };
    assert_eq!(counts.len(), 6);
    assert_eq!((count(0), count(1), count(5)), (10, 20, 60));
    assert!(writes.iter().all(|entry| entry.name == first.name));
}

#[test]
fn an_event_that_did_not_repeat_is_new_when_it_comes_again() {
    let mut desk = Desk::new();
    let first = desk.new_one("cart-1", NOTE);
    desk.pass(10 * MINUTE);
    assert_eq!(desk.due(), []);
    assert_eq!(desk.ledger.next_due(), None);
    assert_ne!(desk.new_one("cart-1", NOTE).name, first.name);
}

#[test]
fn another_pod_or_another_note_is_another_event() {
    let mut desk = Desk::new();
    let names = [
        desk.new_one("cart-1", NOTE).name,
        desk.new_one("cart-2", NOTE).name,
        desk.new_one("cart-1", "another").name,
    ];
    assert!(names[0] != names[1] && names[0] != names[2]);
    // A namesake that came after it is another pod.
    let mut other = subject("cart-1");
    other.pod.uid = PodUid::new("another").unwrap();
    let heard = desk
        .ledger
        .hear(&other, Reason::RoleRefused, NOTE, desk.now, desk.wall);
    assert!(matches!(heard, Heard::New(_)));
}

#[test]
fn a_pod_with_a_new_note_each_time_gets_five_events_and_then_one_in_two_minutes() {
    let mut desk = Desk::new();
    let mut written = 0;
    for number in 0..600 {
        if let Heard::New(_) = desk.hear("cart-1", &format!("request {number}")) {
            written += 1;
        }
        desk.pass(Duration::from_secs(1));
    }
    assert_eq!(written, 5 + 4);
    assert!(matches!(desk.hear("cart-2", NOTE), Heard::New(_)));
}

#[test]
fn a_node_whose_pods_all_fail_at_once_writes_a_few_and_goes_on_slowly() {
    let mut desk = Desk::new();
    let heard = |desk: &mut Desk| {
        let pods = (0..250).map(|pod| desk.hear(&format!("cart-{pod}"), NOTE));
        pods.filter(|heard| matches!(heard, Heard::New(_))).count()
    };
    assert_eq!(heard(&mut desk), 25);
    desk.pass(MINUTE);
    assert_eq!(heard(&mut desk), 12);
}

#[test]
fn what_is_limited_takes_nothing_from_others() {
    let mut desk = Desk::with(Limits {
        pod: Rate::new(1, MINUTE),
        node: Rate::new(2, MINUTE),
        ..Limits::default()
    });
    desk.new_one("cart-1", NOTE);
    for number in 0..10 {
        assert_eq!(desk.hear("cart-1", &number.to_string()), Heard::Limited);
    }
    desk.new_one("cart-2", NOTE);
    assert_eq!(desk.hear("cart-3", NOTE), Heard::Limited);
    desk.pass(MINUTE);
    desk.new_one("cart-3", NOTE);
}

#[test]
fn what_is_kept_is_bounded_whatever_is_told() {
    let mut desk = Desk::with(Limits {
        pod: Rate::new(1000, Duration::from_millis(1)),
        node: Rate::new(100_000, Duration::from_millis(1)),
        ..Limits::default()
    });
    for number in 0..10_000 {
        desk.hear(&format!("cart-{}", number % 300), &number.to_string());
    }
    assert_eq!(desk.ledger.tales.len(), MOST);
    assert!(desk.ledger.pods.len() <= 300);
    desk.pass(11 * MINUTE);
    assert_eq!(desk.due(), []);
    desk.new_one("cart-1", NOTE);
    assert_eq!((desk.ledger.tales.len(), desk.ledger.pods.len()), (1, 1));
}

#[test]
fn what_could_not_be_written_is_new_when_it_comes_again() {
    let mut desk = Desk::new();
    let lost = desk.new_one("cart-1", NOTE);
    desk.ledger.forget(&lost);
    let again = desk.new_one("cart-1", NOTE);
    // An old failure says nothing of the new event.
    desk.ledger.forget(&lost);
    assert_eq!(desk.hear("cart-1", NOTE), Heard::Repeat);
    assert_ne!(lost.name, again.name);
}

#[test]
fn a_note_is_cut_between_characters_to_what_the_api_server_takes() {
    let mut desk = Desk::new();
    let entry = desk.new_one("cart-1", &"é".repeat(600));
    assert_eq!(entry.tale.note.len(), 1024);
    let entry = desk.new_one("cart-1", &format!("x{}", "é".repeat(600)));
    assert_eq!(entry.tale.note.len(), 1023);
}

#[test]
fn an_events_name_is_legal_whatever_the_pods_is() {
    assert_eq!(name("cart-1", 7), "cart-1.0000000000000007");
    assert_eq!(name("", 7), "0000000000000007");
    assert_eq!(name("../../x?y", 7), "xy.0000000000000007");
    assert_eq!(name("-", 7), "0000000000000007");
    assert!(name(&"a".repeat(300), u64::MAX).len() <= 253);
}
