//! `spawn`: one agent.

use super::answer::Answer;
use super::args::Spawn;
use super::failure::Failure;
use super::harmless::harmless;
use super::nodes::Nodes;
use super::out::Out;
use super::paint::Tone;
use crate::message::Spawned;

pub(super) async fn run(args: &Spawn, nodes: &Nodes, out: &mut Out<'_>) -> Result<(), Failure> {
    let command = args.command()?;
    let spawned: Answer<Spawned> =
        nodes.command(args.node.as_ref(), &command, nodes.timeout).await?;
    out.show(
        || spawned.whole,
        |paint| {
            let Spawned { agent_id, node_id, incarnation } = &spawned.known;
            let id = paint.text(Tone::Strong, agent_id.as_str());
            let node = harmless(node_id, 160);
            format!("{id} runs on {node}, in its life {incarnation}\n")
        },
    )
}
