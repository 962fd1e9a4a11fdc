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
/// time just while that agent starts; and not all at once, which would hold up those that follow.
const BATCH: usize = 8;
/// The most memory limits with spares. For one more, those of the limit that was not asked for the
/// longest are killed.
const MAX_LIMITS: usize = 4;

/// The spares as the supervisor knows them.
#[derive(Default)]
pub(super) struct Spares {
    nursery: Option<(Pid, i64)>,
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
        let there = limit.waiting.len() + limit.ordered;
        let missing = limit.asked.saturating_sub(there);
        if (there == 0 || missing >= BATCH) && self.order(memory_mb, missing) {
            limit.ordered += missing;
        }
        self.limits.push(limit);
        if self.limits.len() > MAX_LIMITS {
            self.limits.remove(0).waiting.into_iter().for_each(sys::kill);
        }
        taken
    }

    /// One is there.
    pub(super) fn ready(&mut self, pid: Pid, memory_mb: u32) {
        match self.brought(memory_mb) {
            Some(limit) if limit.waiting.len() < PER_LIMIT => limit.waiting.push(pid),
            // Its limit was given up meanwhile, and may have begun anew.
            _ => sys::kill(pid),
        }
    }

    /// The nursery found that there is no room for more: it is asked again at the next start.
    pub(super) fn refused(&mut self, memory_mb: u32) {
        self.brought(memory_mb);
    }

    /// The nursery has one less to bring.
    fn brought(&mut self, memory_mb: u32) -> Option<&mut Limit> {
        let limit = self.limits.iter_mut().find(|limit| limit.memory_mb == memory_mb)?;
        limit.ordered = limit.ordered.saturating_sub(1);
        Some(limit)
    }

    /// A link broke that is no agent's. Where it was the nursery's, what it was asked for does not
    /// come, and the next start makes another one.
    pub(super) fn link_died(&mut self, tag: i64) {
        if self.nursery.take_if(|(_, link)| *link == tag).is_some() {
            self.limits.iter_mut().for_each(|limit| limit.ordered = 0);
        }
    }

    /// Whether somebody was asked. Where there can be no nursery, each start makes its own process,
    /// and tells why that failed.
    fn order(&mut self, memory_mb: u32, count: usize) -> bool {
        let nursery = match self.nursery {
            Some((pid, _)) => pid,
            None => {
                let link = mail::new_tag();
                let Some(permissions) = Permissions::none().map(Permissions::may_spawn) else {
                    return false;
                };
                let Ok(pid) = sys::spawn(&permissions, Some(link), nursery) else { return false };
                mail::start(pid, &sys::this().0);
                self.nursery = Some((pid, link));
                pid
            }
        };
        mail::send(nursery, &NurseryMail::Make { memory_mb, count: count as u32 });
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
        count: u32,
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
        let Ok(NurseryMail::Make { memory_mb, count }) = postcard::from_bytes(&buffer) else {
            continue;
        };
        let permissions = Permissions::of_agent(memory_mb);
        for _ in 0..count {
            let spawned = permissions.as_ref().map(|permissions| {
                sys::spawn_with(permissions, spare, supervisor, u64::from(memory_mb))
            });
            if !matches!(spawned, Some(Ok(_))) {
                mail::send(Pid(supervisor), &SupervisorMail::NoSpare { memory_mb });
            }
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
