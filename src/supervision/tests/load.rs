//! How much work many agents are.

use std::collections::VecDeque;

use super::*;

/// Ten thousand agents for an hour, driven as a host does it: it wakes only when something is due.
#[test]
fn an_hour_of_ten_thousand_agents_is_a_bounded_work() {
    const AGENTS: u64 = 10_000;
    const HOUR: Duration = Duration::from_secs(3600);
    // Ten times the defaults, so that the test takes seconds: what is due is what is counted.
    const TIMEOUT: Duration = Duration::from_secs(300);
    const REPORTS: Duration = Duration::from_secs(300);
    let config = SupervisorConfig {
        max_agents: AGENTS as usize,
        health_interval: REPORTS,
        ..SupervisorConfig::default()
    };
    let mut sim = Sim::new(config);
    for n in 0..AGENTS {
        let timeout_ms = TIMEOUT.as_millis() as u64;
        let config = AgentConfig { timeout_ms, ..agent(&format!("agent-{n}")) };
        let (id, incarnation) = (config.id.clone(), sim.start(config).expect("room"));
        let now = sim.now();
        sim.supervisor.handle(now, Input::Started { id, incarnation });
    }
    sim.outputs();
    let moves_before = sim.supervisor.schedule_moves();
    let (mut wakes, mut facts, mut pings, mut reports) = (0_u64, 0_u64, 0_u64, 0_u64);
    loop {
        let due = sim.due().expect("there is always a next time").since_start();
        assert!(due > sim.elapsed || wakes == 0, "what was due is done at once");
        if due > HOUR {
            break;
        }
        sim.elapsed = due;
        wakes += 1;
        let now = sim.now();
        sim.supervisor.handle(now, Input::Tick);
        let mut outputs = VecDeque::from(sim.outputs());
        assert!(outputs.len() <= 256, "at once: {}", outputs.len());
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Ping { id, incarnation, seq } => {
                    pings += 1;
                    facts += 1;
                    let figures = Figures::default();
                    sim.supervisor.handle(now, Input::Pong { id, incarnation, seq, figures });
                    // An answer is followed by those whose time has come.
                    outputs.extend(sim.outputs());
                }
                Output::Event(SupervisionEvent::Health { .. }) => reports += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    // The first of each comes sooner, by up to half of its interval, and each of them a little, by up
    // to a fiftieth.
    let most = |interval: Duration| HOUR.as_secs() * 50 / (interval.as_secs() * 49) + 2;
    assert!(pings <= AGENTS * most(TIMEOUT / 2), "{pings}");
    assert!(pings >= AGENTS * (HOUR.as_secs() / (TIMEOUT / 2).as_secs() - 2), "{pings}");
    assert!(reports <= AGENTS * most(REPORTS), "{reports}");
    // Two moments in 250 ms, those of the checks and those of the reports, however many agents.
    let moments = 2 * 4 * HOUR.as_secs() + 2;
    assert!(wakes <= moments, "{wakes} wakes for {pings} pings and {reports} reports");
    // Each piece of work and each answer moves one agent in the schedule, and nothing else does.
    let moves = sim.supervisor.schedule_moves() - moves_before;
    assert!(moves <= pings + reports + facts, "{moves} moves");
}
