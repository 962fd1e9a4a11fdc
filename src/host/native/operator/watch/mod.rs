//! `watch`: events as they happen.

mod event;
mod filter;
mod line;
mod rate;

use std::time::Duration;

use futures_util::stream::{self, select_all, BoxStream, StreamExt};
use serde_json::{json, Value};
use tokio::time::{interval, sleep_until, Instant};

pub(super) use event::Event;
pub(super) use filter::subjects;
pub(super) use line::{line, tone};
use rate::Rate;

use super::args::Watch;
use super::failure::Failure;
use super::harmless::harmless;
use super::nodes::{Asked, Nodes};
use super::out::Out;
use crate::host::native::nats::{self, NatsError, Subscription};
use crate::message::{NatsMessage, Subject};

pub(super) async fn run(
    args: &Watch,
    nodes: &Nodes,
    out: &mut Out<'_>,
    notices: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let started = Instant::now();
    let subjects = subjects(args);
    let connection = &nodes.connection.nats;
    let mut changes = connection.events();
    let mut events = listen(&subjects, nodes).await?;
    let mut looks = interval(LOOK);
    let mut dropped = 0;
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
            notices(text);
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
                let event = heard(message, nodes)?;
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
            change = changes.next() => {
                let Some(change) = change else {
                    return Err(Failure::connection_lost(nodes.url()));
                };
                if let Some((code, text)) = said(&change) {
                    notice(out, code, &text)?;
                }
            }
            _ = looks.tick() => {
                let now = connection.get_stats().dropped_messages;
                if now > dropped {
                    let text = "events were dropped: they came faster than they were taken";
                    notice(out, "dropped", &format!("{} {text}", now - dropped))?;
                    dropped = now;
                }
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

/// How often it is looked whether events were dropped.
const LOOK: Duration = Duration::from_secs(1);

/// What comes on some subjects, and why nothing more does on one of them.
pub(super) type Events = stream::SelectAll<BoxStream<'static, Result<NatsMessage, NatsError>>>;

/// What comes on these subjects.
pub(super) async fn listen(subjects: &[String], nodes: &Nodes) -> Result<Events, Failure> {
    let mut all = Vec::new();
    for subject in subjects {
        let subscription = Some(nodes.subscribe(subject).await?);
        let next = |subscription: Option<Subscription>| async {
            let mut subscription = subscription?;
            match subscription.next().await {
                Some(message) => Some((Ok(message), Some(subscription))),
                None => subscription.ended().cloned().map(|why| (Err(why), None)),
            }
        };
        all.push(stream::unfold(subscription, next).boxed());
    }
    Ok(select_all(all))
}

/// The event that has come; an error if a subscription has ended, since what is shown would not be all.
pub(super) fn heard(
    came: Option<Result<NatsMessage, NatsError>>,
    nodes: &Nodes,
) -> Result<Event, Failure> {
    match came {
        Some(Ok(message)) => Ok(Event::read(message.subject(), message.payload())),
        Some(Err(why)) => Err(nodes.failure(&why)),
        None => Err(Failure::connection_lost(nodes.url())),
    }
}

/// What there is to say of a connection that has changed.
pub(super) fn said(change: &nats::Event) -> Option<(&'static str, String)> {
    match change {
        nats::Event::Disconnected { .. } => {
            let text =
                "the connection is lost, and is made again; what happens meanwhile is missed";
            Some(("connection_lost", text.to_owned()))
        }
        nats::Event::Connected { reconnects: 1.., .. } => {
            Some(("connected", "connected again".to_owned()))
        }
        nats::Event::ServerError { error } => {
            Some(("server", format!("the server says: {}", harmless(error, 300))))
        }
        nats::Event::PermissionViolation { violation, .. } => {
            let subject = harmless(&violation.subject, 300);
            Some(("not_permitted", format!("the server does not permit {subject}")))
        }
        _ => None,
    }
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
    fn what_is_said_of_the_connection() {
        let server = || "nats://h".to_owned();
        let code = |change: &nats::Event| said(change).map(|(code, _)| code);
        assert_eq!(code(&nats::Event::Connected { server: server(), reconnects: 0 }), None);
        let again = nats::Event::Connected { server: server(), reconnects: 2 };
        assert_eq!(code(&again), Some("connected"));
        let lost = nats::Event::Disconnected { server: server() };
        assert_eq!(code(&lost), Some("connection_lost"));
        let error = nats::Event::ServerError { error: "\u{1b}".to_owned() };
        assert_eq!(said(&error), Some(("server", "the server says: \\u{1b}".to_owned())));
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
