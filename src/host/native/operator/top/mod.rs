//! `top`: a table of nodes and agents that keeps itself up to date.
//!
//! [`Model`] is fed with facts and the time, and knows no socket, no terminal and no clock; [`screen`]
//! draws it. What is here asks the nodes, listens, and reads the keyboard.

mod model;
mod screen;

use std::future::Future;
use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::StreamExt;
use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};
use ratatui::DefaultTerminal;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{interval, sleep_until, Instant, MissedTickBehavior};

use model::{Fact, Model, Round, Wish};

use super::args::{Kind, Top, Watch};
use super::failure::Failure;
use super::nodes::{Listed, Nodes};
use super::out::Out;
use super::paint::Paint;
use super::watch;
use crate::time::Timestamp;

/// The most agents of all nodes that are asked for in one round; where there are more, the node says so.
const MAX_AGENTS: usize = 10_000;

/// How often the screen is drawn at most, and the connection is looked at.
const FRAME: Duration = Duration::from_millis(100);

pub(super) async fn run(args: &Top, nodes: &Nodes, out: &mut Out<'_>) -> Result<(), Failure> {
    match out.json {
        true => snapshots(args, nodes, out).await,
        false => live(args, nodes, out.paint).await,
    }
}

/// Whether there is a terminal to draw on.
pub(super) fn check_terminal(json: bool) -> Result<(), Failure> {
    match json || io::stdout().is_terminal() {
        true => Ok(()),
        false => {
            Err(Failure::usage("top needs a terminal; with --json it prints a snapshot a line"))
        }
    }
}

/// A line of JSON for each round.
async fn snapshots(args: &Top, nodes: &Nodes, out: &mut Out<'_>) -> Result<(), Failure> {
    let started = Instant::now();
    let mut model = Model::new(nodes.url(), args.sort);
    let mut turns = turns(args);
    let mut shown = 0;
    loop {
        turns.tick().await;
        let round = match round(args, nodes).await {
            // Nodes come and go; a program is told that there are none.
            Err(failure) if failure.code() == Some("no_node") => Round::default(),
            other => other?,
        };
        model.take(since(started), Fact::Round(round));
        out.json(&model.snapshot(&now().to_string()))?;
        shown += 1;
        if args.count.is_some_and(|count| shown >= count) {
            return Ok(());
        }
    }
}

/// The screen, until somebody wants it to end.
async fn live(args: &Top, nodes: &Nodes, paint: Paint) -> Result<(), Failure> {
    let started = Instant::now();
    let mut model = Model::new(nodes.url(), args.sort);
    let only = Watch { except: QUIET.to_vec(), node: args.node.clone(), ..Watch::default() };
    let mut events = watch::listen(&watch::subjects(&only), nodes).await?;
    let mut changes = nodes.connection.nats.events();
    let mut turns = turns(args);
    let mut asking: Option<Asking<'_>> = None;
    let mut screen = Screen::open()?;
    let mut keys = keyboard();
    let mut ended = std::pin::pin!(crate::host::native::signals::told_to_end());
    let mut stale = true;
    let mut draw_at = started;
    loop {
        tokio::select! {
            biased;
            key = keys.recv() => match key {
                Some(key) => {
                    if model.key(key) == Wish::Quit {
                        return Ok(());
                    }
                    stale = true;
                    draw_at = Instant::now();
                }
                // Without a keyboard nobody can end it but by a signal.
                None => return Err(Failure::other("the keyboard cannot be read")),
            },
            () = &mut ended => return Ok(()),
            () = sleep_until(draw_at), if stale => {
                let dropped = nodes.connection.nats.get_stats().dropped_messages;
                model.take(since(started), Fact::Dropped(dropped));
                screen.draw(&mut model, since(started), paint)?;
                stale = false;
                draw_at = Instant::now() + FRAME;
            }
            _ = turns.tick(), if asking.is_none() => asking = Some(Box::pin(round(args, nodes))),
            answers = answered(&mut asking) => {
                asking = None;
                model.take(since(started), match answers {
                    Ok(round) => Fact::Round(round),
                    Err(failure) => match failure.code() {
                        Some("no_node" | "no_such_node" | "timeout" | "connection_lost") => {
                            let told = failure.told().map(|told| told.message.clone());
                            Fact::Nobody(told.unwrap_or_default())
                        }
                        _ => return Err(failure),
                    },
                });
                stale = true;
            }
            message = events.next() => {
                let event = watch::heard(message, nodes)?;
                if only.wants(&event) {
                    model.take(since(started), Fact::Event(Box::new(event)));
                    stale = true;
                }
            }
            change = changes.next() => {
                let Some(change) = change else {
                    return Err(Failure::connection_lost(nodes.url()));
                };
                if let Some((code, text)) = watch::said(&change) {
                    let text = if code == "connected" { String::new() } else { text };
                    model.take(since(started), Fact::Notice(text));
                    stale = true;
                }
            }
        }
    }
}

/// What the screen does not show among the events: the tables do.
const QUIET: [Kind; 4] = [Kind::Health, Kind::State, Kind::Lifecycle, Kind::Other];

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Round, Failure>> + 'a>>;

/// What came of the round that is under way; for ever if there is none.
async fn answered(asking: &mut Option<Asking<'_>>) -> Result<Round, Failure> {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

/// Asks all nodes once.
async fn round(args: &Top, nodes: &Nodes) -> Result<Round, Failure> {
    let found = nodes.find(args.node.as_ref()).await?;
    let mut round = Round::default();
    let mut room = MAX_AGENTS;
    for (node, summary) in nodes.summaries(found).await {
        let summary = match summary {
            Ok(summary) => summary.known,
            // It may have ended since it was found.
            Err(failure) => match failure.code() {
                Some("timeout" | "no_such_node") => continue,
                _ => return Err(failure),
            },
        };
        let most = room.min(args.limit as usize);
        let agents = match most {
            0 => Listed { more: summary.agents > 0, ..Listed::default() },
            most => nodes.agents(vec![node.clone()], most, most + 1, |_| true).await?,
        };
        room -= agents.agents.len();
        let known = agents.agents.into_iter().map(|(_, agent)| agent.known);
        round.nodes.push((node, summary, known.collect(), agents.more));
    }
    Ok(round)
}

fn turns(args: &Top) -> tokio::time::Interval {
    let mut turns = interval(Duration::from_millis(args.interval_ms));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

fn since(started: Instant) -> crate::time::Instant {
    crate::time::Instant::from_start(started.elapsed())
}

#[allow(clippy::disallowed_methods, reason = "a host reads the clock")]
fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_epoch(since_epoch.unwrap_or_default())
}

/// The terminal, which is as it was before when this is dropped, or when the program panics.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> Result<Self, Failure> {
        let refused = |error| Failure::other(format!("the terminal cannot be used: {error}"));
        Ok(Self { terminal: ratatui::try_init().map_err(refused)? })
    }

    fn draw(
        &mut self,
        model: &mut Model,
        now: crate::time::Instant,
        paint: Paint,
    ) -> Result<(), Failure> {
        self.terminal.draw(|frame| screen::draw(frame, model, now, paint))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What is typed, and sizes that change as a key that means nothing; read on a thread of its own, which
/// ends with the program at the latest. 64 keys can wait.
fn keyboard() -> mpsc::Receiver<Option<KeyEvent>> {
    let (typed, keys) = mpsc::channel(64);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                event::Event::Key(key) if key.kind != KeyEventKind::Release => Some(key),
                event::Event::Resize(..) => None,
                _ => continue,
            };
            if typed.blocking_send(key).is_err() {
                break;
            }
        }
    });
    keys
}

impl Model {
    /// All that it knows, for programs.
    fn snapshot(&self, at: &str) -> Value {
        let mut whole = self.json();
        whole["at"] = at.into();
        whole
    }
}
