//! `watch`: events as they happen.

mod event;
mod filter;
mod line;
mod rate;

use std::time::Duration;

use async_nats::Message;
use futures_util::stream::{select_all, StreamExt};
use serde_json::{json, Value};
use tokio::time::{sleep_until, Instant};

pub(super) use event::Event;
pub(super) use filter::subjects;
pub(super) use line::line;
use rate::Rate;

use super::args::Watch;
use super::connect::State;
use super::failure::Failure;
use super::nodes::{Asked, Nodes};
use super::out::Out;
use super::paint::{Paint, Tone};
use crate::message::Subject;

pub(super) async fn run(
    args: &Watch,
    nodes: &Nodes,
    out: &mut Out<'_>,
    notices: &mut dyn FnMut(&str, Paint),
) -> Result<(), Failure> {
    let started = Instant::now();
    let subjects = subjects(args);
    let mut events = Vec::new();
    for subject in &subjects {
        let subscription = nodes.connection.client.subscribe(subject.clone()).await;
        events.push(subscription.map_err(|error| Failure::other(error.to_string()))?);
    }
    let mut events = select_all(events);
    let mut state = nodes.connection.state.clone();
    let mut known = state.borrow_and_update().clone();
    let paint = out.paint;
    // An answer also says that the server has the subscriptions, which came before the question.
    let control = Subject::system_control();
    let nobody = match nodes.ask(control, &json!({"Ping": {}}), nodes.timeout, "a node").await {
        Ok(Asked::Answered(_)) => false,
        Ok(Asked::NoResponders) => true,
        Err(failure) if failure.code() == Some("timeout") => true,
        Err(failure) => return Err(failure),
    };
    let mut notice = |out: &mut Out<'_>, code: &str, text: &str| match out.json {
        true => out.json(&json!({"notice": {"code": code, "message": text}})),
        false => {
            notices(&paint.text(Tone::Faint, text), paint);
            Ok(())
        }
    };
    let what = format!("watching {} at {}", subjects.join(" and "), nodes.url());
    notice(out, "watching", &what)?;
    if nobody {
        notice(out, "no_node", "no node answers there yet: one that starts is seen")?;
    }
    let end = args.for_ms.map(|ms| started + Duration::from_millis(ms));
    let mut rate = Rate::new(args.rate);
    let mut seen = 0;
    loop {
        tokio::select! {
            message = events.next() => {
                let Some(message) = message else {
                    return Err(Failure::connection_lost(nodes.url()));
                };
                let event = read(&message);
                if !args.wants(&event) {
                    continue;
                }
                if out.json {
                    out.json(&event.json())?;
                } else {
                    let (shown, hidden) = rate.take(since(started));
                    if hidden > 0 {
                        notice(out, "rate", &format!("… {hidden} more events: --rate shows more"))?;
                    }
                    if shown {
                        out.text(&line(&event, paint))?;
                    }
                }
                seen += 1;
                if args.count.is_some_and(|count| seen >= count) {
                    return Ok(());
                }
            }
            changed = state.changed() => {
                if changed.is_err() {
                    return Err(Failure::connection_lost(nodes.url()));
                }
                let now = state.borrow_and_update().clone();
                for (code, text) in changes(&known, &now) {
                    notice(out, code, &text)?;
                }
                known = now;
            }
            () = sleep_until(end.unwrap_or(started)), if end.is_some() => {
                let left = rate.left();
                if left > 0 {
                    notice(out, "rate", &format!("… {left} more events: --rate shows more"))?;
                }
                return match args.count {
                    Some(count) => Err(Failure::timeout(
                        &format!("only {seen} of {count} events came: the rest"),
                        Duration::from_millis(args.for_ms.unwrap_or(0)),
                        None,
                    )),
                    None => Ok(()),
                };
            }
        }
    }
}

fn since(started: Instant) -> crate::time::Instant {
    crate::time::Instant::from_start(started.elapsed())
}

/// The event in a message.
pub(super) fn read(message: &Message) -> Event {
    Event::read(&message.subject, &message.payload)
}

/// What there is to say of a connection that has changed.
pub(super) fn changes(before: &State, now: &State) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    match (before.lost, now.lost) {
        (false, true) => {
            let text =
                "the connection is lost, and is made again; what happens meanwhile is missed";
            said.push(("connection_lost", text.to_owned()));
        }
        (true, false) => said.push(("connected", "connected again".to_owned())),
        _ => {}
    }
    if let Some(complaint) = now.complaint.as_ref().filter(|_| now.complaint != before.complaint) {
        said.push(("server", format!("the server says: {complaint}")));
    }
    let dropped = now.dropped.saturating_sub(before.dropped);
    if dropped > 0 {
        let text = format!(
            "at least {dropped} events were dropped: they came faster than they were taken"
        );
        said.push(("dropped", text));
    }
    said
}

impl Event {
    /// `{"subject","event":{…}}`, or `{"subject","text"}` of what is no JSON.
    fn json(&self) -> Value {
        match &self.body {
            Ok(whole) => json!({"subject": self.subject, "event": whole}),
            Err(text) => json!({"subject": self.subject, "text": text}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_a_connection_is_told_once() {
        let fine = State::default();
        let lost = State { lost: true, ..State::default() };
        let codes = |before: &State, now: &State| -> Vec<&str> {
            changes(before, now).into_iter().map(|(code, _)| code).collect()
        };
        assert_eq!(codes(&fine, &fine), [""; 0]);
        assert_eq!(codes(&fine, &lost), ["connection_lost"]);
        assert_eq!(codes(&lost, &fine), ["connected"]);
        let refused = State { complaint: Some("no".into()), dropped: 3, ..State::default() };
        assert_eq!(codes(&fine, &refused), ["server", "dropped"]);
        assert_eq!(codes(&refused, &refused), [""; 0]);
        assert!(changes(&fine, &refused)[1].1.contains("at least 3"));
    }

    #[test]
    fn an_event_for_programs_is_whole() {
        let event = Event::read("supervision.health.a", br#"{"payload":{"Health":{"moons":1}}}"#);
        let expected = json!({"subject": "supervision.health.a",
            "event": {"payload": {"Health": {"moons": 1}}}});
        assert_eq!(event.json(), expected);
        let event = Event::read("agent.events.a", b"no\xff");
        assert_eq!(event.json(), json!({"subject": "agent.events.a", "text": "no\u{fffd}"}));
    }
}
