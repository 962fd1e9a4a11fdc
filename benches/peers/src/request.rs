//! A request and its answer, one after the other. There is nothing to do at the same time, so that
//! it can be quicker on one thread than on several which wake each other.

use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;

use crate::{Result, subscribe};

/// Answers each request with what it says, until it is ended.
pub async fn respond(url: &str, subject: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut requests = subscribe(&client, subject).await?;
    println!(r#"{{"phase":"ready"}}"#);
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, request.payload).await?;
        }
    }
    Err("the subscription ended".into())
}

/// Prints the median of how long an answer took, in µs.
pub async fn measure(url: &str, subject: &str, size: usize, requests: usize) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let subject = async_nats::Subject::from(subject);
    let payload = Bytes::from(vec![b'x'; size]);
    let mut times = Vec::with_capacity(requests);
    // The first tenth fills caches and buffers.
    for number in 0..requests + requests / 10 {
        let started = Instant::now();
        // It has a timeout, as ours has.
        let answer = client.request(subject.clone(), payload.clone()).await?;
        let took = started.elapsed();
        if answer.payload != payload {
            return Err(format!("an answer has {} bytes", answer.payload.len()).into());
        }
        if number >= requests / 10 {
            times.push(took);
        }
    }
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64() * 1e6;
    println!(r#"{{"median_us":{median:.2},"size":{size},"requests":{requests}}}"#);
    Ok(())
}
