//! What a node can see of the machine and the runtime that it runs in, and what of it is worth a
//! warning at start. Each figure was measured; `docs/OPERATIONS.md` has the rest of the story.

use std::fmt;

/// The variable in which whoever starts a node can tell it what it cannot see by itself, as
/// `scripts/run` and `scripts/entrypoint` do: `cores=2 max_map_count=65530 open_files=1024
/// address_space_kb=unlimited memory_kb=16384000`, each of them optional.
pub const VARIABLE: &str = "NODE_SURROUNDINGS";

/// Where Linux tells how many memory mappings a process may have.
const MAX_MAP_COUNT_FILE: &str = "/proc/sys/vm/max_map_count";
/// Where Linux tells the limits of this process: under Lunatic those of the runtime.
const LIMITS_FILE: &str = "/proc/self/limits";

/// Memory mappings that an agent's process takes.
const MAPPINGS_PER_AGENT: u64 = 7;
/// Those of the runtime and of the node's own processes: 150, and room.
const MAPPINGS_OF_NODE: u64 = 500;
/// Address space that an agent's process reserves, in kB: 8 GiB, of which next to nothing is used.
const ADDRESS_SPACE_PER_AGENT_KB: u64 = 8_400_000;
/// That of the runtime and of the node's own processes.
const ADDRESS_SPACE_OF_NODE_KB: u64 = 80_000_000;
/// Memory (Pss) that an agent takes in which there is nothing yet.
const MEMORY_PER_AGENT_KB: u64 = 56;
/// That of the runtime, with the program that it has compiled, and of the node's own processes.
const MEMORY_OF_NODE_KB: u64 = 60_000;
/// A node has 10 files open; the rest is for what agents open: connections.
const MIN_OPEN_FILES: u64 = 64;

/// A limit that the machine sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many, and no more.
    AtMost(u64),
    /// There is none.
    Unlimited,
}

/// What is known of where a node runs. What cannot be seen is `None`, and not warned of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `RUST_BACKTRACE`.
    pub backtrace: Option<String>,
    /// `RUST_LIB_BACKTRACE`, which stands over it.
    pub lib_backtrace: Option<String>,
    /// `TOKIO_WORKER_THREADS`: how many threads the runtime has. Without it, one for each core.
    pub worker_threads: Option<u64>,
    /// How many cores there are.
    pub cores: Option<u64>,
    /// `vm.max_map_count`.
    pub max_map_count: Option<Limit>,
    /// `ulimit -n`.
    pub open_files: Option<Limit>,
    /// `ulimit -v`, in kB.
    pub address_space_kb: Option<Limit>,
    /// What the machine, the container or the unit has, in kB.
    pub memory_kb: Option<Limit>,
    /// Words in [`VARIABLE`] that are none of those above.
    pub unreadable: Vec<String>,
    /// Why nothing can be written into the data directory, where that is so.
    pub data_dir_refuses: Option<String>,
}

/// Something that will hurt: what was seen, what it costs, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What was seen, with its value.
    pub seen: String,
    /// What it costs.
    pub costs: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.seen, self.costs, self.remedy)
    }
}

fn warning(seen: String, costs: impl Into<String>, remedy: impl Into<String>) -> Warning {
    Warning { seen, costs: costs.into(), remedy: remedy.into() }
}

impl Surroundings {
    /// Looks at the environment, and at the files that this process may read: under Lunatic it may
    /// those below `.` and below each `lunatic run --dir`. The variable stands over the files.
    pub fn look(
        env: &dyn Fn(&str) -> Option<String>,
        file: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let mut seen = Self {
            backtrace: env("RUST_BACKTRACE"),
            lib_backtrace: env("RUST_LIB_BACKTRACE"),
            worker_threads: env("TOKIO_WORKER_THREADS").and_then(|text| text.parse().ok()),
            ..Self::default()
        };
        for word in env(VARIABLE).unwrap_or_default().split_whitespace() {
            if seen.told(word).is_none() {
                seen.unreadable.push(word.to_owned());
            }
        }
        seen.max_map_count = seen.max_map_count.or_else(|| limit(file(MAX_MAP_COUNT_FILE)?.trim()));
        if seen.open_files.is_none() || seen.address_space_kb.is_none() {
            let limits = file(LIMITS_FILE).unwrap_or_default();
            seen.open_files = seen.open_files.or_else(|| soft_limit(&limits, "Max open files"));
            let bytes = soft_limit(&limits, "Max address space");
            seen.address_space_kb = seen.address_space_kb.or_else(|| bytes.map(Limit::in_kb));
        }
        seen
    }

    fn told(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        match name {
            "cores" => self.cores = Some(value.parse().ok().filter(|&cores| cores > 0)?),
            "max_map_count" => self.max_map_count = Some(limit(value)?),
            "open_files" => self.open_files = Some(limit(value)?),
            "address_space_kb" => self.address_space_kb = Some(limit(value)?),
            "memory_kb" => self.memory_kb = Some(limit(value)?),
            _ => return None,
        }
        Some(())
    }

    /// What will hurt a node that may have so many agents.
    pub fn warnings(&self, max_agents: u32) -> Vec<Warning> {
        let agents = u64::from(max_agents);
        let checks = [
            self.check_backtrace(),
            self.check_worker_threads(),
            self.check_mappings(agents),
            self.check_address_space(agents),
            self.check_memory(agents),
            self.check_open_files(),
            self.check_data_dir(),
            self.check_readable(),
        ];
        checks.into_iter().flatten().collect()
    }

    /// What will hurt a node whose agents are tasks of one process, which need next to nothing of the
    /// machine.
    pub fn warnings_of_native(&self) -> Vec<Warning> {
        [self.check_open_files(), self.check_data_dir()].into_iter().flatten().collect()
    }

    fn check_backtrace(&self) -> Option<Warning> {
        let on = |value: &str| value != "0";
        let seen = match (&self.lib_backtrace, &self.backtrace) {
            (Some(lib), _) if on(lib) => format!("RUST_LIB_BACKTRACE is {lib:?}"),
            (None, Some(value)) if on(value) => {
                format!("RUST_BACKTRACE is {value:?} and RUST_LIB_BACKTRACE is not set")
            }
            _ => return None,
        };
        Some(warning(
            seen,
            "each call into the runtime captures a backtrace, which makes messages 40 times slower",
            "set RUST_LIB_BACKTRACE=0",
        ))
    }

    fn check_worker_threads(&self) -> Option<Warning> {
        let enough = match self.cores {
            Some(cores) => format!("set TOKIO_WORKER_THREADS={}", cores + 2),
            None => "set TOKIO_WORKER_THREADS to two more than there are cores".to_owned(),
        };
        let seen = match (self.worker_threads, self.cores) {
            (None, _) => {
                "TOKIO_WORKER_THREADS is not set, which makes one thread for each core".to_owned()
            }
            (Some(threads), Some(cores)) if threads <= cores => {
                format!("TOKIO_WORKER_THREADS is {threads}, on {cores} cores")
            }
            (Some(1), None) => "TOKIO_WORKER_THREADS is 1".to_owned(),
            _ => return None,
        };
        let costs = "file access and other calls that wait hold a thread each, and no agent runs on it meanwhile";
        Some(warning(seen, costs, enough))
    }

    fn check_mappings(&self, agents: u64) -> Option<Warning> {
        let wanted = agents * MAPPINGS_PER_AGENT + MAPPINGS_OF_NODE;
        let there = short_of(self.max_map_count, wanted)?;
        let room = room(there, MAPPINGS_OF_NODE, MAPPINGS_PER_AGENT);
        Some(warning(
            format!("vm.max_map_count is {there}"),
            format!("that is enough for about {room} agents of the {agents} that may be started; more are refused"),
            format!("set it by sysctl -w vm.max_map_count={}, or --max-agents", wanted.max(65_530)),
        ))
    }

    fn check_address_space(&self, agents: u64) -> Option<Warning> {
        let wanted = agents * ADDRESS_SPACE_PER_AGENT_KB + ADDRESS_SPACE_OF_NODE_KB;
        let there = short_of(self.address_space_kb, wanted)?;
        let room = room(there, ADDRESS_SPACE_OF_NODE_KB, ADDRESS_SPACE_PER_AGENT_KB);
        Some(warning(
            format!("the address space is limited to {there} kB (ulimit -v)"),
            format!("each process reserves 8 GiB of it and uses next to nothing, so that is enough for about {room} agents of the {agents} that may be started; more are refused"),
            "lift it by ulimit -v unlimited (systemd: LimitAS=infinity), and limit memory instead",
        ))
    }

    fn check_memory(&self, agents: u64) -> Option<Warning> {
        let wanted = agents * MEMORY_PER_AGENT_KB + MEMORY_OF_NODE_KB;
        let there = short_of(self.memory_kb, wanted)?;
        let room = room(there, MEMORY_OF_NODE_KB, MEMORY_PER_AGENT_KB);
        Some(warning(
            format!("there are {there} kB of memory"),
            format!("that is enough for about {room} agents with nothing in them of the {agents} that may be started; with more the system kills the whole node"),
            "give it more, or set --max-agents",
        ))
    }

    fn check_open_files(&self) -> Option<Warning> {
        let there = short_of(self.open_files, MIN_OPEN_FILES)?;
        Some(warning(
            format!("at most {there} files may be open (ulimit -n)"),
            "a node needs about 10, and one for each connection that an agent opens",
            "set it by ulimit -n 1024 (systemd: LimitNOFILE=1024)",
        ))
    }

    fn check_data_dir(&self) -> Option<Warning> {
        let seen = self.data_dir_refuses.clone()?;
        let costs = "what agents with files store is refused, and they lose it when they die";
        Some(warning(seen, costs, "make it writable, make room, or set --data-dir"))
    }

    fn check_readable(&self) -> Option<Warning> {
        (!self.unreadable.is_empty()).then(|| {
            warning(
                format!("{VARIABLE} has {:?}", self.unreadable.join(" ")),
                "that says nothing, so nothing can be warned of",
                "write NAME=NUMBER or NAME=unlimited, with cores, max_map_count, open_files, address_space_kb, memory_kb",
            )
        })
    }
}

impl Limit {
    fn in_kb(self) -> Self {
        match self {
            Self::AtMost(bytes) => Self::AtMost(bytes / 1024),
            Self::Unlimited => Self::Unlimited,
        }
    }
}

/// The limit, if it is below what is wanted.
fn short_of(limit: Option<Limit>, wanted: u64) -> Option<u64> {
    match limit? {
        Limit::AtMost(there) if there < wanted => Some(there),
        _ => None,
    }
}

/// For how many there is room.
fn room(there: u64, taken: u64, each: u64) -> u64 {
    there.saturating_sub(taken) / each
}

fn limit(text: &str) -> Option<Limit> {
    match text {
        "unlimited" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::AtMost),
    }
}

/// The soft limit in a line of `/proc/self/limits`: its name, then soft, hard and unit.
fn soft_limit(limits: &str, name: &str) -> Option<Limit> {
    let values = limits.lines().find_map(|line| line.strip_prefix(name))?;
    limit(values.split_whitespace().next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            256                  20000                files     
Max address space         1048576000           unlimited            bytes     
";

    fn look(env: &[(&str, &str)], files: &[(&str, &str)]) -> Surroundings {
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Surroundings::look(&|name| find(env, name), &|path| find(files, path))
    }

    /// A machine on which nothing is wrong.
    fn good() -> Surroundings {
        look(
            &[
                ("RUST_BACKTRACE", "1"),
                ("RUST_LIB_BACKTRACE", "0"),
                ("TOKIO_WORKER_THREADS", "4"),
                (VARIABLE, "cores=2 max_map_count=65530 open_files=1024 address_space_kb=unlimited memory_kb=2000000"),
            ],
            &[],
        )
    }

    #[test]
    fn nothing_is_warned_of_where_nothing_is_wrong() {
        for agents in [1, 8_000, 9_000] {
            assert_eq!(good().warnings(agents), []);
        }
    }

    #[test]
    fn each_bad_setting_is_named_with_its_value_its_cost_and_its_remedy() {
        let set = |text: &str| Some(text.to_owned());
        let at_most = |number| Some(Limit::AtMost(number));
        let cases: [(Surroundings, [&str; 3]); 14] = [
            (
                Surroundings { lib_backtrace: None, ..good() },
                ["RUST_BACKTRACE is \"1\"", "40 times", "RUST_LIB_BACKTRACE=0"],
            ),
            (
                Surroundings { lib_backtrace: None, backtrace: set("full"), ..good() },
                ["RUST_BACKTRACE is \"full\"", "40 times", "RUST_LIB_BACKTRACE=0"],
            ),
            (
                // For the standard library, this is on too.
                Surroundings { lib_backtrace: set(""), ..good() },
                ["RUST_LIB_BACKTRACE is \"\"", "40 times", "RUST_LIB_BACKTRACE=0"],
            ),
            (
                Surroundings { worker_threads: None, ..good() },
                ["TOKIO_WORKER_THREADS is not set", "hold a thread", "TOKIO_WORKER_THREADS=4"],
            ),
            (
                Surroundings { worker_threads: None, cores: None, ..good() },
                ["TOKIO_WORKER_THREADS is not set", "hold a thread", "two more than"],
            ),
            (
                Surroundings { worker_threads: Some(2), ..good() },
                ["is 2, on 2 cores", "hold a thread", "TOKIO_WORKER_THREADS=4"],
            ),
            (
                Surroundings { worker_threads: Some(1), cores: None, ..good() },
                ["TOKIO_WORKER_THREADS is 1", "hold a thread", "two more than"],
            ),
            (
                Surroundings { max_map_count: at_most(30_000), ..good() },
                ["is 30000", "about 4214 agents of the 8000", "vm.max_map_count=65530"],
            ),
            (
                Surroundings { max_map_count: at_most(1), ..good() },
                ["is 1", "about 0 agents", "--max-agents"],
            ),
            (
                Surroundings { address_space_kb: at_most(500_000_000), ..good() },
                ["500000000 kB", "about 50 agents of the 8000", "LimitAS=infinity"],
            ),
            (
                Surroundings { memory_kb: at_most(256_000), ..good() },
                ["256000 kB of memory", "about 3500 agents", "--max-agents"],
            ),
            (
                Surroundings { open_files: at_most(63), ..good() },
                ["at most 63 files", "about 10", "LimitNOFILE=1024"],
            ),
            (
                Surroundings { data_dir_refuses: set("the data directory \"d\": no"), ..good() },
                ["the data directory \"d\": no", "lose it", "--data-dir"],
            ),
            (
                Surroundings { unreadable: vec!["x".into(), "y=z".into()], ..good() },
                ["\"x y=z\"", "says nothing", "NAME=NUMBER"],
            ),
        ];
        for (surroundings, [seen, costs, remedy]) in cases {
            let [warning] = &surroundings.warnings(8_000)[..] else {
                panic!("one warning of {surroundings:?}");
            };
            assert!(warning.seen.contains(seen), "{warning}");
            assert!(warning.costs.contains(costs), "{warning}");
            assert!(warning.remedy.contains(remedy), "{warning}");
            let line = warning.to_string();
            assert!(!line.contains('\n') && line.len() < 400, "{line}");
        }
    }

    #[test]
    fn a_limit_counts_for_as_many_agents_as_may_be_started() {
        let small = Surroundings { max_map_count: Some(Limit::AtMost(7_500)), ..good() };
        assert_eq!(small.warnings(1_000), []);
        assert_eq!(small.warnings(1_001).len(), 1);
    }

    #[test]
    fn what_cannot_be_seen_is_not_warned_of() {
        let seen = look(&[("TOKIO_WORKER_THREADS", "4")], &[]);
        assert_eq!(seen.warnings(9_000), []);
        // The runtime refuses to start with that, so nobody gets to read a warning.
        let not_a_number = look(&[("TOKIO_WORKER_THREADS", "many")], &[]);
        assert_eq!(not_a_number.worker_threads, None);
    }

    #[test]
    fn files_tell_what_the_variable_does_not() {
        let files = [(MAX_MAP_COUNT_FILE, "30000\n"), (LIMITS_FILE, LIMITS)];
        let by_files = look(&[], &files);
        assert_eq!(by_files.max_map_count, Some(Limit::AtMost(30_000)));
        assert_eq!(by_files.open_files, Some(Limit::AtMost(256)));
        assert_eq!(by_files.address_space_kb, Some(Limit::AtMost(1_024_000)));
        let told = [(VARIABLE, "max_map_count=7 open_files=8 address_space_kb=unlimited")];
        let told = look(&told, &files);
        assert_eq!(told.max_map_count, Some(Limit::AtMost(7)));
        assert_eq!(told.open_files, Some(Limit::AtMost(8)));
        assert_eq!(told.address_space_kb, Some(Limit::Unlimited));
    }

    #[test]
    fn what_makes_no_sense_is_kept_to_be_told() {
        let words = "cores=0 cores=two open_files= memory_kb=-1 colour=red max_map_count nonsense";
        let seen = look(
            &[(VARIABLE, words)],
            &[(LIMITS_FILE, "Max open files"), (MAX_MAP_COUNT_FILE, "")],
        );
        assert_eq!(seen.unreadable.join(" "), words);
        let nothing = Surroundings { unreadable: Vec::new(), ..seen };
        assert_eq!(nothing, Surroundings::default());
    }
}
