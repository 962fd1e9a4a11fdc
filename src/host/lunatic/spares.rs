//! Processes that wait to become an agent. The runtime takes longer to make a process than all the
//! rest of a start takes, and an agent that died is missed meanwhile: so a process of its own, the
//! nursery, makes some beforehand. A spare links itself to the supervisor, warms its memory, says that
//! it is there, and waits to be told who it is, as any agent's process does.
//!
//! Only memory limits are known beforehand: an agent with a fuel limit, which counts from the spawn,
//! gets a fresh process.

use serde::{Deserialize, Serialize};

use super::agent;
use super::mail::{self, SupervisorMail};
use super::sys::{self, Permissions, Pid};

/// The most that wait with one memory limit, and not more than agents were started with it: as many
/// may die at once without waiting for the runtime. Worst case some 40 KB each.
const PER_LIMIT: usize = 16;
/// New ones are made once so many are missing: not one for each start, which would take the machine's
/// time just while that agent starts.
const BATCH: usize = 8;
/// How many are ordered at once while some still wait. The nursery does not give way while it has an
/// order, and whoever waits for its thread does so for 0.1 ms for each: with eight of them every
/// fiftieth restart took longer than a millisecond. Where none waits any more all are ordered that are
/// missing: the next start would have to make its own.
const AT_ONCE: usize = 2;
/// The most memory limits with spares. For one more, those of the limit that was not asked for the
/// longest are killed.
const MAX_LIMITS: usize = 4;

/// The spares as the supervisor knows them.
#[derive(Default)]
pub(super) struct Spares {
    nursery: Nursery,
    /// What was asked for last is last.
    limits: Vec<Limit>,
}

struct Limit {
    memory_mb: u32,
    /// How often it was asked for, up to [`PER_LIMIT`]: as many are kept, so that a limit that comes
    /// and goes costs no more than one process for each of its agents.
    asked: usize,
    waiting: Vec<Pid>,
    /// How many the nursery was asked for and has not brought yet.
    ordered: usize,
}

impl Spares {
    /// A process with this memory limit, if one waits; and the next ones are asked for.
    pub(super) fn take(&mut self, memory_mb: u32) -> Option<Pid> {
        let at = self.limits.iter().position(|limit| limit.memory_mb == memory_mb);
        let mut limit = match at {
            Some(at) => self.limits.remove(at),
            None => Limit { memory_mb, asked: 0, waiting: Vec::new(), ordered: 0 },
        };
        // One that anybody killed is of no use; that it died comes by its link, and means nothing then.
        let taken = std::iter::from_fn(|| limit.waiting.pop()).find(|&pid| sys::exists(pid));
        limit.asked = (limit.asked + 1).min(PER_LIMIT);
        if limit.waiting.is_empty() || limit.missing() >= BATCH {
            limit.order(&mut self.nursery);
        }
        self.limits.push(limit);
        if self.limits.len() > MAX_LIMITS {
            self.limits.remove(0).waiting.into_iter().for_each(sys::kill);
        }
        taken
    }

    /// One is there, and the next ones are asked for until none is missing.
    pub(super) fn ready(&mut self, pid: Pid, memory_mb: u32) {
        match brought(&mut self.limits, memory_mb) {
            Some(limit) if limit.waiting.len() < PER_LIMIT => {
                limit.waiting.push(pid);
                limit.order(&mut self.nursery);
            }
            // Its limit was given up meanwhile, and may have begun anew.
            _ => sys::kill(pid),
        }
    }

    /// The nursery found that there is no room for more: it is asked again at the next start.
    pub(super) fn refused(&mut self, memory_mb: u32) {
        brought(&mut self.limits, memory_mb);
    }

    /// A link broke that is no agent's. Where it was the nursery's, what it was asked for does not
    /// come, and the next start makes another one.
    pub(super) fn link_died(&mut self, tag: i64) {
        if self.nursery.process.take_if(|(_, link)| *link == tag).is_some() {
            self.limits.iter_mut().for_each(|limit| limit.ordered = 0);
        }
    }
}

impl Limit {
    fn missing(&self) -> usize {
        self.asked.saturating_sub(self.waiting.len())
    }

    /// Asks for what is missing, as far as it is not asked for and may be by now.
    fn order(&mut self, nursery: &mut Nursery) {
        let at_once = if self.waiting.is_empty() { PER_LIMIT } else { AT_ONCE };
        while self.ordered < self.missing().min(at_once) && nursery.make(self.memory_mb) {
            self.ordered += 1;
        }
    }
}

/// The nursery has one less to bring, of the limit that is returned.
fn brought(limits: &mut [Limit], memory_mb: u32) -> Option<&mut Limit> {
    let limit = limits.iter_mut().find(|limit| limit.memory_mb == memory_mb)?;
    limit.ordered = limit.ordered.saturating_sub(1);
    Some(limit)
}

/// The process that makes them, and the tag of the link to it.
#[derive(Default)]
struct Nursery {
    process: Option<(Pid, i64)>,
}

impl Nursery {
    /// Whether somebody was asked. Where there can be no nursery, each start makes its own process,
    /// and tells why that failed.
    fn make(&mut self, memory_mb: u32) -> bool {
        let pid = match self.process {
            Some((pid, _)) => pid,
            None => {
                let link = mail::new_tag();
                let Some(permissions) = Permissions::none().map(Permissions::may_spawn) else {
                    return false;
                };
                let Ok(pid) = sys::spawn(&permissions, Some(link), nursery) else { return false };
                mail::start(pid, &sys::this().0);
                self.process = Some((pid, link));
                pid
            }
        };
        mail::send(pid, &NurseryMail::Make { memory_mb });
        true
    }
}

/// The tag of the link between a spare and the supervisor, on both sides: no [`mail::new_tag`] is
/// negative.
pub(super) fn link_tag(pid: Pid) -> i64 {
    -(pid.0 as i64)
}

/// What the nursery is told.
#[derive(Debug, Serialize, Deserialize)]
enum NurseryMail {
    /// Never sent: see [`mail::REPLY`].
    Reply,
    Make {
        memory_mb: u32,
    },
}

/// The nursery's entry.
fn nursery() {
    let supervisor: u64 = mail::first();
    let mut buffer = Vec::new();
    loop {
        if sys::receive(&[], None) != sys::Received::Message {
            continue;
        }
        sys::read_message(&mut buffer);
        let Ok(NurseryMail::Make { memory_mb }) = postcard::from_bytes(&buffer) else { continue };
        let spawned = Permissions::of_agent(memory_mb).map(|permissions| {
            sys::spawn_with(&permissions, spare, supervisor, u64::from(memory_mb))
        });
        if !matches!(spawned, Some(Ok(_))) {
            mail::send(Pid(supervisor), &SupervisorMail::NoSpare { memory_mb });
        }
    }
}

/// A spare's entry.
fn spare(supervisor: u64, memory_mb: u64) {
    let this = sys::this();
    // If the supervisor is dead already, so is this process with it.
    sys::link(Pid(supervisor), link_tag(this));
    agent::warm_up();
    mail::send(
        Pid(supervisor),
        &SupervisorMail::Spare { pid: this.0, memory_mb: memory_mb as u32 },
    );
    agent::process();
}
