//! `stop`: one agent after the other, each on the node that has it.

use serde_json::{json, Value};

use super::args::Stop;
use super::failure::Failure;
use super::nodes::{Found, Nodes};
use super::out::Out;
use super::paint::{Paint, Tone};
use crate::agent::AgentId;
use crate::message::Stopped;

pub(super) async fn run(args: &Stop, nodes: &Nodes, out: &mut Out<'_>) -> Result<(), Failure> {
    let found = nodes.find(args.node.as_ref()).await?;
    let mut ends = Vec::new();
    for agent in &args.agents {
        let end = stop(agent, &found, nodes).await;
        if !out.json {
            // One that takes long is no reason not to tell of those before it.
            out.text(&text(agent, &end, out.paint))?;
        }
        ends.push((agent, end));
    }
    if out.json {
        out.json(&json(&ends))?;
    }
    let failed = ends.into_iter().find_map(|(_, end)| end.err());
    match failed {
        None => Ok(()),
        Some(failure) => Err(failure.shown_if(true)),
    }
}

/// Stops an agent; gives its node.
async fn stop(agent: &AgentId, found: &[Found], nodes: &Nodes) -> Result<AgentId, Failure> {
    let node = match found {
        [one] => one.id.clone(),
        _ => {
            let mut listed = nodes.agent(found, agent).await?;
            match listed.agents.len() {
                0 if listed.silent.is_empty() => {
                    return Err(Failure::no_such_agent(agent.as_str()));
                }
                0 => return Err(Failure::silent(&listed.silent, nodes.timeout)),
                1 => listed.agents.remove(0).0,
                _ => {
                    let on: Vec<&str> =
                        listed.agents.iter().map(|(node, _)| node.as_str()).collect();
                    return Err(Failure::ambiguous(agent.as_str(), &on));
                }
            }
        }
    };
    let command = json!({"Stop": {"agent_id": agent}});
    nodes.command::<Stopped>(Some(&node), &command, nodes.timeout).await?;
    Ok(node)
}

fn text(agent: &AgentId, end: &Result<AgentId, Failure>, paint: Paint) -> String {
    match end {
        Ok(node) => format!("stopped {} on {node}\n", paint.text(Tone::Strong, agent.as_str())),
        Err(failure) => failure.told().map(|told| told.text(paint)).unwrap_or_default(),
    }
}

/// `{"stopped":[{"agent_id","node_id"}],"failed":[{"agent_id","error":{…}}]}`.
fn json(ends: &[(&AgentId, Result<AgentId, Failure>)]) -> Value {
    let (mut stopped, mut failed) = (Vec::new(), Vec::new());
    for (agent, end) in ends {
        match end {
            Ok(node) => stopped.push(json!({"agent_id": agent, "node_id": node})),
            Err(failure) => {
                let error = failure.told().map(|told| told.json()["error"].take());
                failed.push(json!({"agent_id": agent, "error": error}));
            }
        }
    }
    json!({ "stopped": stopped, "failed": failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_and_what_was_not() {
        let id = |id: &str| AgentId(id.to_owned());
        let (a, b) = (id("a"), id("b"));
        let ends = [(&a, Ok(id("n1"))), (&b, Err(Failure::no_such_agent("b")))];
        assert_eq!(text(ends[0].0, &ends[0].1, Paint::Off), "stopped a on n1\n");
        let failed = text(ends[1].0, &ends[1].1, Paint::Off);
        assert!(failed.starts_with("error: no node has an agent b\n  `agents` "), "{failed}");
        let json = json(&ends);
        assert_eq!(json["stopped"], json!([{"agent_id": "a", "node_id": "n1"}]));
        assert_eq!(json["failed"][0]["agent_id"], "b");
        assert_eq!(json["failed"][0]["error"]["code"], "unknown_agent");
    }
}
