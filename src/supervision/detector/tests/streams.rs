//! Recorded streams with a known pattern in them, on a thousand agents that live a healthy life:
//! what is found, how soon, and what is found that is not there. `docs/DETECTION.md` has the table;
//! it is made here, and has to be the same.

use super::*;

const PAGE: &str = include_str!("../../../../docs/DETECTION.md");

const AGENTS: u64 = 1000;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
/// When the pattern begins.
const ONSET: u64 = 8 * MINUTE;
const END: u64 = 13 * MINUTE;

/// Xorshift: the same stream each time, on each machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Default)]
struct Stream(Vec<(u64, SupervisionEvent)>);

impl Stream {
    fn add(&mut self, ms: u64, event: SupervisionEvent) {
        self.0.push((ms, event));
    }

    fn failure(&mut self, ms: u64, agent: u64, kind: FailureType, severity: FailureSeverity) {
        self.add(ms, failure(&name(agent), kind, severity));
    }

    /// A death, and the replacement's first report.
    fn death(&mut self, ms: u64, agent: u64, kind: FailureType) {
        self.failure(ms, agent, kind, FailureSeverity::High);
        self.add(ms + 1, health(&name(agent), HealthStatus::Healthy, None));
    }

    fn error(&mut self, ms: u64, agent: u64, kind: FailureType) {
        self.failure(ms, agent, kind, FailureSeverity::Low);
    }

    fn late(&mut self, ms: u64, agent: u64) {
        let reason = "no answer to a health check for 15000 ms".to_owned();
        self.add(ms, health(&name(agent), HealthStatus::Degraded { reason, missed: 1 }, Some(0.1)));
    }

    /// A thousand agents until `end`. Each reports every 30 s, a fifth of them is busy and answers
    /// in 20 to 80 ms, the others in 0.05 to 0.2 ms; one answer in a hundred takes 20 times as long,
    /// one in a thousand a second or two. In an hour: 200 errors of handlers, 40 panics, 6 exhausted
    /// memories, 6 missed health checks of which 3 end in a kill, 12 errors for want of the network.
    fn healthy(rng: &mut Rng, end: u64) -> Self {
        let mut stream = Self::default();
        for agent in 0..AGENTS {
            let mut at = rng.below(30 * SECOND);
            while at < end {
                let ms = response_time(rng, agent);
                stream.add(at, answered(&name(agent), ms));
                at += 30 * SECOND;
            }
        }
        let mut some = |per_hour: u64| {
            let count = (per_hour * end).div_ceil(60 * MINUTE);
            (0..count).map(|_| (rng.below(end), rng.below(AGENTS))).collect::<Vec<_>>()
        };
        for (at, agent) in some(200) {
            stream.error(at, agent, FailureType::DependencyFailure);
        }
        for (at, agent) in some(40) {
            stream.death(at, agent, FailureType::ProcessCrash);
        }
        for (at, agent) in some(6) {
            stream.death(at, agent, FailureType::ResourceExhaustion);
        }
        for (n, (at, agent)) in some(6).into_iter().enumerate() {
            stream.late(at, agent);
            if n % 2 == 0 {
                stream.death(at + 15 * SECOND, agent, FailureType::TimeoutFailure);
            }
        }
        for (at, agent) in some(12) {
            stream.error(at, agent, FailureType::NetworkPartition);
        }
        stream
    }
}

fn name(agent: u64) -> String {
    format!("agent-{agent}")
}

fn response_time(rng: &mut Rng, agent: u64) -> f64 {
    let (least, more) = if agent.is_multiple_of(5) { (20.0, 60.0) } else { (0.05, 0.15) };
    let usual = least + more * rng.unit() * rng.unit();
    match rng.below(1000) {
        0 => 1000.0 + 1000.0 * rng.unit(),
        1..=10 => usual * 20.0,
        _ => usual,
    }
}

/// What is put into the healthy stream, and what has to be found there: nothing but that.
struct Scenario {
    what: &'static str,
    expected: Option<Pattern>,
    /// When it begins, and when the stream ends.
    onset: u64,
    end: u64,
    put: fn(&mut Stream, &mut Rng, u64),
}

const fn with(
    what: &'static str,
    expected: Pattern,
    put: fn(&mut Stream, &mut Rng, u64),
) -> Scenario {
    Scenario { what, expected: Some(expected), onset: ONSET, end: END, put }
}

fn scenarios() -> Vec<Scenario> {
    use FailureType::{
        DependencyFailure, NetworkPartition, ProcessCrash, ResourceExhaustion, TimeoutFailure,
    };
    use Pattern::{
        CascadingFailure, FailureSpike, PerformanceDegradation, ResourceExhaustion as Exhaustion,
    };
    vec![
        with("40 agents panic within 2 s", FailureSpike, |stream, rng, at| {
            for agent in 0..40 {
                stream.death(at + rng.below(2 * SECOND), agent, ProcessCrash);
            }
        }),
        with("3 agents crash, are restarted, and crash again, 5 times in 4 s", FailureSpike, {
            |stream, _, at| {
                for n in 0..15 {
                    stream.death(at + n * 280, n % 3, ProcessCrash);
                }
            }
        }),
        with("50 agents a second are killed for a minute", FailureSpike, |stream, rng, at| {
            for n in 0..3000 {
                stream.death(at + n * 20, rng.below(AGENTS), ProcessCrash);
            }
        }),
        Scenario {
            what: "20 of the agents panic in the first second of a node",
            expected: Some(FailureSpike),
            onset: 0,
            end: MINUTE,
            put: |stream, _, at| (0..20).for_each(|n| stream.death(at + n * 50, n, ProcessCrash)),
        },
        with("a death, then errors of 12 others that ask it, over 8 s", CascadingFailure, {
            |stream, _, at| {
                stream.death(at, 0, ProcessCrash);
                for n in 1..=12 {
                    stream.error(at + n * 650, n, DependencyFailure);
                }
            }
        }),
        with("a death, then 8 others wait for it until they are killed", CascadingFailure, {
            |stream, _, at| {
                stream.death(at, 0, ProcessCrash);
                for n in 1..=8 {
                    stream.death(at + n * 1100, n, TimeoutFailure);
                }
            }
        }),
        with("a supervisor with 20 agents gives up", CascadingFailure, |stream, _, at| {
            stream.death(at, 0, ProcessCrash);
            let escalation = SupervisionEvent::Escalation {
                supervisor_id: "workers".to_owned(),
                level: 1,
                reason: "5 restarts in 5000 ms".to_owned(),
                affected_agents: (0..20).map(|n| id(&name(n))).collect(),
                timestamp: now(at).wall,
            };
            stream.add(at + 10, escalation);
        }),
        with("50 agents answer in 200 to 400 ms from now on", PerformanceDegradation, {
            |stream, rng, at| {
                for (ms, event) in &mut stream.0 {
                    let SupervisionEvent::Health { agent_id, metrics, .. } = event else {
                        continue;
                    };
                    let number = agent_id.as_str().trim_start_matches("agent-").parse::<u64>();
                    let is_hit = number.is_ok_and(|number| number < 50);
                    if *ms >= at && is_hit && metrics.response_time_ms.is_some() {
                        metrics.response_time_ms = Some(200.0 + 200.0 * rng.unit());
                    }
                }
            }
        }),
        with("300 agents miss a health check", PerformanceDegradation, |stream, rng, at| {
            for agent in 0..300 {
                stream.late(at + rng.below(15 * SECOND), agent);
            }
        }),
        with("8 agents hit their memory limit within 40 s", Exhaustion, |stream, _, at| {
            (0..8).for_each(|n| stream.death(at + n * 5 * SECOND, n, ResourceExhaustion));
        }),
        with("one agent hits its memory limit every 10 s", Exhaustion, |stream, _, at| {
            (0..12).for_each(|n| stream.death(at + n * 10 * SECOND, 7, ResourceExhaustion));
        }),
        with(
            "20 agents lose the network within 5 s",
            Pattern::NetworkPartition,
            |stream, rng, at| {
                for agent in 0..20 {
                    stream.error(at + rng.below(5 * SECOND), agent, NetworkPartition);
                }
            },
        ),
        with("8 agents lose the network, 8 s apart", Pattern::NetworkPartition, |stream, _, at| {
            (0..8).for_each(|n| stream.error(at + n * 8 * SECOND, n, NetworkPartition));
        }),
        Scenario {
            what: "nothing, for an hour",
            expected: None,
            onset: 0,
            end: 60 * MINUTE,
            put: |_, _, _| {},
        },
        Scenario {
            what: "nothing, for an hour, of agents with 60 times as many errors of handlers",
            expected: None,
            onset: 0,
            end: 60 * MINUTE,
            put: |stream, rng, _| {
                for _ in 0..12_000 {
                    let (at, agent) = (rng.below(60 * MINUTE), rng.below(AGENTS));
                    stream.error(at, agent, DependencyFailure);
                }
            },
        },
    ]
}

/// A row of the table: what was found of what had to be, how soon, how sure, and what else.
fn row(scenario: &Scenario, seed: u64) -> String {
    let mut rng = Rng(seed);
    let mut stream = Stream::healthy(&mut rng, scenario.end);
    (scenario.put)(&mut stream, &mut rng, scenario.onset);
    stream.0.sort_by_key(|(ms, _)| *ms);
    let all = run(&mut detector(), stream.0);
    let is_it = |(ms, found): &&(u64, DetectedPattern)| {
        Some(found.pattern) == scenario.expected && *ms >= scenario.onset
    };
    let first = all.iter().find(is_it);
    let last = all.iter().rfind(is_it);
    let told = all.iter().filter(is_it).count();
    let other = all.len() - told;
    let cells = match (scenario.expected, first, last) {
        (Some(pattern), Some((ms, first)), Some((_, last))) => {
            let after = (ms - scenario.onset) as f64 / 1e3;
            let (at_first, at_last) = (first.confidence, last.confidence);
            let sure = if told > 1 {
                format!("{at_first:.2} to {at_last:.2}")
            } else {
                format!("{at_first:.2}")
            };
            format!("`{pattern}` | {after:.1} s | {sure} | {told}")
        }
        (Some(pattern), ..) => format!("`{pattern}` is not found | | | 0"),
        _ => "nothing | | | 0".to_owned(),
    };
    format!("| {} | {cells} | {other} |", scenario.what)
}

#[test]
fn the_table_of_results_is_what_the_detector_does() {
    let mut table = "| stream | found | after | confidence | told | false alarms |\n\
                     | --- | --- | ---: | --- | ---: | ---: |\n"
        .to_owned();
    for (n, scenario) in scenarios().iter().enumerate() {
        table += &row(scenario, 0x9E37_79B9_7F4A_7C15 ^ (n as u64 + 1));
        table.push('\n');
    }
    assert!(PAGE.contains(&table), "docs/DETECTION.md should have this table:\n\n{table}");
    let is_right = |row: &str| !row.contains("not found") && row.ends_with(" 0 |");
    assert!(table.lines().skip(2).all(is_right), "{table}");
    // Other streams of the same kinds: the table is not a lucky one.
    for seed in [0xD134_2543_DE82_EF95, 0x2545_F491_4F6C_DD1D] {
        for scenario in scenarios().iter().filter(|scenario| scenario.end <= END) {
            let row = row(scenario, seed);
            assert!(is_right(&row), "seed {seed}: {row}");
        }
    }
}
