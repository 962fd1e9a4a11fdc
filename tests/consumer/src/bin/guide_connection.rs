use std::error::Error;
use std::time::Duration;

use rust_wasm_lunatic_nats::agent::run_ready;
use rust_wasm_lunatic_nats::wasm_nats::{
    Event, Headers, NatsError, NatsPublisher, RequestMany, SubscribeOptions, WasmNatsConfig,
    WasmNatsConnection, WhenBusy,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    run_ready(tour())?
}

async fn tour() -> Result<(), Box<dyn Error>> {
    let config = WasmNatsConfig {
        websocket_url: std::env::var("NATS_WEBSOCKET_URL")
            .unwrap_or("ws://localhost:8080".to_owned()),
        name: Some("tour".to_owned()),
        ..Default::default()
    };
    let nats = WasmNatsConnection::new(config).await?;
    println!("connected: {}", nats.is_connected());

    publish_and_subscribe(&nats).await?;
    request(&nats).await?;
    end_subscriptions(&nats).await?;
    refusals(&nats).await?;
    watch(&nats).await?;

    nats.drain(SOON).await?;
    println!("after drain: {}", nats.publish("tea", b"more").await.unwrap_err());
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn publish_and_subscribe(nats: &WasmNatsConnection) -> Result<(), Box<dyn Error>> {
    let mut tea = nats.subscribe("tea.*").await?;
    let mut one = nats.queue_subscribe("tea.green", "tasters").await?;
    let mut other = nats.queue_subscribe("tea.green", "tasters").await?;

    let mut headers = Headers::default();
    headers.append("Origin", "Uji")?;
    nats.publish_with_headers("tea.green", &headers, b"sencha").await?;
    nats.publish_json("tea.black", &json!({"leaf": "assam"})).await?;
    nats.flush(SOON).await?;

    while let Some(message) = tea.try_next()? {
        let headers = message.headers()?;
        let origin = headers.value("Origin").unwrap_or("nowhere");
        println!("{} from {origin}: {}", message.subject(), text(message.payload()));
    }
    let tasted = [one.try_next()?, other.try_next()?].iter().flatten().count();
    println!("tasted by {tasted} of 2");
    Ok(())
}

async fn request(nats: &WasmNatsConnection) -> Result<(), Box<dyn Error>> {
    let answer = nats.request("agent.input.greeter", br#""hello""#, SOON).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    println!("answer: {}", answer["payload"]);

    match nats.request("nobody.there", b"", SOON).await {
        Err(NatsError::NoResponders { subject }) => println!("no responders on {subject}"),
        other => println!("{other:?}"),
    }
    let _deaf = nats.subscribe("deaf").await?;
    let late = nats.request("deaf", b"", Duration::from_millis(100)).await.unwrap_err();
    println!("{late}");

    let many = RequestMany {
        stall: Some(Duration::from_millis(500)),
        max_messages: 1,
        ..Default::default()
    };
    let pongs = nats.request_many("system.control", Headers::none(), b"\"Ping\"", &many).await?;
    println!("nodes: {}", pongs.len());
    Ok(())
}

async fn end_subscriptions(nats: &WasmNatsConnection) -> Result<(), Box<dyn Error>> {
    let mut two = nats.subscribe("numbers").await?;
    two.unsubscribe_after(2);
    let mut all = nats.subscribe("numbers").await?;
    for number in ["1", "2", "3"] {
        nats.publish("numbers", number.as_bytes()).await?;
    }
    all.drain(SOON).await?;
    for (name, subscription) in [("two", &mut two), ("all", &mut all)] {
        let mut got = Vec::new();
        let end = loop {
            match subscription.next_within(SOON).await {
                Ok(Some(message)) => got.push(text(message.payload())),
                Ok(None) => break "nothing came".to_owned(),
                Err(end) => break end.to_string(),
            }
        };
        println!("{name}: {} ({end})", got.join(" "));
    }
    Ok(())
}

async fn refusals(nats: &WasmNatsConnection) -> Result<(), Box<dyn Error>> {
    for (subject, payload) in [("tea green", &b""[..]), ("tea.*", b""), ("tea", &[0; 2_000_000])] {
        println!("{}", nats.publish(subject, payload).await.unwrap_err());
    }
    println!("{}", nats.subscribe("tea..green").await.unwrap_err());
    Ok(())
}

async fn watch(nats: &WasmNatsConnection) -> Result<(), Box<dyn Error>> {
    let mut events = nats.events()?;
    let options = SubscribeOptions { max_pending_messages: 10, ..Default::default() };
    let _slow = nats.subscribe_with("flood", options).await?;
    nats.set_when_busy(WhenBusy::Error);
    for _ in 0..1000 {
        match nats.publish("flood", b"drop").await {
            Err(NatsError::Busy) => nats.flush(SOON).await?,
            published => published?,
        }
    }
    nats.flush(SOON).await?;
    while let Some(event) = events.next(Some(SOON)) {
        println!("event: {event}");
        if matches!(event, Event::SlowConsumer { .. }) {
            break;
        }
    }
    nats.force_reconnect();
    while let Some(event) = events.next(Some(SOON)) {
        println!("event: {event}");
        if matches!(event, Event::Connected { .. }) {
            break;
        }
    }
    let stats = nats.get_stats();
    println!("reconnects: {}, dropped: {}", stats.reconnects, stats.dropped_messages > 0);
    Ok(())
}
