//! The root supervisor: starts the parts of a node, and starts a part that died again. Agents are
//! not touched by the death of any part but their own supervisor.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock;
use super::connection::{self, ConnectionStart};
use super::events::{self, EventsStart};
use super::gateway::{self, GatewayStart};
use super::keeper;
use super::logger;
use super::mail::{self, MainMail};
use super::names;
use super::store::StoreStart;
use super::supervisor::{self, SupervisorStart};
use super::sys::{self, Permissions, Pid, Received};
use crate::config::SupervisionConfig;
use crate::supervision::{AlertConfig, DetectionConfig, Intensity, RestartHistory, SupervisorSpec};

/// What the root is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RootStart {
    pub(super) node_id: String,
    /// The process that started the node.
    pub(super) main: u64,
    pub(super) data_dir: String,
    pub(super) max_agents: u32,
    pub(super) types: Vec<(String, u32)>,
    /// The declared trees.
    pub(super) trees: Vec<SupervisorSpec>,
    /// How to reach NATS; none for a node without.
    pub(super) nats: Option<ConnectionStart>,
    pub(super) supervision: SupervisionConfig,
    pub(super) detection: DetectionConfig,
    pub(super) alerts: AlertConfig,
    pub(super) log_level: u8,
}

/// The process's entry.
pub(super) fn process() {
    let start: RootStart = mail::first();
    logger::install_part(start.log_level, "root");
    sys::trap_link_deaths();
    let mut root = Root::new(start);
    root.start_all();
    loop {
        match sys::receive(&[], None) {
            Received::LinkDied(tag) => root.died(tag),
            // The root is told nothing else; a ping from `main` would be answered here.
            _ => continue,
        }
    }
}

/// A part of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Store,
    Connection,
    Events,
    Supervisor,
    Gateway,
}

impl Part {
    /// In the order of their start: each finds there what it needs.
    const ALL: [Self; 5] =
        [Self::Store, Self::Connection, Self::Events, Self::Supervisor, Self::Gateway];

    fn name(self) -> &'static str {
        match self {
            Self::Store => names::STORE_KEEPER,
            Self::Connection => names::CONNECTION,
            Self::Events => names::EVENTS,
            Self::Supervisor => names::SUPERVISOR,
            Self::Gateway => names::GATEWAY,
        }
    }
}

struct Child {
    part: Part,
    link: i64,
}

struct Root {
    start: RootStart,
    children: Vec<Child>,
    restarts: RestartHistory,
}

impl Root {
    /// As for a declared tree: more than five restarts of parts in five seconds are too many.
    const INTENSITY: Intensity = Intensity { max_restarts: 5, period: Duration::from_secs(5) };

    fn new(start: RootStart) -> Self {
        Self { start, children: Vec::new(), restarts: RestartHistory::default() }
    }

    fn start_all(&mut self) {
        for part in Part::ALL {
            if self.has(part) {
                self.start_part(part);
            }
        }
    }

    /// Without NATS there is nothing to connect to, and nothing that a gateway could answer.
    fn has(&self, part: Part) -> bool {
        self.start.nats.is_some() || !matches!(part, Part::Connection | Part::Gateway)
    }

    fn died(&mut self, tag: i64) {
        if tag == sys::PARENT {
            sys::follow_parent();
        }
        let Some(at) = self.children.iter().position(|child| child.link == tag) else { return };
        let part = self.children.swap_remove(at).part;
        let now = clock::now();
        if self.restarts.next_attempt(now, Self::INTENSITY).is_none() {
            self.give_up(part);
        }
        self.restarts.record(now, Self::INTENSITY);
        log::error!(child = part.name(); "died, and is started again");
        self.start_part(part);
    }

    fn give_up(&self, part: Part) -> ! {
        let name = part.name();
        mail::send(Pid(self.start.main), &MainMail::RootGaveUp { part: name });
        let Intensity { max_restarts, period } = Self::INTENSITY;
        panic!("{name} died more than {max_restarts} times in {period:?}");
    }

    fn start_part(&mut self, part: Part) {
        let link = mail::new_tag();
        match self.spawn(part, link) {
            Ok(()) => self.children.push(Child { part, link }),
            Err(error) => {
                log::error!(child = part.name(); "cannot be started: {error}");
                self.give_up(part);
            }
        }
    }

    fn spawn(&self, part: Part, link: i64) -> Result<(), String> {
        let RootStart { node_id, main, log_level, .. } = &self.start;
        let (node_id, main, log_level) = (node_id.clone(), *main, *log_level);
        let entry = match part {
            Part::Store => keeper::process,
            Part::Connection => connection::process,
            Part::Events => events::process,
            Part::Supervisor => supervisor::process,
            Part::Gateway => gateway::process,
        };
        let pid = sys::spawn(&self.permissions(part)?, Some(link), entry)?;
        // Before it is told to start, so that who it tells of itself finds it.
        sys::register(part.name(), pid);
        match part {
            Part::Store => {
                let directory = self.start.data_dir.clone();
                mail::start(pid, &StoreStart { directory, log_level });
            }
            Part::Connection => mail::start(pid, &self.start.nats),
            Part::Events => {
                let publish = self.start.nats.is_some() && self.start.supervision.enabled;
                // Here, so that not even the first event of the supervisor is left out; and whoever
                // listened to the one that died goes on listening.
                if publish || sys::lookup(names::LISTENED).is_some() {
                    sys::register(names::LISTENED, pid);
                }
                let (detection, alerts) = (self.start.detection.clone(), self.start.alerts.clone());
                mail::start(pid, &EventsStart { node_id, publish, detection, alerts, log_level });
            }
            Part::Supervisor => {
                let (max_agents, types) = (self.start.max_agents, self.start.types.clone());
                let trees = self.start.trees.clone();
                let supervision = self.start.supervision.clone();
                let start =
                    SupervisorStart { node_id, max_agents, types, trees, supervision, log_level };
                mail::start(pid, &start);
            }
            Part::Gateway => mail::start(pid, &GatewayStart { node_id, main, log_level }),
        }
        Ok(())
    }

    fn permissions(&self, part: Part) -> Result<Permissions, String> {
        // Far above what each needs within its own bounds; it only keeps a fault of ours from
        // taking the machine's memory.
        const MAX_MEMORY: u64 = 1 << 30;
        let none = Permissions::none().ok_or("this process may not make configs")?;
        let limited = none.max_memory(MAX_MEMORY);
        Ok(match part {
            Part::Store | Part::Connection | Part::Supervisor => limited.may_spawn(),
            Part::Events | Part::Gateway => limited,
        })
    }
}
