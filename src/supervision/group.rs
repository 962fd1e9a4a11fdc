//! The decisions of one supervisor of a declared tree: which of its children are started and
//! stopped, in which order, and when it gives up. They are those of OTP's `supervisor`; the differences
//! are that nothing blocks, and that a restart can be delayed.
//!
//! ```text
//! Down ─ start ─▶ Starting ─ all run ─▶ Idle ─ a child ended ─▶ Clearing ─▶ Waiting ─▶ Raising ─┐
//!   ▲                │ one does not       ▲ │                   (stops in    (the      (starts  │
//!   └── Stopping ◀───┴────────────────────┼─┘ too often          reverse)    delay)    in order)│
//!       (in reverse)                      └─────────────────────────────────────────────────────┘
//! ```
//!
//! One thing at a time: a child that ends while others are stopped or started has its turn
//! afterwards, as with OTP, whose supervisor does not read its mailbox meanwhile. Under
//! `one_for_one` each child has its own delay, and none waits for another.

use std::collections::VecDeque;

use super::intensity::RestartHistory;
use super::spec::Strategy;
use super::{Backoff, Intensity};
use crate::agent::{AgentId, RestartType};
use crate::time::Instant;

/// A child of a supervisor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Agent(AgentId),
    Supervisor(String),
}

impl Key {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Agent(id) => id.as_str(),
            Self::Supervisor(id) => id,
        }
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// An agent returned.
    Normal,
    /// A supervisor ended because it gave up, in that many levels: OTP's `shutdown`, which is no
    /// failure to a transient child's supervisor.
    GaveUp { level: u32 },
    /// Any other end.
    Failed,
}

/// Why a supervisor has no children that run any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was told to stop.
    Stopped,
    /// There were too many restarts.
    GaveUp { level: u32 },
    /// A child did not start when it was started for the first time.
    NotStarted,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Start a child; then say `started` or `ended`.
    Start(Key),
    /// Stop a child; then say `ended`.
    Stop(Key),
    /// A child that was added did not start, and is no longer known.
    Refuse(Key),
    /// All children run for the first time since `start`.
    Up,
    /// Nothing is under way any more: what does not run now will not by itself.
    Rest,
    /// There were too many restarts: all that run will be stopped.
    GiveUp { child: Key, level: u32 },
    /// None of them runs any more.
    Down(End),
}

/// What became of a child's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was expected, or changes nothing.
    Nothing,
    /// It is, or will be, started again.
    Restart,
    /// That was once too often.
    GaveUp,
}

/// What a supervisor keeps to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) strategy: Strategy,
    pub(super) intensity: Intensity,
    pub(super) backoff: Backoff,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    restart: RestartType,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It does not run, and nothing is under way.
    Down,
    /// It was temporary and has ended: nothing but a start of the whole supervisor starts it.
    Gone,
    /// It is to be started when there is time.
    Wanted(Why),
    /// It was told to start, and has not said that it runs.
    Starting(Why),
    Up,
    Stopping,
    /// It ended, or did not start again, and its restart has to wait for what is under way.
    Dead {
        level: u32,
    },
    /// Its restart has to wait until then (`one_for_one`).
    Delayed {
        until: Instant,
    },
}

/// Why a child is started; which decides what it means if it does not come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The supervisor wants it to run: its start is tried again.
    Order,
    /// It was added: it is refused.
    Added,
    /// Somebody asked for it: it stays as it was.
    Asked,
}

/// What waits until nothing is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Restart(Key),
    Start(Key),
    Terminate(Key),
}

#[derive(Clone, Debug, PartialEq)]
enum Doing {
    /// It does not run.
    Down,
    /// Starts all, in order.
    Starting,
    /// Runs.
    Idle,
    /// Stops those from there on, in reverse.
    Clearing { from: usize, until: Instant },
    /// Waits, with those from there on stopped.
    Waiting { from: usize, until: Instant },
    /// Starts those from there on, in order.
    Raising { from: usize },
    /// Stops all, in reverse.
    Stopping(End),
}

/// One supervisor.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) rules: Rules,
    /// In the order of their start.
    slots: Vec<Slot>,
    history: RestartHistory,
    /// The number, in the window, of the last restart.
    attempt: u32,
    doing: Doing,
    /// Whether it has not told yet that nothing is under way any more.
    unrest: bool,
    /// What waits until nothing is under way: at most one of each kind for a child.
    turns: VecDeque<Turn>,
    steps: VecDeque<Step>,
}

impl Turn {
    fn key(&self) -> &Key {
        match self {
            Self::Restart(key) | Self::Start(key) | Self::Terminate(key) => key,
        }
    }
}

/// Why something cannot be done with a child: OTP's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Unknown,
    Running,
    Restarting,
}

impl Group {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            slots: Vec::new(),
            history: RestartHistory::default(),
            attempt: 0,
            doing: Doing::Down,
            unrest: false,
            turns: VecDeque::new(),
            steps: VecDeque::new(),
        }
    }

    /// Takes a child to the end of the order, before the first start.
    pub(super) fn declare(&mut self, key: Key, restart: RestartType) {
        self.slots.push(Slot { key, restart, state: State::Down });
    }

    /// Takes a child to the end of the order and starts it.
    pub(super) fn add(&mut self, now: Instant, key: Key, restart: RestartType) {
        self.turns.push_back(Turn::Start(key.clone()));
        self.slots.push(Slot { key, restart, state: State::Wanted(Why::Added) });
        self.go(now);
    }

    /// Starts all children, also those that were stopped by hand and temporary ones that ended: as
    /// with OTP, a supervisor that is started again forgets what was. What was added or deleted in
    /// its life stays so, which is not as with OTP: there, the code is what is declared.
    pub(super) fn start(&mut self, now: Instant) {
        if self.doing == Doing::Down {
            self.slots.iter_mut().for_each(|slot| slot.state = State::Down);
            self.history = RestartHistory::default();
            self.unrest = true;
            self.doing = Doing::Starting;
            self.go(now);
        }
    }

    /// Stops all children. If that is under way, for whatever reason, it goes on.
    pub(super) fn stop(&mut self, now: Instant) {
        if !matches!(self.doing, Doing::Stopping(_)) {
            self.doing = Doing::Stopping(End::Stopped);
            self.go(now);
        }
    }

    /// A child runs.
    pub(super) fn started(&mut self, now: Instant, key: &Key) {
        if let Some(slot) = self.slot(key) {
            if matches!(slot.state, State::Starting(_)) {
                slot.state = State::Up;
                self.go(now);
            }
        }
    }

    /// A child has ended, or did not start. `random` (0 to 1) varies the delay.
    pub(super) fn ended(&mut self, now: Instant, key: &Key, exit: Exit, random: f64) -> Verdict {
        let Some(at) = self.position(key) else { return Verdict::Nothing };
        let clears = self.clears(at);
        let slot = &mut self.slots[at];
        let again = match slot.restart {
            RestartType::Permanent => true,
            RestartType::Transient => exit == Exit::Failed,
            RestartType::Temporary => false,
        };
        let level = match exit {
            Exit::GaveUp { level } => level,
            Exit::Normal | Exit::Failed => 0,
        };
        let mut verdict = Verdict::Nothing;
        match slot.state {
            State::Stopping => self.out_of_the_way(at),
            State::Starting(Why::Added) => {
                let key = self.remove(at);
                self.steps.push_back(Step::Refuse(key));
            }
            State::Starting(Why::Asked) => slot.state = State::Down,
            State::Starting(Why::Order) => {
                slot.state = State::Down;
                if self.doing == Doing::Starting {
                    self.doing = Doing::Stopping(End::NotStarted);
                } else if !matches!(self.doing, Doing::Stopping(_)) {
                    // As OTP does: what comes after it is started with it, when its turn comes again.
                    if let Doing::Raising { .. } = self.doing {
                        self.doing = Doing::Idle;
                    }
                    verdict = self.restart_later(now, at, level, random);
                }
            }
            State::Up if clears => self.out_of_the_way(at),
            State::Up if again => verdict = self.restart_later(now, at, level, random),
            State::Up => self.out_of_the_way(at),
            _ => {}
        }
        self.go_on(now, random);
        verdict
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            if matches!(self.slots[at].state, State::Delayed { until } if until <= now) {
                self.start_slot(now, at);
            }
        }
        self.go(now);
    }

    /// When there is something to do without a fact from outside.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.doing {
            Doing::Waiting { until, .. } => Some(until),
            Doing::Down | Doing::Stopping(_) => None,
            _ => {
                let delays = self.slots.iter().filter_map(|slot| match slot.state {
                    State::Delayed { until } => Some(until),
                    _ => None,
                });
                delays.min()
            }
        }
    }

    /// Stops one child and keeps its place: OTP's `terminate_child`.
    pub(super) fn terminate_child(&mut self, now: Instant, key: &Key) -> Result<(), Refused> {
        let at = self.position(key).ok_or(Refused::Unknown)?;
        if self.slots[at].state == State::Gone {
            return Err(Refused::Unknown);
        }
        let turn = Turn::Terminate(key.clone());
        if !self.turns.contains(&turn) {
            self.turns.push_back(turn);
        }
        self.go(now);
        Ok(())
    }

    /// Starts one that does not run: OTP's `restart_child`.
    pub(super) fn restart_child(&mut self, now: Instant, key: &Key) -> Result<(), Refused> {
        self.at_rest(key)?;
        if let Some(slot) = self.slot(key) {
            slot.state = State::Wanted(Why::Asked);
            self.turns.push_back(Turn::Start(key.clone()));
        }
        self.go(now);
        Ok(())
    }

    /// Forgets one that does not run: OTP's `delete_child`.
    pub(super) fn delete_child(&mut self, key: &Key) -> Result<(), Refused> {
        let at = self.at_rest(key)?;
        self.remove(at);
        Ok(())
    }

    pub(super) fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// In the order of their start.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.slots.iter().map(|slot| &slot.key)
    }

    /// Those that do not run, and will not by themselves.
    pub(super) fn resting(&self) -> impl Iterator<Item = &Key> {
        let rests = |slot: &&Slot| matches!(slot.state, State::Down | State::Gone);
        self.slots.iter().filter(rests).map(|slot| &slot.key)
    }

    /// Those that have a place (a temporary one that ended has none), and whether each runs.
    pub(super) fn places(&self) -> impl Iterator<Item = (&Key, bool)> {
        let placed = self.slots.iter().filter(|slot| slot.state != State::Gone);
        let runs = |state| matches!(state, State::Up | State::Starting(_) | State::Stopping);
        placed.map(move |slot| (&slot.key, runs(slot.state)))
    }

    /// Whether it takes children: not if it does not run, or will soon not.
    pub(super) fn takes_children(&self) -> bool {
        !matches!(self.doing, Doing::Down | Doing::Stopping(_))
    }

    pub(super) fn is_down(&self) -> bool {
        self.doing == Doing::Down
    }

    /// Whether what is under way may start a child that does not run now.
    pub(super) fn may_return(&self, key: &Key) -> bool {
        let Some(at) = self.position(key) else { return false };
        if self.slots[at].state == State::Gone {
            return false;
        }
        match self.doing {
            Doing::Down | Doing::Idle => false,
            Doing::Starting | Doing::Stopping(_) => true,
            Doing::Clearing { from, .. }
            | Doing::Waiting { from, .. }
            | Doing::Raising { from } => at >= from,
        }
    }

    /// Whether a child that does not run, or is about to end, is started again by itself, while this
    /// supervisor runs.
    pub(super) fn will_start(&self, key: &Key) -> bool {
        let Some(at) = self.position(key) else { return false };
        match self.slots[at].state {
            State::Gone => false,
            State::Down | State::Stopping => self.may_return(key),
            State::Up => self.slots[at].restart != RestartType::Temporary,
            _ => true,
        }
    }

    /// The number, in the window, of the last restart.
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }

    fn position(&self, key: &Key) -> Option<usize> {
        self.slots.iter().position(|slot| slot.key == *key)
    }

    fn slot(&mut self, key: &Key) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.key == *key)
    }

    /// Where a child is that neither runs nor will without being told.
    fn at_rest(&self, key: &Key) -> Result<usize, Refused> {
        let at = self.position(key).ok_or(Refused::Unknown)?;
        match self.slots[at].state {
            State::Gone => Err(Refused::Unknown),
            State::Down if matches!(self.doing, Doing::Idle | Doing::Down) => Ok(at),
            State::Up | State::Stopping => Err(Refused::Running),
            _ => Err(Refused::Restarting),
        }
    }

    /// Whether a child is about to be stopped by what is under way, so that its own end is no
    /// reason for more. OTP takes that end for the stop, too.
    fn clears(&self, at: usize) -> bool {
        match self.doing {
            Doing::Stopping(_) => true,
            Doing::Clearing { from, .. } => at >= from,
            _ => false,
        }
    }

    /// A child that does not run, and will not by itself.
    fn out_of_the_way(&mut self, at: usize) {
        self.slots[at].state = match self.slots[at].restart {
            RestartType::Temporary => State::Gone,
            RestartType::Permanent | RestartType::Transient => State::Down,
        };
    }

    fn remove(&mut self, at: usize) -> Key {
        match &mut self.doing {
            Doing::Clearing { from, .. }
            | Doing::Waiting { from, .. }
            | Doing::Raising { from }
                if at < *from =>
            {
                *from -= 1;
            }
            _ => {}
        }
        let slot = self.slots.remove(at);
        self.turns.retain(|turn| *turn.key() != slot.key);
        slot.key
    }

    /// Lets a child have its turn: at once if nothing is under way.
    fn restart_later(&mut self, now: Instant, at: usize, level: u32, random: f64) -> Verdict {
        self.slots[at].state = State::Dead { level };
        match self.doing {
            Doing::Idle if self.turns.is_empty() => self.restart(now, at, random),
            // With nothing under way but a delay, it joins those that wait.
            Doing::Waiting { .. } => self.restart(now, at, random),
            _ => {
                let key = self.slots[at].key.clone();
                self.turns.push_back(Turn::Restart(key));
                Verdict::Restart
            }
        }
    }

    fn restart(&mut self, now: Instant, at: usize, random: f64) -> Verdict {
        let State::Dead { level } = self.slots[at].state else { return Verdict::Nothing };
        let delayed = self.slots.iter().filter(|slot| matches!(slot.state, State::Delayed { .. }));
        let reserved = u32::try_from(delayed.count()).unwrap_or(u32::MAX);
        let intensity = self.rules.intensity;
        let Some(attempt) = self.history.next_attempt_beside(now, intensity, reserved) else {
            let (child, level) = (self.slots[at].key.clone(), level + 1);
            self.out_of_the_way(at);
            self.steps.push_back(Step::GiveUp { child, level });
            self.doing = Doing::Stopping(End::GaveUp { level });
            return Verdict::GaveUp;
        };
        self.attempt = attempt;
        let mut until = now + self.rules.backoff.delay(attempt, random);
        let mut from = match self.rules.strategy {
            Strategy::OneForOne => {
                self.slots[at].state = State::Delayed { until };
                if until <= now {
                    self.start_slot(now, at);
                }
                return Verdict::Restart;
            }
            Strategy::OneForAll => 0,
            Strategy::RestForOne => at,
        };
        if let Doing::Waiting { from: earlier, until: later } = self.doing {
            // Two restarts become one; both count.
            self.history.record(now, intensity);
            (from, until) = (from.min(earlier), until.max(later));
        }
        self.slots[at].state = State::Down;
        self.unrest = true;
        self.doing = Doing::Clearing { from, until };
        Verdict::Restart
    }

    fn start_slot(&mut self, now: Instant, at: usize) {
        self.history.record(now, self.rules.intensity);
        self.tell_to_start(at, Why::Order);
    }

    fn tell_to_start(&mut self, at: usize, why: Why) {
        self.slots[at].state = State::Starting(why);
        self.steps.push_back(Step::Start(self.slots[at].key.clone()));
    }

    fn tell_to_stop(&mut self, at: usize) {
        self.slots[at].state = State::Stopping;
        self.steps.push_back(Step::Stop(self.slots[at].key.clone()));
    }

    fn go(&mut self, now: Instant) {
        self.go_on(now, 0.5);
    }

    /// Does what can be done now, until something has to be waited for.
    fn go_on(&mut self, now: Instant, random: f64) {
        loop {
            match self.doing {
                Doing::Down => return,
                Doing::Idle => {
                    if !self.next_turn(now, random) {
                        if std::mem::take(&mut self.unrest) {
                            self.steps.push_back(Step::Rest);
                        }
                        return;
                    }
                }
                Doing::Starting => {
                    if !self.raised(0) {
                        return;
                    }
                    self.doing = Doing::Idle;
                    self.steps.push_back(Step::Up);
                }
                Doing::Clearing { from, until } => {
                    if !self.cleared(from) {
                        return;
                    }
                    self.doing = Doing::Waiting { from, until };
                }
                Doing::Waiting { from, until } => {
                    if now < until {
                        return;
                    }
                    self.history.record(now, self.rules.intensity);
                    self.doing = Doing::Raising { from };
                }
                Doing::Raising { from } => {
                    if !self.raised(from) {
                        return;
                    }
                    self.doing = Doing::Idle;
                }
                Doing::Stopping(_) => {
                    if !self.cleared(0) {
                        return;
                    }
                    if let Doing::Stopping(end) = std::mem::replace(&mut self.doing, Doing::Down) {
                        self.turns.clear();
                        self.steps.push_back(Step::Down(end));
                    }
                }
            }
        }
    }

    /// Whose turn is next has it; false if it is nobody's.
    fn next_turn(&mut self, now: Instant, random: f64) -> bool {
        let Some(turn) = self.turns.pop_front() else { return false };
        let Some(at) = self.position(turn.key()) else { return true };
        match (turn, self.slots[at].state) {
            (Turn::Restart(_), State::Dead { .. }) => {
                self.restart(now, at, random);
            }
            (Turn::Start(_), State::Wanted(why)) => self.tell_to_start(at, why),
            (Turn::Terminate(_), State::Up | State::Starting(_)) => self.tell_to_stop(at),
            (Turn::Terminate(_), State::Stopping | State::Down | State::Gone) => {}
            (Turn::Terminate(_), _) => {
                self.out_of_the_way(at);
                self.unrest = true;
            }
            _ => {}
        }
        true
    }

    /// Starts the next one from there on that does not run; true if all of them run.
    fn raised(&mut self, from: usize) -> bool {
        for at in from..self.slots.len() {
            match self.slots[at].state {
                State::Down => {
                    self.tell_to_start(at, Why::Order);
                    return false;
                }
                State::Starting(_) | State::Stopping => return false,
                _ => {}
            }
        }
        true
    }

    /// Stops the last one from there on that runs; true if none does. Those that wait for their
    /// turn have had it.
    fn cleared(&mut self, from: usize) -> bool {
        for at in (from..self.slots.len()).rev() {
            let Some(slot) = self.slots.get(at) else { continue };
            match slot.state {
                State::Down | State::Gone => {}
                State::Up | State::Starting(_) => {
                    self.tell_to_stop(at);
                    return false;
                }
                State::Stopping => return false,
                State::Wanted(_) | State::Dead { .. } | State::Delayed { .. } => {
                    self.out_of_the_way(at);
                }
            }
        }
        true
    }
}
