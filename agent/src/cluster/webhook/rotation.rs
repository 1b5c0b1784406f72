//! When a certificate is followed by the next: what is kept, what clients trust,
//! and the one thing to do now. No I/O, no waiting.
//!
//! A certificate is served only after every API server has had time to learn to
//! trust it, and trusted until every replica has had time to serve its successor.

use std::time::{Duration, SystemTime};

use super::certificate::{Issued, LIFE};

/// What is kept in the Secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// What is served.
    pub(super) current: Option<Issued>,
    /// What will be, once it is trusted.
    pub(super) next: Option<Issued>,
    /// The CA of what was served before.
    pub(super) last: Option<String>,
}

/// When is what.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long before a certificate's end its successor is made.
    pub ahead: Duration,
    /// How long API servers may take to learn whom to trust.
    pub trust: Duration,
    /// How long replicas may take to serve what is kept.
    pub serve: Duration,
    /// How often certificates are looked at.
    pub look: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            ahead: LIFE / 3,
            trust: Duration::from_mins(1),
            serve: Duration::from_mins(10),
            look: Duration::from_hours(1),
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is none to be served: make one.
    Begin,
    /// Make the successor.
    Prepare,
    /// Have clients trust what [`Kept::bundle`] says.
    Trust,
    /// Serve the successor.
    Switch,
    /// Trust the predecessor no longer.
    Forget,
    /// Nothing, for so long.
    Wait(Duration),
}

impl Kept {
    /// Whom clients are to trust, in PEM.
    pub(super) fn bundle(&self) -> String {
        let issued = [&self.current, &self.next].into_iter().flatten();
        let cas = issued.map(|issued| &*issued.ca).chain(self.last.as_deref());
        cas.collect()
    }

    /// What is to be done now. `trusted` is whom clients trust, `None` where there
    /// is nobody to be told; `steady` is for how long both have been seen so.
    pub(super) fn step(
        &self,
        trusted: Option<&str>,
        steady: Duration,
        name: &str,
        times: Times,
        now: SystemTime,
    ) -> Step {
        let is_good = |issued: &Option<Issued>, at| {
            let issued = issued.as_ref();
            issued.is_some_and(|issued| issued.is_believed(name, at))
        };
        let next_is_good = is_good(&self.next, now + times.ahead);
        if !is_good(&self.current, now) {
            return if next_is_good {
                Step::Switch
            } else {
                Step::Begin
            };
        }
        let Some(trusted) = trusted else {
            return Step::Wait(times.look);
        };
        if trusted != self.bundle() {
            return Step::Trust;
        }
        let after = |pause: Duration, step| match pause.checked_sub(steady) {
            None | Some(Duration::ZERO) => step,
            Some(left) => Step::Wait(left),
        };
        if next_is_good {
            return after(times.trust, Step::Switch);
        }
        if !is_good(&self.current, now + times.ahead) {
            return Step::Prepare;
        }
        if self.last.is_some() || self.next.is_some() {
            return after(times.serve, Step::Forget);
        }
        Step::Wait(times.look)
    }

    /// What is kept after such a step.
    pub(super) fn after(self, step: Step, name: &str, now: SystemTime) -> Self {
        let Self {
            current,
            next,
            last,
        } = self;
        match step {
            Step::Begin => Self {
                current: Some(Issued::new(name, now)),
                ..Self::default()
            },
            Step::Prepare => Self {
                current,
                next: Some(Issued::new(name, now)),
                last,
            },
            Step::Switch => Self {
                current: next,
                next: None,
                last: current.map(|issued| issued.ca),
            },
            Step::Forget => Self {
                current,
                ..Self::default()
            },
            Step::Trust | Step::Wait(_) => Self {
                current,
                next,
                last,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const NAME: &str = "credlet-webhook.credlet.svc";
    const DAY: Duration = Duration::from_hours(24);

    /// A leader, its clients and its clock.
    struct World {
        kept: Kept,
        trusted: String,
        steady: Duration,
        now: SystemTime,
        done: Vec<Step>,
    }

    impl World {
        fn new() -> Self {
            Self {
                kept: Kept::default(),
                trusted: String::new(),
                steady: Duration::ZERO,
                now: UNIX_EPOCH + 20_000 * DAY,
                done: Vec::new(),
            }
        }

        /// Works for so long, and checks at each step that what is served is trusted.
        fn live(&mut self, span: Duration) {
            let end = self.now + span;
            while self.now < end {
                let times = Times::default();
                let trusted = Some(&*self.trusted);
                let step = self.kept.step(trusted, self.steady, NAME, times, self.now);
                if let Step::Wait(pause) = step {
                    self.now += pause;
                    self.steady += pause;
                    continue;
                }
                self.done.push(step);
                self.steady = Duration::ZERO;
                let before = self.kept.clone();
                match step {
                    Step::Trust => self.trusted = self.kept.bundle(),
                    _ => self.kept = self.kept.clone().after(step, NAME, self.now),
                }
                if step == Step::Begin {
                    continue;
                }
                for kept in [before, self.kept.clone()] {
                    let served = kept.current.expect("something is served");
                    assert!(self.trusted.contains(&served.ca), "{:?}", self.done);
                    assert!(served.is_believed(NAME, self.now));
                }
            }
        }
    }

    #[test]
    fn a_certificate_is_made_and_then_trusted() {
        let mut world = World::new();
        world.live(DAY);
        assert_eq!(world.done, [Step::Begin, Step::Trust]);
    }

    #[test]
    fn what_is_served_is_trusted_before_during_and_after_a_change() {
        let mut world = World::new();
        world.live(61 * DAY);
        let change = [
            Step::Prepare,
            Step::Trust,
            Step::Switch,
            Step::Trust,
            Step::Forget,
            Step::Trust,
        ];
        // The order of CAs in the bundle is not the same after a switch.
        assert_eq!(world.done[2..], change);
        world.live(365 * DAY);
        assert_eq!(world.done.len(), 2 + 7 * change.len());
    }

    #[test]
    fn a_bundle_that_somebody_replaced_is_put_back() {
        let mut world = World::new();
        world.live(DAY);
        world.trusted = "somebody's".to_owned();
        world.live(DAY);
        assert_eq!(world.done, [Step::Begin, Step::Trust, Step::Trust]);
    }

    #[test]
    fn after_a_long_absence_there_is_a_new_certificate_at_once() {
        let mut world = World::new();
        world.live(DAY);
        world.now += 200 * DAY;
        world.live(DAY);
        assert_eq!(world.done[2..], [Step::Begin, Step::Trust]);
    }

    #[test]
    fn another_name_takes_another_certificate() {
        let mut world = World::new();
        world.live(DAY);
        let step = world.kept.step(
            Some(&world.trusted),
            Duration::ZERO,
            "other.credlet.svc",
            Times::default(),
            world.now,
        );
        assert_eq!(step, Step::Begin);
    }

    #[test]
    fn without_anybody_to_tell_nothing_is_changed() {
        let mut world = World::new();
        world.live(DAY);
        let later = world.now + 61 * DAY;
        let step = world
            .kept
            .step(None, Duration::ZERO, NAME, Times::default(), later);
        assert!(matches!(step, Step::Wait(_)));
    }
}
