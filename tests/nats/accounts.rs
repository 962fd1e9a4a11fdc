//! Who signs instead of sending a secret: NKeys, and JWTs of accounts under an operator.

use std::time::Duration;

use nkeys::KeyPair;
use on_threads::{Client, Operator, Server, User, until};
use rust_wasm_lunatic_nats::nats::{Auth, DisconnectReason, Event, Operation, SessionConfig};
use serde_json::json;

fn config(server: &Server, auth: Auth) -> SessionConfig {
    let mut config = Client::config(&server.url());
    config.auth = auth;
    config
}

fn creds(user: &User) -> Auth {
    Auth::Credentials(user.credentials().into())
}

/// Whether a message goes from a client to the server and back to it.
#[track_caller]
fn assert_works(client: &Client) {
    let subscription = client.subscribe("works").expect("it subscribes");
    client.publish("works", b"yes").expect("it publishes");
    assert_eq!(subscription.expect().payload(), b"yes");
}

/// That the server does not take these is told; nothing of them is.
#[track_caller]
fn refused(server: &Server, auth: Auth, secrets: &[&str]) {
    let client = Client::start(config(server, auth)).expect("a valid config");
    let failed =
        client.wait_for("a failed attempt", |event| matches!(event, Event::AttemptFailed { .. }));
    let Event::AttemptFailed { reason, .. } = failed else { unreachable!() };
    assert!(matches!(reason, DisconnectReason::Authorization(_)), "{reason}");
    let said = format!("{:?}", client.close());
    assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
}

#[test]
fn an_nkey_signs_the_nonce() {
    let (key, other) = (KeyPair::new_user(), KeyPair::new_user());
    let seed = |key: &KeyPair| key.seed().expect("it was just made");
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key());
    let mut server = Server::with(&users);
    let client = Client::connect(config(&server, Auth::NKey(seed(&key).into())));
    assert_works(&client);
    // Each connection has a nonce of its own.
    server.kill();
    server.run();
    client.wait_connected(2);
    assert_works(&client);
    refused(&server, Auth::NKey(seed(&other).into()), &[&seed(&other)]);
    refused(&server, Auth::None, &[]);
}

#[test]
fn a_creds_file_of_an_account() {
    let mut operator = Operator::new();
    let (first, second) = (operator.account("first"), operator.account("second"));
    let server = Server::with(&operator.server_lines());
    let one = first.user("one", json!({}), None);
    let client = Client::connect(config(&server, creds(&one)));
    assert_works(&client);
    let subscription = client.subscribe("a").expect("it subscribes");
    client.flush().expect("it is connected");

    // In two pieces it is the same; and what another account says stays there.
    let two = first.user("two", json!({}), None);
    let (jwt, seed) = (two.jwt.clone().into(), two.seed.clone().into());
    let mate = Client::connect(config(&server, Auth::Jwt { jwt, seed }));
    let stranger = Client::connect(config(&server, creds(&second.user("s", json!({}), None))));
    stranger.publish("a", b"from elsewhere").expect("it publishes");
    stranger.flush().expect("it is connected");
    mate.publish("a", b"from here").expect("it publishes");
    assert_eq!(subscription.expect().payload(), b"from here");
    client.flush().expect("it is connected");
    assert_eq!(subscription.take_all().len(), 0);

    // Whose key it is not, who does not sign, and whom nobody knows.
    let (jwt, seed) = (one.jwt.clone().into(), two.seed.clone().into());
    refused(&server, Auth::Jwt { jwt, seed }, &[&one.jwt, &two.seed]);
    refused(&server, Auth::None, &[]);
    let unknown = Operator::new().account("unknown").user("u", json!({}), None);
    refused(&server, creds(&unknown), &[&unknown.jwt, &unknown.seed]);
}

#[test]
fn the_permissions_of_a_jwt() {
    let mut operator = Operator::new();
    let account = operator.account("a");
    let server = Server::with(&operator.server_lines());
    let permissions = json!({ "pub": { "allow": ["open.>"] }, "sub": { "deny": ["closed.>"] } });
    let user = account.user("some", permissions, None);
    let client = Client::connect(config(&server, creds(&user)));
    let open = client.subscribe("open.a").expect("it subscribes");
    let closed = client.subscribe("closed.a").expect("the server's word comes later");
    assert!(closed.until_over().is_empty());
    client.publish("closed.b", b"").expect("the server's word comes later");
    client.publish("open.a", b"yes").expect("it publishes");
    assert_eq!(open.expect().payload(), b"yes");
    client.flush().expect("the connection stays");
    let violations: Vec<_> = client
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::PermissionViolation { violation, .. } => {
                Some((violation.operation, violation.subject))
            }
            _ => None,
        })
        .collect();
    let expected = [(Operation::Subscribe, "closed.a"), (Operation::Publish, "closed.b")];
    assert_eq!(violations, expected.map(|(operation, subject)| (operation, subject.to_owned())));
}

/// They end while they are in use, and again at each attempt, until there are others.
#[test]
fn credentials_that_expire_are_replaced() {
    let mut operator = Operator::new();
    let account = operator.account("a");
    let server = Server::with(&operator.server_lines());
    let short = account.user("short", json!({}), Some(Duration::from_secs(2)));
    let client = Client::connect(config(&server, creds(&short)));
    let subscription = client.subscribe("a").expect("it subscribes");
    let lost = client.wait_for("disconnected", |e| matches!(e, Event::Disconnected { .. }));
    let Event::Disconnected { reason: DisconnectReason::Authorization(said), .. } = lost else {
        panic!("{lost:?}");
    };
    assert!(said.to_lowercase().contains("expired"), "{said}");
    until("it is refused more than twice", || {
        let refused = |event: &Event| match event {
            Event::AttemptFailed { reason, .. } => {
                matches!(reason, DisconnectReason::Authorization(_))
            }
            _ => false,
        };
        (client.events().iter().filter(|event| refused(event)).count() > 2).then_some(())
    });
    client.set_auth(creds(&account.user("long", json!({}), None)));
    client.wait_connected(2);
    client.publish("a", b"again").expect("it publishes");
    assert_eq!(subscription.expect().payload(), b"again");
}

/// Where a deployment wants it to end instead.
#[test]
fn it_gives_up_after_so_many_refusals_if_it_is_told_to() {
    let server = Server::with("authorization { token: right }");
    let mut config = config(&server, Auth::Token("wrong".into()));
    config.max_auth_failures = Some(2);
    let client = Client::start(config).expect("a valid config");
    let closed = client.wait_for("closed", |event| matches!(event, Event::Closed { .. }));
    let Event::Closed { reason, .. } = closed else { unreachable!() };
    let said = reason.to_string();
    assert!(said.contains("refused 2 times"), "{said}");
}
