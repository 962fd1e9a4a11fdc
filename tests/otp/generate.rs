//! Scenarios that nobody wrote: every combination of what the rules speak of, and histories by
//! chance.

use std::fmt::Write;

const STRATEGIES: [&str; 3] = ["one_for_one", "one_for_all", "rest_for_one"];
const RESTARTS: [&str; 3] = ["permanent", "transient", "temporary"];
const IDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// Every strategy, with every way to end, of the first, a middle and the last child, of each restart
/// type, among siblings of each restart type, that are told to stop or killed; then another end,
/// which shows what has become of the tree.
pub(crate) fn combinations() -> String {
    let mut text = String::new();
    for strategy in STRATEGIES {
        for end in ["crash", "kill", "exit normal", "exit shutdown"] {
            for position in 0..3 {
                for restart in RESTARTS {
                    for siblings in RESTARTS {
                        for shutdown in ["5000", "kill"] {
                            let (first, reason) = end.split_once(' ').unwrap_or((end, ""));
                            let name = format!(
                                "{strategy} {end} {position} {restart} among {siblings} {shutdown}"
                            );
                            writeln!(text, "scenario {name}").unwrap();
                            writeln!(text, "supervisor root {strategy} 2/60 permanent infinity")
                                .unwrap();
                            for (at, id) in IDS.iter().take(3).enumerate() {
                                let restart = if at == position { restart } else { siblings };
                                writeln!(text, "  worker {id} {restart} {shutdown}").unwrap();
                            }
                            let victim = IDS[position];
                            let other = IDS[(position + 1) % 3];
                            writeln!(text, "{first} {victim} {reason}").unwrap();
                            writeln!(text, "crash {other}").unwrap();
                            writeln!(text, "{first} {victim} {reason}").unwrap();
                            writeln!(text, "crash {other}").unwrap();
                        }
                    }
                }
            }
        }
    }
    text
}

/// Trees of up to three levels, and what happens to them, by chance from a seed.
pub(crate) fn histories(seed: u64, count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let mut history = History { random: Random(seed + number as u64), ..Default::default() };
        writeln!(text, "scenario history {}", seed + number as u64).unwrap();
        let mut tree = String::new();
        history.supervisor(&mut tree, 0);
        history.settings(&mut text);
        text.push_str(&tree);
        history.steps(&mut text);
    }
    text
}

/// The tree so far.
#[derive(Default)]
struct History {
    random: Random,
    workers: Vec<String>,
    /// Those that never do as they are told; each stop of one takes its grace.
    stubborn: Vec<String>,
    supervisors: Vec<String>,
    /// Each child with its supervisor.
    children: Vec<(String, String)>,
}

impl History {
    /// A start in ten meets with one that fails.
    fn settings(&mut self, text: &mut String) {
        for id in std::mem::take(&mut self.stubborn) {
            writeln!(text, "ignores_stop {id}").unwrap();
        }
        if self.random.below(10) == 0 {
            let id = self.random.one_of(&IDS[..4]);
            writeln!(text, "start_fails {id} 1").unwrap();
        }
    }

    fn supervisor(&mut self, text: &mut String, level: usize) {
        let id =
            if level == 0 { "root".to_owned() } else { format!("s{}", self.supervisors.len()) };
        let strategy = self.random.one_of(&STRATEGIES);
        let intensity = self.random.below(4);
        let restart = if level == 0 { "permanent" } else { self.restart() };
        let indent = "  ".repeat(level);
        writeln!(text, "{indent}supervisor {id} {strategy} {intensity}/60 {restart} infinity")
            .unwrap();
        self.supervisors.push(id.clone());
        for _ in 0..1 + self.random.below(4) {
            if level < 2 && self.random.below(3) == 0 {
                let inner = format!("s{}", self.supervisors.len());
                self.children.push((id.clone(), inner));
                self.supervisor(text, level + 1);
            } else if let Some(worker) = self.worker(true) {
                writeln!(text, "{indent}  {worker}").unwrap();
                let worker = self.workers.last().expect("it was just made").clone();
                self.children.push((id.clone(), worker));
            }
        }
    }

    /// A worker with a name of its own, while there are any.
    fn worker(&mut self, declared: bool) -> Option<String> {
        let id = IDS.get(self.workers.len())?;
        let restart = self.restart();
        let mut shutdown = self.random.one_of(&["5000", "infinity", "kill"]);
        if declared && self.random.below(40) == 0 {
            shutdown = "10";
            self.stubborn.push((*id).to_owned());
        }
        self.workers.push((*id).to_owned());
        Some(format!("worker {id} {restart} {shutdown}"))
    }

    /// Most are permanent: the others soon leave nothing to look at.
    fn restart(&mut self) -> &'static str {
        match self.random.below(6) {
            0 => "temporary",
            1 | 2 => "transient",
            _ => "permanent",
        }
    }

    fn steps(&mut self, text: &mut String) {
        for _ in 0..4 + self.random.below(10) {
            let step = self.step();
            writeln!(text, "{step}").unwrap();
        }
    }

    fn step(&mut self) -> String {
        let (supervisor, child) = match self.children.as_slice() {
            [] => ("root".to_owned(), "a".to_owned()),
            children => children[self.random.below(children.len() as u64) as usize].clone(),
        };
        let worker = match self.workers.as_slice() {
            [] => "a".to_owned(),
            workers => workers[self.random.below(workers.len() as u64) as usize].clone(),
        };
        match self.random.below(20) {
            0..=6 => format!("crash {worker}"),
            7 => format!("kill {worker}"),
            8 | 9 => format!("exit {worker} normal"),
            10 => format!("exit {worker} shutdown"),
            11 | 12 => format!("start_fails {worker} {}", 1 + self.random.below(3)),
            13 | 14 => format!("terminate_child {supervisor} {child}"),
            15 | 16 => format!("restart_child {supervisor} {child}"),
            // Only of the root, which is not restarted: see DELIBERATE in main.rs.
            17 if supervisor == "root" => format!("delete_child {supervisor} {child}"),
            18 => match self.worker(false) {
                Some(spec) => {
                    let id = self.workers.last().expect("it was just made").clone();
                    self.children.push(("root".to_owned(), id));
                    format!("start_child root {spec}")
                }
                None => format!("crash {worker}"),
            },
            _ => format!("crash {worker}"),
        }
    }
}

/// SplitMix64.
#[derive(Default)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len() as u64) as usize]
    }
}
