//! The I/O worker's part in the life of a VM, as a pure state machine: when a dead one is started again, and when no more.
//!
//! ```text
//!   Starting ──ready──▶ Serving ──broken, silent, asked to go──▶ Leaving (killed)
//!      └───────────died────┴──────────────died──────────────────────┘
//!                            ▼
//!                    Due (a moment) ──▶ Starting            or Lost, when it died too often
//! ```
//!
//! A death costs the guest a stall and nothing else: the rings outlive the worker, and the next one does what they hold.
//! So the first start after a death is immediate. One that dies young delays the next, doubling; more than the user
//! allows within [`WINDOW`] end the VM. A start on the user's word counts for neither.
//!
//! What must never happen here: a worker that is never replaced while the VM lives, or a start loop without a pause.

use super::verdict::plain;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time in which `io.restart_limit` deaths are allowed.
pub const WINDOW: Duration = Duration::from_secs(60);
/// A worker that dies sooner than this after its start delays the next one.
const YOUNG: Duration = Duration::from_millis(500);
/// The first such delay; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// The longest.
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// How long one that is killed may take to be gone before the user is told.
const GONE_LIMIT: Duration = Duration::from_secs(2);

/// What is to be done about the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start another one with the same means.
    Start,
    /// End it; its death is still to come.
    Kill,
    /// Tell the user.
    Say(String),
    /// Warn the user.
    Warn(String),
    /// It serves.
    Serves,
    /// There will be none any more: why.
    Lost(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Serving,
    Leaving { asked: bool, late: Option<Instant> },
    Due { at: Instant, asked: bool },
    Lost,
}

/// The I/O workers of one incarnation of the machine, one after the other.
#[derive(Debug)]
pub struct IoWorker {
    state: State,
    limit: usize,
    started: Instant,
    /// One of them has served.
    served: bool,
    /// The present one was started on the user's word, and has not served.
    on_trial: bool,
    /// What the present one says of its own end.
    reason: Option<String>,
    /// Deaths in the last [`WINDOW`].
    deaths: VecDeque<Instant>,
    /// How many in a row died young.
    young: u32,
    restarts: u64,
    last_death: Option<String>,
}

impl IoWorker {
    /// The first one was just started; `limit` deaths within [`WINDOW`] are followed by another start.
    pub fn new(limit: u32, now: Instant) -> Self {
        Self {
            state: State::Starting,
            limit: limit as usize,
            started: now,
            served: false,
            on_trial: false,
            reason: None,
            deaths: VecDeque::new(),
            young: 0,
            restarts: 0,
            last_death: None,
        }
    }

    /// Whether there will be none any more.
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Whether there is one that serves.
    pub fn serves(&self) -> bool {
        self.state == State::Serving
    }

    /// Whether there is one that is to show itself.
    pub fn is_watched(&self) -> bool {
        matches!(self.state, State::Starting | State::Serving)
    }

    /// The state's public name.
    pub fn name(&self) -> &'static str {
        match self.state {
            State::Starting => "starting",
            State::Serving => "serving",
            State::Leaving { .. } | State::Due { .. } => "restarting",
            State::Lost => "lost",
        }
    }

    /// Times one was started after another.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// How the last of them ended that did.
    pub fn last_death(&self) -> Option<&str> {
        self.last_death.as_deref()
    }

    /// When [`tick`](Self::tick) is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Due { at, .. } => Some(at),
            State::Leaving { late, .. } => late,
            State::Starting | State::Serving | State::Lost => None,
        }
    }

    /// It says that it serves.
    pub fn ready(&mut self) -> Vec<Step> {
        if self.state != State::Starting {
            return Vec::new();
        }
        self.state = State::Serving;
        self.served = true;
        self.on_trial = false;
        vec![Step::Serves]
    }

    /// It says that it cannot go on. One that never could has a reason the next would have too.
    pub fn failed(&mut self, why: &str) -> Vec<Step> {
        let why = format!("failed: {}", plain(why));
        if self.served || self.on_trial {
            self.reason = Some(why);
            return Vec::new();
        }
        self.lose(format!("I/O worker {why}"))
    }

    /// It talks nonsense, or has stopped listening.
    pub fn broke(&mut self, how: &str, now: Instant) -> Vec<Step> {
        self.end(Some(format!("broke the protocol: {}", plain(how))), now)
    }

    /// It has shown no sign of life for so long.
    pub fn silent(&mut self, since: Duration, now: Instant) -> Vec<Step> {
        self.end(
            Some(format!("gave no sign of life for {} ms", since.as_millis())),
            now,
        )
    }

    /// The user wants another one in its place.
    pub fn replace(&mut self, now: Instant) -> Vec<Step> {
        self.end(None, now)
    }

    /// Kills it: why, unless that is the user's wish.
    fn end(&mut self, why: Option<String>, now: Instant) -> Vec<Step> {
        if !self.is_watched() {
            return Vec::new();
        }
        self.state = State::Leaving {
            asked: why.is_none(),
            late: Some(now + GONE_LIMIT),
        };
        self.reason = why;
        vec![Step::Kill]
    }

    /// Its process is gone.
    pub fn died(&mut self, how: &str, now: Instant) -> Vec<Step> {
        let how = match self.reason.take() {
            Some(reason) => reason,
            None => format!("died: {how}"),
        };
        match self.state {
            State::Due { .. } | State::Lost => return Vec::new(),
            State::Leaving { asked: true, .. } => {
                self.last_death = Some("was replaced on request".to_owned());
                self.state = State::Due { at: now, asked: true };
                return vec![Step::Say("I/O worker replaced on request".to_owned())];
            }
            State::Starting | State::Serving | State::Leaving { asked: false, .. } => {}
        }
        self.last_death = Some(how.clone());
        if self.on_trial {
            self.state = State::Due {
                at: now,
                asked: false,
            };
            return vec![Step::Warn(format!(
                "the I/O worker that was to replace ours {how}; starting ours again"
            ))];
        }
        while self
            .deaths
            .front()
            .is_some_and(|&at| now.duration_since(at) >= WINDOW)
        {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        if self.deaths.len() > self.limit {
            return self.lose(match self.deaths.len() {
                1 => format!("I/O worker {how}"),
                count => format!(
                    "I/O worker lost {count} times in {} s; it {how}",
                    WINDOW.as_secs()
                ),
            });
        }
        self.state = State::Due {
            at: now + self.delay(now),
            asked: false,
        };
        vec![Step::Warn(format!("I/O worker {how}; starting another"))]
    }

    fn delay(&mut self, now: Instant) -> Duration {
        if now.duration_since(self.started) >= YOUNG {
            self.young = 0;
            return Duration::ZERO;
        }
        self.young += 1;
        match self.young {
            1 => Duration::ZERO,
            more => FIRST_DELAY
                .saturating_mul(1 << (more - 2).min(16))
                .min(LONGEST_DELAY),
        }
    }

    fn lose(&mut self, why: String) -> Vec<Step> {
        self.state = State::Lost;
        vec![Step::Lost(why)]
    }

    /// The deadline may have passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Step> {
        match self.state {
            State::Due { at, asked } if now >= at => {
                self.state = State::Starting;
                self.on_trial = asked;
                self.started = now;
                self.restarts += 1;
                vec![Step::Start]
            }
            State::Leaving {
                asked,
                late: Some(at),
            } if now >= at => {
                self.state = State::Leaving { asked, late: None };
                vec![Step::Warn(format!(
                    "I/O worker was killed {} s ago and is not gone: the host's kernel holds it, for a disk perhaps; \
                     none can take its place before",
                    GONE_LIMIT.as_secs()
                ))]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVES: Duration = Duration::from_secs(1);

    fn serving(limit: u32) -> (IoWorker, Instant) {
        let now = Instant::now();
        let mut worker = IoWorker::new(limit, now);
        assert_eq!(worker.ready(), [Step::Serves]);
        (worker, now)
    }

    /// Starts the next when it is due and lets it serve; returns how long that took.
    fn next(worker: &mut IoWorker, now: &mut Instant) -> Duration {
        let due = worker.deadline().expect("another is to come");
        let waited = due - *now;
        *now = due;
        assert_eq!(worker.tick(*now), [Step::Start]);
        assert_eq!(worker.ready(), [Step::Serves]);
        waited
    }

    #[test]
    fn a_worker_that_lived_is_followed_at_once() {
        let (mut worker, mut now) = serving(1000);
        for restarts in 1..=20 {
            now += LIVES;
            let steps = worker.died("killed by signal 9 (SIGKILL)", now);
            let text = "I/O worker died: killed by signal 9 (SIGKILL); starting another";
            assert_eq!(steps, [Step::Warn(text.into())]);
            assert_eq!(worker.name(), "restarting");
            assert_eq!(next(&mut worker, &mut now), Duration::ZERO);
            assert_eq!((worker.restarts(), worker.name()), (restarts, "serving"));
        }
    }

    #[test]
    fn workers_that_die_young_come_ever_later_until_one_lives() {
        let (mut worker, mut now) = serving(1000);
        let mut waited = Vec::new();
        for _ in 0..11 {
            worker.died("exited with status 1", now);
            waited.push(next(&mut worker, &mut now).as_millis());
        }
        assert_eq!(waited, [0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        now += LIVES;
        worker.died("exited with status 1", now);
        assert_eq!(next(&mut worker, &mut now), Duration::ZERO);
    }

    #[test]
    fn more_deaths_in_the_window_than_allowed_end_it() {
        let (mut worker, mut now) = serving(3);
        for _ in 0..3 {
            now += LIVES;
            worker.died("x", now);
            next(&mut worker, &mut now);
        }
        now += LIVES;
        let why = "I/O worker lost 4 times in 60 s; it died: x";
        assert_eq!(worker.died("x", now), [Step::Lost(why.into())]);
        assert!(worker.is_lost());
        assert_eq!(
            (worker.died("x", now), worker.tick(now + WINDOW)),
            (vec![], vec![])
        );

        let (mut worker, mut now) = serving(3);
        for _ in 0..20 {
            now += WINDOW / 3;
            worker.died("x", now);
            next(&mut worker, &mut now);
        }
        assert!(!worker.is_lost(), "three in any 60 s");
    }

    #[test]
    fn with_no_restart_allowed_the_first_death_is_the_last() {
        let (mut worker, now) = serving(0);
        assert_eq!(worker.died("x", now), [Step::Lost("I/O worker died: x".into())]);
    }

    #[test]
    fn the_first_one_that_cannot_start_says_why_and_ends_it() {
        let mut worker = IoWorker::new(10, Instant::now());
        let why = "I/O worker failed: net 0: busy";
        assert_eq!(worker.failed("net 0: busy"), [Step::Lost(why.into())]);
        let (mut worker, now) = serving(10);
        assert_eq!(worker.failed("the thread of disk 0 is gone"), []);
        let text = "I/O worker failed: the thread of disk 0 is gone; starting another";
        assert_eq!(
            worker.died("exited with status 1", now),
            [Step::Warn(text.into())]
        );
    }

    #[test]
    fn one_that_is_broken_or_silent_is_killed_and_followed() {
        let (mut worker, now) = serving(10);
        assert_eq!(worker.silent(Duration::from_secs(5), now), [Step::Kill]);
        assert_eq!(worker.silent(Duration::from_secs(6), now), []);
        let text = "I/O worker gave no sign of life for 5000 ms; starting another";
        assert_eq!(worker.died("killed", now), [Step::Warn(text.into())]);
        let (mut worker, now) = serving(10);
        assert_eq!(worker.broke("not\x1b JSON", now), [Step::Kill]);
        let text = "I/O worker broke the protocol: not  JSON; starting another";
        assert_eq!(worker.died("killed", now), [Step::Warn(text.into())]);
    }

    #[test]
    fn a_start_on_request_counts_for_nothing() {
        let (mut worker, mut now) = serving(0);
        for _ in 0..5 {
            assert_eq!(worker.replace(now), [Step::Kill]);
            assert_eq!(worker.replace(now), []);
            assert!(matches!(&worker.died("killed", now)[..], [Step::Say(_)]));
            assert_eq!(next(&mut worker, &mut now), Duration::ZERO);
        }
    }

    #[test]
    fn what_the_user_put_in_its_place_may_die_before_it_serves_and_ours_comes_back() {
        for why in [
            "died: exited with status 7",
            "failed: no",
            "gave no sign of life for 9 ms",
        ] {
            let (mut worker, now) = serving(0);
            worker.replace(now);
            worker.died("killed", now);
            assert_eq!(worker.tick(now), [Step::Start]);
            match why {
                "failed: no" => assert_eq!(worker.failed("no"), []),
                "died: exited with status 7" => {}
                _ => assert_eq!(worker.silent(Duration::from_millis(9), now), [Step::Kill]),
            }
            let text = format!("the I/O worker that was to replace ours {why}; starting ours again");
            assert_eq!(worker.died("exited with status 7", now), [Step::Warn(text)]);
            assert_eq!(worker.last_death(), Some(why));
            assert_eq!(worker.tick(now), [Step::Start]);
            // Ours counts as ever.
            assert!(matches!(&worker.died("x", now)[..], [Step::Lost(_)]));
        }
        let (mut worker, now) = serving(0);
        worker.replace(now);
        worker.died("killed", now);
        worker.tick(now);
        assert_eq!(worker.ready(), [Step::Serves]);
        assert!(matches!(&worker.died("x", now)[..], [Step::Lost(_)]), "it served");
    }

    #[test]
    fn one_that_does_not_die_when_killed_is_told_once() {
        let (mut worker, now) = serving(10);
        worker.replace(now);
        let late = worker.deadline().unwrap();
        assert_eq!(worker.tick(late - Duration::from_millis(1)), []);
        assert!(matches!(&worker.tick(late)[..], [Step::Warn(text)] if text.contains("not gone")));
        assert_eq!((worker.deadline(), worker.tick(late + WINDOW)), (None, vec![]));
        assert!(matches!(&worker.died("killed", late)[..], [Step::Say(_)]));
    }
}
