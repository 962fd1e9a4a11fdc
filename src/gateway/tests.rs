use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::message::Located;

/// A gateway, and the time.
struct Harness {
    gateway: Gateway,
    now: Instant,
}

/// Outputs, as short lines.
fn line(output: &Output) -> String {
    match output {
        Output::Supervisor { tag, ask } => format!("supervisor {tag} {ask:?}"),
        Output::Agent { tag, agent_id, payload, command } => {
            format!("agent {tag} {agent_id} {payload} {}", command.len())
        }
        Output::Publish { subject, reply, body } => {
            let reply = reply.as_ref().map(|reply| format!(" ({reply})")).unwrap_or_default();
            format!("publish {subject}{reply} {}", String::from_utf8_lossy(body))
        }
        Output::Request { tag, subject, body } => {
            format!("request {tag} {subject} {}", String::from_utf8_lossy(body))
        }
        Output::Shutdown { grace_ms } => format!("shutdown {grace_ms}"),
        Output::Drain => "drain".to_owned(),
        Output::Wait(_) => unreachable!("drained until it waits"),
    }
}

impl Harness {
    fn new() -> Self {
        let now = Instant::from_start(Duration::from_secs(1));
        let mut harness = Self { gateway: Gateway::new("n1", "native"), now };
        assert_eq!(harness.outputs(), ["request 1 system.control.n1 \"Ping\""]);
        harness
    }

    fn outputs(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.gateway.poll_output() {
                Output::Wait(_) => return lines,
                output => lines.push(line(&output)),
            }
        }
    }

    fn tell(&mut self, input: Input<'_>) -> Vec<String> {
        self.gateway.handle_input(self.now, input);
        self.outputs()
    }

    fn message(&mut self, subject: &str, body: &str) -> Vec<String> {
        self.tell(Input::Message { subject, reply: Some("r"), body: body.as_bytes() })
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now = self.now + time;
        self.tell(Input::Tick)
    }

    fn refused(&mut self, tag: u64, code: ErrorCode) -> Vec<String> {
        self.tell(Input::Refused { tag, code: code.as_str(), message: "no" })
    }

    fn not_asked(&mut self, tag: u64, code: ErrorCode, command: &str) -> Vec<String> {
        let error = &WireError::new(code, "no");
        self.tell(Input::NotAsked { tag, error, command: command.as_bytes().to_vec() })
    }

    fn reply(&mut self, tag: u64, body: &str) -> Vec<String> {
        self.tell(Input::Reply { tag, body: body.as_bytes() })
    }

    fn bad_input(&self) -> u64 {
        self.gateway.bad_input.total()
    }

    fn deadline(&mut self) -> Option<Duration> {
        match self.gateway.poll_output() {
            Output::Wait(deadline) => deadline.map(|deadline| deadline - self.now),
            output => panic!("{output:?}"),
        }
    }
}

fn agent_status(id: &str) -> String {
    format!("{{\"Status\":{{\"agent_id\":\"{id}\"}}}}")
}

const INPUT: &str = r#"{"Input":{"agent_id":"a","message":{"x":1}}}"#;
const NO: &str = r#"{"Err":{"code":"unknown_agent","message":"no"}}"#;
const NOWHERE: &str = r#"publish r {"Err":{"code":"unknown_agent","message":"there is no agent a on any node that answers"}}"#;
const ON_N2: &str = r#"{"Ok":{"agent_id":"a","node_id":"n2"}}"#;

#[test]
fn commands_become_questions_and_answers_go_out_as_they_are() {
    let cases = [
        (r#""Status""#, "Status { agent_id: None }"),
        (&agent_status("a"), r#"Status { agent_id: Some(AgentId("a")) }"#),
        (r#"{"Stop":{"agent_id":"a"}}"#, r#"Stop { agent_id: AgentId("a") }"#),
        (r#"{"Locate":{"agent_id":"a"}}"#, r#"Status { agent_id: Some(AgentId("a")) }"#),
        (r#"{"List":{"after":"a","limit":3}}"#, r#"List { after: Some(AgentId("a")), limit: 3 }"#),
    ];
    for subject in ["agent.command", "agent.command.n1", "agent.command.all"] {
        for (body, asked) in &cases {
            let mut harness = Harness::new();
            assert_eq!(harness.message(subject, body), [format!("supervisor 2 {asked}")]);
            assert!(!harness.gateway.is_idle());
            assert_eq!(harness.deadline(), Some(Gateway::SUPERVISOR_TIMEOUT));
            let answered = harness.tell(Input::Done { tag: 2, json: b"{\"y\":2}" });
            let expected = match body {
                body if body.contains("Locate") => r#"{"agent_id":"a","node_id":"n1"}"#,
                body if *body == "\"Status\"" => r#"{"counters":{"bad_input":0},"y":2}"#,
                _ => r#"{"y":2}"#,
            };
            assert_eq!(answered, [format!("publish r {{\"Ok\":{expected}}}")], "{body}");
            assert!(harness.gateway.is_idle());
            assert_eq!(harness.deadline(), None);
            assert_eq!(harness.tell(Input::Done { tag: 2, json: b"1" }), [""; 0], "only once");
        }
    }
    let mut harness = Harness::new();
    let spawn = harness.message("agent.command", r#"{"Spawn":{"config":{"id":"a"}}}"#);
    assert!(spawn[0].starts_with("supervisor 2 Spawn { config: AgentConfig { id"), "{spawn:?}");
    assert_eq!(
        harness.refused(2, ErrorCode::Exists),
        [r#"publish r {"Err":{"code":"exists","message":"no"}}"#]
    );
    assert_eq!(harness.bad_input(), 0, "it was well-formed");
}

#[test]
fn an_input_is_answered_with_what_its_agent_says() {
    let mut harness = Harness::new();
    let asked = harness.message("agent.command", INPUT);
    assert_eq!(asked, [format!("agent 2 a {{\"x\":1}} {}", INPUT.len())]);
    assert!(harness.gateway.awaits_agent(2) && !harness.gateway.awaits_agent(3));
    assert_eq!(harness.deadline(), Some(Gateway::AGENT_TIMEOUT));
    let payload = &json!([1, "é"]);
    let answered = harness.tell(Input::Answered { tag: 2, payload });
    assert_eq!(answered, [r#"publish r {"Ok":[1,"é"]}"#]);

    // In a message, and without anybody who waits.
    let message = r#"{"Input":{"agent_id":"a","message":{"id":"m","from":"b","to":"a","payload":7,"timestamp":1}}}"#;
    let body = message.as_bytes();
    let asked = harness.tell(Input::Message { subject: "agent.command.n1", reply: None, body });
    assert_eq!(asked, ["agent 3 a 7 0"]);
    assert_eq!(harness.tell(Input::Answered { tag: 3, payload }), [""; 0]);

    let cases = [
        (ErrorCode::HandlerFailed, "handler_failed"),
        // What its own process says is not that this node has none.
        (ErrorCode::UnknownAgent, "unknown_agent"),
    ];
    for (tag, (code, text)) in (4..).zip(cases) {
        harness.message("agent.command", INPUT);
        let answer = format!("publish r {{\"Err\":{{\"code\":\"{text}\",\"message\":\"no\"}}}}");
        assert_eq!(harness.refused(tag, code), [answer]);
    }
}

#[test]
fn who_asks_an_agent_that_ends_learns_it() {
    let mut harness = Harness::new();
    for (tag, (subject, comes_back, code)) in (2..).zip([
        ("agent.command", true, "agent_restarting"),
        ("agent.command", false, "unknown_agent"),
        ("agent.command.all", false, "unknown_agent"),
    ]) {
        harness.message(subject, INPUT);
        let told = harness.tell(Input::Gone { tag, comes_back });
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with(&format!("publish r {{\"Err\":{{\"code\":\"{code}\"")),
            "{told:?}"
        );
        assert_eq!(harness.tell(Input::Gone { tag, comes_back }), [""; 0], "once");
    }
    // What is asked of the supervisor has nothing to do with it.
    harness.message("agent.command", "\"Status\"");
    assert_eq!(harness.tell(Input::Gone { tag: 5, comes_back: true }), [""; 0]);
    assert!(!harness.gateway.is_idle());
}

#[test]
fn what_is_not_answered_in_time_is_a_timeout() {
    let mut harness = Harness::new();
    harness.message("agent.command", "\"List\"");
    harness.message("agent.command", INPUT);
    harness.message("system.control", "\"Ping\"");
    assert_eq!(harness.after(Duration::from_millis(9_999)), [""; 0]);
    let supervisor = r#"publish r {"Err":{"code":"timeout","message":"the agent supervisor did not answer within 10 s"}}"#;
    assert_eq!(harness.after(Duration::from_millis(1)), [supervisor, supervisor]);
    assert_eq!(harness.deadline(), Some(Duration::from_secs(20)));
    let agent =
        r#"publish r {"Err":{"code":"timeout","message":"agent a did not answer within 30 s"}}"#;
    assert_eq!(harness.after(Duration::from_secs(20)), [agent]);
    assert_eq!((harness.deadline(), harness.bad_input()), (None, 0));
    let payload = &json!(1);
    assert_eq!(harness.tell(Input::Answered { tag: 3, payload }), [""; 0], "too late");
}

#[test]
fn a_node_is_controlled() {
    let mut harness = Harness::new();
    assert_eq!(
        harness.message("system.control", "\"Ping\""),
        ["supervisor 2 Status { agent_id: None }"]
    );
    let version = env!("CARGO_PKG_VERSION");
    let pong = format!(
        r#"publish r {{"Ok":{{"node_id":"n1","host":"native","version":"{version}","agents":7}}}}"#
    );
    assert_eq!(harness.tell(Input::Done { tag: 2, json: b"{\"agents\":7}" }), [pong]);
    let node = r#"publish r {"Ok":{"node_id":"n1"}}"#;
    assert_eq!(
        harness.message("system.control.n1", r#"{"Shutdown":{"grace_ms":7}}"#),
        ["supervisor 0 Drain", node, "shutdown 7"],
        "answered before it ends"
    );
    assert_eq!(harness.tell(Input::Done { tag: 0, json: b"{}" }), [""; 0]);
    assert_eq!(harness.message("system.control", "\"Drain\""), ["drain", "supervisor 3 Drain"]);
    let json = br#"{"node_id":"n1"}"#;
    assert_eq!(harness.tell(Input::Done { tag: 3, json }), [node]);
}

#[test]
fn bad_input_is_answered_and_counted() {
    let mut harness = Harness::new();
    let cases = [
        ("agent.command", "{", "bad_json"),
        ("agent.command", "\"Ping\"", "bad_shape"),
        ("agent.command.all", r#"{"Stop":{"agent_id":"a.b"}}"#, "bad_id"),
        ("agent.command.all", r#"{"Spawn":{"config":{}}}"#, "bad_shape"),
        ("system.control", "\"Status\"", "bad_shape"),
        ("agent.input.a", "1", "bad_shape"),
        ("elsewhere", "\"Status\"", "bad_shape"),
    ];
    for (count, (subject, body, code)) in (1..).zip(cases) {
        let told = harness.message(subject, body);
        let begin = format!("publish r {{\"Err\":{{\"code\":\"{code}\"");
        assert!(told.len() == 1 && told[0].starts_with(&begin), "{subject} {body}: {told:?}");
        assert_eq!(harness.bad_input(), count);
        assert!(harness.gateway.is_idle());
    }
    // Without a reply subject it is counted; and what others refused is, too.
    harness.tell(Input::Message { subject: "agent.command", reply: None, body: b"x" });
    let error = &WireError::bad_shape("x");
    harness.tell(Input::BadInput { subject: "agent.input.a", error });
    harness.message("agent.command", "\"Status\"");
    let answered = harness.tell(Input::Done { tag: 2, json: br#"{"counters":{"restarts":1}}"# });
    assert_eq!(answered, [r#"publish r {"Ok":{"counters":{"bad_input":9,"restarts":1}}}"#]);
    let too_large = " ".repeat(Context::MAX_PAYLOAD + 1);
    let told = harness.message("agent.command", &too_large);
    assert!(told[0].contains("too_large"), "{told:?}");
}

#[test]
fn without_its_supervisor_a_node_says_so() {
    let no = r#"publish r {"Err":{"code":"agent_restarting","message":"no"}}"#;
    for body in ["\"Status\"", r#"{"Spawn":{"config":{}}}"#, r#"{"Stop":{"agent_id":"a"}}"#] {
        let mut harness = Harness::new();
        harness.message("agent.command", body);
        assert_eq!(harness.not_asked(2, ErrorCode::AgentRestarting, ""), [no], "{body}");
        assert_eq!((harness.gateway.is_idle(), harness.bad_input()), (true, 1));
    }
}

#[test]
fn what_this_node_does_not_have_is_looked_for_and_sent_to_its_owner() {
    let status = agent_status("a");
    for body in [status.as_str(), r#"{"Stop":{"agent_id":"a"}}"#, INPUT] {
        let mut harness = Harness::new();
        harness.message("agent.command", body);
        let looked = match body {
            INPUT => harness.not_asked(2, ErrorCode::UnknownAgent, body),
            _ => harness.refused(2, ErrorCode::UnknownAgent),
        };
        let locate = r#"request 3 agent.command.all {"Locate":{"agent_id":"a"}}"#;
        assert_eq!(looked, [locate], "{body}");
        assert_eq!(harness.deadline(), Some(Gateway::OWNER_TIMEOUT));
        assert!(!harness.gateway.is_idle());
        assert_eq!(harness.reply(3, ON_N2), [format!("request 4 agent.command.n2 {body}")]);
        assert_eq!(harness.deadline(), Some(Gateway::FORWARD_TIMEOUT));
        assert_eq!(harness.gateway.held, 0, "it is there");
        assert_eq!(harness.reply(3, r#"{"Ok":{"agent_id":"a","node_id":"n3"}}"#), [""; 0]);
        // Whatever the other node says goes out as it is.
        assert_eq!(harness.reply(4, "{\"Ok\": 1}"), ["publish r {\"Ok\": 1}"]);
        assert_eq!(harness.reply(4, "{\"Ok\": 1}"), [""; 0]);
        assert!(harness.gateway.is_idle());
        assert_eq!((harness.deadline(), harness.bad_input()), (None, 0));
    }
    // Who only wants to know where it is has the answer with that.
    let mut harness = Harness::new();
    harness.message("agent.command", r#"{"Locate":{"agent_id":"a"}}"#);
    harness.refused(2, ErrorCode::UnknownAgent);
    assert_eq!(harness.reply(3, ON_N2), [format!("publish r {ON_N2}")]);
    let located: Reply = serde_json::from_str(ON_N2).expect("an answer");
    assert_eq!(located.map(|located| located.node_id), Ok("n2".to_owned()));
    // And without a reply subject it goes there all the same.
    let body = br#"{"Stop":{"agent_id":"a"}}"#;
    harness.tell(Input::Message { subject: "agent.command", reply: None, body });
    harness.refused(4, ErrorCode::UnknownAgent);
    let sent = harness.reply(5, ON_N2);
    assert_eq!(sent, [r#"publish agent.command.n2 {"Stop":{"agent_id":"a"}}"#]);
    assert!(harness.gateway.is_idle());
}

/// A gateway that has handed an `Input` to its owner, under tag 4.
fn forwarded() -> Harness {
    let mut harness = Harness::new();
    harness.message("agent.command", INPUT);
    harness.not_asked(2, ErrorCode::UnknownAgent, INPUT);
    assert_eq!(harness.reply(3, ON_N2), [format!("request 4 agent.command.n2 {INPUT}")]);
    harness
}

#[test]
fn who_asks_is_answered_also_if_the_owner_is_not_there_any_more() {
    let error = |code: &str, message: &str| {
        format!(r#"publish r {{"Err":{{"code":"{code}","message":"{message}"}}}}"#)
    };
    let ended = error("unknown_agent", "agent a was on node n2, which has ended");
    assert_eq!(forwarded().tell(Input::NoResponders { tag: 4 }), [ended]);
    let lost = error("timeout", "NATS was lost before node n2 answered");
    assert_eq!(forwarded().tell(Input::NoReply { tag: 4 }), [lost]);
    let late = error("timeout", "node n2 did not answer in time for agent a");
    let mut harness = forwarded();
    assert_eq!(harness.after(Gateway::FORWARD_TIMEOUT - Duration::from_millis(1)), [""; 0]);
    assert_eq!(harness.after(Duration::from_millis(1)), [late.as_str()]);
    assert_eq!((harness.reply(4, "{}"), harness.bad_input()), (Vec::new(), 0));
    // And if this node ends itself.
    let mut harness = forwarded();
    assert_eq!(harness.tell(Input::Finish), [""; 0]);
    assert_eq!(harness.deadline(), Some(Gateway::OWNER_TIMEOUT));
    assert_eq!(harness.after(Gateway::OWNER_TIMEOUT), [late]);
    assert!(harness.gateway.is_idle());
    // What is asked here has its own time.
    harness.message("agent.command", "\"Status\"");
    harness.tell(Input::Finish);
    assert_eq!(harness.deadline(), Some(Gateway::SUPERVISOR_TIMEOUT));
}

type Reply = crate::message::Reply<Located>;

#[test]
fn half_a_second_of_silence_is_an_unknown_agent() {
    let mut harness = Harness::new();
    harness.message("agent.command", &agent_status("a"));
    harness.refused(2, ErrorCode::UnknownAgent);
    assert_eq!(harness.after(Duration::from_millis(499)), [""; 0]);
    assert_eq!(harness.bad_input(), 0);
    assert_eq!(harness.after(Duration::from_millis(1)), [NOWHERE]);
    assert_eq!(harness.bad_input(), 1, "by the one that was asked");
    assert_eq!(harness.reply(3, ON_N2), [""; 0], "too late");
    // Where nobody can be asked there is nothing to wait for.
    harness.message("agent.command", INPUT);
    harness.not_asked(4, ErrorCode::UnknownAgent, INPUT);
    assert_eq!(harness.gateway.held, INPUT.len());
    assert_eq!(harness.tell(Input::NoReply { tag: 5 }), [NOWHERE]);
    assert_eq!(harness.tell(Input::NoResponders { tag: 5 }), [""; 0]);
    assert_eq!((harness.bad_input(), harness.gateway.held), (2, 0));
    // What is asked within the node has no such end.
    harness.message("agent.command", "\"Status\"");
    assert_eq!(harness.tell(Input::NoReply { tag: 6 }), [""; 0]);
    assert!(!harness.gateway.is_idle());
}

#[test]
fn what_is_not_the_answer_of_an_owner_is_not_listened_to() {
    let mut harness = Harness::new();
    harness.message("agent.command", &agent_status("a"));
    harness.refused(2, ErrorCode::UnknownAgent);
    let long = format!(r#"{{"Ok":{{"agent_id":"a","node_id":"n2","x":"{}"}}}}"#, "x".repeat(512));
    for body in [
        "",
        "{",
        "null",
        NO,
        r#"{"Ok":null}"#,
        r#"{"Ok":{"node_id":"n2"}}"#,
        r#"{"Ok":{"agent_id":"b","node_id":"n2"}}"#,
        // This node asks itself, too: what it has is not what is looked for.
        r#"{"Ok":{"agent_id":"a","node_id":"n1"}}"#,
        r#"{"Ok":{"agent_id":"a","node_id":""}}"#,
        r#"{"Ok":{"agent_id":"a","node_id":"n.2"}}"#,
        r#"{"Ok":{"agent_id":"a","node_id":"> 5\r\n"}}"#,
        r#"{"Ok":{"agent_id":"a","node_id":2}}"#,
        &long,
    ] {
        assert_eq!(harness.reply(3, body), [""; 0], "{body}");
        // Nor is an answer to what nobody asked, or not by NATS.
        assert_eq!(harness.reply(2, body), [""; 0], "{body}");
        assert_eq!(harness.reply(9, body), [""; 0], "{body}");
    }
    assert_eq!(harness.reply(3, ON_N2).len(), 1, "and then the owner's comes");
}

#[test]
fn of_all_nodes_only_the_one_with_the_agent_says_anything() {
    for body in
        [&agent_status("a"), r#"{"Stop":{"agent_id":"a"}}"#, r#"{"Locate":{"agent_id":"a"}}"#]
    {
        for end in 0..3 {
            let mut harness = Harness::new();
            harness.message("agent.command.all", body);
            let said = match end {
                0 => harness.refused(2, ErrorCode::UnknownAgent),
                1 => harness.not_asked(2, ErrorCode::AgentRestarting, ""),
                _ => harness.after(Gateway::SUPERVISOR_TIMEOUT),
            };
            assert_eq!(said, [""; 0], "{body}: {end}");
            assert!(harness.gateway.is_idle());
            assert_eq!(harness.bad_input(), 0);
        }
    }
    let mut harness = Harness::new();
    harness.message("agent.command.all", INPUT);
    assert_eq!(harness.not_asked(2, ErrorCode::UnknownAgent, ""), [""; 0]);
    // It has the agent, and cannot reach it now.
    harness.message("agent.command.all", INPUT);
    assert_eq!(harness.not_asked(3, ErrorCode::AgentRestarting, "").len(), 1);
    harness.message("agent.command.all", INPUT);
    assert_eq!(harness.after(Gateway::AGENT_TIMEOUT).len(), 1, "a timeout");
}

#[test]
fn nothing_is_forwarded_twice() {
    for subject in ["agent.command.n1", "agent.command.all"] {
        for body in [&agent_status("a"), INPUT, r#"{"Locate":{"agent_id":"a"}}"#] {
            let mut harness = Harness::new();
            harness.message(subject, body);
            let said = match body {
                INPUT => harness.not_asked(2, ErrorCode::UnknownAgent, ""),
                _ => harness.refused(2, ErrorCode::UnknownAgent),
            };
            let here = subject.ends_with("n1");
            assert_eq!(
                said,
                vec![format!("publish r {NO}"); usize::from(here)],
                "{subject} {body}"
            );
            assert_eq!(harness.bad_input(), u64::from(here));
        }
    }
}

#[test]
fn only_so_many_questions_are_open() {
    let mut harness = Harness::new();
    for _ in 0..Gateway::MAX_PENDING {
        assert_eq!(harness.message("agent.command", &agent_status("a")).len(), 1);
    }
    let told = harness.message("agent.command", &agent_status("a"));
    let full = r#"publish r {"Err":{"code":"capacity","message":"10000 commands wait for their answers already"}}"#;
    assert_eq!((told, harness.bad_input()), (vec![full.to_owned()], 1));
    assert_eq!(harness.message("agent.command.all", &agent_status("a")), [""; 0]);
    assert_eq!(harness.bad_input(), 1, "another node may be the one to answer");
    // What is looked for elsewhere is one of them still.
    assert_eq!(harness.refused(2, ErrorCode::UnknownAgent).len(), 1);
    assert_eq!(harness.gateway.pending.len(), Gateway::MAX_PENDING);
    assert_eq!(harness.message("agent.command", INPUT), [full]);
    assert_eq!(harness.after(Gateway::OWNER_TIMEOUT), [NOWHERE]);
    assert_eq!(harness.message("agent.command", INPUT).len(), 1);
    assert_eq!(harness.after(Gateway::AGENT_TIMEOUT).len(), Gateway::MAX_PENDING);
    assert!(harness.gateway.is_idle() && harness.gateway.deadlines.is_empty());
}

#[test]
fn only_so_many_bytes_wait_for_their_owners() {
    let mut harness = Harness::new();
    let large = format!(r#"{{"Input":{{"agent_id":"a","message":"{}"}}}}"#, "x".repeat(500_000));
    let fit = Gateway::MAX_HELD_BYTES / large.len();
    for number in 0..=fit {
        let asked = harness.message("agent.command", &large);
        assert!(asked[0].starts_with("agent "), "{}", asked[0].len());
        let tag = 2 + 2 * number as u64;
        let looked = harness.not_asked(tag, ErrorCode::UnknownAgent, &large);
        let (is_full, line) = (number == fit, &looked[0]);
        let begin = if is_full { r#"publish r {"Err":{"code":"capacity""# } else { "request " };
        assert!(line.starts_with(begin), "{number}: {line}");
    }
    assert_eq!(harness.bad_input(), 1);
    // Small ones find a place still, until that is full as well; and in the end nothing is held.
    harness.message("agent.command", INPUT);
    let tag = harness.gateway.last_tag;
    assert!(harness.not_asked(tag, ErrorCode::UnknownAgent, INPUT)[0].starts_with("request"));
    assert_eq!(harness.after(Gateway::OWNER_TIMEOUT).len(), fit + 1);
    assert_eq!((harness.gateway.held, harness.gateway.is_idle()), (0, true));
}

#[test]
fn a_node_with_a_namesake_notices() {
    let mut harness = Harness::new();
    assert!(harness.gateway.is_idle(), "nobody waits for that");
    for namesakes in 1..=3 {
        assert_eq!(harness.reply(1, r#"{"Ok":{"node_id":"n1"}}"#), [""; 0]);
        assert_eq!(harness.gateway.namesakes, namesakes);
    }
    assert_eq!(harness.tell(Input::NoReply { tag: 1 }), [""; 0]);
}

#[test]
fn the_subscriptions_are_subjects_of_the_contract() {
    for (subject, queue) in subscriptions("n1") {
        let kind = SubjectKind::parse(&subject).expect("of the contract");
        assert_eq!(queue, (kind == SubjectKind::AgentCommand(None)).then_some("nodes"), "{kind}");
    }
}

/// What becomes of something that the gateway wants.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Done,
    Unknown,
    Unreachable,
    Gone,
    OnAnother,
    Nonsense,
    NoResponders,
    NoReply,
    Never,
}

#[derive(Clone, Debug)]
enum Step {
    Command {
        subject: &'static str,
        body: &'static str,
        waits: bool,
    },
    /// For one of the outputs so far, by its place.
    Answer(prop::sample::Index, Answer),
    Time(u64),
    Finish,
}

fn steps() -> impl Strategy<Value = Step> {
    use Answer::*;
    let subjects = ["agent.command", "agent.command.n1", "system.control"];
    let bodies = [
        "\"Status\"",
        "\"List\"",
        r#"{"Status":{"agent_id":"a"}}"#,
        r#"{"Stop":{"agent_id":"a"}}"#,
        r#"{"Locate":{"agent_id":"a"}}"#,
        INPUT,
        "\"Ping\"",
        "\"Drain\"",
        "nonsense",
    ];
    let answers =
        [Done, Unknown, Unreachable, Gone, OnAnother, Nonsense, NoResponders, NoReply, Never];
    let command = (prop::sample::select(subjects.to_vec()), prop::sample::select(bodies.to_vec()));
    prop_oneof![
        4 => (command, any::<bool>())
            .prop_map(|((subject, body), waits)| Step::Command { subject, body, waits }),
        8 => (any::<prop::sample::Index>(), prop::sample::select(answers.to_vec()))
            .prop_map(|(at, answer)| Step::Answer(at, answer)),
        2 => (0_u64..600).prop_map(Step::Time),
        1 => Just(Step::Finish),
    ]
}

fn answer(gateway: &mut Gateway, now: Instant, to: &Output, answer: Answer) {
    let unknown = &WireError::new(ErrorCode::UnknownAgent, "no");
    let down = &WireError::new(ErrorCode::AgentRestarting, "no");
    let mut tell = |input| gateway.handle_input(now, input);
    let refused = |tag| Input::Refused { tag, code: "unknown_agent", message: "no" };
    match (to.clone(), answer) {
        (Output::Supervisor { tag, .. }, Answer::Done) => tell(Input::Done { tag, json: b"{}" }),
        (Output::Supervisor { tag, .. }, Answer::Unknown) => tell(refused(tag)),
        (Output::Supervisor { tag, .. }, Answer::Unreachable) => {
            tell(Input::NotAsked { tag, error: down, command: Vec::new() });
        }
        (Output::Agent { tag, payload, .. }, Answer::Done) => {
            tell(Input::Answered { tag, payload: &payload });
        }
        (Output::Agent { tag, command, .. }, Answer::Unknown) => {
            tell(Input::NotAsked { tag, error: unknown, command });
        }
        (Output::Agent { tag, .. }, Answer::Unreachable) => tell(refused(tag)),
        (Output::Agent { tag, .. }, Answer::Gone) => tell(Input::Gone { tag, comes_back: false }),
        (Output::Request { tag, .. }, Answer::Done) => tell(Input::Reply { tag, body: b"{}" }),
        (Output::Request { tag, .. }, Answer::OnAnother) => {
            tell(Input::Reply { tag, body: ON_N2.as_bytes() });
        }
        (Output::Request { tag, .. }, Answer::Nonsense) => {
            tell(Input::Reply { tag, body: b"\xff" })
        }
        (Output::Request { tag, .. }, Answer::NoResponders) => tell(Input::NoResponders { tag }),
        (Output::Request { tag, .. }, Answer::NoReply) => tell(Input::NoReply { tag }),
        _ => {}
    }
}

proptest! {
    /// Whatever happens, and in whatever order: who waits for an answer gets one, once, and nobody
    /// else does.
    #[test]
    fn each_command_is_answered_once(steps in prop::collection::vec(steps(), 1..60)) {
        let mut now = Instant::from_start(Duration::from_secs(1));
        let mut gateway = Gateway::new("n1", "native");
        let (mut wanted, mut answered) = (Vec::new(), HashMap::<String, u32>::new());
        let mut asked = 0;
        let done = steps.into_iter().chain([Step::Time(10_000), Step::Time(40_000)]);
        for (number, step) in done.enumerate() {
            match step {
                Step::Command { subject, body, waits } => {
                    let reply = format!("r{number}");
                    let reply = waits.then_some(reply.as_str());
                    asked += usize::from(waits);
                    let body = body.as_bytes();
                    gateway.handle_input(now, Input::Message { subject, reply, body });
                }
                Step::Answer(at, with) if !wanted.is_empty() => {
                    let to: &Output = at.get(&wanted);
                    answer(&mut gateway, now, to, with);
                }
                Step::Answer(..) => {}
                Step::Time(ms) => {
                    now = now + Duration::from_millis(ms);
                    gateway.handle_input(now, Input::Tick);
                }
                Step::Finish => gateway.handle_input(now, Input::Finish),
            }
            loop {
                match gateway.poll_output() {
                    Output::Wait(deadline) => {
                        prop_assert_eq!(deadline.is_none(), gateway.is_idle());
                        break;
                    }
                    Output::Publish { subject, reply, .. } => {
                        prop_assert_eq!(reply, None);
                        if !subject.starts_with("agent.command") {
                            *answered.entry(subject).or_default() += 1;
                        }
                    }
                    output => wanted.push(output),
                }
            }
        }
        prop_assert!(gateway.is_idle() && gateway.deadlines.is_empty());
        prop_assert_eq!(gateway.held, 0);
        prop_assert_eq!(answered.len(), asked);
        prop_assert!(answered.values().all(|times| *times == 1), "{:?}", answered);
    }
}
