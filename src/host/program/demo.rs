//! `demo`: counts the words of files with a fleet of agents, some of which are made to die in the
//! middle of it. Each piece of text is counted exactly once whatever happens: its answer counts
//! once, and until it has come the piece belongs to nobody.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use log::LevelFilter;
use serde::Deserialize;
use serde_json::{json, Value};

use crate::agent::chaos::{Death, Dying};
use crate::agent::text::{Splitter, WordCounts};
use crate::agent::{Agent, AgentConfig, AgentId, Context, Text};
use crate::config::NodeConfig;
use crate::error::{Error, Result, SendError};
use crate::host::here::chaos::{Here, DEMO, NOT_CONTAINED};
use crate::host::here::{program as host, Node, NodeEvent, NodeHandle, Ticket};
use crate::message::Message;
use crate::supervision::FailureContext;

/// Counts words, and dies in the middle of it if it is told to.
#[derive(Default)]
struct Worker;

#[async_trait]
impl Agent for Worker {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let counted = Text::count(&message.payload)?;
        if let Some(death) = Death::asked_for(&message.payload)? {
            Here::die(death).await?;
        }
        ctx.reply(&message, counted).await
    }
}

/// Runs the demo over the text files under the paths.
pub(super) fn run(
    config: &NodeConfig,
    paths: Vec<PathBuf>,
    workers: u32,
    json: bool,
) -> Result<()> {
    let files = Files::find(paths)?;
    // It shows the deaths itself.
    let quiet =
        if config.log_level == LevelFilter::Info { LevelFilter::Error } else { config.log_level };
    let config = &NodeConfig { log_level: quiet, ..config.clone() };
    let mut node = Node::builder().agent_type::<Worker>("worker").start(config)?;
    node.watch()?;
    let show = Show { json };
    show.start(&files, workers);
    let mut fleet = Fleet::start(node, workers, files, show)?;
    while fleet.work()? {}
    fleet.finish()
}

/// What is to be counted.
struct Files {
    waiting: VecDeque<PathBuf>,
    found: usize,
    bytes: u64,
    binary: usize,
}

impl Files {
    /// What is looked for where nothing is said: the project that one stands in.
    const DEFAULT: [&'static str; 3] = ["README.md", "docs", "src"];

    fn find(paths: Vec<PathBuf>) -> Result<Self> {
        let given = !paths.is_empty();
        let paths = if given { paths } else { Self::DEFAULT.map(PathBuf::from).into() };
        let mut files = Self { waiting: VecDeque::new(), found: 0, bytes: 0, binary: 0 };
        for path in &paths {
            match fs::metadata(path) {
                Ok(_) => files.add(path)?,
                Err(error) if given => return Err(cannot("find", path, &error)),
                Err(_) => {}
            }
        }
        if files.found == 0 {
            return Err(Error::Node("there is no text file under the paths".to_owned()));
        }
        Ok(files)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let about = fs::metadata(path).map_err(|error| cannot("look at", path, &error))?;
        if about.is_dir() {
            let entries = fs::read_dir(path).map_err(|error| cannot("list", path, &error))?;
            // Sorted, so that two runs count in the same order.
            let mut below = BTreeSet::new();
            for entry in entries {
                let entry = entry.map_err(|error| cannot("list", path, &error))?;
                // A link can lead out of what was asked for, or back into it.
                if !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    below.insert(entry.path());
                }
            }
            return below.iter().try_for_each(|path| self.add(path));
        }
        if is_text(path)? {
            self.bytes += about.len();
            self.found += 1;
            self.waiting.push_back(path.to_owned());
        } else {
            self.binary += 1;
        }
        Ok(())
    }
}

/// A file with a zero byte in its first 8 KB is no text.
fn is_text(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = fs::File::open(path).map_err(|error| cannot("open", path, &error))?;
    file.take(8192).read_to_end(&mut head).map_err(|error| cannot("read", path, &error))?;
    Ok(!head.contains(&0))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Node(format!("cannot {what} {}: {error}{}", path.display(), host::ABOUT_FILES))
}

/// A piece of text, and how often it was given to a worker.
struct Piece {
    text: String,
    tries: u32,
}

struct Fleet {
    node: NodeHandle,
    show: Show,
    files: Files,
    splitter: Splitter,
    idle: Vec<AgentId>,
    busy: HashMap<Ticket, (AgentId, Piece)>,
    /// Pieces whose worker died.
    again: VecDeque<Piece>,
    counts: WordCounts,
    files_read: usize,
    bytes_read: u64,
    pieces_sent: u64,
    pieces_expected: u64,
    deaths: VecDeque<Death>,
    /// Workers that have died and do not run again yet.
    down: BTreeSet<AgentId>,
    lost: u64,
}

impl Fleet {
    /// A piece is at most so large, and at least so many make up the text if it is large enough.
    const MAX_PIECE: u64 = 32 * 1024;
    const MIN_PIECE: u64 = 512;
    const MIN_PIECES: u64 = 200;
    /// A piece that so many workers died of is given up.
    const MAX_TRIES: u32 = 8;

    fn start(mut node: NodeHandle, workers: u32, files: Files, show: Show) -> Result<Self> {
        let mut idle = Vec::new();
        for number in 1..=workers {
            let config = AgentConfig {
                id: AgentId(format!("worker-{number}")),
                agent_type: "worker".to_owned(),
                max_memory_mb: 16,
                timeout_ms: 1_500,
                ..AgentConfig::default()
            };
            idle.push(node.spawn(&config)?.agent_id);
        }
        let piece = (files.bytes / Self::MIN_PIECES).clamp(Self::MIN_PIECE, Self::MAX_PIECE);
        Ok(Self {
            node,
            show,
            splitter: Splitter::new(piece as usize),
            pieces_expected: files.bytes / piece + 1,
            files,
            idle,
            busy: HashMap::new(),
            again: VecDeque::new(),
            counts: WordCounts::new(),
            files_read: 0,
            bytes_read: 0,
            pieces_sent: 0,
            deaths: DEMO.into(),
            down: BTreeSet::new(),
            lost: 0,
        })
    }

    /// Gives work to who is idle, and waits for what comes. False when all is counted.
    fn work(&mut self) -> Result<bool> {
        while let Some(worker) = self.idle.pop() {
            let Some(piece) = self.next_piece()? else {
                self.idle.push(worker);
                break;
            };
            self.give(worker, piece)?;
        }
        if self.busy.is_empty() && self.again.is_empty() && self.down.is_empty() {
            return Ok(false);
        }
        match self.node.next(Some(Duration::from_secs(30))) {
            Some(NodeEvent::Answer { ticket, answer }) => self.answered(ticket, answer)?,
            Some(NodeEvent::Event { payload, .. }) => self.event(&payload),
            Some(NodeEvent::GaveUp { part }) => {
                return Err(Error::Node(format!("{part} died too often")));
            }
            Some(NodeEvent::ShutdownAsked { .. } | NodeEvent::DrainAsked) => {
                return Err(Error::Node("the node was told to stop".to_owned()));
            }
            None => return Err(Error::Node("no worker has answered for 30 s".to_owned())),
        }
        Ok(true)
    }

    fn next_piece(&mut self) -> Result<Option<Piece>> {
        if let Some(piece) = self.again.pop_front() {
            return Ok(Some(piece));
        }
        loop {
            let too_long = |error: crate::agent::text::WordTooLong| Error::Node(error.to_string());
            if let Some(bytes) = self.splitter.next_chunk().map_err(too_long)? {
                return Ok(Some(Piece { text: letters(&bytes), tries: 0 }));
            }
            let Some(path) = self.files.waiting.pop_front() else { return Ok(None) };
            let bytes = fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
            self.bytes_read += bytes.len() as u64;
            self.files_read += 1;
            self.splitter.push(&bytes);
            self.splitter.end_text();
            self.show.progress(self.files_read, &self.files, self.bytes_read);
        }
    }

    fn give(&mut self, worker: AgentId, mut piece: Piece) -> Result<()> {
        piece.tries += 1;
        let mut payload = json!({ "text": piece.text });
        // Spread over the whole run, from its first fifth on.
        let done = (DEMO.len() - self.deaths.len()) as u64;
        let due = self.pieces_expected * (2 * done + 1) / (2 * DEMO.len() as u64);
        if self.pieces_sent >= due {
            if let Some(death) = self.deaths.pop_front() {
                payload["die"] = death.name().into();
            }
        }
        match self.node.ask(&worker, &payload) {
            Ok(ticket) => {
                self.pieces_sent += 1;
                self.busy.insert(ticket, (worker, piece));
                Ok(())
            }
            // Its death was not yet told; it becomes idle with its recovery.
            Err(Error::Send(SendError::AgentRestarting(_))) => {
                piece.tries -= 1;
                self.again.push_back(piece);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: Result<Value, String>) -> Result<()> {
        // One whose worker was thought dead, and whose piece somebody else has.
        let Some((worker, piece)) = self.busy.remove(&ticket) else { return Ok(()) };
        self.idle.push(worker);
        match answer {
            Ok(mut answer) => self.counts.merge(serde_json::from_value(answer["counts"].take())?),
            Err(_) => self.put_back(piece),
        }
        Ok(())
    }

    fn event(&mut self, event: &Value) {
        self.show.event(event);
        let agent = |value: &Value| value["agent_id"].as_str().map(|id| AgentId(id.to_owned()));
        if let Some(id) = event.get("Failure").filter(|f| f["severity"] != "Low").and_then(agent) {
            self.idle.retain(|worker| *worker != id);
            self.down.insert(id.clone());
            let of_dead = |(_, (worker, _)): &(&Ticket, &(AgentId, Piece))| *worker == id;
            if let Some(ticket) = self.busy.iter().find(of_dead).map(|(&ticket, _)| ticket) {
                if let Some((_, piece)) = self.busy.remove(&ticket) {
                    self.put_back(piece);
                }
            }
        } else if let Some(id) = event.get("Recovery").and_then(agent) {
            self.down.remove(&id);
            let busy = self.busy.values().any(|(worker, _)| *worker == id);
            if !busy && !self.idle.contains(&id) {
                self.idle.push(id);
            }
        }
    }

    fn put_back(&mut self, piece: Piece) {
        if piece.tries < Self::MAX_TRIES {
            self.again.push_back(piece);
        } else {
            self.lost += 1;
        }
    }

    fn finish(mut self) -> Result<()> {
        let long = self.splitter.finish().map_err(|error| Error::Node(error.to_string()))?;
        self.counts.merge(long);
        let restarts = self.node.status()?.counters.restarts;
        self.node.shutdown(Duration::from_secs(2))?;
        self.show.result(&self.counts, self.files_read, restarts, self.lost);
        if self.lost > 0 {
            return Err(Error::Node(format!("{} pieces were never counted", self.lost)));
        }
        Ok(())
    }
}

/// The ways to die that are left out on this host, since they would end more than the agent.
fn not_contained() -> String {
    NOT_CONTAINED.map(Death::name).join(",")
}

/// What is no ASCII letter ends a word, so it may as well be a space: that makes any file text.
fn letters(bytes: &[u8]) -> String {
    let letter = |&byte: &u8| if byte.is_ascii_alphabetic() { char::from(byte) } else { ' ' };
    bytes.iter().map(letter).collect()
}

/// What the demo prints: lines for people, or JSON.
struct Show {
    json: bool,
}

impl Show {
    fn start(&self, files: &Files, workers: u32) {
        let (found, bytes, binary) = (files.found, files.bytes, files.binary);
        if self.json {
            return println!(
                "{}",
                json!({ "type": "start", "files": found, "bytes": bytes, "binary": binary, "workers": workers })
            );
        }
        println!(
            "counting the words of {found} text files ({} KB) with {workers} agents,",
            bytes / 1024
        );
        println!("{}; five of them will be made to die on the way", host::AGENTS_ARE);
        if !NOT_CONTAINED.is_empty() {
            println!("(by what ends one of them alone on this host: not by {})", not_contained());
        }
        if binary > 0 {
            println!("({binary} files are no text and left out)");
        }
    }

    /// A line each time another tenth of the files is read.
    fn progress(&self, read: usize, files: &Files, bytes: u64) {
        let tenth = |files_read: usize| files_read * 10 / files.found.max(1);
        if self.json || tenth(read) == tenth(read - 1) {
            return;
        }
        println!(
            "  {:3} %  {read} of {} files, {} KB",
            tenth(read) * 10,
            files.found,
            bytes / 1024
        );
    }

    fn event(&self, event: &Value) {
        if self.json {
            return println!("{}", json!({ "type": "event", "event": event }));
        }
        if let Some(failure) = event.get("Failure") {
            let why = FailureContext::deserialize(&failure["context"]).unwrap_or_default();
            println!(
                "  died:      {} ({}): {why}",
                failure["agent_id"].as_str().unwrap_or_default(),
                failure["failure_type"].as_str().unwrap_or_default(),
            );
        } else if let Some(recovery) = event.get("Recovery") {
            println!(
                "  restarted: {}, its life {}, after {} µs",
                recovery["agent_id"].as_str().unwrap_or_default(),
                recovery["incarnation"],
                recovery["downtime_us"],
            );
        }
    }

    fn result(&self, counts: &WordCounts, files: usize, restarts: u64, lost: u64) {
        let (words, distinct) = (counts.total(), counts.distinct());
        if self.json {
            let mut result = json!({ "type": "result", "ok": lost == 0, "words": words,
                "distinct": distinct, "files": files, "restarts": restarts, "lost": lost,
                "counts": counts });
            if !NOT_CONTAINED.is_empty() {
                result["not_contained"] = NOT_CONTAINED.map(Death::name).as_slice().into();
            }
            return println!("{result}");
        }
        println!("the most frequent words:");
        for (word, count) in counts.top(10) {
            println!("  {count:9}  {word}");
        }
        println!("start a node of your own:  {}", host::START_A_NODE);
        if lost == 0 {
            let left_out = match NOT_CONTAINED.is_empty() {
                true => String::new(),
                false => format!(" not_contained={}", not_contained()),
            };
            println!("result: ok words={words} distinct={distinct} files={files} restarts={restarts} lost=0{left_out}");
        }
    }
}
