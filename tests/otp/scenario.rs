//! What a scenario says. `driver.escript` reads the same lines.

use std::time::Duration;

use rust_wasm_lunatic_nats::RestartType;

/// One tree, and what is done to it.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Steps before the tree is started.
    pub(crate) settings: Vec<Step>,
    pub(crate) tree: Supervisor,
    pub(crate) steps: Vec<Step>,
}

/// A step, in its words.
pub(crate) type Step = Vec<String>;

#[derive(Clone, Debug)]
pub(crate) enum Child {
    Worker(Worker),
    Supervisor(Supervisor),
}

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) restart: RestartType,
    pub(crate) shutdown: Shutdown,
}

#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    pub(crate) id: String,
    pub(crate) strategy: Strategy,
    pub(crate) max_restarts: u32,
    pub(crate) period: Duration,
    pub(crate) restart: RestartType,
    pub(crate) shutdown: Shutdown,
    pub(crate) children: Vec<Child>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Strategy {
    OneForOne,
    OneForAll,
    RestForOne,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Shutdown {
    Kill,
    Grace(Duration),
    Infinity,
}

impl Supervisor {
    /// The names of itself and of all supervisors below.
    pub(crate) fn supervisors(&self) -> Vec<&str> {
        let mut names = vec![self.id.as_str()];
        for child in &self.children {
            if let Child::Supervisor(inner) = child {
                names.extend(inner.supervisors());
            }
        }
        names
    }
}

/// All scenarios of a file.
pub(crate) fn read(text: &str) -> Vec<Scenario> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim_end())
        .filter(|line| !line.is_empty())
        .collect();
    let mut lines = lines.as_slice();
    let mut scenarios = Vec::new();
    while let Some((header, rest)) = lines.split_first() {
        let name = header.strip_prefix("scenario ").expect(header).trim().to_owned();
        let end = rest.iter().position(|line| line.starts_with("scenario ")).unwrap_or(rest.len());
        let (body, after) = rest.split_at(end);
        let root = body.iter().position(|line| line.starts_with("supervisor ")).expect(header);
        let settings = body[..root].iter().map(|line| words(line)).collect();
        let mut below = &body[root + 1..];
        let children = children(&mut below, 0);
        let Child::Supervisor(tree) = child(&words(body[root]), children) else {
            unreachable!("the line begins with it");
        };
        let steps = below.iter().map(|line| words(line)).collect();
        scenarios.push(Scenario { name, settings, tree, steps });
        lines = after;
    }
    scenarios
}

fn words(line: &str) -> Step {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Those that are further to the right; they are taken off the lines.
fn children(lines: &mut &[&str], indent: usize) -> Vec<Child> {
    let mut found = Vec::new();
    while let Some((line, rest)) = lines.split_first() {
        let deeper = line.len() - line.trim_start().len();
        if deeper <= indent {
            break;
        }
        *lines = rest;
        let below = children(lines, deeper);
        found.push(child(&words(line), below));
    }
    found
}

/// What a line, or the end of a `start_child`, describes.
pub(crate) fn child(words: &[String], children: Vec<Child>) -> Child {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker", id, restart, shutdown_of] => Child::Worker(Worker {
            id: (*id).to_owned(),
            restart: restart_type(restart),
            shutdown: shutdown(shutdown_of),
        }),
        ["supervisor", id, strategy_of, intensity, restart, shutdown_of] => {
            let (most, seconds) = intensity.split_once('/').expect(intensity);
            Child::Supervisor(Supervisor {
                id: (*id).to_owned(),
                strategy: strategy(strategy_of),
                max_restarts: most.parse().expect(most),
                period: Duration::from_secs(seconds.parse().expect(seconds)),
                restart: restart_type(restart),
                shutdown: shutdown(shutdown_of),
                children,
            })
        }
        other => panic!("{other:?} is no child"),
    }
}

fn restart_type(word: &str) -> RestartType {
    match word {
        "permanent" => RestartType::Permanent,
        "transient" => RestartType::Transient,
        "temporary" => RestartType::Temporary,
        other => panic!("{other} is no restart type"),
    }
}

fn strategy(word: &str) -> Strategy {
    match word {
        "one_for_one" => Strategy::OneForOne,
        "one_for_all" => Strategy::OneForAll,
        "rest_for_one" => Strategy::RestForOne,
        other => panic!("{other} is no strategy"),
    }
}

fn shutdown(word: &str) -> Shutdown {
    match word {
        "kill" => Shutdown::Kill,
        "infinity" => Shutdown::Infinity,
        ms => Shutdown::Grace(Duration::from_millis(ms.parse().expect(ms))),
    }
}
