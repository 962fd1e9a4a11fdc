//! A bad network: connections that are cut after any number of bytes, that freeze, that pass only
//! one direction on, or one byte at a time. After each the client is connected and subscribed again,
//! nothing is out of order or there twice, and each publish has arrived or its publisher was told
//! (see `Books` for what that means).

use std::time::Duration;

use on_threads::{
    Arrivals, Books, Client, Cut, Peer, Proxy, Server, Subscription, Way, body, until,
};
use rust_wasm_lunatic_nats::nats::{DisconnectReason, Event, SessionConfig};

/// Traffic in both directions through a bad network, from our client (`up`) and to it (`down`).
struct Traffic<'a> {
    client: &'a Client,
    peer: &'a Peer,
    sent: Books,
    /// What the peer has sent to our client.
    peer_sent: usize,
    incoming: Subscription,
    came: Arrivals,
}

impl<'a> Traffic<'a> {
    fn new(client: &'a Client, peer: &'a Peer) -> Self {
        let incoming = client.subscribe("down").expect("it subscribes");
        Self {
            client,
            peer,
            sent: Books::default(),
            peer_sent: 0,
            incoming,
            came: Arrivals::default(),
        }
    }

    /// A few messages in both directions. Those of ours are flushed, whatever that says.
    fn some(&mut self) {
        for _ in 0..10 {
            self.sent.publish(self.client, "up").expect("the buffer has room");
            self.peer.publish("down", body(self.peer_sent));
            self.peer_sent += 1;
        }
        // The books have it.
        let _ = self.sent.flush(self.client);
        self.take();
    }

    fn take(&mut self) {
        for message in self.incoming.take_all() {
            self.came.note(message.payload());
        }
    }

    /// The network is well again: so everything has to arrive from here on, in both directions.
    #[track_caller]
    fn settle(mut self, arrived: &mut on_threads::Inbox<'_>) -> on_threads::Sum {
        // A connection that is not yet known to be broken may still be found so.
        until("a flush succeeds", || self.sent.flush(self.client).ok());
        let before = self.peer_sent;
        for _ in 0..100 {
            self.sent.publish(self.client, "up").expect("it is connected");
            self.peer.publish("down", body(self.peer_sent));
            self.peer_sent += 1;
        }
        assert_eq!(self.sent.flush(self.client), Ok(()), "it stays connected");
        until("the last message arrives", || {
            self.take();
            (self.came.last() == Some(self.peer_sent - 1)).then_some(())
        });
        self.came.assert_ends_with(before..self.peer_sent);
        let mut up = Arrivals::default();
        for message in arrived.take_all() {
            self.sent.note(&mut up, &message.payload);
        }
        let sum = self.sent.check(&up);
        assert!(sum.confirmed >= 100, "{sum:?}");
        assert_eq!(self.client.stats().dropped_messages, 0, "nothing was dropped for want of room");
        assert_eq!(self.client.subscription_count(), 1);
        sum
    }
}

/// Tries again at once.
fn impatient(url: &str) -> SessionConfig {
    let mut config = Client::config(url);
    let millisecond = Duration::from_millis(1);
    config.reconnect.first = millisecond;
    config.reconnect.cap = millisecond;
    config.reconnect.late_cap = millisecond;
    config
}

/// Finds out soon that a connection is dead.
fn watchful(url: &str) -> SessionConfig {
    let mut config = impatient(url);
    config.ping_interval = Duration::from_millis(50);
    config.connect_timeout = Duration::from_secs(1);
    config
}

/// Each byte of the upgrade and of the handshake, and then some that lie within messages.
fn cuts(way: Way) -> impl Iterator<Item = Cut> {
    let within_messages = [1021, 1531, 2039, 3067, 4093, 6151, 8191, 12289, 16381, 32749, 65521];
    (0..900).chain(within_messages).map(move |after| Cut { way, after })
}

fn cut_after_each_number_of_bytes(way: Way) {
    let server = Server::start();
    let peer = server.peer();
    let mut arrived = peer.subscribe("up");
    let proxy = Proxy::with_cuts(server.websocket_port(), cuts(way));
    let client = Client::start(impatient(&proxy.url())).expect("a valid config");
    let mut traffic = Traffic::new(&client, &peer);
    while proxy.cuts_left() > 0 {
        traffic.some();
    }
    // The last one is cut as well, before it can settle.
    let all = proxy.accepted();
    until("the last cut", || {
        traffic.some();
        (proxy.accepted() > all).then_some(())
    });
    let sum = traffic.settle(&mut arrived);
    let stats = client.stats();
    let events = client.events();
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    let broken = count(|event| matches!(event, Event::Disconnected { .. }));
    let failed = count(|event| matches!(event, Event::AttemptFailed { .. }));
    // Each connection was cut, before it was up or after.
    assert_eq!(broken + failed, proxy.accepted() - 1, "{stats:?}");
    assert!(broken >= 100 && failed >= 100, "{broken} {failed}");
    assert_eq!(stats.reconnects, broken as u64);
    assert_eq!(stats.failed_attempts, failed as u64);
    assert_eq!(stats.refused_messages, 0);
    println!("{way:?}: {sum:?}, {broken} connections and {failed} attempts were cut");
}

#[test]
fn cut_after_each_number_of_bytes_to_the_server() {
    cut_after_each_number_of_bytes(Way::Up);
}

#[test]
fn cut_after_each_number_of_bytes_from_the_server() {
    cut_after_each_number_of_bytes(Way::Down);
}

#[test]
fn one_byte_at_a_time() {
    let server = Server::start();
    let peer = server.peer();
    let mut arrived = peer.subscribe("up");
    let proxy = Proxy::to(server.websocket_port());
    proxy.bytewise();
    let client = Client::connect(impatient(&proxy.url()));
    let mut traffic = Traffic::new(&client, &peer);
    for _ in 0..20 {
        traffic.some();
    }
    let sum = traffic.settle(&mut arrived);
    assert_eq!((sum.confirmed, sum.unknown_lost), (300, 0), "nothing was lost");
    assert_eq!(proxy.accepted(), 1);
}

/// Nothing passes any more in these directions, and no socket says so.
fn frozen(ways: &[Way]) {
    let server = Server::start();
    let peer = server.peer();
    let mut arrived = peer.subscribe("up");
    let proxy = Proxy::to(server.websocket_port());
    let client = Client::connect(watchful(&proxy.url()));
    let mut traffic = Traffic::new(&client, &peer);
    for round in 1..=3 {
        traffic.some();
        proxy.freeze(ways);
        traffic.some();
        let lost = client.wait_for_many("disconnected", round, |event| {
            matches!(event, Event::Disconnected { .. })
        });
        for event in lost {
            let stale =
                matches!(event, Event::Disconnected { reason: DisconnectReason::Stale(_), .. });
            assert!(stale, "{event:?}");
        }
        client.wait_connected(round + 1);
    }
    traffic.settle(&mut arrived);
    assert_eq!(client.stats().reconnects, 3);
}

#[test]
fn frozen_for_longer_than_the_pings_may_take() {
    frozen(&[Way::Up, Way::Down]);
}

#[test]
fn half_open_to_the_server() {
    frozen(&[Way::Up]);
}

#[test]
fn half_open_from_the_server() {
    frozen(&[Way::Down]);
}

/// More is published than a frozen network takes: the writer does not wait for ever, and what finds
/// no room is refused at the call.
#[test]
fn a_frozen_network_does_not_block_who_publishes() {
    let server = Server::start();
    let proxy = Proxy::to(server.websocket_port());
    let client = Client::connect(watchful(&proxy.url()));
    client.publish("a", b"through").expect("it is connected");
    client.flush().expect("it is connected");
    proxy.freeze(&[Way::Up]);
    proxy.refuse(true);
    let large = vec![0; 1 << 20];
    let refused = until("the buffer is full", || client.publish("a", &large).err());
    assert!(format!("{refused:?}").contains("BufferFull"), "{refused:?}");
    assert!(client.stats().refused_messages > 0);
    let (messages, bytes) = client.pending();
    assert!(messages <= 65_536 && bytes <= 8 << 20, "{messages} {bytes}");
    proxy.refuse(false);
    client.wait_connected(2);
    until("what waited is sent", || client.flush().ok());
    assert_eq!(client.pending(), (0, 0));
}

/// A server that takes the connection and never says a word.
#[test]
fn a_server_that_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("its address").port();
    let server = Server::start();
    let mut config = watchful(&format!("ws://127.0.0.1:{port},{}", server.url()));
    config.shuffle_servers = false;
    config.connect_timeout = Duration::from_millis(100);
    let client = Client::start(config).expect("a valid config");
    let failed =
        client.wait_for("a failed attempt", |event| matches!(event, Event::AttemptFailed { .. }));
    let Event::AttemptFailed { server: tried, .. } = failed else { unreachable!() };
    assert!(tried.contains(&port.to_string()), "{tried}");
    client.wait_connected(1);
}
