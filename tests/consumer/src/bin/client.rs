//! What `tests/e2e/client.rs` has done inside the runtime: one scenario for each word, by connections
//! of this process's own, or `node`, a node with agents that do what they are told.

use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::agent::run_ready;
use rust_wasm_lunatic_nats::host::lunatic::sys::{self, Permissions, Pid, Received};
use rust_wasm_lunatic_nats::nats::{Auth, OutboxError, StatusCode};
use rust_wasm_lunatic_nats::wasm_nats::{
    Event, Headers, NatsError, NatsEvents, RequestMany, SubscribeOptions, Subscription,
    WasmNatsConfig, WasmNatsConnection, WhenBusy,
};
use rust_wasm_lunatic_nats::{Agent, Context, Error, Message, NatsMessage, Node, Result};
use serde_json::{Value, json};

/// Longer than a test may take: who waits so long has hung.
const MINUTES: Duration = Duration::from_secs(600);
/// What happens at all happens within this.
const SOON: Duration = Duration::from_secs(20);
/// What does not happen has not happened within this.
const MOMENT: Duration = Duration::from_millis(300);
/// The tag under which answers to requests wait in a mailbox.
const ANSWERS: i64 = 102;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "node") {
        return Node::builder().agent_type::<Worker>("worker").run();
    }
    for word in words {
        println!("begin {word}");
        run_ready(scenario(&word)).expect("what waits here suspends the process");
        println!("ok {word}");
    }
    println!("result: ok");
    Ok(())
}

async fn scenario(word: &str) {
    match word {
        "headers" => headers().await,
        "requests" => requests().await,
        "many" => many().await,
        "groups" => groups().await,
        "echo" => echo().await,
        "unsubscribe" => unsubscribe().await,
        "drain" => drain().await,
        "credits" => credits().await,
        "leftovers" => leftovers().await,
        "process" => process().await,
        "reconnect" => reconnect().await,
        "killed" => killed().await,
        "gave-up" => gave_up().await,
        "no-server" => no_server().await,
        "offline" => offline().await,
        "max-payload" => max_payload().await,
        "permissions" => permissions().await,
        "no-inbox" => no_inbox().await,
        "busy" => busy().await,
        "wait" => wait().await,
        other => panic!("{other} is no scenario"),
    }
}

fn url() -> String {
    std::env::var("NATS_WEBSOCKET_URL").expect("a server")
}

async fn connect() -> WasmNatsConnection {
    connect_with(|_| {}).await
}

async fn connect_with(change: impl FnOnce(&mut WasmNatsConfig)) -> WasmNatsConnection {
    let reconnect_delay = Duration::from_millis(50);
    let mut config = WasmNatsConfig { websocket_url: url(), reconnect_delay, ..Default::default() };
    change(&mut config);
    WasmNatsConnection::new(config).await.expect("a connection")
}

#[track_caller]
fn next(subscription: &mut Subscription) -> NatsMessage {
    let message = run_ready(subscription.next_within(SOON)).expect("ready");
    message.expect("it has not ended").expect("a message")
}

fn text(message: &NatsMessage) -> String {
    String::from_utf8_lossy(message.payload()).into_owned()
}

/// All that is here, until nothing came for a moment.
fn rest(subscription: &mut Subscription) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(Some(message)) = run_ready(subscription.next_within(MOMENT)).expect("ready") {
        all.push(text(&message));
    }
    all
}

/// Events until one that is wanted, that one included.
#[track_caller]
fn events_until(events: &mut NatsEvents, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let event = events.next(Some(SOON));
        let event = event.unwrap_or_else(|| panic!("it did not come; there were {seen:?}"));
        seen.push(event);
        if seen.last().is_some_and(&wanted) {
            return seen;
        }
    }
}

fn is_connected(event: &Event) -> bool {
    matches!(event, Event::Connected { .. })
}

fn is_disconnected(event: &Event) -> bool {
    matches!(event, Event::Disconnected { .. })
}

/// Waits until the connection is up, or is not.
fn until_connected(nats: &WasmNatsConnection, wanted: bool) {
    for _ in 0..SOON.as_millis() {
        if nats.is_connected() == wanted {
            return;
        }
        sys::sleep(Duration::from_millis(1));
    }
    panic!("connected={wanted} did not come");
}

async fn headers() {
    let nats = connect().await;
    let mut inbox = nats.subscribe("h.in").await.expect("a subscription");
    let mut headers = Headers::new();
    for (name, value) in
        [("X-Trace", "1"), ("X-Trace", "2"), ("x-trace", "lower"), ("Type", "a/b; c=\"d:e\"")]
    {
        headers.append(name, value).expect("a header");
    }
    let check = |message: &NatsMessage| {
        let came = message.headers().expect("headers");
        assert_eq!(came.values("X-Trace").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(came.values("x-trace").collect::<Vec<_>>(), ["lower"]);
        assert_eq!(came.value("Type"), Some("a/b; c=\"d:e\""));
        assert_eq!((message.payload(), message.status()), (&b"body"[..], None));
    };
    nats.publish_with_headers("h.in", &headers, b"body").await.expect("published");
    let message = next(&mut inbox);
    assert_eq!(message.headers().as_ref(), Ok(&headers), "as they were written, in their order");
    check(&message);
    // There and back by another client.
    check(
        &nats.request_with_headers("svc.echo", &headers, b"body", MINUTES).await.expect("an echo"),
    );
    nats.publish_request_with_headers("svc.echo", "h.in", &headers, b"body").await.expect("sent");
    check(&next(&mut inbox));
    // A status stands in the first line.
    nats.publish_request("h.nobody", "h.in", b"").await.expect("published");
    let nobody = next(&mut inbox);
    assert_eq!(nobody.status(), Some(StatusCode::NO_RESPONDERS));
    assert_eq!(nobody.headers().expect("headers").status(), Some(StatusCode::NO_RESPONDERS));
    assert_eq!(nobody.payload(), b"");
    for (name, value) in [("a:b", "x"), ("a", "x\r\nPUB y 0"), ("a\n", "x"), ("", "x")] {
        assert!(headers.append(name, value).is_err(), "{name:?}: {value:?}");
    }
    for wrong in ["", "a b", "a..b", "a.*", "a.>", "a\r\nPUB b 0", "a."] {
        let refused = nats.publish(wrong, b"").await;
        assert!(matches!(refused, Err(NatsError::Invalid(_))), "{wrong:?}: {refused:?}");
        let refused = nats.publish_request("a", wrong, b"").await;
        assert!(matches!(refused, Err(NatsError::Invalid(_))), "{wrong:?}: {refused:?}");
    }
    for wrong in ["", "a b", "a..b", "a.>.b", "a\r\nPUB b 0"] {
        assert!(nats.subscribe(wrong).await.is_err(), "{wrong:?}");
    }
    assert!(nats.queue_subscribe("a", "b c").await.is_err());
    assert_eq!(nats.get_stats().reconnects, 0, "nothing of it was sent");
}

async fn requests() {
    let nats = connect().await;
    let before = nats.get_stats();
    // At once, however long one would wait.
    let nobody = nats.request("svc.nobody", b"", MINUTES).await;
    assert_eq!(nobody, Err(NatsError::NoResponders { subject: "svc.nobody".to_owned() }));
    assert_eq!(nats.request("svc.echo", b"1", MINUTES).await.as_deref(), Ok(&b"1"[..]));
    let empty = nats.request("svc.echo", b"", MINUTES).await;
    assert_eq!(empty.as_deref(), Ok(&b""[..]), "an empty answer is one");
    // Late ones are dropped, and nobody gets another's.
    for n in 0..50 {
        let timeout = Duration::from_millis(1);
        let late = nats.request("svc.late", format!("late {n}").as_bytes(), timeout).await;
        assert!(matches!(late, Err(NatsError::TimedOut { .. })), "{late:?}");
        let said = format!("in time {n}");
        let answer = nats.request("svc.echo", said.as_bytes(), MINUTES).await;
        assert_eq!(answer.as_deref(), Ok(said.as_bytes()));
    }
    // The service answers those in their order: behind this one there is none.
    let last = nats.request("svc.late", b"last", MINUTES).await;
    assert_eq!(last.as_deref(), Ok(&b"last"[..]));
    let left = sys::receive(&[ANSWERS], Some(Duration::ZERO));
    assert_eq!(left, Received::TimedOut, "a late answer is still in the mailbox");
    let stats = nats.get_stats();
    assert_eq!(stats.requests - before.requests, 104);
    assert_eq!(stats.out_messages - before.out_messages, 104);
    assert_eq!(stats.in_messages - before.in_messages, 104, "answers, late or not, and one 503");
}

async fn many() {
    let nats = connect().await;
    let none = Headers::none();
    let total = MINUTES;
    // The service sends the numbers from 1 to what it is told, and then nothing with `!`.
    let ask = async |body: &str, many: RequestMany| {
        let answers = nats.request_many("svc.many", none, body.as_bytes(), &many).await;
        let answers = answers.expect("answers");
        answers.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    let by_count = RequestMany { max_messages: 3, total, ..Default::default() };
    assert_eq!(ask("5", by_count).await, "1 2 3");
    let by_stall = RequestMany { stall: Some(MOMENT), total, ..Default::default() };
    assert_eq!(ask("5", by_stall).await, "1 2 3 4 5");
    let by_sentinel = RequestMany { sentinel: true, total, ..Default::default() };
    assert_eq!(ask("5!", by_sentinel).await, "1 2 3 4 5");
    let by_time = RequestMany { total: MOMENT, ..Default::default() };
    assert_eq!(ask("5", by_time).await, "1 2 3 4 5");
    // What was left of the earlier ones disturbs nobody.
    assert_eq!(nats.request("svc.echo", b"x", MINUTES).await.as_deref(), Ok(&b"x"[..]));
    let nobody = nats.request_many("svc.nobody", none, b"", &RequestMany::default()).await;
    assert_eq!(nobody, Err(NatsError::NoResponders { subject: "svc.nobody".to_owned() }));
}

async fn groups() {
    let (one, two) = (connect().await, connect().await);
    let mut group = [
        one.queue_subscribe("g.x", "workers").await.expect("a subscription"),
        one.queue_subscribe("g.*", "workers").await.expect("a subscription"),
        two.queue_subscribe("g.x", "workers").await.expect("a subscription"),
    ];
    let mut all = two.subscribe("g.>").await.expect("a subscription");
    let mut others = two.queue_subscribe("g.x", "others").await.expect("a subscription");
    two.flush(MINUTES).await.expect("subscribed");
    for n in 0..300 {
        one.publish("g.x", n.to_string().as_bytes()).await.expect("published");
    }
    one.flush(MINUTES).await.expect("published");
    let in_order: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(rest(&mut all), in_order);
    assert_eq!(rest(&mut others), in_order);
    let parts = group.each_mut().map(rest);
    assert!(parts.iter().all(|part| part.len() > 10), "{parts:?}");
    let mut together: Vec<u32> = parts.iter().flatten().filter_map(|n| n.parse().ok()).collect();
    together.sort_unstable();
    assert!(together.iter().copied().eq(0..300), "each to one of them: {together:?}");
}

/// One's own messages come back, unless one wants none of them.
async fn echo() {
    let (with, without) = (connect().await, connect_with(|config| config.echo = false).await);
    let mut subscription = without.subscribe("e.x").await.expect("a subscription");
    without.publish("e.x", b"own").await.expect("published");
    without.flush(SOON).await.expect("flushed");
    with.publish("e.x", b"another's").await.expect("published");
    assert_eq!(text(&next(&mut subscription)), "another's");
}

async fn unsubscribe() {
    let nats = connect().await;
    let mut some = nats.subscribe("u.some").await.expect("a subscription");
    for n in 0..3 {
        nats.publish("u.some", n.to_string().as_bytes()).await.expect("published");
    }
    assert_eq!(text(&next(&mut some)), "0");
    some.unsubscribe_after(5);
    for n in 3..9 {
        nats.publish("u.some", n.to_string().as_bytes()).await.expect("published");
    }
    for n in 1..5 {
        assert_eq!(text(&next(&mut some)), n.to_string());
    }
    let why = some.try_next().expect_err("it has had its five");
    assert!(why.to_string().contains("for 5 messages"), "{why}");
    assert_eq!(some.ended(), Some(&why));
    assert!(some.next().await.is_none());
    let nobody = |subject: &str| Err(NatsError::NoResponders { subject: subject.to_owned() });
    let asked = nats.request("u.some", b"", MINUTES).await;
    assert_eq!(asked, nobody("u.some"), "the server has ended it");

    let mut now = nats.subscribe("u.now").await.expect("a subscription");
    now.unsubscribe_after(0);
    assert!(matches!(now.try_next(), Err(NatsError::SubscriptionEnded(_))));
    assert_eq!(nats.request("u.now", b"", MINUTES).await, nobody("u.now"));

    let dropped = nats.subscribe("u.dropped").await.expect("a subscription");
    nats.flush(MINUTES).await.expect("flushed");
    drop(dropped);
    assert_eq!(nats.request("u.dropped", b"", MINUTES).await, nobody("u.dropped"));
}

async fn drain() {
    let nats = connect().await;
    let mut one = nats.subscribe("d.one").await.expect("a subscription");
    for n in 0..1000 {
        nats.publish("d.one", n.to_string().as_bytes()).await.expect("published");
    }
    assert_eq!(text(&next(&mut one)), "0");
    one.drain(SOON).await.expect("drained");
    for n in 1000..1010 {
        nats.publish("d.one", n.to_string().as_bytes()).await.expect("published");
    }
    let left = rest(&mut one);
    assert_eq!(left, (1..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(matches!(one.try_next(), Err(NatsError::SubscriptionEnded(_))));
    one.drain(SOON).await.expect("to do it again changes nothing");

    let watcher = connect().await;
    let mut at_the_server = watcher.subscribe("d.>").await.expect("a subscription");
    watcher.flush(SOON).await.expect("subscribed");
    let mut events = nats.events().expect("events");
    let mut two = nats.subscribe("d.two").await.expect("a subscription");
    for n in 0..1000 {
        nats.publish("d.two", n.to_string().as_bytes()).await.expect("published");
    }
    nats.drain(SOON).await.expect("drained");
    let all: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    assert_eq!(rest(&mut at_the_server), all, "the server has everything");
    assert_eq!(rest(&mut two), all, "and what it had sent is here");
    assert!(matches!(two.try_next(), Err(NatsError::Closed(_))), "{:?}", two.ended());
    assert!(two.next().await.is_none());
    assert!(!nats.is_connected());
    let closed = |result| matches!(result, Err(NatsError::Closed(_)));
    assert!(closed(nats.publish("d.late", b"").await));
    assert!(closed(nats.subscribe("d.late").await.map(drop)));
    assert!(closed(nats.request("d.late", b"", MINUTES).await.map(drop)));
    assert!(closed(nats.flush(SOON).await));
    let seen = events_until(&mut events, |event| matches!(event, Event::Closed { .. }));
    assert_eq!(seen.len(), 1, "{seen:?}");
    nats.drain(SOON).await.expect("it is drained");
}

async fn credits() {
    let nats = connect().await;
    let mut events = nats.events().expect("events");
    let mut other = nats.subscribe("c.other").await.expect("a subscription");
    let is_slow = |event: &Event| matches!(event, Event::SlowConsumer { .. });
    let mut dropped_before = 0;
    for (subject, size, most, options) in [
        (
            "c.messages",
            8,
            100,
            SubscribeOptions { max_pending_messages: 100, ..Default::default() },
        ),
        (
            "c.bytes",
            1000,
            65,
            SubscribeOptions { max_pending_bytes: 64 << 10, ..Default::default() },
        ),
    ] {
        let mut slow = nats.subscribe_with(subject, options).await.expect("a subscription");
        for turn in 0..3 {
            let body = |n: usize| format!("{turn}.{n:0size$}");
            for n in 0..1000 {
                nats.publish(subject, body(n).as_bytes()).await.expect("published");
            }
            nats.flush(MINUTES).await.expect("flushed");
            // Others are not held up.
            nats.publish("c.other", b"x").await.expect("published");
            assert_eq!(text(&next(&mut other)), "x");
            let seen = events_until(&mut events, is_slow);
            let [Event::SlowConsumer { subject: of, dropped_messages: 1.., .. }] = &seen[..] else {
                panic!("{seen:?}")
            };
            assert_eq!(of, subject);
            assert_eq!(events.next(Some(MOMENT)), None, "one for each time that it stands still");
            let had = rest(&mut slow);
            assert!((most / 2..=most).contains(&had.len()), "{subject}: {} waited", had.len());
            let first: Vec<_> = (0..had.len()).map(body).collect();
            assert_eq!(had, first, "it is the later ones that are dropped");
            let dropped = nats.get_stats().dropped_messages;
            assert_eq!(dropped - dropped_before, 1000 - had.len() as u64, "each is counted");
            dropped_before = dropped;
        }
        // A large one behind small ones that were all consumed is no reason to drop it: what was not
        // yet asked about is asked about then.
        for len in (0..64).map(|n| if n % 16 == 15 { 60 * size } else { size }) {
            nats.publish(subject, &vec![b'x'; len]).await.expect("published");
            assert_eq!(next(&mut slow).payload().len(), len);
        }
    }
    nats.force_reconnect();
    events_until(&mut events, is_connected);
    let stats = nats.get_stats();
    assert_eq!((stats.dropped_messages, stats.reconnects), (dropped_before, 1));
    assert!(stats.dropped_bytes > 0);
}

/// Subscriptions that are dropped with what they had not looked at leave nothing in the mailbox.
async fn leftovers() {
    let nats = connect().await;
    for _ in 0..50 {
        let subscription = nats.subscribe("l.x").await.expect("a subscription");
        for _ in 0..100 {
            nats.publish("l.x", b"x").await.expect("published");
        }
        nats.flush(SOON).await.expect("flushed");
        drop(subscription);
    }
    // What was on its way when it was dropped goes with the next one.
    sys::sleep(MOMENT);
    drop(nats.subscribe("l.x").await.expect("a subscription"));
    let left = sys::receive(&[], Some(MOMENT));
    assert_eq!(left, Received::TimedOut, "something is left under {}", sys::message_tag());
}

/// Ends the process of a connection as soon as there is one, from a process of its own.
fn killer() {
    sys::sleep(MOMENT);
    connections().into_iter().for_each(sys::kill);
}

/// The connections of processes' own that are up, by their names.
fn connections() -> Vec<Pid> {
    let named = (0..10_000).filter_map(|pid| sys::lookup(&format!("online/{pid}")));
    named.filter(|&pid| sys::exists(pid)).collect()
}

async fn process() {
    let nats = connect().await;
    let mut events = nats.events().expect("events");
    let mut subscription = nats.subscribe("p.x").await.expect("a subscription");
    nats.publish("p.x", b"1").await.expect("published");
    nats.flush(SOON).await.expect("flushed");
    let before = nats.get_stats();
    let mut permissions = Permissions::none();
    let none = permissions.take().expect("permissions");
    sys::spawn(&none, None, killer).expect("a process");
    let asked = nats.request("svc.silent", b"", MINUTES).await;
    assert_eq!(asked, Err(NatsError::Disconnected { subject: "svc.silent".to_owned() }));
    assert_eq!(text(&next(&mut subscription)), "1", "what had come is still given out");
    let closed = |result| matches!(result, Err(NatsError::Closed(_)));
    assert!(closed(subscription.next_within(MINUTES).await.map(drop)));
    assert!(subscription.next().await.is_none());
    assert!(closed(nats.publish("p.x", b"2").await));
    assert!(closed(nats.subscribe("p.x").await.map(drop)));
    assert!(closed(nats.request("p.x", b"", MINUTES).await.map(drop)));
    assert!(closed(nats.flush(SOON).await));
    assert!(!nats.is_connected());
    assert_eq!(events.next(None), None);
    assert_eq!(nats.get_stats().out_messages, before.out_messages, "what was known last");
}

async fn reconnect() {
    let nats = connect().await;
    let mut events = nats.events().expect("events");
    let mut all = nats.subscribe("r.all").await.expect("a subscription");
    let mut some = nats.queue_subscribe("r.some", "group").await.expect("a subscription");
    some.unsubscribe_after(5);
    for n in 0..3 {
        nats.publish("r.some", n.to_string().as_bytes()).await.expect("published");
        assert_eq!(text(&next(&mut some)), n.to_string());
    }
    assert_eq!(nats.request("svc.echo", b"x", MINUTES).await.as_deref(), Ok(&b"x"[..]));
    let before = nats.get_stats();
    println!("kill the server");
    let seen = events_until(&mut events, is_disconnected);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(!nats.is_connected());
    nats.publish("r.all", b"meanwhile").await.expect("it is kept");
    println!("start the server");
    let seen = events_until(&mut events, is_connected);
    // Each attempt is announced; those between the first and the last have failed.
    let attempts = seen.iter().filter(|event| matches!(event, Event::Reconnecting { .. })).count();
    let failed = seen.iter().filter(|event| matches!(event, Event::AttemptFailed { .. })).count();
    assert_eq!((attempts, seen.len()), (failed + 1, 2 * failed + 2), "{seen:?}");
    assert!(matches!(seen.last(), Some(Event::Connected { reconnects: 1, .. })), "{seen:?}");
    assert_eq!(text(&next(&mut all)), "meanwhile");
    for n in 3..9 {
        nats.publish("r.some", n.to_string().as_bytes()).await.expect("published");
    }
    assert_eq!(rest(&mut some), ["3", "4"], "what was left of its five");
    assert!(matches!(some.try_next(), Err(NatsError::SubscriptionEnded(_))));
    let asked = nats.request("r.some", b"", MINUTES).await;
    assert!(matches!(asked, Err(NatsError::NoResponders { .. })), "{asked:?}");
    let stats = nats.get_stats();
    assert_eq!(stats.out_messages, before.out_messages + 8, "they go on: {stats:?}");
    assert_eq!(stats.in_messages, before.in_messages + 4, "one, two, and a 503: {stats:?}");
    assert_eq!((stats.requests, stats.reconnects), (2, 1));

    nats.force_reconnect();
    let seen = events_until(&mut events, is_connected);
    let [Event::Disconnected { reason, .. }, Event::Reconnecting { attempt: 1, .. }, _] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!(reason.to_string(), "a new connection was asked for");
    nats.publish("r.all", b"again").await.expect("published");
    assert_eq!(text(&next(&mut all)), "again");
    assert_eq!(nats.get_stats().reconnects, 2);
    drop(nats);
    let seen = events_until(&mut events, |event| matches!(event, Event::Closed { .. }));
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(events.next(None), None, "it was the last one");
}

async fn killed() {
    let nats = connect().await;
    println!("kill the server");
    let asked = nats.request("svc.silent", b"", MINUTES).await;
    assert_eq!(asked, Err(NatsError::Disconnected { subject: "svc.silent".to_owned() }));
    println!("start the server");
    until_connected(&nats, true);
    // Nothing of it is left, and it was not asked a second time.
    assert_eq!(sys::receive(&[ANSWERS], Some(Duration::ZERO)), Received::TimedOut);
}

/// A request that was made while there was no server does not outlive the connection.
async fn gave_up() {
    let nats = connect_with(|config| config.max_reconnects = Some(3)).await;
    let mut subscription = nats.subscribe("x").await.expect("a subscription");
    println!("kill the server");
    until_connected(&nats, false);
    let asked = nats.request("svc.echo", b"", MINUTES).await;
    assert!(matches!(asked, Err(NatsError::Closed(_))), "{asked:?}");
    let ended = subscription.next_within(MINUTES).await;
    assert!(matches!(&ended, Err(NatsError::Closed(why)) if why.contains("gave up")), "{ended:?}");
    let asked = nats.request("svc.echo", b"", MINUTES).await;
    assert!(matches!(asked, Err(NatsError::Closed(_))), "{asked:?}");
    println!("start the server");
}

async fn no_server() {
    let nats = connect_with(|config| config.retry_on_failed_connect = true).await;
    let mut subscription = nats.subscribe("x").await.expect("a subscription");
    nats.publish("x", b"early").await.expect("it is kept");
    assert!(!nats.is_connected());
    println!("start the server");
    assert_eq!(text(&next(&mut subscription)), "early");
    assert!(nats.is_connected());
}

async fn offline() {
    let by_messages = connect_with(|config| config.max_pending_messages = 10).await;
    let by_bytes = connect_with(|config| config.max_pending_bytes = 1000).await;
    let none = connect_with(|config| config.max_pending_messages = 0).await;
    let nothing = connect_with(|config| config.max_pending_bytes = 0).await;
    let all = [
        (&by_messages, "o.messages", "limit of 10 messages"),
        (&by_bytes, "o.bytes", "or 1000 bytes"),
        (&none, "o.none", "limit of 0 messages"),
        (&nothing, "o.nothing", "or 0 bytes"),
    ];
    let mut kept = Vec::new();
    for (nats, subject, _) in all {
        kept.push((0, nats.subscribe(subject).await.expect("a subscription")));
    }
    println!("kill the server");
    for (nats, ..) in all {
        until_connected(nats, false);
    }
    for ((nats, subject, rule), (kept, _)) in all.into_iter().zip(&mut kept) {
        let mut taken = 0;
        let refused = loop {
            match nats.publish(subject, format!("{taken:050}").as_bytes()).await {
                Ok(()) => taken += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, NatsError::Refused(_)), "{refused:?}");
        assert!(refused.to_string().contains(rule), "{refused}");
        assert_eq!(nats.get_stats().refused_messages, 1);
        println!("taken {subject} {taken}");
        *kept = taken;
    }
    println!("start the server");
    for ((nats, subject, _), (kept, subscription)) in all.into_iter().zip(&mut kept) {
        until_connected(nats, true);
        nats.publish(subject, b"after").await.expect("there is room again");
        let taken = (0..*kept).map(|n| format!("{n:050}")).chain(["after".to_owned()]);
        assert_eq!(rest(subscription), taken.collect::<Vec<_>>(), "each once, in order");
    }
}

async fn max_payload() {
    let nats = connect().await;
    let mut subscription = nats.subscribe("m.x").await.expect("a subscription");
    let mut headers = Headers::new();
    headers.append("A", "b").expect("a header");
    // NATS/1.0␍␊A: b␍␊␍␊
    const HEADERS: usize = 18;
    let check = async |max: usize| {
        for len in [max + 1, 2 * max, 40_000, 2_000_000] {
            let refused = nats.publish("m.x", &vec![b'x'; len]).await;
            let expected = OutboxError::TooLarge { len, max };
            assert_eq!(refused, Err(NatsError::Invalid(expected.clone())));
            let asked = nats.request("m.x", &vec![b'x'; len], MINUTES).await;
            assert_eq!(asked, Err(NatsError::Invalid(expected)));
        }
        let len = max - HEADERS;
        let refused = nats.publish_with_headers("m.x", &headers, &vec![b'x'; len + 1]).await;
        let expected = OutboxError::TooLarge { len: max + 1, max };
        assert_eq!(refused, Err(NatsError::Invalid(expected)));
        nats.publish_with_headers("m.x", &headers, &vec![b'x'; len]).await.expect("it fits");
        nats.publish("m.x", &vec![b'x'; max]).await.expect("it fits");
    };
    let mut lens = |lens: [usize; 2]| {
        for len in lens {
            assert_eq!(next(&mut subscription).payload().len(), len);
        }
    };
    check(2048).await;
    lens([2048 - HEADERS, 2048]);
    // One after the break would tell of what was on its way before.
    nats.flush(SOON).await.expect("flushed");
    println!("kill the server");
    until_connected(&nats, false);
    println!("start the server");
    until_connected(&nats, true);
    check(1024).await;
    lens([1024 - HEADERS, 1024]);
    nats.flush(SOON).await.expect("flushed");
    assert_eq!(nats.get_stats().reconnects, 1, "the server had nothing to complain of");
}

fn user(name: &str) -> Auth {
    Auth::UserPassword { user: name.to_owned(), password: "pw".into() }
}

fn denied<T>(result: std::result::Result<T, NatsError>, subject: &str) {
    match result {
        Err(NatsError::PermissionDenied(why)) if why.contains(subject) => {}
        Err(error) => panic!("{subject}: {error:?}"),
        Ok(_) => panic!("{subject} is permitted"),
    }
}

async fn permissions() {
    let nats = connect_with(|config| config.auth = user("app")).await;
    let mut events = nats.events().expect("events");
    let mut open = nats.subscribe("open.x").await.expect("a subscription");
    denied(nats.request("secret.x", b"", MINUTES).await, "secret.x");
    let many = nats.request_many("secret.y", Headers::none(), b"", &RequestMany::default()).await;
    denied(many, "secret.y");
    nats.publish("secret.z", b"").await.expect("the server says no later");
    let mut hidden = nats.subscribe("hidden.x").await.expect("the server says no later");
    let mut group = nats.queue_subscribe("hidden.y", "group").await.expect("the same");
    denied(hidden.next_within(MINUTES).await, "hidden.x");
    denied(hidden.try_next(), "hidden.x");
    denied(hidden.ended().map_or(Ok(()), |why| Err(why.clone())), "hidden.x");
    assert!(hidden.next().await.is_none());
    denied(group.next_within(MINUTES).await, "hidden.y");
    // The connection is as it was.
    nats.publish("open.x", b"1").await.expect("published");
    assert_eq!(text(&next(&mut open)), "1");
    assert_eq!(nats.request("svc.echo", b"x", MINUTES).await.as_deref(), Ok(&b"x"[..]));
    let mut named = Vec::new();
    while let Some(event) = events.next(Some(MOMENT)) {
        let Event::PermissionViolation { violation, sids } = event else { panic!("{event:?}") };
        named.push((violation.subject, sids.len()));
    }
    let expected =
        [("secret.x", 0), ("secret.y", 0), ("secret.z", 0), ("hidden.x", 1), ("hidden.y", 1)];
    assert!(named.iter().map(|(subject, n)| (subject.as_str(), *n)).eq(expected), "{named:?}");
    assert_eq!((nats.get_stats().server_errors, nats.get_stats().reconnects), (5, 0));
}

/// Who may not subscribe to the inbox gets no answers, and does not wait for them.
async fn no_inbox() {
    let nats = connect_with(|config| config.auth = user("deaf")).await;
    for _ in 0..3 {
        denied(nats.request("svc.echo", b"", MINUTES).await, "_INBOX");
    }
    nats.force_reconnect();
    until_connected(&nats, true);
    denied(nats.request("svc.echo", b"", MINUTES).await, "_INBOX");
}

/// So much fits into nobody's socket buffers.
const LARGE: usize = 60_000;

async fn busy() {
    let nats = connect().await;
    nats.set_when_busy(WhenBusy::Error);
    let mut go = nats.subscribe("b.go").await.expect("a subscription");
    nats.flush(SOON).await.expect("flushed");
    println!("hold");
    next(&mut go);
    let body = |n: u32| {
        let mut body = format!("{n} ").into_bytes();
        body.resize(LARGE, b'x');
        body
    };
    let mut taken = 0;
    loop {
        match nats.publish("b.x", &body(taken)).await {
            Ok(()) => taken += 1,
            Err(NatsError::Busy) => break,
            Err(error) => panic!("after {taken}: {error}"),
        }
        assert!(taken < 10_000, "the server does not read, and is never busy");
    }
    println!("release after {taken}");
    let last = taken + 100;
    while taken < last {
        match nats.publish("b.x", &body(taken)).await {
            Ok(()) => taken += 1,
            Err(NatsError::Busy) => {}
            Err(error) => panic!("after {taken}: {error}"),
        }
    }
    nats.flush(SOON).await.expect("flushed");
    assert_eq!(nats.get_stats().reconnects, 0);
    println!("taken {taken}");
}

async fn wait() {
    let nats = connect().await;
    let mut go = nats.subscribe("b.go").await.expect("a subscription");
    nats.flush(SOON).await.expect("flushed");
    println!("hold");
    next(&mut go);
    for n in 0..1000 {
        let mut body = format!("{n} ").into_bytes();
        body.resize(LARGE, b'x');
        nats.publish("b.x", &body).await.expect("published");
        if n % 10 == 9 {
            println!("progress {n}");
        }
    }
    nats.flush(SOON).await.expect("flushed");
    assert_eq!(nats.get_stats().reconnects, 0);
    println!("taken 1000");
}

/// Does what it is told by a message, and keeps what it hears.
#[derive(Default)]
struct Worker {
    heard: Vec<Value>,
}

#[async_trait]
impl Agent for Worker {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = message.payload.clone();
        let (subject, body) = (told["subject"].as_str().unwrap_or_default(), told["body"].as_str());
        let body = body.unwrap_or_default().as_bytes();
        let answer = match told["do"].as_str().unwrap_or_default() {
            "subscribe" => ctx.subscribe(subject, None).await.map(|()| Value::Null),
            "publish" => {
                let mut headers = Headers::new();
                for pair in told["headers"].as_array().into_iter().flatten() {
                    let text = |at: usize| pair[at].as_str().unwrap_or_default();
                    let added = headers.append(text(0), text(1));
                    added.map_err(|error| Error::handler(error.to_string()))?;
                }
                let reply = told["reply"].as_str();
                ctx.publish_message(subject, reply, &headers, body).await.map(|()| Value::Null)
            }
            "request" => {
                let timeout = Duration::from_millis(told["timeout_ms"].as_u64().unwrap_or(600_000));
                let answer = ctx.nats_request(subject, body, timeout).await;
                answer.map(|answer| String::from_utf8_lossy(&answer).into_owned().into())
            }
            "kill the connection" => {
                sys::lookup("node/connection").into_iter().for_each(sys::kill);
                Ok(Value::Null)
            }
            "heard" => Ok(std::mem::take(&mut self.heard).into()),
            other => Err(Error::handler(format!("{other} is nothing to do"))),
        };
        ctx.reply(&message, answer.unwrap_or_else(|error| json!({"error": error.to_string()})))
            .await
    }

    async fn on_nats_message(&mut self, _: &mut Context, message: NatsMessage) -> Result<()> {
        let headers = message.headers().map_err(|error| Error::handler(error.to_string()))?;
        let headers: Vec<_> = headers.iter().map(|(name, value)| json!([name, value])).collect();
        let status = message.status().map(|status| status.to_string());
        self.heard.push(json!({"subject": message.subject(), "reply": message.reply(),
            "headers": headers, "status": status, "body": text(&message)}));
        Ok(())
    }
}
