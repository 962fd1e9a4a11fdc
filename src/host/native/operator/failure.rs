//! Why a command did not go well: what is said of it, and the program's exit status.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{json, Value};

use super::harmless::harmless;
use super::paint::{Paint, Tone};

/// The exit statuses.
///
/// | status | means |
/// | --- | --- |
/// | 0 | it went well |
/// | 1 | a node or an agent answered with an error, or with what is no answer |
/// | 2 | the command line makes no sense |
/// | 3 | there is no NATS server, or it does not let us in |
/// | 4 | no node answers, or none has the agent |
/// | 5 | who is there did not answer in time |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Refused = 1,
    Usage = 2,
    NoServer = 3,
    Nobody = 4,
    Timeout = 5,
}

/// Why a command did not go well.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is something to say.
    Told(Box<Told>),
    /// It stands in the document that was shown.
    Shown(Exit),
    /// Whoever read the output has gone (`| head`): there is nobody to say anything to, and nothing
    /// went wrong.
    Closed,
}

/// What is said of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The exit status.
    pub(super) exit: Exit,
    /// What kind of failure it is, for programs: a code of the wire contract, or one of ours.
    pub(super) code: String,
    /// What happened, for people.
    pub(super) message: String,
    /// What to do next, if that is known.
    pub(super) hint: Option<String>,
}

impl Failure {
    /// The longest message that is shown, in characters.
    const MAX_MESSAGE: usize = 1000;

    fn new(exit: Exit, code: &str, message: impl Into<String>, hint: Option<&str>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self::Told(Box::new(Told { exit, code, message, hint: hint.map(str::to_owned) }))
    }

    /// A node answered with an error.
    pub(super) fn refused(code: &str, message: &str) -> Self {
        let exit = match code {
            "unknown_agent" => Exit::Nobody,
            "timeout" => Exit::Timeout,
            _ => Exit::Refused,
        };
        let hint = match code {
            "unknown_agent" => Some("`agents` lists those that there are"),
            "unknown_type" => Some("the types are the node's own: echo, state, text, chaos, and what its program registers"),
            "exists" => Some("leave --id out to have one made up, or `stop` the one that is there"),
            "agent_restarting" => Some("try again in a moment"),
            _ => None,
        };
        Self::new(exit, code, message, hint)
    }

    /// What came is no answer.
    pub(super) fn not_understood(what: &str) -> Self {
        let hint = "is it a node of another version? `status` tells their versions";
        let text = format!("the answer does not fit the protocol: {what}");
        Self::new(Exit::Refused, "not_understood", text, Some(hint))
    }

    /// The command line makes no sense.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message, Some("--help tells more"))
    }

    /// Nobody answers at the server's address.
    pub(super) fn no_server(url: &str, reason: &str) -> Self {
        let hint =
            "start one (`scripts/run node` brings its own), or say where it is: --nats URL, \
                    or NATS_URL";
        Self::new(
            Exit::NoServer,
            "no_server",
            format!("no NATS server at {url}: {reason}"),
            Some(hint),
        )
    }

    /// There is a server, and it does not let us in.
    pub(super) fn not_let_in(url: &str, reason: &str) -> Self {
        let hint = "say who you are: NATS_CREDS, NATS_NKEY, NATS_TOKEN, or NATS_USER and \
                    NATS_PASSWORD; NATS_CA for a CA of your own";
        let text = format!("the NATS server at {url} does not let us in: {reason}");
        Self::new(Exit::NoServer, "not_let_in", text, Some(hint))
    }

    /// The connection broke and did not come back.
    pub(super) fn connection_lost(url: &str) -> Self {
        let text = format!("the connection to the NATS server at {url} is lost");
        Self::new(Exit::NoServer, "connection_lost", text, None)
    }

    /// No node is connected to the server.
    pub(super) fn no_node(url: &str) -> Self {
        let hint =
            "start one: `scripts/run node --node-id n1`; or is it at another server? --nats \
                    says which";
        let text = format!("the NATS server at {url} is there, and no node answers on it");
        Self::new(Exit::Nobody, "no_node", text, Some(hint))
    }

    /// The node that was asked for is not there.
    pub(super) fn no_such_node(node: &str) -> Self {
        let text = format!("there is no node {node}");
        Self::new(Exit::Nobody, "no_such_node", text, Some("`status` lists those that there are"))
    }

    /// No node has the agent.
    pub(super) fn no_such_agent(agent: &str) -> Self {
        let hint = "`agents` lists those that there are; one with nats_enabled false cannot be \
                    reached but by its node: --node";
        Self::new(
            Exit::Nobody,
            "unknown_agent",
            format!("no node has an agent {agent}"),
            Some(hint),
        )
    }

    /// Several nodes have an agent of this name.
    pub(super) fn ambiguous(agent: &str, nodes: &[&str]) -> Self {
        let text = format!("the nodes {} have an agent {agent} each", nodes.join(", "));
        Self::new(Exit::Refused, "ambiguous", text, Some("say which one: --node ID"))
    }

    /// The server does not permit it; in its words.
    pub(super) fn not_permitted(said: &str) -> Self {
        let hint = "what its user must be permitted is at the end of docs/OPERATOR.md";
        Self::new(Exit::NoServer, "not_permitted", said, Some(hint))
    }

    /// Who is there did not answer.
    pub(super) fn timeout(whom: &str, after: Duration) -> Self {
        let text = format!("{whom} did not answer within {} ms", after.as_millis());
        Self::new(Exit::Timeout, "timeout", text, Some("--timeout-ms gives it longer"))
    }

    /// Some answered and some did not; what there is has been shown.
    pub(super) fn silent(nodes: &[String], after: Duration) -> Self {
        Self::timeout(&format!("of the nodes, {}", nodes.join(", ")), after)
    }

    /// Something that none of the others is.
    pub(super) fn other(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, "failed", message, None)
    }

    /// The same, where it stands in the document that was shown if that was JSON.
    pub(super) fn shown_if(self, json: bool) -> Self {
        match self {
            Self::Told(told) if json => Self::Shown(told.exit),
            other => other,
        }
    }

    /// What went wrong, where there is something to say.
    pub(super) fn told(&self) -> Option<&Told> {
        match self {
            Self::Told(told) => Some(told),
            Self::Shown(_) | Self::Closed => None,
        }
    }

    /// What kind of failure it is, where there is something to say.
    pub(super) fn code(&self) -> Option<&str> {
        self.told().map(|told| told.code.as_str())
    }

    /// The exit status.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Told(told) => ExitCode::from(told.exit as u8),
            Self::Shown(exit) => ExitCode::from(*exit as u8),
            Self::Closed => ExitCode::SUCCESS,
        }
    }
}

impl Told {
    /// For people: what happened, and what to do next.
    pub(super) fn text(&self, paint: Paint) -> String {
        let shown = |text: &str| harmless(text, Failure::MAX_MESSAGE);
        let label = paint.text(Tone::Bad, "error:");
        let mut text = match self.exit {
            // The code says more than its message to who knows the protocol.
            Exit::Refused => format!("{label} {} ({})\n", shown(&self.message), shown(&self.code)),
            _ => format!("{label} {}\n", shown(&self.message)),
        };
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  {}\n", shown(hint)));
        }
        text
    }

    /// For programs: `{"error":{"code","message","hint","exit_status"}}`.
    pub(super) fn json(&self) -> Value {
        json!({"error": {"code": self.code, "message": self.message, "hint": self.hint,
            "exit_status": self.exit as u8}})
    }
}

impl From<io::Error> for Failure {
    /// Of writing what was to be shown.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::other(format!("the output cannot be written: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(failure: &Failure) -> &Told {
        failure.told().expect("it is told")
    }

    #[test]
    fn each_failure_says_what_to_do_next() {
        let second = Duration::from_secs(1);
        let cases = [
            (Failure::no_server("nats://h", "refused"), Exit::NoServer, "--nats URL"),
            (Failure::not_let_in("nats://h", "no"), Exit::NoServer, "NATS_CREDS"),
            (Failure::not_permitted("no"), Exit::NoServer, "docs/OPERATOR.md"),
            (Failure::no_node("nats://h"), Exit::Nobody, "scripts/run node"),
            (Failure::no_such_node("n"), Exit::Nobody, "`status`"),
            (Failure::no_such_agent("a"), Exit::Nobody, "`agents`"),
            (Failure::ambiguous("a", &["n", "m"]), Exit::Refused, "--node"),
            (Failure::timeout("node n", second), Exit::Timeout, "--timeout-ms"),
            (Failure::refused("unknown_agent", "x"), Exit::Nobody, "`agents`"),
            (Failure::not_understood("x"), Exit::Refused, "version"),
            (Failure::usage("x"), Exit::Usage, "--help"),
        ];
        for (failure, exit, hint) in cases {
            let told = told(&failure);
            assert_eq!(told.exit, exit, "{told:?}");
            let text = told.text(Paint::Off);
            assert!(text.starts_with("error: ") && text.contains(hint), "{text}");
            assert_eq!(told.json()["error"]["exit_status"], exit as u8);
        }
    }

    #[test]
    fn what_the_wire_says_is_made_harmless_and_the_code_is_shown() {
        let failure = Failure::refused("bad_id", "\u{1b}[2J");
        assert_eq!(told(&failure).text(Paint::Off), "error: \\u{1b}[2J (bad_id)\n");
        assert_eq!(told(&failure).json()["error"]["message"], "\u{1b}[2J", "json_line escapes it");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(closed, Failure::Closed));
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(told(&full).exit, Exit::Refused);
    }
}
