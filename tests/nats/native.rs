//! The native host's client with real servers: every kind of credentials, TLS, outages, clusters, and
//! each of its bounds.

use std::path::Path;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use nkeys::KeyPair;
use on_threads::{Cluster, Operator, Proxy, SOON, Server, User, Way};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use rust_wasm_lunatic_nats::native_nats::{
    AuthFile, Event, NatsEvents, SubscribeOptions, UrlError, WhenBusy,
};
use rust_wasm_lunatic_nats::nats::{
    Auth, Headers, OutboxError, PublishError, ReconnectDelays, RequestMany,
};
use rust_wasm_lunatic_nats::{
    ConnectionState, NatsConfig, NatsConnection, NatsError, NatsPublisher, Subscription,
};
use serde_json::json;
use support::free_port;

/// For a request that is answered at once.
const PATIENCE: Duration = SOON;
/// Longer than any test may take.
const HOUR: Duration = Duration::from_secs(3600);

fn config(url: impl Into<String>) -> NatsConfig {
    let ms = Duration::from_millis;
    // So that a server that comes back is found soon.
    let reconnect =
        ReconnectDelays { first: ms(10), cap: ms(50), late_cap: ms(50), ..Default::default() };
    NatsConfig { url: url.into(), reconnect, ..NatsConfig::default() }
}

/// A connection that is up, and its events from the start on.
async fn connect(config: NatsConfig) -> NatsConnection {
    let nats = NatsConnection::new(config).await.expect("a valid config");
    let up = tokio::time::timeout(SOON, nats.wait_connected()).await;
    up.expect("it connects in time").expect("it connects");
    nats
}

/// async-nats as it is, for the other side.
async fn peer(server: &Server) -> Client {
    async_nats::connect(server.tcp_url()).await.expect("it connects")
}

/// A subscription of the other side; the server knows of it on return.
async fn subscribed(peer: &Client, subject: &'static str) -> async_nats::Subscriber {
    let subscriber = peer.subscribe(subject).await.expect("it subscribes");
    // A flush is to the socket; this is to the server.
    peer.request("nobody", "".into()).await.expect_err("nobody is there");
    subscriber
}

/// Waits until a server tells who connects of the other one of its cluster.
async fn knows_the_other(server: &Server) {
    let deadline = tokio::time::Instant::now() + SOON;
    while peer(server).await.server_info().connect_urls.len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "it does not hear of the other");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until `condition` gives something.
async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The first event that is so.
async fn event(events: &mut NatsEvents, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.next().await.expect("more events");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(SOON, found).await.expect("the event in time")
}

async fn expect(subscription: &mut Subscription) -> Vec<u8> {
    let message = subscription.next_within(SOON).await.expect("it goes on").expect("a message");
    message.payload().to_vec()
}

/// Whether a message goes from a client to the server and back to it.
async fn assert_works(nats: &NatsConnection) {
    let mut subscription = nats.subscribe("works").await.expect("it subscribes");
    nats.publish("works", b"yes").await.expect("it publishes");
    assert_eq!(expect(&mut subscription).await, b"yes");
    nats.flush(PATIENCE).await.expect("the server answers");
}

/// That the server does not take these is told, and nothing of them is shown.
async fn refused(config: NatsConfig, secrets: &[&str]) {
    let shown = format!("{config:?}");
    let nats = NatsConnection::new(config.clone()).await.expect("a valid config");
    let mut events = nats.events();
    let failed = event(&mut events, |e| matches!(e, Event::AttemptFailed { .. })).await;
    let Event::AttemptFailed { reason, .. } = &failed else { unreachable!() };
    assert!(reason.to_lowercase().contains("authorization violation"), "{reason}");
    assert!(!nats.is_connected() && nats.get_stats().failed_attempts > 0);
    // And one who wants to know at once is told at once.
    let impatient = NatsConfig { retry_on_failed_connect: false, ..config };
    let error = NatsConnection::new(impatient).await.expect_err("it is refused");
    assert!(matches!(error, NatsError::Connect(_)), "{error:?}");
    let said = format!("{shown} {failed:?} {failed} {error:?} {error} {nats:?}");
    assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_with_all_they_have_in_both_directions() {
    let server = Server::start();
    let (nats, peer) = (connect(config(server.tcp_url())).await, peer(&server).await);
    let mut theirs = subscribed(&peer, "ours.>").await;
    let mut headers = Headers::new();
    for (name, value) in [("Id", "1"), ("Id", "2")] {
        headers.append(name, value).expect("a header");
    }
    nats.publish("ours.a", b"plain").await.expect("it publishes");
    nats.publish_with_headers("ours.b", &headers, b"headers").await.expect("it publishes");
    nats.publish_request("ours.c", "back", b"").await.expect("it publishes");
    nats.publish_request_with_headers("ours.d", "back", &headers, b"all").await.expect("it does");
    nats.publish_json("ours.e", &json!({"a": [1, 2]})).await.expect("it publishes");
    let mut got = Vec::new();
    for _ in 0..5 {
        let message = theirs.next().await.expect("a message");
        let ids = message.headers.iter().flat_map(|h| h.get_all("Id").map(ToString::to_string));
        let ids: Vec<_> = ids.collect();
        let reply = message.reply.map(|reply| reply.to_string());
        let payload = String::from_utf8(message.payload.to_vec()).expect("text");
        got.push((message.subject.to_string(), reply, ids, payload));
    }
    let of = |subject: &str, reply: Option<&str>, ids: &[&str], payload: &str| {
        let ids = ids.iter().map(ToString::to_string).collect();
        (subject.to_owned(), reply.map(str::to_owned), ids, payload.to_owned())
    };
    let expected = [
        of("ours.a", None, &[], "plain"),
        of("ours.b", None, &["1", "2"], "headers"),
        of("ours.c", Some("back"), &[], ""),
        of("ours.d", Some("back"), &["1", "2"], "all"),
        of("ours.e", None, &[], r#"{"a":[1,2]}"#),
    ];
    assert_eq!(got, expected);

    let mut ours = nats.subscribe("theirs.*").await.expect("it subscribes");
    nats.flush(PATIENCE).await.expect("the server answers");
    let mut map = async_nats::HeaderMap::new();
    map.append("Id", "1");
    map.append("Id", "2");
    let sent = peer.publish_with_reply_and_headers("theirs.a", "back", map, "yes".into());
    sent.await.expect("it publishes");
    let message = ours.next().await.expect("a message");
    assert_eq!((message.subject(), message.reply()), ("theirs.a", Some("back")));
    assert_eq!(message.headers(), Ok(headers));
    assert_eq!(message.payload(), b"yes");
    assert_eq!(ours.try_next(), Ok(None));
    assert_eq!(ours.next_within(Duration::from_millis(1)).await, Ok(None));

    let stats = nats.get_stats();
    assert_eq!(stats.state, ConnectionState::Connected);
    // Five, and the flush's request.
    assert_eq!((stats.out_messages, stats.requests, stats.subscriptions), (6, 1, 1));
    // One, and the flush's answer.
    assert_eq!(stats.in_messages, 2);
    assert!(stats.out_bytes > 20 && stats.in_bytes > 100, "{stats:?}");
    assert_eq!((stats.reconnects, stats.failed_attempts, stats.server_errors), (0, 0, 0));
    assert_eq!((stats.pending_messages, stats.pending_bytes), (0, 0));
}

/// As one writes it who does not care which client it is.
async fn publish_anywhere<P: NatsPublisher>(publisher: &P) -> Result<(), P::Error> {
    publisher.publish_json("any", &[1, 2, 3]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trait_publishes_json_and_queue_groups_share() {
    let server = Server::start();
    let nats = connect(config(server.tcp_url())).await;
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(nats.queue_subscribe("any", "group").await.expect("it subscribes"));
    }
    let mut all = nats.subscribe("any").await.expect("it subscribes");
    for _ in 0..20 {
        publish_anywhere(&nats).await.expect("it publishes");
    }
    nats.flush(PATIENCE).await.expect("the server answers");
    for _ in 0..20 {
        assert_eq!(expect(&mut all).await, b"[1,2,3]");
    }
    let mut got = 0;
    for member in &mut members {
        while let Ok(Some(_)) = member.try_next() {
            got += 1;
        }
    }
    assert_eq!(got, 20);
    let not_json = f64::NAN;
    let map = std::collections::HashMap::from([(vec![1], not_json)]);
    let error = nats.publish_json("any", &map).await.expect_err("a key that is no text");
    assert!(matches!(error, NatsError::Json(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_is_refused_at_the_call() {
    let server = Server::with("max_payload: 100");
    let nats = connect(config(server.tcp_url())).await;
    for subject in ["", "a..b", "a b", "a.*", "a\r\nPUB x 0"] {
        let error = nats.publish(subject, b"").await.expect_err(subject);
        assert!(matches!(error, NatsError::Invalid(OutboxError::Subject(_))), "{error:?}");
        let error = nats.request(subject, b"", HOUR).await.expect_err(subject);
        assert!(matches!(error, NatsError::Invalid(OutboxError::Subject(_))), "{error:?}");
    }
    assert!(nats.publish_request("a", "b c", b"").await.is_err());
    assert!(nats.subscribe("a b").await.is_err());
    assert!(nats.queue_subscribe("a", "b c").await.is_err());
    let error = nats.publish("a", &[0; 101]).await.expect_err("too large");
    assert_eq!(error, OutboxError::TooLarge { len: 101, max: 100 }.into());
    assert_eq!(nats.get_stats().subscriptions, 0);
    assert_works(&nats).await;
    assert_eq!(nats.get_stats().server_errors, 0, "nothing of it was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_config_or_in_the_url() {
    let server = Server::with("authorization { token: \"s3cr3t:@/%\" }");
    let url = server.tcp_url();
    let with = |token: &str| NatsConfig { auth: Auth::Token(token.into()), ..config(&url) };
    assert_works(&connect(with("s3cr3t:@/%")).await).await;
    let in_url = url.replace("://", "://s3cr3t%3A%40%2F%25@");
    assert_works(&connect(config(&in_url)).await).await;
    // What stands in the URL stands over the config.
    assert_works(&connect(NatsConfig { url: in_url, ..with("wrong") }).await).await;
    refused(with("wr0ng"), &["wr0ng"]).await;
    refused(config(url.replace("://", "://wr0ng@")), &["wr0ng"]).await;
    refused(config(&url), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_password_in_the_config_or_in_the_url_over_tcp_and_websocket() {
    let server = Server::with("authorization { user: me, password: \"p@ss\" }");
    for url in [server.tcp_url(), server.url()] {
        let who = |user: &str, password: &str| NatsConfig {
            auth: Auth::UserPassword { user: user.into(), password: password.into() },
            ..config(&url)
        };
        assert_works(&connect(who("me", "p@ss")).await).await;
        assert_works(&connect(config(url.replace("://", "://me:p%40ss@"))).await).await;
        refused(who("me", "wr0ng"), &["wr0ng"]).await;
        refused(who("you", "p@ss"), &["p@ss"]).await;
        refused(config(&url), &[]).await;
    }
}

/// Each server of a list gets what stands in its own URL.
#[tokio::test(flavor = "multi_thread")]
async fn each_server_its_own_credentials() {
    let first = Server::with("authorization { token: one }");
    let mut second = Server::with("authorization { user: me, password: two }");
    let url =
        [second.tcp_url().replace("://", "://me:two@"), first.tcp_url().replace("://", "://one@")];
    let nats = connect(NatsConfig { shuffle_servers: false, ..config(url.join(",")) }).await;
    let mut events = nats.events();
    second.kill();
    let up = event(&mut events, |e| matches!(e, Event::Connected { .. })).await;
    assert_eq!(up, Event::Connected { server: first.tcp_url(), reconnects: 1 });
    assert_works(&nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_in_the_config_or_in_a_file_that_changes() {
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let seed = |key: &KeyPair| key.seed().expect("it was just made");
    let lines =
        |key: &KeyPair| format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key());
    let mut server = Server::with(&lines(&key));
    let url = server.tcp_url();
    let given = NatsConfig { auth: Auth::NKey(seed(&key).into()), ..config(&url) };
    assert_works(&connect(given).await).await;
    let stranger = NatsConfig { auth: Auth::NKey(seed(&other).into()), ..config(&url) };
    refused(stranger, &[&seed(&other)]).await;

    let file = server.dir().join("user.nk");
    std::fs::write(&file, seed(&key) + "\n").expect("the seed's file");
    let from_file = NatsConfig { auth_file: Some(AuthFile::NKey(file.clone())), ..config(&url) };
    let nats = connect(from_file).await;
    assert_works(&nats).await;
    // Each connection has a nonce of its own, and the key is read anew.
    server.kill();
    server.set("", &lines(&other));
    std::fs::write(&file, seed(&other)).expect("the seed's file");
    server.run();
    assert_works_again(&nats, 1).await;
    // One that is gone or damaged is no reason to stay away.
    for damage in [Some("SU"), None] {
        server.kill();
        match damage {
            Some(text) => std::fs::write(&file, text).expect("the seed's file"),
            None => std::fs::remove_file(&file).expect("the seed's file"),
        }
        server.run();
        assert_works_again(&nats, 1 + if damage.is_some() { 1 } else { 2 }).await;
    }
}

async fn assert_works_again(nats: &NatsConnection, reconnects: u64) {
    until("it has reconnected", || {
        (nats.get_stats().reconnects == reconnects && nats.is_connected()).then_some(())
    })
    .await;
    // What was lost meanwhile is told once.
    let _ = nats.flush(PATIENCE).await;
    assert_works(nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creds_file_of_an_account_that_is_rotated() {
    let mut operator = Operator::new();
    let account = operator.account("first");
    let stranger = Operator::new().account("stranger").user("x", json!({}), None);
    let mut server = Server::with(&operator.server_lines());
    let url = server.tcp_url();
    let user = account.user("a", json!({}), None);
    let creds = |user: &User| Auth::Credentials(user.credentials().into());
    assert_works(&connect(NatsConfig { auth: creds(&user), ..config(&url) }).await).await;
    let jwt = Auth::Jwt { jwt: user.jwt.as_str().into(), seed: user.seed.as_str().into() };
    assert_works(&connect(NatsConfig { auth: jwt, ..config(&url) }).await).await;
    let secrets = [&*stranger.jwt, &*stranger.seed];
    refused(NatsConfig { auth: creds(&stranger), ..config(&url) }, &secrets).await;

    let file = server.dir().join("user.creds");
    std::fs::write(&file, user.credentials()).expect("the credentials' file");
    let auth_file = Some(AuthFile::Credentials(file.clone()));
    let nats = connect(NatsConfig { auth_file, ..config(&url) }).await;
    assert_works(&nats).await;
    // Only what is read anew can say that it may publish no more than this.
    let limits = json!({"pub": {"allow": ["works", "_INBOX.>"]}, "sub": {}});
    let next = account.user("b", limits, None);
    std::fs::write(&file, next.credentials()).expect("the credentials' file");
    server.kill();
    server.run();
    assert_works_again(&nats, 1).await;
    let error = nats.request("elsewhere", b"", HOUR).await.expect_err("not permitted any more");
    assert!(matches!(error, NatsError::PermissionDenied(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_cannot_be_used_is_an_error_at_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let local = "nats://127.0.0.1:1";
    let auth = |file| NatsConfig { auth_file: Some(file), ..config(local) };
    let ca = |path: &Path| NatsConfig { ca_file: Some(path.to_owned()), ..config(local) };
    let missing = dir.path().join("missing");
    let long = file("long", &vec![b'x'; 70_000]);
    for (config, expected) in [
        (config(""), "has no scheme"),
        (config("localhost:4222"), "has no scheme"),
        (config("http://me:geheim@h"), "http:// is none of"),
        (auth(AuthFile::NKey(missing.clone())), "the NKey seed in"),
        (auth(AuthFile::NKey(file("nk", b"SUgeheim"))), "the seed has 8 characters"),
        (auth(AuthFile::Credentials(missing.clone())), "No such file"),
        (auth(AuthFile::Credentials(file("creds", b"geheim"))), "BEGIN NATS USER JWT"),
        (auth(AuthFile::Credentials(file("bin", b"\xff"))), "not text"),
        (auth(AuthFile::Credentials(long)), "longer than 65536 bytes"),
        (ca(&missing), "the CA certificates in"),
        (ca(&file("ca.pem", b"geheim")), "there is no certificate in it"),
    ] {
        let error = NatsConnection::new(config).await.expect_err(expected);
        let said = format!("{error} {error:?}");
        assert!(said.contains(expected) && !said.contains("geheim"), "{said}");
    }
    let many = vec!["nats://h"; 65].join(",");
    let error = NatsConnection::new(config(many)).await.expect_err("too many");
    assert_eq!(error, NatsError::Url(UrlError::Count { servers: 65, max: 64 }));
}

/// A CA, and the certificates that it gives.
struct Ca {
    pem: String,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// The lines of a server that shows a certificate for `localhost`.
    fn server_lines(&self, dir: &Path) -> String {
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert_file, certificate).expect("its certificate");
        std::fs::write(&key_file, key.serialize_pem()).expect("its key");
        format!("tls {{ cert_file: {cert_file:?}, key_file: {key_file:?} }}")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_ca_of_one_s_own_which_is_read_anew() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let mut server = Server::stopped("", "");
    server.set("", &ca.server_lines(server.dir()));
    server.run();
    let file = server.dir().join("ca.pem");
    std::fs::write(&file, &ca.pem).expect("the CA's file");
    let port = server.tcp_port();
    let with = |url: String| NatsConfig { ca_file: Some(file.clone()), ..config(url) };
    // The server wants TLS, whatever the URL says.
    for scheme in ["tls", "nats"] {
        assert_works(&connect(with(format!("{scheme}://localhost:{port}"))).await).await;
    }
    let nats = connect(with(format!("tls://localhost:{port}"))).await;
    server.kill();
    server.set("", &stranger.server_lines(server.dir()));
    std::fs::write(&file, &stranger.pem).expect("the CA's file");
    server.run();
    assert_works_again(&nats, 1).await;
    // Those of the system do not know it; and the name has to be the certificate's.
    for untrusted in
        [config(format!("tls://localhost:{port}")), with(format!("tls://127.0.0.1:{port}"))]
    {
        let nats = NatsConnection::new(untrusted).await.expect("a valid config");
        let mut events = nats.events();
        let failed = event(&mut events, |e| matches!(e, Event::AttemptFailed { .. })).await;
        assert!(failed.to_string().contains("certificate"), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_before_there_is_a_server_is_there_when_there_is_one() {
    let mut server = Server::stopped("", "");
    let nats = NatsConnection::new(config(server.tcp_url())).await.expect("no server is no error");
    assert_eq!(nats.get_stats().state, ConnectionState::Connecting);
    let mut events = nats.events();
    let mut subscription = nats.subscribe("a").await.expect("it waits");
    for n in 0..100 {
        nats.publish("a", format!("{n}").as_bytes()).await.expect("it waits");
    }
    let stats = nats.get_stats();
    assert_eq!((stats.pending_messages, stats.out_messages), (100, 0));
    assert_eq!(stats.pending_bytes, 10 + 2 * 90 + 100, "payloads and subjects");
    let late = nats.flush(Duration::from_millis(1)).await.expect_err("there is no server");
    assert!(matches!(late, NatsError::TimedOut { .. }), "{late:?}");
    event(&mut events, |e| matches!(e, Event::AttemptFailed { .. })).await;
    server.run();
    for n in 0..100 {
        assert_eq!(expect(&mut subscription).await, format!("{n}").as_bytes(), "in order");
    }
    let up = event(&mut events, |e| matches!(e, Event::Connected { .. })).await;
    assert_eq!(up, Event::Connected { server: server.tcp_url(), reconnects: 0 });
    assert_eq!(nats.get_stats().pending_messages, 0);
    assert_works(&nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back() {
    let mut server = Server::start();
    let nats = connect(config(server.tcp_url())).await;
    let mut events = nats.events();
    let mut subscription = nats.subscribe("a").await.expect("it subscribes");
    let mut silent = nats.subscribe("silent").await.expect("it subscribes");
    nats.flush(PATIENCE).await.expect("the server answers");
    let asking = {
        let nats = nats.clone();
        tokio::spawn(async move { nats.request("silent", b"?", HOUR).await })
    };
    assert_eq!(expect(&mut silent).await, b"?", "it is on its way");
    server.kill();
    let answer = asking.await.expect("it ends");
    assert_eq!(answer, Err(NatsError::Disconnected { subject: "silent".into() }));
    event(&mut events, |e| matches!(e, Event::Disconnected { .. })).await;
    assert_eq!(nats.get_stats().state, ConnectionState::Reconnecting);
    nats.publish("a", b"meanwhile").await.expect("it waits");
    server.run();
    assert_eq!(expect(&mut subscription).await, b"meanwhile");
    // What was on the old connection may be lost; it is told, once.
    let lost = nats.flush(PATIENCE).await.expect_err("it broke");
    assert!(matches!(lost, NatsError::Disconnected { .. }), "{lost:?}");
    nats.flush(PATIENCE).await.expect("told once");
    assert_eq!(nats.get_stats().reconnects, 1);
    assert_works(&nats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_survives_the_death_of_a_server() {
    let mut cluster = Cluster::start("");
    let [first, second] = &mut cluster.servers;
    knows_the_other(first).await;
    let nats = connect(config(first.tcp_url())).await;
    let mut events = nats.events();
    let mut subscription = nats.subscribe("a").await.expect("it subscribes");
    nats.flush(PATIENCE).await.expect("the server answers");
    first.kill();
    // It was told of it, and knows no other way.
    let up = event(&mut events, |e| matches!(e, Event::Connected { .. })).await;
    let Event::Connected { server, .. } = up else { unreachable!() };
    assert!(server.ends_with(&format!(":{}", second.tcp_port())), "{server}");
    assert_works_again(&nats, 1).await;
    let peer = peer(second).await;
    peer.publish("a", "yes".into()).await.expect("it publishes");
    assert_eq!(expect(&mut subscription).await, b"yes");
    // And one that was told to look nowhere else does not.
    first.run();
    let loyal = connect(NatsConfig { use_advertised: false, ..config(second.tcp_url()) }).await;
    let pool = loyal.client().server_pool().await.expect("it is open");
    assert_eq!(pool.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_about_to_go_is_left() {
    // It ends no connection by itself before this test would be over.
    let cluster = Cluster::start("lame_duck_duration: \"60s\"\nlame_duck_grace_period: \"50s\"");
    let [first, second] = &cluster.servers;
    knows_the_other(first).await;
    let nats = connect(config(first.tcp_url())).await;
    let mut events = nats.events();
    first.signal("ldm");
    let gone = event(&mut events, |e| matches!(e, Event::LameDuck { .. })).await;
    assert_eq!(gone, Event::LameDuck { server: first.tcp_url() });
    let up = event(&mut events, |e| matches!(e, Event::Connected { .. })).await;
    let Event::Connected { server, .. } = up else { unreachable!() };
    assert!(server.ends_with(&format!(":{}", second.tcp_port())), "{server}");
    assert_works_again(&nats, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_server_has_both_its_bounds() {
    let mut server = Server::stopped("", "");
    let url = server.tcp_url();
    let bounded = NatsConfig { max_pending_bytes: 1000, max_pending_messages: 5, ..config(url) };
    let nats = NatsConnection::new(bounded).await.expect("no server is no error");
    let mut subscription = nats.subscribe("a").await.expect("it waits");
    nats.publish("a", &[7; 900]).await.expect("it waits");
    let full = nats.publish("a", &[7; 100]).await.expect_err("1,002 bytes");
    let NatsError::Refused(PublishError::BufferFull { waiting_bytes, max_bytes, .. }) = full else {
        panic!("{full:?}");
    };
    assert_eq!((waiting_bytes, max_bytes), (901, 1000));
    for _ in 0..4 {
        nats.publish("a", b"").await.expect("it waits");
    }
    let full = nats.publish("a", b"").await.expect_err("the sixth");
    assert!(full.to_string().contains("limit of 5 messages"), "{full}");
    let stats = nats.get_stats();
    assert_eq!((stats.pending_messages, stats.refused_messages), (5, 2));
    server.run();
    assert_eq!(expect(&mut subscription).await, [7; 900]);
    for _ in 0..4 {
        assert_eq!(expect(&mut subscription).await, b"");
    }
    assert_works(&nats).await;

    let nothing = NatsConfig { max_pending_messages: 0, ..config("nats://127.0.0.1:1") };
    let nats = NatsConnection::new(nothing).await.expect("no server is no error");
    assert!(matches!(nats.publish("a", b"").await, Err(NatsError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_makes_publishers_wait_or_err() {
    let server = Server::start();
    let proxy = Proxy::to(server.tcp_port());
    let nats = connect(config(proxy.url().replace("ws://", "nats://"))).await;
    nats.flush(PATIENCE).await.expect("the server answers");
    proxy.freeze(&[Way::Up, Way::Down]);
    nats.set_when_busy(WhenBusy::Error);
    let chunk = vec![7; 256 << 10];
    let mut taken = 0;
    let busy = loop {
        match nats.publish("a", &chunk).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1000, "it never was too much");
        tokio::task::yield_now().await;
    };
    assert_eq!(busy, NatsError::Busy);
    let stats = nats.get_stats();
    assert!(stats.pending_bytes <= 8 << 20 && stats.pending_bytes > 4 << 20, "{stats:?}");
    assert_eq!(stats.refused_messages, 1);
    nats.set_when_busy(WhenBusy::Wait);
    let waiting = {
        let (nats, chunk) = (nats.clone(), chunk.clone());
        tokio::spawn(async move { nats.publish("a", &chunk).await })
    };
    tokio::task::yield_now().await;
    // Without the connection it has to hear that there is no room.
    proxy.refuse(true);
    proxy.cut();
    let answer = tokio::time::timeout(SOON, waiting).await.expect("in time").expect("it ends");
    assert!(matches!(answer, Err(NatsError::Refused(_)) | Ok(())), "{answer:?}");
    proxy.refuse(false);
    assert_works_again(&nats, 1).await;
    until("all is written", || (nats.get_stats().pending_bytes == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_get_no_answer_are_told_why_and_leave_nothing_behind() {
    let server = Server::start();
    let nats = connect(NatsConfig { max_requests: 2, ..config(server.tcp_url()) }).await;
    let nobody = nats.request("nobody", b"", HOUR).await;
    assert_eq!(nobody, Err(NatsError::NoResponders { subject: "nobody".into() }));
    let mut silent = nats.subscribe("silent").await.expect("it subscribes");
    let soon = Duration::from_millis(20);
    for _ in 0..5 {
        let late = nats.request("silent", b"", soon).await;
        assert_eq!(late, Err(NatsError::TimedOut { subject: "silent".into(), timeout: soon }));
    }
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let nats = nats.clone();
            tokio::spawn(async move { nats.request("silent", b"now", HOUR).await })
        })
        .collect();
    until("both are on their way", || (nats.get_stats().requests == 8).then_some(())).await;
    let third = nats.request("silent", b"", HOUR).await;
    assert_eq!(third, Err(NatsError::TooManyRequests { max: 2 }));
    // The late ones are answered as well, and nobody waits for that any more.
    for _ in 0..7 {
        let message = silent.next_within(SOON).await.expect("it goes on").expect("a request");
        let reply = message.reply().expect("a reply subject").to_owned();
        nats.publish(&reply, b"here").await.expect("it publishes");
    }
    for asking in asking {
        assert_eq!(asking.await.expect("it ends"), Ok(b"here".to_vec()));
    }
    until("the late answers are counted", || {
        (nats.get_stats().unmatched_messages == 5).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_answers_to_one_request() {
    let server = Server::start();
    let (nats, peer) = (connect(config(server.tcp_url())).await, peer(&server).await);
    let mut asked = subscribed(&peer, "all").await;
    let answering = peer.clone();
    tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            let reply = message.reply.expect("a reply subject");
            for answer in ["1", "2", "3", ""] {
                answering.publish(reply.clone(), answer.into()).await.expect("it publishes");
            }
        }
    });
    let ask = |many: RequestMany| {
        let nats = nats.clone();
        async move {
            let answers = nats.request_many("all", Headers::none(), b"?", &many).await;
            let answers = answers.expect("they answer");
            answers
                .iter()
                .map(|m| String::from_utf8_lossy(m.payload()).into_owned())
                .collect::<Vec<_>>()
        }
    };
    let many = RequestMany { total: HOUR, ..RequestMany::default() };
    assert_eq!(ask(RequestMany { sentinel: true, ..many.clone() }).await, ["1", "2", "3"]);
    assert_eq!(ask(RequestMany { max_messages: 2, ..many.clone() }).await, ["1", "2"]);
    let stall = Some(Duration::from_millis(50));
    assert_eq!(ask(RequestMany { stall, ..many.clone() }).await, ["1", "2", "3", ""]);
    let nobody = nats.request_many("nobody", Headers::none(), b"", &many).await;
    assert_eq!(nobody, Err(NatsError::NoResponders { subject: "nobody".into() }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_permitted_ends_and_nothing_else_does() {
    let server = Server::with(
        r#"authorization { users: [ { user: some, password: p, permissions: {
            publish: [ "open.>", "_INBOX.>" ], subscribe: [ "open.>", "_INBOX.>" ] } } ] }"#,
    );
    let nats = connect(config(server.tcp_url().replace("://", "://some:p@"))).await;
    let mut events = nats.events();
    let mut open = nats.subscribe("open.a").await.expect("it subscribes");
    let mut denied = nats.subscribe("closed.a").await.expect("the server's word comes later");
    let end = tokio::time::timeout(SOON, denied.next()).await.expect("it ends in time");
    assert!(end.is_none(), "{end:?}");
    let why = denied.ended().expect("it has ended");
    assert!(matches!(why, NatsError::PermissionDenied(_)) && why.to_string().contains("closed.a"));
    let violation = event(&mut events, |e| matches!(e, Event::PermissionViolation { .. })).await;
    assert!(matches!(violation, Event::PermissionViolation { subscriptions: 1, .. }));
    // Not after its timeout, which is longer than this test may take.
    let answer = nats.request("closed.b", b"", HOUR).await;
    assert!(matches!(answer, Err(NatsError::PermissionDenied(_))), "{answer:?}");
    nats.publish("open.a", b"yes").await.expect("it publishes");
    assert_eq!(expect(&mut open).await, b"yes");
    assert_eq!(nats.get_stats().server_errors, 2);
    assert_eq!(nats.get_stats().reconnects, 0);
}

/// Whoever may have no inbox hears of it at once, and each time.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_may_have_no_inbox() {
    let server = Server::with(
        r#"authorization { users: [ { user: some, password: p, permissions: {
            publish: ">", subscribe: "open.>" } } ] }"#,
    );
    let nats = connect(config(server.tcp_url().replace("://", "://some:p@"))).await;
    for _ in 0..2 {
        let answer = nats.request("open.a", b"", HOUR).await;
        assert!(matches!(answer, Err(NatsError::PermissionDenied(_))), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_is_slow_loses_what_exceeds_its_bounds() {
    let server = Server::start();
    let nats = connect(config(server.tcp_url())).await;
    let mut events = nats.events();
    let few = SubscribeOptions { max_pending_messages: 3, ..Default::default() };
    let small = SubscribeOptions { max_pending_bytes: 10, ..Default::default() };
    let mut few = nats.subscribe_with("a", few).await.expect("it subscribes");
    let mut small = nats.subscribe_with("a", small).await.expect("it subscribes");
    let mut all = nats.subscribe("a").await.expect("it subscribes");
    for n in 0..5 {
        nats.publish("a", format!("{n}{}", "x".repeat(n * 2)).as_bytes()).await.expect("it does");
    }
    for _ in 0..5 {
        all.next_within(SOON).await.expect("it goes on").expect("a message");
    }
    // Of the one three are here; of the other "0" and "1xx" with their subjects.
    until("the rest is counted", || (nats.get_stats().dropped_messages == 5).then_some(())).await;
    let slow = |e: &Event| matches!(e, Event::SlowConsumer { subject } if subject == "a");
    event(&mut events, slow).await;
    event(&mut events, slow).await;
    for expected in ["0", "1xx", "2xxxx"] {
        assert_eq!(expect(&mut few).await, expected.as_bytes());
    }
    for expected in ["0", "1xx"] {
        assert_eq!(expect(&mut small).await, expected.as_bytes());
    }
    assert_eq!((few.try_next(), small.try_next()), (Ok(None), Ok(None)));
    // One message is always taken.
    nats.publish("a", &[b'y'; 100]).await.expect("it publishes");
    assert_eq!(expect(&mut small).await, [b'y'; 100]);
    assert_eq!(nats.get_stats().dropped_bytes, (8 + 10) + (6 + 8 + 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_end_after_so_many_or_drained_or_dropped() {
    let server = Server::start();
    let nats = connect(config(server.tcp_url())).await;
    let mut three = nats.subscribe("a").await.expect("it subscribes");
    three.unsubscribe_after(3);
    let mut drained = nats.subscribe("a").await.expect("it subscribes");
    let mut now = nats.subscribe("a").await.expect("it subscribes");
    now.unsubscribe_after(0);
    assert_eq!(tokio::time::timeout(SOON, now.next()).await, Ok(None));
    let mut dropped = Some(nats.subscribe("a").await.expect("it subscribes"));
    assert_eq!(nats.get_stats().subscriptions, 4);
    for n in 0..5 {
        nats.publish("a", format!("{n}").as_bytes()).await.expect("it publishes");
    }
    drained.drain(PATIENCE).await.expect("the server answers");
    nats.publish("a", b"later").await.expect("it publishes");
    for n in 0..5 {
        assert_eq!(expect(&mut drained).await, format!("{n}").as_bytes());
    }
    let ended = drained.next_within(SOON).await.expect_err("nothing more comes");
    assert_eq!(ended, NatsError::SubscriptionEnded("it was drained".into()));
    for n in 0..3 {
        assert_eq!(expect(&mut three).await, format!("{n}").as_bytes());
    }
    let ended = three.next_within(SOON).await.expect_err("nothing more comes");
    assert!(matches!(ended, NatsError::SubscriptionEnded(_)), "{ended:?}");
    dropped.take();
    drop((three, drained, now));
    assert_eq!(nats.get_stats().subscriptions, 0);
    // The server does not know of them any more, either, as soon as it was told.
    let gone = NatsError::NoResponders { subject: "a".into() };
    let deadline = tokio::time::Instant::now() + SOON;
    while nats.request("a", b"", Duration::from_millis(50)).await != Err(gone.clone()) {
        assert!(tokio::time::Instant::now() < deadline, "somebody still listens");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_loses_nothing_that_was_published_and_is_an_end() {
    let server = Server::start();
    let (nats, peer) = (connect(config(server.tcp_url())).await, peer(&server).await);
    let mut events = nats.events();
    let mut theirs = subscribed(&peer, "a").await;
    let mut ours = nats.subscribe("a").await.expect("it subscribes");
    for n in 0..1000 {
        nats.publish("a", format!("{n}").as_bytes()).await.expect("it publishes");
    }
    nats.drain(PATIENCE).await.expect("the server answers");
    for n in 0..1000 {
        assert_eq!(theirs.next().await.expect("a message").payload, format!("{n}"));
        assert_eq!(expect(&mut ours).await, format!("{n}").as_bytes());
    }
    let ended = ours.next_within(SOON).await.expect_err("nothing more comes");
    assert_eq!(ended, NatsError::Closed("drained".into()));
    let closed = event(&mut events, |e| matches!(e, Event::Closed { .. })).await;
    assert_eq!(closed, Event::Closed { reason: "drained".into() });
    assert!(!nats.is_connected());
    assert_eq!(nats.get_stats().state, ConnectionState::Closed);
    assert!(nats.publish("a", b"").await.is_err() && nats.subscribe("a").await.is_err());
    assert!(nats.request("a", b"", HOUR).await.is_err() && nats.drain(HOUR).await.is_err());
}

/// The tasks of the runtime, for whoever looks what is left.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_dropped_writes_first_and_leaves_no_task() {
    let server = Server::start();
    let peer = peer(&server).await;
    let mut theirs = subscribed(&peer, "a").await;
    let before = tasks();
    let nats = connect(config(server.tcp_url())).await;
    let mut kept = nats.subscribe("b").await.expect("it subscribes");
    assert!(nats.request("nobody", b"", HOUR).await.is_err());
    let clone = nats.clone();
    drop(nats);
    for n in 0..1000 {
        clone.publish("a", format!("{n}").as_bytes()).await.expect("a clone is the same");
    }
    drop(clone);
    for n in 0..1000 {
        assert_eq!(theirs.next().await.expect("a message").payload, format!("{n}"));
    }
    let ended = kept.next_within(SOON).await.expect_err("nothing more comes");
    assert_eq!(ended, NatsError::Closed("closed".into()));
    until("no task is left", || (tasks() <= before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_connected_leaves_no_task_either() {
    let before = tasks();
    let nowhere = format!("nats://127.0.0.1:{}", free_port());
    let nats = NatsConnection::new(config(&nowhere)).await.expect("no server is no error");
    let mut events = nats.events();
    nats.publish("a", b"never").await.expect("it waits");
    event(&mut events, |e| matches!(e, Event::AttemptFailed { .. })).await;
    drop(nats);
    until("no task is left", || (tasks() <= before).then_some(())).await;
    let drained = NatsConnection::new(config(&nowhere)).await.expect("no server is no error");
    assert!(drained.drain(Duration::from_millis(10)).await.is_err(), "nobody has what was left");
    until("its task has ended", || (tasks() <= before + 3).then_some(())).await;
    drop(drained);
    until("no task is left", || (tasks() <= before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_up_where_it_is_told_to() {
    let nowhere = format!("nats://127.0.0.1:{}", free_port());
    let before = tasks();
    let impatient = NatsConfig { retry_on_failed_connect: false, ..config(&nowhere) };
    let error = NatsConnection::new(impatient).await.expect_err("there is no server");
    let said = error.to_string();
    assert!(said.contains("gave up after 1 attempts") && said.contains("refused"), "{said}");
    until("no task is left", || (tasks() <= before).then_some(())).await;

    let mut server = Server::start();
    let nats = connect(NatsConfig { max_reconnects: Some(3), ..config(server.tcp_url()) }).await;
    let mut events = nats.events();
    let mut subscription = nats.subscribe("a").await.expect("it subscribes");
    server.kill();
    let closed = event(&mut events, |e| matches!(e, Event::Closed { .. })).await;
    assert!(closed.to_string().contains("gave up after 3 attempts"), "{closed}");
    assert!(matches!(subscription.next_within(SOON).await, Err(NatsError::Closed(_))));
    assert!(matches!(nats.publish("a", b"").await, Err(NatsError::Closed(_))));
    assert!(matches!(nats.wait_connected().await, Err(NatsError::Closed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_given_up_by_hand_comes_back() {
    let server = Server::with("authorization { token: t }");
    let nats = connect(config(server.tcp_url().replace("://", "://t@"))).await;
    nats.force_reconnect().await.expect("it is open");
    assert_works_again(&nats, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_s_own_messages_do_not_come_back_if_one_does_not_want_them() {
    let server = Server::start();
    let (nats, peer) = (
        connect(NatsConfig { echo: false, ..config(server.tcp_url()) }).await,
        peer(&server).await,
    );
    let mut subscription = nats.subscribe("a").await.expect("it subscribes");
    nats.publish("a", b"own").await.expect("it publishes");
    nats.flush(PATIENCE).await.expect("the server answers");
    peer.publish("a", "other".into()).await.expect("it publishes");
    assert_eq!(expect(&mut subscription).await, b"other");
}

/// It is async-nats beneath, for whatever is not here.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_beneath_is_the_same_connection() {
    let server = Server::start();
    let nats = connect(NatsConfig { name: Some("mine".into()), ..config(server.tcp_url()) }).await;
    let mut subscription = nats.subscribe("a").await.expect("it subscribes");
    nats.client().publish("a", "yes".into()).await.expect("it publishes");
    assert_eq!(expect(&mut subscription).await, b"yes");
    assert_eq!(nats.client().server_info().port, server.tcp_port());
    // A second one, as async-nats makes it, is another.
    let other = ConnectOptions::new().connect(server.tcp_url()).await.expect("it connects");
    assert_ne!(other.server_info().client_id, nats.client().server_info().client_id);
}
