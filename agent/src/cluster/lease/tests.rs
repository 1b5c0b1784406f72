//! Candidates for one lease, on a paused clock.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::election::Record;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A lease in memory. Its answers take some time.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    record: Option<Record>,
    version: u64,
    writes: u64,
}

/// The way of one candidate's to it.
#[derive(Clone)]
struct Way {
    memory: Memory,
    /// How long an answer takes.
    latency: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    Refuses,
    Hangs,
    /// What is written arrives, and no answer comes back.
    Mute,
}

impl Memory {
    fn way(&self) -> Way {
        Way {
            memory: self.clone(),
            latency: Duration::from_millis(50),
            state: Arc::new(Mutex::new(State::Good)),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holder(&self) -> Option<String> {
        let holder = self.kept().record.as_ref()?.holder.clone();
        holder.map(|it| it.to_string())
    }
}

impl Way {
    fn set(&self, state: State) {
        *self.state.lock().expect("nobody panics with it") = state;
    }

    async fn state(&self) -> Result<State, Failure> {
        sleep(self.latency).await;
        let state = *self.state.lock().expect("nobody panics with it");
        match state {
            State::Good | State::Mute => Ok(state),
            State::Refuses => Err(Failure::Other("refused".to_owned())),
            State::Hangs => pending().await,
        }
    }
}

impl Store for Way {
    async fn read(&self) -> Result<Option<Record>, Failure> {
        self.state().await?;
        Ok(self.memory.kept().record.clone())
    }

    async fn write(&self, record: &Record) -> Result<(), Failure> {
        let state = self.state().await?;
        {
            let mut kept = self.memory.kept();
            let at = kept.record.as_ref().and_then(|it| it.version.clone());
            if at != record.version {
                return Err(Failure::Conflict);
            }
            kept.version += 1;
            kept.writes += 1;
            let version = Some(kept.version.to_string());
            kept.record = Some(Record {
                version,
                ..record.clone()
            });
        }
        match state {
            State::Mute => pending().await,
            State::Good | State::Refuses | State::Hangs => Ok(()),
        }
    }
}

struct Runner {
    lead: Lead,
    way: Way,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn run(memory: &Memory, name: &str) -> Runner {
    let way = memory.way();
    let clock = Clock::paused(SystemTime::UNIX_EPOCH);
    let (candidate, lead) = Candidate::new(way.clone(), name, Terms::default(), clock);
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(candidate.run(async {
        let _ = stopped.await;
    }));
    Runner {
        lead,
        way,
        stop,
        task,
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_goes_on_to_and_the_second_follows() {
    let memory = Memory::default();
    let mut first = run(&memory, "first");
    first.lead.won().await;
    let second = run(&memory, "second");
    for _ in 0..600 {
        sleep(SECOND).await;
        assert!(first.lead.leads() && !second.lead.leads());
    }
    assert_eq!(memory.holder().as_deref(), Some("first"));
    let renewals = memory.kept().writes;
    assert!((250..=350).contains(&renewals), "{renewals}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_is_followed_within_a_few_seconds() {
    let memory = Memory::default();
    let mut first = run(&memory, "first");
    first.lead.won().await;
    let mut second = run(&memory, "second");
    sleep(30 * SECOND).await;
    first.stop.send(()).expect("it runs");
    first.task.await.expect("it ends well");
    assert!(!first.lead.leads());
    assert_eq!(memory.holder(), None);
    let left = Instant::now();
    second.lead.won().await;
    assert!(left.elapsed() < 3 * SECOND, "{:?}", left.elapsed());
    let kept = memory.kept().record.clone().expect("it is there");
    assert_eq!(kept.transitions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_begins() {
    for state in [State::Refuses, State::Hangs, State::Mute] {
        let memory = Memory::default();
        let mut first = run(&memory, "first");
        first.lead.won().await;
        let mut second = run(&memory, "second");
        sleep(30 * SECOND).await;
        first.way.set(state);
        let cut = Instant::now();
        first.lead.lost().await;
        let after = cut.elapsed();
        assert!(after <= 10 * SECOND, "{state:?} {after:?}");
        assert!(!second.lead.leads(), "{state:?}");
        // What is written without an answer puts off the end.
        if state != State::Mute {
            second.lead.won().await;
            let after = cut.elapsed();
            assert!(
                (10 * SECOND..=20 * SECOND).contains(&after),
                "{state:?} {after:?}"
            );
            first.way.set(State::Good);
            sleep(30 * SECOND).await;
            assert!(second.lead.leads() && !first.lead.leads());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_no_leadership() {
    let memory = Memory::default();
    let mut first = run(&memory, "first");
    first.lead.won().await;
    first.way.set(State::Refuses);
    sleep(5 * SECOND).await;
    assert!(first.lead.leads());
    first.way.set(State::Good);
    sleep(60 * SECOND).await;
    assert!(first.lead.leads());
    let kept = memory.kept().record.clone().expect("it is there");
    assert_eq!(kept.transitions, 0);
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_when_the_lease_is_lost() {
    let memory = Memory::default();
    let mut first = run(&memory, "first");
    first.lead.won().await;
    assert_eq!(first.lead.during(async { 7 }).await, Some(7));
    first.way.set(State::Hangs);
    let work = first.lead.during(pending::<()>());
    let ended = timeout(11 * SECOND, work).await.expect("it has an end");
    assert_eq!(ended, None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_is_made_anew() {
    let memory = Memory::default();
    let mut first = run(&memory, "first");
    first.lead.won().await;
    memory.kept().record = None;
    sleep(5 * SECOND).await;
    assert!(first.lead.leads());
    assert_eq!(memory.holder().as_deref(), Some("first"));
}

#[tokio::test(start_paused = true)]
async fn somebody_s_label_on_a_lease_keeps_no_dead_holder_alive() {
    let memory = Memory::default();
    let mut first = run(&memory, "first");
    first.lead.won().await;
    let mut second = run(&memory, "second");
    sleep(5 * SECOND).await;
    first.task.abort();
    let died = Instant::now();
    let labels = tokio::spawn({
        let memory = memory.clone();
        async move {
            loop {
                sleep(SECOND).await;
                let mut kept = memory.kept();
                kept.version += 1;
                let version = kept.version.to_string();
                let record = kept.record.as_mut().expect("it is there");
                record.version = Some(version);
            }
        }
    });
    timeout(60 * SECOND, second.lead.won())
        .await
        .expect("it wins");
    assert!(died.elapsed() < 20 * SECOND, "{:?}", died.elapsed());
    labels.abort();
}

/// Whatever becomes of the ways to it, at any moment one leads at most.
#[tokio::test(start_paused = true)]
async fn there_are_never_two_leaders() {
    let mut led = [0; 3];
    for seed in 0..20 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let memory = Memory::default();
        let runners = ["a", "b", "c"].map(|name| run(&memory, name));
        for _ in 0..2000 {
            sleep(Duration::from_millis(100)).await;
            let leads = runners.each_ref().map(|it| it.lead.leads());
            let count = leads.iter().filter(|leads| **leads).count();
            assert!(count <= 1, "seed {seed}: {leads:?}");
            for (sum, leads) in led.iter_mut().zip(leads) {
                *sum += u32::from(leads);
            }
            if chance.u8(..) < 5 {
                let states = [State::Good, State::Refuses, State::Hangs, State::Mute];
                let state = states[chance.usize(..states.len())];
                runners[chance.usize(..3)].way.set(state);
            }
        }
        for runner in runners {
            runner.task.abort();
        }
    }
    assert!(led.iter().all(|count| *count > 1000), "{led:?}");
}
