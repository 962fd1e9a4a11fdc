//! What becomes of publishes, subscriptions and requests while there is no server, and after it has
//! come back; and the ends that are in good order.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use on_threads::{
    Arrivals, Books, Client, Proxy, PublishRefused, RequestFailed, SOON, Server, until,
};
use rust_wasm_lunatic_nats::nats::{
    CloseReason, DisconnectReason, Event, FlushError, GatherEnd, Headers, PublishError,
    RequestError, RequestMany, RequestRefused, SessionConfig, Status, SubscribeError,
};

/// Longer than any test may take.
const HOUR: Duration = Duration::from_secs(3600);

fn disconnected(client: &Client, times: usize) {
    client.wait_for_many("disconnected", times, |e| matches!(e, Event::Disconnected { .. }));
}

#[test]
fn it_starts_without_a_server_and_what_waited_goes_out_in_order() {
    let mut server = Server::stopped("", "");
    let client = Client::start(Client::config(&server.url())).expect("a valid config");
    let subscription = client.subscribe("up").expect("it subscribes");
    let mut books = Books::default();
    for _ in 0..500 {
        books.publish(&client, "up").expect("there is room");
    }
    let (messages, bytes) = client.pending();
    assert_eq!(messages, 500);
    client.wait_for("a failed attempt", |e| matches!(e, Event::AttemptFailed { .. }));
    assert_eq!(client.stats().out_messages, 0);
    server.run();
    assert_eq!(books.flush(&client), Ok(()));
    let mut arrivals = Arrivals::default();
    for _ in 0..500 {
        arrivals.note(subscription.expect().payload());
    }
    assert_eq!(books.check(&arrivals).confirmed, 500);
    let stats = client.stats();
    assert_eq!((stats.out_messages, stats.out_bytes), (500, bytes as u64));
    assert_eq!((stats.in_messages, stats.reconnects), (500, 0));
    assert_eq!(client.pending(), (0, 0));
}

#[test]
fn a_full_buffer_is_an_error_at_the_call() {
    type Change = fn(&mut SessionConfig);
    // (the bound, how many publishes of 15 bytes on the wire it takes)
    let table: [(Change, usize); 4] = [
        (|config| config.max_pending_messages = 3, 3),
        (|config| config.max_pending_bytes = 15 * 5, 5),
        (|config| config.max_pending_messages = 0, 0),
        (|config| config.max_pending_bytes = 0, 0),
    ];
    for (change, fit) in table {
        let mut server = Server::start();
        let peer_config = Client::config(&server.url());
        let mut config = peer_config.clone();
        change(&mut config);
        let client = Client::connect(config);
        // While there is a connection these bounds are none.
        client.publish("a", b"connected").expect("it is connected");
        client.flush().expect("it is connected");
        server.kill();
        disconnected(&client, 1);
        for _ in 0..fit {
            client.publish("a", b"1234").expect("it fits");
        }
        for _ in 0..2 {
            let refused = client.publish("a", b"1234");
            let Err(PublishRefused::Session(PublishError::BufferFull { messages, bytes, .. })) =
                refused
            else {
                panic!("{refused:?}");
            };
            assert_eq!((messages, bytes), (1, "PUB a 4\r\n1234\r\n".len()));
        }
        assert_eq!(client.stats().refused_messages, 2);
        server.run();
        let watching = Client::connect(peer_config);
        let all = watching.subscribe("a").expect("it subscribes");
        watching.flush().expect("it is connected");
        // What was taken before this point may have gone out before the other had subscribed.
        client.wait_connected(2);
        client.flush().expect("what had been taken has arrived");
        client.publish("a", b"last").expect("there is room again");
        until("the last one", || {
            all.take_all().iter().any(|message| message.payload() == b"last").then_some(())
        });
        let taken = client.stats().out_messages;
        assert_eq!(taken, fit as u64 + 2);
    }
}

#[test]
fn a_restart_keeps_every_kind_of_subscription() {
    let mut server = Server::start();
    let client = Client::connect(Client::config(&server.url()));
    let wildcard = client.subscribe("w.>").expect("it subscribes");
    let members = [0, 1].map(|_| client.queue_subscribe("q", "group").expect("it subscribes"));
    let limited = client.subscribe("limited").expect("it subscribes");
    let ended = client.subscribe("ended").expect("it subscribes");
    limited.unsubscribe_after(5);
    drop(ended);
    for _ in 0..2 {
        client.publish("limited", b"before").expect("it publishes");
    }
    client.flush().expect("it is connected");
    assert_eq!(limited.take_all().len(), 2);

    server.kill();
    disconnected(&client, 1);
    // Meanwhile one more begins, and another ends.
    let meanwhile = client.subscribe("meanwhile").expect("it subscribes");
    let passing = client.subscribe("passing").expect("it subscribes");
    drop(passing);
    server.run();
    client.wait_connected(2);
    client.flush().expect("it is connected");

    let peer = server.peer();
    for number in 0..10 {
        for subject in ["w.a.b", "q", "limited", "ended", "meanwhile", "passing"] {
            peer.publish(subject, number.to_string());
        }
    }
    peer.flush();
    client.flush().expect("what was sent to us has come with the answer");
    assert_eq!(wildcard.take_all().len(), 10);
    assert_eq!(meanwhile.take_all().len(), 10);
    let shares: usize = members.iter().map(|member| member.take_all().len()).sum();
    assert_eq!(shares, 10, "each once in the group");
    // Five in all: two before, three after.
    let rest: Vec<_> = limited.until_over().iter().map(|m| m.payload().to_vec()).collect();
    assert_eq!(rest, [b"0", b"1", b"2"]);
    assert_eq!(client.subscription_count(), 4);
    assert_eq!(client.stats().unmatched_messages, 0, "what is over was not made again");
}

#[test]
fn an_unsubscribe_holds_at_once_or_after_so_many() {
    let server = Server::start();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let three = client.subscribe("a").expect("it subscribes");
    let now = client.subscribe("a").expect("it subscribes");
    three.unsubscribe_after(3);
    drop(now);
    client.flush().expect("it is connected");
    for number in 0..10 {
        peer.publish("a", number.to_string());
    }
    peer.flush();
    client.flush().expect("it is connected");
    let came: Vec<_> = three.until_over().iter().map(|m| m.payload().to_vec()).collect();
    assert_eq!(came, [b"0", b"1", b"2"]);
    assert_eq!(client.subscription_count(), 0);
    assert_eq!(client.stats().unmatched_messages, 0);
    // Later than that many had come already: it is over at once.
    let late = client.subscribe("b").expect("it subscribes");
    for _ in 0..4 {
        client.publish("b", b"x").expect("it publishes");
    }
    client.flush().expect("it is connected");
    late.unsubscribe_after(2);
    assert_eq!(late.until_over().len(), 4);
}

#[test]
fn requests_in_flight_fail_at_once_and_the_inbox_is_there_again() {
    let mut server = Server::start();
    let client = Client::connect(Client::config(&server.url()));
    let never_answers = client.subscribe("silent").expect("it subscribes");
    client.flush().expect("it is connected");
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| client.request("silent", &Headers::new(), b"", HOUR)))
            .collect();
        until("all of them are with the server", || {
            (client.open_requests() == 5 && client.stats().out_messages == 5).then_some(())
        });
        server.kill();
        for request in waiting {
            let failed = request.join().expect("no panic").map(drop);
            assert_eq!(failed, Err(RequestFailed::Failed(RequestError::Disconnected)));
        }
    });
    assert_eq!(client.open_requests(), 0);
    drop(never_answers);
    // One that is made meanwhile waits for the connection, or for its time to be over.
    let short = client.request("echo", &Headers::new(), b"", Duration::from_millis(20));
    assert_eq!(short.map(drop), Err(RequestFailed::Failed(RequestError::TimedOut)));
    assert_eq!((client.open_requests(), client.pending()), (0, (0, 0)), "nothing is left of it");
    server.run();
    server.peer().echo_while("echo", || {
        let answer = client.request("echo", &Headers::new(), b"again", SOON).expect("an answer");
        assert_eq!(answer.payload(), b"again");
    });
}

#[test]
fn a_request_that_times_out_leaves_nothing_and_a_late_answer_does_no_harm() {
    let server = Server::start();
    let client = Client::connect(Client::config(&server.url()));
    let slow = client.subscribe("slow").expect("it subscribes");
    client.flush().expect("it is connected");
    let short = client.request("slow", &Headers::new(), b"1", Duration::from_millis(20));
    assert_eq!(short.map(drop), Err(RequestFailed::Failed(RequestError::TimedOut)));
    assert_eq!(client.open_requests(), 0);
    let request = slow.expect();
    let reply = request.reply().expect("it is a request").to_owned();
    client.publish(&reply, b"late").expect("it publishes");
    client.flush().expect("it is connected");
    assert_eq!(client.stats().unmatched_messages, 1);
    server.peer().echo_while("echo", || {
        let answer = client.request("echo", &Headers::new(), b"2", SOON).expect("an answer");
        assert_eq!(answer.payload(), b"2", "and not the late one");
    });
}

#[test]
fn requests_are_bounded() {
    let server = Server::start();
    let mut config = Client::config(&server.url());
    config.max_requests = 2;
    let client = Client::connect(config);
    let _silent = client.subscribe("silent").expect("it subscribes");
    client.flush().expect("it is connected");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let failed = client.request("silent", &Headers::new(), b"", HOUR);
                let expected = RequestFailed::Failed(RequestError::Disconnected);
                assert_eq!(failed.map(drop), Err(expected));
            });
        }
        until("both wait", || (client.open_requests() == 2).then_some(()));
        let third = client.request("silent", &Headers::new(), b"", HOUR);
        let too_many = RequestRefused::TooMany { max: 2 };
        assert_eq!(third.map(drop), Err(RequestFailed::Refused(too_many)));
        // So that they end.
        client.force_reconnect();
    });
}

#[test]
fn many_answers_to_one_request() {
    let server = Server::start();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    for _ in 0..4 {
        peer.echo("who");
    }
    let texts = |messages: Vec<rust_wasm_lunatic_nats::nats::ServerMessage>| -> Vec<Vec<u8>> {
        messages.iter().map(|message| message.payload().to_vec()).collect()
    };
    let all = |change: fn(&mut RequestMany), payload: &[u8]| {
        let mut many = RequestMany { total: HOUR, ..RequestMany::default() };
        change(&mut many);
        let (messages, end) = client.request_many("who", payload, many);
        (texts(messages).len(), end)
    };
    assert_eq!(all(|many| many.max_messages = 3, b"x"), (3, Ok(GatherEnd::Count)));
    // It knows no number, but that nothing more comes.
    let stall = |many: &mut RequestMany| many.stall = Some(Duration::from_secs(1));
    assert_eq!(all(stall, b"x"), (4, Ok(GatherEnd::Stalled)));
    assert_eq!(
        all(|many| many.total = Duration::from_secs(1), b"x"),
        (4, Ok(GatherEnd::TotalTime))
    );
    // Echoes of nothing are nothing: the first one is the last.
    assert_eq!(all(|many| many.sentinel = true, b""), (0, Ok(GatherEnd::Sentinel)));
    let (none, end) = client.request_many("nobody", b"", RequestMany::default());
    assert_eq!((none.len(), end), (0, Ok(GatherEnd::NoResponders)));
    assert_eq!(client.open_requests(), 0);
}

#[test]
fn a_flush_says_what_it_knows() {
    let server = Server::start();
    let proxy = Proxy::to(server.websocket_port());
    let client = Client::connect(Client::config(&proxy.url()));
    client.publish("a", b"").expect("it publishes");
    assert_eq!(client.flush(), Ok(()));
    assert_eq!(client.flush(), Ok(()), "also without anything to send");
    // One whose connection breaks.
    proxy.freeze(&[on_threads::Way::Down]);
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| {
            client.publish("a", b"").expect("it publishes");
            client.flush()
        });
        // Whether the flush is asked for before the cut or after it, it is about this publish.
        until("it is under way", || (client.stats().out_messages == 2).then_some(()));
        proxy.cut();
        assert_eq!(flush.join().expect("no panic"), Err(FlushError::Disconnected));
    });
    client.wait_connected(2);
    assert_eq!(client.flush(), Ok(()));
}

#[test]
fn another_connection_on_demand() {
    let server = Server::start();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let subscription = client.subscribe("a").expect("it subscribes");
    for round in 1..=3 {
        client.force_reconnect();
        client.wait_connected(round + 1);
        client.flush().expect("it is connected");
        peer.publish("a", round.to_string());
        assert_eq!(subscription.expect().payload(), round.to_string().as_bytes());
    }
    let forced = client.wait_for_many("disconnected", 3, |event| {
        matches!(event, Event::Disconnected { reason: DisconnectReason::Forced, .. })
    });
    assert_eq!(forced.len(), 3);
    assert_eq!(client.stats().reconnects, 3);
}

#[test]
fn a_subscription_is_drained() {
    const MESSAGES: usize = 2000;
    let server = Server::start();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let drained = client.subscribe("a").expect("it subscribes");
    let other = client.subscribe("a").expect("it subscribes");
    client.flush().expect("it is connected");
    for number in 0..MESSAGES {
        peer.publish("a", number.to_string());
        if number == MESSAGES / 2 {
            drained.drain();
        }
    }
    peer.flush();
    let came = drained.until_over();
    // Without a gap, up to some point.
    for (number, message) in came.iter().enumerate() {
        assert_eq!(message.payload(), number.to_string().as_bytes());
    }
    client.flush().expect("it is connected");
    assert_eq!(other.take_all().len(), MESSAGES);
    assert_eq!(client.stats().unmatched_messages, 0, "what was on its way was delivered");
    assert_eq!(client.subscription_count(), 1);
}

#[test]
fn the_connection_is_drained() {
    let server = Server::start();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let mut arrived = peer.subscribe("up");
    let incoming = client.subscribe("down").expect("it subscribes");
    client.flush().expect("it is connected");
    for number in 0..1000 {
        peer.publish("down", number.to_string());
    }
    peer.flush();
    for number in 0..1000 {
        client.publish("up", number.to_string().as_bytes()).expect("it publishes");
    }
    assert!(client.drain(SOON));
    assert!(!client.drain(SOON), "it drains already");
    // It may be over already.
    let late = client.subscribe("late").map(drop);
    assert!(matches!(late, Err(SubscribeError::Draining | SubscribeError::Closed)), "{late:?}");
    assert_eq!(incoming.until_over().len(), 1000);
    let closed = client.wait_for("closed", |event| matches!(event, Event::Closed { .. }));
    assert_eq!(closed, Event::Closed { reason: CloseReason::Drained, unsent_messages: 0 });
    assert_eq!(client.status(), Status::Closed);
    assert_eq!(arrived.take_all().len(), 1000);
    let none = peer.request("down", HeaderMap::new(), "");
    assert_eq!(none.map(drop), Err(RequestErrorKind::NoResponders), "nobody listens");
}

#[test]
fn a_drain_has_a_deadline() {
    let server = Server::start();
    let proxy = Proxy::to(server.websocket_port());
    let client = Client::connect(Client::config(&proxy.url()));
    let _subscription = client.subscribe("a").expect("it subscribes");
    client.flush().expect("it is connected");
    proxy.freeze(&[on_threads::Way::Up, on_threads::Way::Down]);
    assert!(client.drain(Duration::from_millis(50)));
    let closed = client.wait_for("closed", |event| matches!(event, Event::Closed { .. }));
    let Event::Closed { reason, .. } = closed else { unreachable!() };
    assert_eq!(reason, CloseReason::DrainTimedOut);
}

#[test]
fn a_slow_consumer_is_told_of_once_each_time() {
    let server = Server::start();
    let client = Client::connect(Client::config(&server.url()));
    let slow = client.subscribe_with_room("a", 10).expect("it subscribes");
    let quick = client.subscribe("a").expect("it subscribes");
    let told = || {
        let events = client.events().into_iter();
        events.filter(|event| matches!(event, Event::SlowConsumer { .. })).count()
    };
    for (round, dropped) in [(1, 20), (2, 40)] {
        for _ in 0..30 {
            client.publish("a", b"x").expect("it publishes");
        }
        client.flush().expect("it is connected");
        assert_eq!(slow.take_all().len(), 10);
        assert_eq!(quick.take_all().len(), 30);
        assert_eq!(told(), round, "once");
        let stats = client.stats();
        assert_eq!(stats.dropped_messages, dropped);
        assert_eq!(stats.dropped_bytes, dropped * "MSG a 1 1\r\nx\r\n".len() as u64);
        // It has kept up.
        client.publish("a", b"x").expect("it publishes");
        client.flush().expect("it is connected");
        assert_eq!((slow.take_all().len(), quick.take_all().len()), (1, 1));
    }
}

#[test]
fn the_counts_are_exact_and_outlive_connections() {
    let server = Server::start();
    let proxy = Proxy::to(server.websocket_port());
    let client = Client::connect(Client::config(&proxy.url()));
    let subscription = client.subscribe("a").expect("it subscribes");
    for round in 1..=3 {
        client.publish("a", b"12345").expect("it publishes");
        client.flush().expect("it is connected");
        assert_eq!(subscription.expect().payload(), b"12345");
        let none = client.request("nobody", &Headers::new(), b"", SOON);
        assert!(none.is_err());
        let stats = client.stats();
        let published = "PUB a 5\r\n12345\r\n".len() as u64;
        let delivered = "MSG a 1 5\r\n12345\r\n".len() as u64;
        // The request and the server's word on it are counted as well.
        assert_eq!((stats.out_messages, stats.in_messages), (2 * round, 2 * round));
        assert!(stats.out_bytes > published * round && stats.in_bytes > delivered * round);
        assert_eq!((stats.requests, stats.reconnects), (round, round - 1));
        proxy.cut();
        client.wait_connected(usize::try_from(round).expect("few") + 1);
    }
}
