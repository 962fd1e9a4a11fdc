//! Every kind of server that one meets: with credentials, with permissions, with small limits, with
//! compression, behind a proxy with a path, in a cluster, about to go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use on_threads::{
    Client, Cluster, Peer, Proxy, PublishRefused, RequestFailed, SOON, Server, until,
};
use rust_wasm_lunatic_nats::nats::{
    Auth, CloseReason, DisconnectReason, Event, Headers, Operation, OutboxError, RequestError,
    SessionConfig, Status, UpgradeHeaders,
};
use support::free_port;

fn connected(event: &Event) -> bool {
    matches!(event, Event::Connected { .. })
}

/// Whether a message goes from a client to the server and back to it.
#[track_caller]
fn assert_works(client: &Client) {
    let subscription = client.subscribe("works").expect("it subscribes");
    client.publish("works", b"yes").expect("it publishes");
    assert_eq!(subscription.expect().payload(), b"yes");
    client.flush().expect("the server answers");
}

/// Why the first attempt failed.
#[track_caller]
fn first_failure(client: &Client) -> DisconnectReason {
    match client.wait_for("a failed attempt", |e| matches!(e, Event::AttemptFailed { .. })) {
        Event::AttemptFailed { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_server_and_who_it_thinks_we_are() {
    let monitoring = free_port();
    let server = Server::with(&format!("http: \"127.0.0.1:{monitoring}\""));
    let mut config = Client::config(&server.url());
    config.name = Some("a test's".into());
    let client = Client::connect(config);
    assert_works(&client);
    let Event::Connected { version, max_payload, reconnects, server: url, .. } =
        client.wait_for("connected", connected)
    else {
        unreachable!()
    };
    assert_eq!(
        (max_payload, reconnects, url.as_str()),
        (1 << 20, 0, &*format!("{}/", server.url()))
    );
    assert!(version.starts_with("2."), "{version}");
    assert!(matches!(client.status(), Status::Connected { .. }));
    let connections = http_get(monitoring, "/connz");
    for said in ["\"name\": \"a test's\"", "\"lang\": \"rust\"", "\"version\": \"0.1.0\""] {
        assert!(connections.contains(said), "no {said} in {connections}");
    }
    let events = client.close();
    assert!(matches!(events.last(), Some(Event::Closed { reason: CloseReason::ByOwner, .. })));
    until("the server has seen it go", || {
        http_get(monitoring, "/connz").contains("\"num_connections\": 0").then_some(())
    });
}

fn http_get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the monitoring port");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn without_echo_ones_own_messages_stay_away() {
    let server = Server::start();
    let mut config = Client::config(&server.url());
    config.echo = false;
    let (client, peer) = (Client::connect(config), server.peer());
    let subscription = client.subscribe("a").expect("it subscribes");
    client.publish("a", b"own").expect("it publishes");
    client.flush().expect("the server answers");
    peer.publish("a", "another's");
    assert_eq!(subscription.expect().payload(), b"another's");
}

#[test]
fn a_token_in_the_config_or_in_the_url() {
    let server = Server::with("authorization { token: \"s3cr3t:@/%\" }");
    let mut config = Client::config(&server.url());
    config.auth = Auth::Token("s3cr3t:@/%".into());
    assert_works(&Client::connect(config));
    assert_works(&Client::connect(Client::config(&server.url_as("s3cr3t%3A%40%2F%25"))));
    refused(&server, Auth::Token("wrong".into()));
    refused(&server, Auth::None);
}

#[test]
fn a_user_and_a_password_in_the_config_or_in_the_url() {
    let server = Server::with("authorization { user: me, password: \"p@ss\" }");
    let who = |user: &str, password: &str| Auth::UserPassword {
        user: user.into(),
        password: password.into(),
    };
    let mut config = Client::config(&server.url());
    config.auth = who("me", "p@ss");
    assert_works(&Client::connect(config));
    assert_works(&Client::connect(Client::config(&server.url_as("me:p%40ss"))));
    refused(&server, who("me", "wrong"));
    refused(&server, who("you", "p@ss"));
    refused(&server, Auth::None);
}

/// That the server does not take these is told, and nothing of them is shown.
#[track_caller]
fn refused(server: &Server, auth: Auth) {
    let mut config = Client::config(&server.url());
    config.auth = auth;
    let client = Client::start(config).expect("a valid config");
    let reason = first_failure(&client);
    assert!(matches!(reason, DisconnectReason::Authorization(_)), "{reason}");
    let said = format!("{:?}", client.close());
    for secret in ["s3cr3t", "p@ss", "wrong"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn the_password_changes_and_so_do_the_credentials() {
    let lines = |password: &str| format!("authorization {{ user: me, password: {password} }}");
    let mut server = Server::with(&lines("first"));
    let mut config = Client::config(&server.url());
    let who = |password: &str| Auth::UserPassword { user: "me".into(), password: password.into() };
    config.auth = who("first");
    let client = Client::connect(config);
    let subscription = client.subscribe("a").expect("it subscribes");
    server.kill();
    server.set("", &lines("second"));
    server.run();
    until("it is refused more than twice", || {
        let failed = |event: &&Event| match event {
            Event::AttemptFailed { reason, .. } => {
                matches!(reason, DisconnectReason::Authorization(_))
            }
            _ => false,
        };
        (client.events().iter().filter(failed).count() > 2).then_some(())
    });
    client.set_auth(who("second"));
    client.wait_connected(2);
    client.publish("a", b"again").expect("it publishes");
    assert_eq!(subscription.expect().payload(), b"again");
}

const PERMISSIONS: &str = r#"authorization {
    users: [
        { user: all, password: p }
        { user: some, password: p, permissions: {
            publish: [ "open.>", "_INBOX.>" ], subscribe: [ "open.>", "_INBOX.>" ] } }
    ]
}"#;

fn violations(client: &Client) -> Vec<(Operation, String, Vec<u64>)> {
    let violation = |event: Event| match event {
        Event::PermissionViolation { violation, sids } => {
            Some((violation.operation, violation.subject, sids))
        }
        _ => None,
    };
    client.events().into_iter().filter_map(violation).collect()
}

#[test]
fn a_subscription_that_is_not_permitted_ends_and_no_other() {
    let server = Server::with(PERMISSIONS);
    let proxy = Proxy::to(server.websocket_port());
    let mut config = Client::config(&proxy.url());
    config.auth = Auth::UserPassword { user: "some".into(), password: "p".into() };
    let client = Client::connect(config);
    let open = client.subscribe("open.a").expect("it subscribes");
    let denied = client.subscribe("closed.a").expect("the server's word comes later");
    let in_group = client.queue_subscribe("closed.b", "q").expect("the server's word comes later");
    assert!(denied.until_over().is_empty());
    assert!(in_group.until_over().is_empty());
    let expected = [
        (Operation::Subscribe, "closed.a".to_owned(), vec![denied.sid()]),
        (Operation::Subscribe, "closed.b".to_owned(), vec![in_group.sid()]),
    ];
    assert_eq!(violations(&client), expected);
    assert_eq!(client.subscription_count(), 1);
    client.publish("open.a", b"yes").expect("it publishes");
    assert_eq!(open.expect().payload(), b"yes");
    client.flush().expect("the connection stays");
    // What has ended is not tried again after a reconnect.
    proxy.cut();
    client.wait_connected(2);
    client.publish("open.a", b"again").expect("it publishes");
    assert_eq!(open.expect().payload(), b"again");
    client.flush().expect("the server answers");
    assert_eq!(violations(&client).len(), 2);
}

#[test]
fn a_publish_that_is_not_permitted_is_told_and_its_request_fails_at_once() {
    let server = Server::with(PERMISSIONS);
    let all = server.peer_as("all", "p");
    all.echo("open.echo");
    let mut seen = all.subscribe("closed.>");
    let client = Client::connect(Client::config(&server.url_as("some:p")));
    client.publish("closed.a", b"no").expect("the server's word comes later");
    client.flush().expect("the connection stays");
    assert_eq!(violations(&client), [(Operation::Publish, "closed.a".to_owned(), vec![])]);
    // Not after its timeout, which is longer than this test may take.
    let hour = Duration::from_secs(3600);
    let denied = client.request("closed.b", &Headers::new(), b"", hour);
    let Err(RequestFailed::Failed(RequestError::PermissionDenied(violation))) = denied else {
        panic!("{denied:?}");
    };
    assert_eq!((violation.operation, &*violation.subject), (Operation::Publish, "closed.b"));
    let answer = client.request("open.echo", &Headers::new(), b"yes", SOON).expect("an answer");
    assert_eq!(answer.payload(), b"yes");
    assert_eq!(seen.take_all().len(), 0, "nothing went through");
    assert_eq!(client.stats().server_errors, 2);
    assert_eq!(client.stats().reconnects, 0);
}

#[test]
fn a_small_max_payload_holds_and_can_change() {
    let mut server = Server::with("max_payload: 100");
    let client = Client::connect(Client::config(&server.url()));
    let subscription = client.subscribe("a").expect("it subscribes");
    let too_large = |len| OutboxError::TooLarge { len, max: 100 };
    assert_eq!(client.publish("a", &[7; 101]), Err(PublishRefused::Outbox(too_large(101))));
    client.publish("a", &[7; 100]).expect("it just fits");
    assert_eq!(subscription.expect().payload(), [7; 100]);
    assert_eq!(client.stats().out_messages, 1);
    server.kill();
    server.set("", "max_payload: 200");
    server.run();
    client.wait_connected(2);
    client.publish("a", &[7; 200]).expect("it fits now");
    assert_eq!(subscription.expect().payload(), [7; 200]);
}

/// It is not asked for, and so not used.
#[test]
fn a_server_that_would_compress() {
    let server = Server::with_websocket("compression: true", "");
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let subscription = client.subscribe("a").expect("it subscribes");
    let mut theirs = peer.subscribe("b");
    client.flush().expect("the server answers");
    for len in [10, 100, 1000, 100_000] {
        let payload = "compressible ".repeat(len / 13 + 1);
        peer.publish("a", payload.clone());
        assert_eq!(subscription.expect().payload(), payload.as_bytes());
        client.publish("b", payload.as_bytes()).expect("it publishes");
        assert_eq!(theirs.expect().payload[..], *payload.as_bytes());
    }
}

#[test]
fn a_proxy_that_wants_a_path_a_query_and_a_header() {
    let server = Server::start();
    let port = server.websocket_port();
    let proxy = Proxy::at_path(port, "/nats/ws?key=s3cr3t", "Authorization: Bearer s3cr3t");
    let headers = vec![("Authorization".to_owned(), "Bearer s3cr3t".into())];
    let headers = UpgradeHeaders::new(headers).expect("headers");
    let config = |target: &str| Client::config(&format!("{}{target}", proxy.url()));
    let client = Client::start_with(config("/nats/ws?key=s3cr3t"), headers.clone());
    let client = client.expect("a valid config");
    client.wait_connected(1);
    assert_works(&client);
    // And again after a reconnect.
    proxy.cut();
    client.wait_connected(2);
    assert_works(&client);
    let elsewhere = Client::start_with(config("/other?key=s3cr3t"), headers);
    let without = Client::start(config("/nats/ws?key=s3cr3t"));
    for (client, status) in [(elsewhere, "404"), (without, "403")] {
        let client = client.expect("a valid config");
        let reason = first_failure(&client).to_string();
        assert!(reason.contains(status), "{reason}");
        assert!(!format!("{:?}", client.events()).contains("s3cr3t"));
    }
    assert!(!format!("{:?}", client.events()).contains("s3cr3t"));
}

#[test]
fn the_port_for_tcp_is_named_as_the_mistake() {
    let server = Server::start();
    let config = Client::config(&format!("ws://127.0.0.1:{}", server.tcp_port()));
    let reason = first_failure(&Client::start(config).expect("a valid config")).to_string();
    assert!(reason.contains("websocket"), "{reason}");
    let error = SessionConfig::for_server(&server.tcp_url()).expect_err("another scheme");
    assert!(error.to_string().contains("ws://"), "{error}");
}

fn discovered(client: &Client) -> Vec<String> {
    let event = client.wait_for("a server's neighbours", |event| {
        matches!(event, Event::DiscoveredServers { .. })
    });
    let Event::DiscoveredServers { servers, .. } = event else { unreachable!() };
    servers
}

#[test]
fn a_cluster_is_discovered_and_survives_the_death_of_a_server() {
    let mut cluster = Cluster::start("");
    let [first, second] = &mut cluster.servers;
    let client = Client::connect(Client::config(&first.url()));
    let plain = client.subscribe("a.*").expect("it subscribes");
    let in_group = client.queue_subscribe("b", "q").expect("it subscribes");
    assert_eq!(discovered(&client), [format!("{}/", second.url())]);
    assert_eq!(client.servers().len(), 2);
    let peer = second.peer();
    peer.request_until_heard("a.probe", &plain);
    first.kill();
    client.wait_connected(2);
    let url = format!("{}/", second.url());
    assert_eq!(client.status(), Status::Connected { server: url });
    // On the server itself: no route has to learn of it.
    client.flush().expect("it is connected");
    peer.publish("a.x", "1");
    peer.publish("b", "2");
    assert_eq!(plain.expect().payload(), b"1");
    assert_eq!(in_group.expect().payload(), b"2");
    assert_works(&client);
}

#[test]
fn a_server_that_joins_later_is_told_of() {
    let ports = [free_port(), free_port()];
    let lines = |this: usize| {
        let (own, other) = (ports[this], ports[1 - this]);
        format!(
            "server_name: s{this}\ncluster {{ name: c, listen: \"127.0.0.1:{own}\", \
             routes: [\"nats://127.0.0.1:{other}\"] }}"
        )
    };
    let first = Server::with(&lines(0));
    let client = Client::connect(Client::config(&first.url()));
    // An INFO of later: async-nats would not look at its servers.
    let second = Server::with(&lines(1));
    assert_eq!(discovered(&client), [format!("{}/", second.url())]);
    let mut first = first;
    first.kill();
    client.wait_connected(2);
    assert_works(&client);
}

#[test]
fn a_server_that_is_about_to_go_says_so_and_is_left() {
    let cluster = Cluster::start("lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"");
    let [first, second] = &cluster.servers;
    let client = Client::connect(Client::config(&first.url()));
    let subscription = client.subscribe("a").expect("it subscribes");
    assert_eq!(discovered(&client).len(), 1);
    first.signal("ldm");
    let event = client.wait_for("lame duck", |event| matches!(event, Event::LameDuck { .. }));
    assert_eq!(event, Event::LameDuck { server: format!("{}/", first.url()) });
    client.wait_connected(2);
    let url = format!("{}/", second.url());
    assert_eq!(client.status(), Status::Connected { server: url });
    client.flush().expect("it is connected");
    let peer = second.peer();
    peer.publish("a", "still there");
    assert_eq!(subscription.expect().payload(), b"still there");
}

/// What it can hold back: a refused subscription is no end of the connection.
#[test]
fn a_server_s_limit_of_subscriptions_is_told() {
    let server = Server::with("max_subscriptions: 2");
    let client = Client::connect(Client::config(&server.url()));
    let _both = [client.subscribe("a"), client.subscribe("b")];
    let _third = client.subscribe("c").expect("the server's word comes later");
    let event = client.wait_for("the server's word", |event| {
        matches!(event, Event::ServerError { .. } | Event::Disconnected { .. })
    });
    let Event::ServerError { error } = event else { panic!("{event:?}") };
    assert!(error.to_lowercase().contains("subscriptions"), "{error}");
}

#[test]
fn it_gives_up_where_it_is_told_to() {
    let port = free_port();
    let mut config = Client::config(&format!("ws://127.0.0.1:{port}"));
    config.retry_on_failed_connect = false;
    let client = Client::start(config).expect("a valid config");
    let closed = client.wait_for("closed", |event| matches!(event, Event::Closed { .. }));
    let Event::Closed { reason: CloseReason::GaveUp { attempts, last }, .. } = closed else {
        panic!("{closed:?}");
    };
    assert_eq!(attempts, 1);
    assert!(matches!(last, DisconnectReason::Dial(_)), "{last}");
    assert!(client.publish("a", b"").is_err() && client.flush().is_err());
    assert!(client.subscribe("a").is_err());

    let mut server = Server::start();
    let mut config = Client::config(&server.url());
    config.max_reconnects = Some(3);
    let client = Client::connect(config);
    let subscription = client.subscribe("a").expect("it subscribes");
    server.kill();
    let closed = client.wait_for("closed", |event| matches!(event, Event::Closed { .. }));
    let Event::Closed { reason: CloseReason::GaveUp { attempts, .. }, .. } = closed else {
        panic!("{closed:?}");
    };
    assert_eq!(attempts, 3);
    assert_eq!(subscription.next(SOON).map(drop), Err(RecvTimeoutError::Disconnected));
}

/// What the peers need here.
trait Heard {
    /// Publishes until a subscription of ours has got it: by then the servers know of each other's
    /// subscriptions.
    fn request_until_heard(&self, subject: &str, subscription: &on_threads::Subscription);
}

impl Heard for Peer {
    fn request_until_heard(&self, subject: &str, subscription: &on_threads::Subscription) {
        until("the interest has gone from server to server", || {
            self.publish(subject, "probe");
            self.flush();
            subscription.next(Duration::from_millis(20)).ok()
        });
        // More than one may have come through.
        until("no more probes come", || {
            subscription.next(Duration::from_millis(100)).err().map(drop)
        });
    }
}
