//! `send`: one message, and its answer.

use std::io::Read;

use serde_json::{json, Value};

use super::args::Send;
use super::failure::Failure;
use super::harmless::harmless;
use super::nodes::Nodes;
use super::out::Out;

/// What is to be sent: the word of the command line, or all of `stdin` for `-`.
///
/// # Errors
/// It cannot be read, is too large, or not JSON.
pub(super) fn read(args: &Send, stdin: impl Read) -> Result<Value, Failure> {
    if args.payload != "-" {
        return args.value(args.payload.as_bytes());
    }
    let mut bytes = Vec::new();
    // One more, to know whether there is more.
    let read = stdin.take(Send::MAX_PAYLOAD as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::other(format!("standard input cannot be read: {error}")))?;
    args.value(&bytes)
}

pub(super) async fn run(
    args: &Send,
    said: Value,
    nodes: &Nodes,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let agent = &args.agent;
    // As a command, and not on the agent's own subject: a node says at once if the agent dies of it, and
    // reaches one that has NATS switched off. The nodes find out by themselves who has it.
    let input = json!({"Input": {"agent_id": agent, "message": said}});
    let answer = nodes.command::<Value>(args.node.as_ref(), &input, nodes.timeout).await?.whole;
    out.show(|| json!({"agent_id": agent, "payload": answer}), |_| text(&answer))
}

/// A text as it is, line by line; anything else as JSON with its lines indented.
fn text(answer: &Value) -> String {
    let pretty = match answer {
        Value::String(text) => text.clone(),
        other => format!("{other:#}"),
    };
    // Half a megabyte is as much as an agent can say.
    let line = |line| harmless(line, Send::MAX_PAYLOAD) + "\n";
    let shown: String = pretty.lines().map(line).collect();
    if shown.is_empty() {
        "\n".to_owned()
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::AgentId;

    fn send(payload: &str, text: bool) -> Send {
        let agent = AgentId("a".into());
        Send { agent, payload: payload.to_owned(), text, node: None }
    }

    fn read_from(args: &Send, stdin: &[u8]) -> Result<Value, String> {
        read(args, stdin).map_err(|failure| failure.told().expect("told").message.clone())
    }

    #[test]
    fn the_payload_is_a_word_or_standard_input() {
        assert_eq!(read_from(&send("{\"x\":1}", false), b""), Ok(json!({"x": 1})));
        assert_eq!(read_from(&send("-", false), b" [1]\n"), Ok(json!([1])));
        assert_eq!(read_from(&send("-", true), b"two\nlines"), Ok(json!("two\nlines")));
        assert_eq!(read_from(&send("{", true), b""), Ok(json!("{")));
        assert_eq!(read_from(&send("-1", false), b""), Ok(json!(-1)));
    }

    #[test]
    fn what_cannot_be_sent_and_why() {
        let error = read_from(&send("hello", false), b"").expect_err("no JSON");
        assert!(error.contains("not JSON") && error.contains("--text"), "{error}");
        assert!(read_from(&send("-", true), b"\xff").expect_err("no text").contains("UTF-8"));
        let long = vec![b'1'; Send::MAX_PAYLOAD + 1];
        let error = read_from(&send("-", false), &long).expect_err("too long");
        assert!(error.contains("more than 524288 bytes"), "{error}");
        assert!(read(&send("-", false), std::io::repeat(b'1')).is_err(), "it need not end");
    }

    #[test]
    fn an_answer_keeps_its_lines_and_harms_nobody() {
        assert_eq!(text(&json!("two\nlines\u{1b}[2J")), "two\nlines\\u{1b}[2J\n");
        assert_eq!(text(&json!("")), "\n");
        assert_eq!(text(&json!(null)), "null\n");
        assert_eq!(text(&json!({"a": [1]})), "{\n  \"a\": [\n    1\n  ]\n}\n");
        assert_eq!(text(&json!({"a": "\u{9b}"})), "{\n  \"a\": \"\\u{9b}\"\n}\n");
    }
}
