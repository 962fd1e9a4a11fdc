//! The gateway's process: drives the machine of [`crate::gateway`] with what the mailbox brings, and
//! does what it says. It decides nothing itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Client;
use super::clock;
use super::delivery::{Deliveries, Ended, ANSWERS, DELIVERIES};
use super::local::LocalSender;
use super::logger;
use super::mail::{self, Answer, MainMail, SupervisorMail, Waiter};
use super::names::{self, Lookup, Part};
use super::sys::{self, Pid, Received};
use super::timer::Timer;
use crate::agent::AgentId;
use crate::error::SendError;
use crate::gateway::{Ask, Gateway, Input, Output};
use crate::message::{decode_payload, ErrorCode, Headers, NatsMessage, WireError};
use crate::time::Instant;

/// What the gateway is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GatewayStart {
    pub(super) node_id: String,
    /// The process that started the node.
    pub(super) main: u64,
    pub(super) log_level: u8,
}

/// The process's entry.
pub(super) fn process() {
    let start: GatewayStart = mail::first();
    logger::install_part(start.log_level, "gateway");
    let mut host = GatewayHost::new(start);
    let mut buffer = Vec::new();
    loop {
        host.rest();
        if sys::receive(&[], None) != Received::Message {
            continue;
        }
        sys::read_message(&mut buffer);
        let tag = sys::message_tag();
        if let Some(answer) = mail::decode_answer(&buffer) {
            host.answered(tag, answer);
        } else if buffer.first() == Some(&DELIVERIES) {
            for message in Deliveries::read(std::mem::take(&mut buffer)).into_iter().flatten() {
                host.deliver(tag, &message);
            }
        } else if let Some(Ended { number, .. }) = Ended::read(&buffer) {
            host.tell(Input::NoReply { tag: number });
        } else {
            host.mail(&buffer);
        }
    }
}

/// What the gateway is told by others than NATS.
#[derive(Debug, Serialize, Deserialize)]
enum GatewayMail<'a> {
    /// Never sent: see [`mail::REPLY`].
    Reply,
    /// It is time to look at the clock.
    Tick,
    /// A body was refused elsewhere, and counts here.
    BadInput { subject: &'a str, error: WireError },
    /// The node ends: answer what is open, and then the waiter.
    Finish { waiter: Waiter },
}

/// Has the gateway answer what is open, at the end of the node; false if it has not in time.
pub(super) fn finish(timeout: Duration) -> bool {
    match names::look_up(names::GATEWAY) {
        Lookup::Runs(gateway) => {
            mail::request(gateway, Some(timeout), |waiter| GatewayMail::Finish { waiter }).is_ok()
        }
        _ => false,
    }
}

/// Tells the gateway of a body that was refused: it counts those of the whole node, and logs them.
pub(super) fn count_bad_input(subject: &str, error: &WireError) {
    if let Lookup::Runs(gateway) = names::look_up(names::GATEWAY) {
        mail::send(gateway, &GatewayMail::BadInput { subject, error: error.clone() });
    }
}

struct GatewayHost {
    gateway: Gateway,
    /// The process that started the node.
    main: Pid,
    client: Client,
    local: LocalSender,
    supervisor: Part,
    /// Agents that have not answered, or had not at the last look: at most twice
    /// [`Gateway::MAX_PENDING`].
    asked: Vec<Asked>,
    /// When to look next whether they still live; none if none was asked.
    look_at: Option<Instant>,
    /// Who waits until nothing is open.
    finishing: Option<Waiter>,
    timer: Timer,
}

/// An agent that was asked.
struct Asked {
    tag: u64,
    agent_id: AgentId,
    pid: Pid,
    /// Whether its process was found dead.
    gone: bool,
}

/// The machine's tags come behind this in those of mails, which [`mail::new_tag`] gives none of.
const TAGS: i64 = 1 << 40;

impl GatewayHost {
    /// How often it looks whether the agents that were asked still live. An agent that died is
    /// told at the second look, so that an answer it gave just before is not overtaken.
    const LOOK: Duration = Duration::from_millis(150);

    fn new(start: GatewayStart) -> Self {
        Self {
            gateway: Gateway::new(start.node_id, "lunatic"),
            main: Pid(start.main),
            client: Client::new(),
            local: LocalSender::new(AgentId::external()),
            supervisor: Part::new(names::SUPERVISOR),
            asked: Vec::new(),
            look_at: None,
            finishing: None,
            timer: Timer::default(),
        }
    }

    /// Before the next mail: what is to go out goes out, and the nearest deadline is armed.
    fn rest(&mut self) {
        let deadline = self.work();
        self.local.turn();
        let finished = self.finishing.take_if(|_| self.gateway.is_idle());
        if let Err(error) = self.client.flush() {
            log::warn!("answers are lost: {error}");
        }
        if let Some(waiter) = finished {
            mail::answer(waiter, &Answer::Ok(&[]));
        }
        let next = [deadline, self.look_at].into_iter().flatten().min();
        self.timer.arm(next, || GatewayMail::Tick);
    }

    /// Does what the machine says, until it wants to wait.
    fn work(&mut self) -> Option<Instant> {
        loop {
            match self.gateway.poll_output() {
                Output::Supervisor { tag, ask } => self.ask_supervisor(tag, ask),
                Output::Agent { tag, agent_id, payload, command } => {
                    if let Err(error) = self.ask_agent(tag, &agent_id, &payload) {
                        let error = &send_error(&agent_id, &error);
                        self.tell(Input::NotAsked { tag, error, command });
                    }
                }
                Output::Publish { subject, reply, body } => {
                    if let Err(error) = self.client.publish(&subject, reply.as_deref(), &body) {
                        log::warn!("an answer is lost: {error}");
                    }
                }
                Output::Request { tag, subject, body } => {
                    let headers = Headers::none();
                    if self.client.start_request(tag, &subject, headers, &body).is_err() {
                        self.tell(Input::NoReply { tag });
                    }
                }
                Output::Shutdown { grace_ms } => {
                    mail::send(self.main, &MainMail::Shutdown { grace_ms });
                }
                Output::Drain => mail::send(self.main, &MainMail::Drain),
                Output::Wait(deadline) => return deadline,
            }
        }
    }

    fn tell(&mut self, input: Input<'_>) {
        self.gateway.handle_input(clock::now(), input);
    }

    fn ask_supervisor(&mut self, tag: u64, ask: Ask) {
        let Some(supervisor) = self.supervisor.pid() else {
            let text = "the agent supervisor is being restarted; try again";
            let error = &WireError::new(ErrorCode::AgentRestarting, text);
            return self.tell(Input::NotAsked { tag, error, command: Vec::new() });
        };
        let config;
        let ask = match &ask {
            Ask::Spawn { config: wanted } => {
                // It was read from JSON.
                config = serde_json::to_string(wanted).unwrap_or_default();
                mail::Ask::Spawn { config: &config, declared: false }
            }
            Ask::Stop { agent_id } => mail::Ask::Stop { id: agent_id.as_str() },
            Ask::Status { agent_id } => {
                mail::Ask::Status { id: agent_id.as_ref().map(AgentId::as_str) }
            }
            Ask::List { after, limit } => {
                mail::Ask::List { after: after.as_ref().map(AgentId::as_str), limit: *limit as u32 }
            }
            Ask::Drain => mail::Ask::Drain,
        };
        let waiter = Waiter { pid: sys::this().0, tag: TAGS + tag as i64 };
        mail::send(supervisor, &SupervisorMail::Ask { waiter, ask });
    }

    fn ask_agent(&mut self, tag: u64, id: &AgentId, payload: &Value) -> Result<(), SendError> {
        let pid = self.local.find(id)?;
        self.local.start_request(id, payload, TAGS + tag as i64)?;
        if self.asked.len() >= 2 * Gateway::MAX_PENDING {
            // Most of them have answered since the last look.
            self.asked.retain(|one| self.gateway.awaits_agent(one.tag));
        }
        self.asked.push(Asked { tag, agent_id: id.clone(), pid, gone: false });
        self.look_at.get_or_insert_with(|| clock::now() + Self::LOOK);
        Ok(())
    }

    fn answered(&mut self, tag: i64, answer: Answer<'_>) {
        let tag = tag.wrapping_sub(TAGS) as u64;
        match answer {
            Answer::Err { code, message } => self.tell(Input::Refused { tag, code, message }),
            Answer::Ok(bytes) if self.gateway.awaits_agent(tag) => match decode_payload(bytes) {
                Ok(payload) => self.tell(Input::Answered { tag, payload: &payload }),
                Err(error) => log::error!("an agent's answer cannot be read: {error}"),
            },
            Answer::Ok(json) => self.tell(Input::Done { tag, json }),
        }
    }

    fn deliver(&mut self, tag: i64, message: &NatsMessage) {
        let body = message.payload();
        if tag == ANSWERS {
            match self.client.answered_request(message) {
                Some((tag, true)) => self.tell(Input::Reply { tag, body }),
                Some((tag, false)) => self.tell(Input::NoResponders { tag }),
                // To a connection before this one.
                None => {}
            }
        } else {
            let (subject, reply) = (message.subject(), message.reply());
            self.tell(Input::Message { subject, reply, body });
        }
        // Not all of a frame at once: what each of them asks for would have to be kept.
        self.work();
    }

    fn mail(&mut self, bytes: &[u8]) {
        match postcard::from_bytes(bytes) {
            Ok(GatewayMail::Reply) => {}
            Ok(GatewayMail::Tick) => self.tick(clock::now()),
            Ok(GatewayMail::BadInput { subject, error }) => {
                self.tell(Input::BadInput { subject, error: &error });
            }
            Ok(GatewayMail::Finish { waiter }) => {
                // No agent is left: who asked one, and has no answer yet, gets none.
                std::mem::take(&mut self.asked).iter().for_each(|one| self.is_gone(one));
                self.tell(Input::Finish);
                self.finishing = Some(waiter);
            }
            Err(error) => log::error!("a mail cannot be read: {error}"),
        }
    }

    fn tick(&mut self, now: Instant) {
        self.timer.fired(now);
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_after_agents();
            self.look_at = (!self.asked.is_empty()).then_some(now + Self::LOOK);
        }
        self.tell(Input::Tick);
    }

    /// Tells of agents that died before they could answer.
    fn look_after_agents(&mut self) {
        for mut one in std::mem::take(&mut self.asked) {
            if one.gone {
                self.is_gone(&one);
            } else if self.gateway.awaits_agent(one.tag) {
                one.gone = !sys::exists(one.pid);
                self.asked.push(one);
            }
        }
    }

    fn is_gone(&mut self, asked: &Asked) {
        let found = names::look_up(&names::agent(asked.agent_id.as_str()));
        let (tag, comes_back) = (asked.tag, found != Lookup::Unknown);
        self.tell(Input::Gone { tag, comes_back });
    }
}

fn send_error(id: &AgentId, error: &SendError) -> WireError {
    match error {
        SendError::UnknownAgent(_) => WireError::unknown_agent(id),
        SendError::AgentRestarting(_) => {
            WireError::new(ErrorCode::AgentRestarting, error.to_string())
        }
        SendError::TooLarge { .. } => WireError::new(ErrorCode::TooLarge, error.to_string()),
        _ => WireError::new(ErrorCode::Unsupported, error.to_string()),
    }
}
