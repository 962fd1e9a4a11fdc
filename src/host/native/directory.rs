//! Where the agents of this node are, and how one sends to them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use super::clock;
use super::mailbox::{Letter, Mail, Mailbox, NotTaken, Responder};
use crate::agent::{AgentId, Context};
use crate::error::SendError;
use crate::time::Seconds;

/// The agents that can be sent to, each with the mailbox of its present life. One whose mailbox is
/// closed has died, and is being started again; one that is not in here is unknown.
#[derive(Debug, Default)]
pub(super) struct Directory {
    agents: RwLock<HashMap<AgentId, Arc<Mailbox>>>,
}

impl Directory {
    pub(super) fn insert(&self, id: &AgentId, mailbox: Arc<Mailbox>) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        agents.insert(id.clone(), mailbox);
    }

    pub(super) fn remove(&self, id: &AgentId) {
        self.agents.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    pub(super) fn clear(&self) {
        self.agents.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The mailbox of an agent that lives.
    pub(super) fn find(&self, id: &AgentId) -> Result<Arc<Mailbox>, SendError> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        match agents.get(id) {
            Some(mailbox) if !mailbox.is_over() => Ok(Arc::clone(mailbox)),
            Some(_) => Err(SendError::AgentRestarting(id.clone())),
            None => Err(SendError::UnknownAgent(id.clone())),
        }
    }

    /// Sends from outside of the tree.
    pub(super) fn send(
        &self,
        to: &AgentId,
        payload: Value,
        reply: Option<Responder>,
    ) -> Result<(), SendError> {
        let size = Context::check_payload(&payload)?;
        let mailbox = self.find(to)?;
        let (from, timestamp) = (AgentId::external(), clock::unix_seconds());
        let letter = Letter { from, payload, timestamp, reply, size };
        mailbox.push(Mail::Letter(letter)).map_err(|error| not_taken(&mailbox, to, &error))
    }
}

/// What a sender is told.
pub(super) fn not_taken(mailbox: &Mailbox, to: &AgentId, error: &NotTaken) -> SendError {
    match error {
        NotTaken::Closed => SendError::AgentRestarting(to.clone()),
        NotTaken::Full(_) => mailbox.full(to),
    }
}

/// Sends to agents of this node in the name of one of them.
#[derive(Debug)]
pub(super) struct LocalSender {
    from: AgentId,
    directory: Arc<Directory>,
    /// Where agents were found last. Cleared when it is full, so at most [`Self::MAX_KNOWN`]
    /// entries of about 100 bytes, and the empty mailboxes of those that have died since.
    known: HashMap<AgentId, Arc<Mailbox>>,
    /// Whom the last message went to: many go to the same one, and to compare a name is quicker than
    /// to look it up.
    last: Option<(AgentId, Arc<Mailbox>)>,
    clock: Seconds,
}

impl LocalSender {
    const MAX_KNOWN: usize = 1024;

    pub(super) fn new(from: AgentId, directory: Arc<Directory>) -> Self {
        Self { from, directory, known: HashMap::new(), last: None, clock: Seconds::default() }
    }

    /// The mailbox of an agent that lives.
    pub(super) fn find(&mut self, to: &AgentId) -> Result<&Arc<Mailbox>, SendError> {
        let is_last = matches!(&self.last, Some((known, at)) if known == to && !at.is_over());
        if !is_last {
            let mailbox = self.find_known(to)?;
            self.last = Some((to.clone(), mailbox));
        }
        match &self.last {
            Some((_, mailbox)) => Ok(mailbox),
            // It was put there.
            None => Err(SendError::UnknownAgent(to.clone())),
        }
    }

    fn find_known(&mut self, to: &AgentId) -> Result<Arc<Mailbox>, SendError> {
        if let Some(mailbox) = self.known.get(to).filter(|mailbox| !mailbox.is_over()) {
            return Ok(Arc::clone(mailbox));
        }
        self.known.remove(to);
        let mailbox = self.directory.find(to)?;
        if self.known.len() >= Self::MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(to.clone(), Arc::clone(&mailbox));
        Ok(mailbox)
    }

    /// A message that is ready to be put into a mailbox.
    pub(super) fn letter(
        &mut self,
        payload: Value,
        reply: Option<Responder>,
    ) -> Result<Mail, SendError> {
        let size = Context::check_payload(&payload)?;
        let (from, timestamp) = (self.from.clone(), self.clock.get(clock::unix_seconds));
        Ok(Mail::Letter(Letter { from, payload, timestamp, reply, size }))
    }

    /// Called once per handled message: the clock is read again at the next use.
    pub(super) fn turn(&mut self) {
        self.clock.forget();
    }
}
