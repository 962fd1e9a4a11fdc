//! The same work as the benchmarks over NATS in `src/host/lunatic/program/bench/nats.rs`, done by
//! `async-nats`, the native client: `scripts/bench` runs both in turn on one server. And the
//! independent client that finds out when a node is back after an outage. And messages between agents
//! of the native host, beside those between actors of other libraries.
//!
//! ```text
//! peers one-way URL SUBJECT SIZE MESSAGES ROUNDS one|two     by one connection or by two
//! peers respond URL SUBJECT
//! peers request URL SUBJECT SIZE REQUESTS
//! peers outage URL SUBJECT ADDRESS     from when ADDRESS listens until SUBJECT answers
//! peers agents-one-way ours|kameo|ractor MESSAGES ROUNDS
//! peers agents-round-trip ours|kameo|ractor REQUESTS ROUNDS
//! ```
//!
//! With `--one-thread` before all that, tokio has one thread instead of one for each core.

mod agents;
mod one_way;
mod outage;
mod request;

use std::error::Error;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use tokio::runtime::Builder;

use agents::{Library, Work};

const USAGE: &str = "usage: peers [--one-thread] one-way URL SUBJECT SIZE MESSAGES ROUNDS one|two
       peers [--one-thread] respond URL SUBJECT
       peers [--one-thread] request URL SUBJECT SIZE REQUESTS
       peers [--one-thread] outage URL SUBJECT ADDRESS
       peers [--one-thread] agents-one-way ours|kameo|ractor MESSAGES ROUNDS
       peers [--one-thread] agents-round-trip ours|kameo|ractor REQUESTS ROUNDS";

/// How long a round of messages, an answer, or the end of an outage may take.
const PATIENCE: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mut runtime, arguments) = match arguments.as_slice() {
        ["--one-thread", arguments @ ..] => (Builder::new_current_thread(), arguments),
        arguments => (Builder::new_multi_thread(), arguments),
    };
    runtime.enable_all().build()?.block_on(run(arguments))
}

async fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["one-way", url, subject, size, messages, rounds, connections] => {
            let two = match *connections {
                "one" => false,
                "two" => true,
                other => return Err(format!("it is one or two connections, not {other:?}").into()),
            };
            let (size, messages) = (number("SIZE", size)?, number("MESSAGES", messages)?);
            one_way::measure(url, subject, size, messages, number("ROUNDS", rounds)?, two).await
        }
        ["respond", url, subject] => request::respond(url, subject).await,
        ["request", url, subject, size, requests] => {
            request::measure(url, subject, number("SIZE", size)?, number("REQUESTS", requests)?)
                .await
        }
        ["outage", url, subject, address] => outage::measure(url, subject, address).await,
        ["agents-one-way", library, messages, rounds] => {
            let work = Work::Send(number("MESSAGES", messages)? as u64);
            agents::measure(Library::parse(library)?, work, number("ROUNDS", rounds)?).await
        }
        ["agents-round-trip", library, requests, rounds] => {
            let work = Work::Request(number("REQUESTS", requests)? as u64);
            agents::measure(Library::parse(library)?, work, number("ROUNDS", rounds)?).await
        }
        _ => Err(USAGE.into()),
    }
}

fn number(name: &str, text: &str) -> Result<usize> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name} is {text:?}, and must be a whole number above 0").into()),
    }
}

/// A subscription that the server has seen: `flush` says only that it was sent.
async fn subscribe(client: &Client, subject: &str) -> Result<Subscriber> {
    let mut subscription = client.subscribe(subject.to_owned()).await?;
    client.publish(subject.to_owned(), "seen?".into()).await?;
    within("a subscription", async {
        subscription.next().await.ok_or("the subscription ended")?;
        Ok(())
    })
    .await?;
    Ok(subscription)
}

async fn within<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| format!("{what} took more than {PATIENCE:?}"))?
}
