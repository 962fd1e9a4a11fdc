//! The connection to NATS: that of a node, with the same variables.

use crate::config::{NatsFlag, NatsUrls, NodeConfig, NodeFlags, Sources};
use crate::host::native::nats::{self, NatsConfig, NatsConnection, NatsError};
use crate::host::random;

use super::args::Common;
use super::failure::Failure;
use super::harmless::harmless;

/// A connection, and where it goes.
pub(super) struct Connection {
    pub(super) nats: NatsConnection,
    /// Without what is secret in it.
    pub(super) url: String,
}

/// Connects, within the time that an answer may take.
pub(super) async fn connect(
    common: &Common,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Connection, Failure> {
    let (config, url) = settings(common, env)?;
    match NatsConnection::new(config).await {
        Ok(nats) => Ok(Connection { nats, url }),
        Err(error) => Err(refused(&url, &error)),
    }
}

/// Where NATS is and what is shown to it, as a node reads it; and where, as it can be shown.
fn settings(
    common: &Common,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(NatsConfig, String), Failure> {
    let given = match common.nats.as_deref().map(NatsUrls::new) {
        None => None,
        Some(Some(urls)) => Some(urls),
        Some(None) => return Err(Failure::usage("--nats is empty, and must be a URL, or several")),
    };
    let flags = NodeFlags { nats: given.map(NatsFlag::At), ..NodeFlags::default() };
    // What else a node is told is none of ours; and there is no operator without NATS.
    let env = |name: &str| match name.starts_with("NATS_") {
        true => env(name).filter(|value| !value.is_empty()),
        false => None,
    };
    let sources = Sources { file: None, env: &env, flags: &flags, nats: nats::CLIENT };
    let loaded = NodeConfig::load(sources, random());
    let node = loaded.map_err(|error| Failure::usage(error.to_string()))?.config;
    let url = node.nats.as_ref().map_or_else(String::new, ToString::to_string);
    let config = NatsConfig::of_node(&node).map_err(|error| Failure::usage(error.to_string()))?;
    let config = config.ok_or_else(|| Failure::usage("there is no NATS in --nats or NATS_URL"))?;
    let config = NatsConfig {
        name: Some(concat!(env!("CARGO_PKG_NAME"), " operator").to_owned()),
        timeout: common.timeout(),
        retry_on_failed_connect: false,
        ..config
    };
    Ok((config, url))
}

/// Why there is no connection.
fn refused(url: &str, error: &NatsError) -> Failure {
    match error {
        NatsError::Connect(reason) => {
            // Each server was tried once; how often is no news.
            let reason = reason.split_once("at last since: ").map_or(&**reason, |(_, last)| last);
            let reason = harmless(reason, 300);
            // The server's own words, by way of async-nats: "authorization violation".
            let words = reason.to_lowercase();
            let refuses = ["authorization", "authentication", "certificate", "tls"];
            match refuses.iter().any(|word| words.contains(word)) {
                true => Failure::not_let_in(url, &reason),
                false => Failure::no_server(url, &reason),
            }
        }
        other => Failure::usage(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::super::args::Operator;
    use super::super::failure::Exit;
    use super::*;
    use crate::nats::Auth;

    fn read(line: &str, variables: &[(&str, &str)]) -> Result<(NatsConfig, String), Failure> {
        let words = format!("program {line} status");
        let operator = Operator::try_parse_from(words.split_whitespace()).expect("fine");
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        settings(&operator.common, &variable)
    }

    #[test]
    fn flags_stand_over_variables_and_these_over_the_default() {
        let url = |line, env: &[(&str, &str)]| read(line, env).expect("fine").1;
        let variable = [("NATS_URL", "nats://v")];
        assert_eq!(url("", &[]), "nats://localhost:4222");
        assert_eq!(url("", &[("NATS_URL", "")]), "nats://localhost:4222");
        assert_eq!(url("", &variable), "nats://v");
        assert_eq!(url("--nats nats://f,nats://g", &variable), "nats://f,nats://g");
        assert_eq!(url("--nats nats://me:geheim@h", &[]), "nats://***@h");
    }

    #[test]
    fn credentials_are_those_of_a_node_and_the_rest_of_a_node_s_variables_is_ignored() {
        let env = [
            ("NATS_USER", "me"),
            ("NATS_PASSWORD", "geheim"),
            ("NODE_ID", "not a name"),
            ("RUST_LOG", "loud"),
        ];
        let config = read("--timeout-ms 7", &env).expect("fine").0;
        assert_eq!(config.timeout, Duration::from_millis(7));
        assert!(!config.retry_on_failed_connect);
        assert!(matches!(config.auth, Auth::UserPassword { user, .. } if user == "me"));
        let both = [("NATS_TOKEN", "geheim"), ("NATS_USER", "me"), ("NATS_PASSWORD", "geheim")];
        for (line, env) in [
            ("--nats http://h", &env[..0]),
            ("--nats=", &env[..0]),
            ("", &both[..]),
            ("", &[("NATS_URL", "nonsense")][..]),
        ] {
            let failure = read(line, env).expect_err(line);
            let told = failure.told().expect("told");
            assert_eq!(told.exit, Exit::Usage, "{told:?}");
            assert!(!told.message.contains("geheim"), "{told:?}");
        }
    }

    #[test]
    fn a_server_that_refuses_is_no_missing_one() {
        let exit = |reason: &str| {
            let failure = refused("nats://h", &NatsError::Connect(reason.to_owned()));
            failure.told().expect("told").code.clone()
        };
        assert_eq!(exit("IO error: Connection refused (os error 111)"), "no_server");
        assert_eq!(exit("timed out"), "no_server");
        let last = NatsError::Connect("gave up after 1 attempts, at last since: x".to_owned());
        let told = refused("u", &last).told().expect("told").message.clone();
        assert_eq!(told, "no NATS server at u: x");
        assert_eq!(exit("authorization violation: nats: …"), "not_let_in");
        assert_eq!(exit("invalid peer certificate: UnknownIssuer"), "not_let_in");
    }
}
