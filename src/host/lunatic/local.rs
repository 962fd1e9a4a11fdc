//! Messages between the processes of one node: agent to agent, and from outside the tree.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::clock;
use super::mail::{self, LocalMessage, NoAnswer, Waiter};
use super::names::{self, Lookup};
use super::sys::{self, Pid};
use crate::agent::{AgentId, Context};
use crate::error::{RequestError, SendError};
use crate::message::{decode_payload, MessageIds};
use crate::time::Seconds;

/// Sends to agents of this node, under one sender's name.
pub(crate) struct LocalSender {
    from: AgentId,
    /// Where agents were found last. Cleared when it is full, so at most [`Self::MAX_KNOWN`]
    /// entries of about 100 bytes.
    known: HashMap<AgentId, Pid>,
    /// Whom the last message went to: many go to the same one, and to compare a name is quicker
    /// than to look it up.
    last: Option<(AgentId, Pid)>,
    clock: Seconds,
}

impl LocalSender {
    const MAX_KNOWN: usize = 1024;

    pub(crate) fn new(from: AgentId) -> Self {
        let (known, last) = (HashMap::new(), None);
        Self { from, known, last, clock: Seconds::default() }
    }

    /// The process of an agent that runs on this node.
    pub(crate) fn find(&mut self, to: &AgentId) -> Result<Pid, SendError> {
        match &self.last {
            Some((known, pid)) if known == to && sys::exists(*pid) => return Ok(*pid),
            _ => {}
        }
        let pid = self.find_known(to)?;
        self.last = Some((to.clone(), pid));
        Ok(pid)
    }

    fn find_known(&mut self, to: &AgentId) -> Result<Pid, SendError> {
        if let Some(&pid) = self.known.get(to) {
            if sys::exists(pid) {
                return Ok(pid);
            }
        }
        match names::look_up(&names::agent(to.as_str())) {
            Lookup::Runs(pid) => {
                if self.known.len() >= Self::MAX_KNOWN {
                    self.known.clear();
                }
                self.known.insert(to.clone(), pid);
                Ok(pid)
            }
            Lookup::Dead => Err(SendError::AgentRestarting(to.clone())),
            Lookup::Unknown => {
                self.known.remove(to);
                Err(SendError::UnknownAgent(to.clone()))
            }
        }
    }

    /// Sends a payload one way: together with what else goes there before this process waits.
    pub(crate) fn send(&mut self, to: &AgentId, payload: &Value) -> Result<(), SendError> {
        let pid = self.find(to)?;
        let (from, timestamp) = (self.from.as_str(), self.clock.get(clock::unix_seconds));
        sys::post(pid, |buffer| write(from, timestamp, None, payload, buffer))
    }

    /// Sends a payload and has the answer go to this process under a tag.
    pub(crate) fn start_request(
        &mut self,
        to: &AgentId,
        payload: &Value,
        tag: i64,
    ) -> Result<(), SendError> {
        let pid = self.find(to)?;
        let waiter = Some(Waiter { pid: sys::this().0, tag });
        let (from, timestamp) = (self.from.as_str(), self.clock.get(clock::unix_seconds));
        sys::try_send_with(pid, 0, |buffer| write(from, timestamp, waiter, payload, buffer))
    }

    /// Sends a payload and waits for the answer.
    pub(crate) fn request(
        &mut self,
        to: &AgentId,
        payload: &Value,
        timeout: Duration,
    ) -> Result<Value, RequestError> {
        let pid = self.find(to)?;
        let timestamp = self.clock.get(clock::unix_seconds);
        let from = self.from.as_str();
        let answered = mail::exchange(
            pid,
            Some(timeout),
            |waiter, buffer| write(from, timestamp, Some(waiter), payload, buffer),
            |answer| read_answer(to, timeout, answer),
        );
        answered?
    }

    /// Called once per handled message: the clock is read again at the next use.
    pub(crate) fn turn(&mut self) {
        self.clock.forget();
    }
}

/// Writes a message as a [`LocalMessage`] is read.
fn write(
    from: &str,
    timestamp: u64,
    waiter: Option<Waiter>,
    payload: &Value,
    buffer: &mut Vec<u8>,
) -> Result<(), SendError> {
    LocalMessage::encode_head(from, timestamp, waiter, buffer);
    Context::encode_payload(payload, buffer)
}

/// Reads what a request was answered with.
fn read_answer(
    agent: &AgentId,
    timeout: Duration,
    answer: Result<&[u8], NoAnswer>,
) -> Result<Value, RequestError> {
    let failed = |message: String| RequestError::Failed { agent: agent.clone(), message };
    match answer {
        Ok(bytes) => decode_payload(bytes).map_err(|error| failed(error.to_string())),
        Err(NoAnswer::TimedOut) => Err(RequestError::Timeout { agent: agent.clone(), timeout }),
        Err(NoAnswer::Died) => Err(SendError::AgentRestarting(agent.clone()).into()),
        Err(NoAnswer::Refused { message, .. }) => Err(failed(message)),
        Err(NoAnswer::Garbled) => Err(failed("its answer cannot be read".to_owned())),
    }
}

/// Answers a process that waits.
pub(crate) fn reply(waiter: Waiter, payload: &Value) -> Result<(), SendError> {
    mail::answer_with(waiter, |buffer| Context::encode_payload(payload, buffer))
}

/// A fresh id for a message.
pub(crate) fn fresh_id() -> String {
    thread_local! {
        // Memory is per process; what makes no message draws no random bytes.
        static IDS: RefCell<MessageIds> = RefCell::new(MessageIds::new(clock::random()));
    }
    IDS.with_borrow_mut(MessageIds::next_id)
}
