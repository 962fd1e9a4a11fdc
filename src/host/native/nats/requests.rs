//! Requests: one subscription for all answers, and who waits for which.
//!
//! async-nats has requests of its own, which keep something for ever of each that gets no answer, know
//! no bound, and learn of a connection that broke by their timeout.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, error::TrySendError};

use super::error::NatsError;
use crate::message::NatsMessage;
use crate::nats::Inbox;

/// How many answers wait for one who asked for many; more are dropped and counted.
const MAX_WAITING: usize = 1024;

/// An answer, or why there will be none.
pub(super) type Answer = Result<NatsMessage, NatsError>;

/// Those who wait for answers.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) inbox: Inbox,
    max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: i64,
    by_number: HashMap<i64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    subject: String,
    /// Whether there was a connection when it was sent, so that it is lost with that one.
    is_sent: bool,
    answers: mpsc::Sender<Answer>,
}

/// Waits for the answers to one request. Dropped, nobody does any more.
#[derive(Debug)]
pub(super) struct Answers<'a> {
    requests: &'a Requests,
    number: i64,
    pub(super) reply: String,
    answers: mpsc::Receiver<Answer>,
}

/// What became of a message on the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matched {
    /// It was handed on.
    Yes,
    /// Nobody waits for it.
    No,
    /// Who waits has not taken so many others yet.
    Dropped,
}

impl Requests {
    pub(super) fn new(inbox: Inbox, max: usize) -> Self {
        Self { inbox, max, waiting: Mutex::default() }
    }

    /// One more request.
    pub(super) fn begin(
        &self,
        subject: &str,
        is_sent: bool,
        many: bool,
    ) -> Result<Answers<'_>, NatsError> {
        let mut waiting = self.lock();
        if waiting.by_number.len() >= self.max {
            return Err(NatsError::TooManyRequests { max: self.max });
        }
        waiting.last += 1;
        let number = waiting.last;
        // One for the answer and one for a word about the connection.
        let (sender, answers) = mpsc::channel(if many { MAX_WAITING } else { 2 });
        let waiter = Waiter { subject: subject.to_owned(), is_sent, answers: sender };
        waiting.by_number.insert(number, waiter);
        let reply = self.inbox.reply_subject(0, number);
        Ok(Answers { requests: self, number, reply, answers })
    }

    /// A message came on the inbox.
    pub(super) fn take(&self, message: NatsMessage) -> Matched {
        let number = self.inbox.parse(message.subject()).map(|(_, number)| number);
        let waiting = self.lock();
        let Some(waiter) = number.and_then(|number| waiting.by_number.get(&number)) else {
            return Matched::No;
        };
        match waiter.answers.try_send(Ok(message)) {
            Ok(()) => Matched::Yes,
            Err(TrySendError::Full(_)) => Matched::Dropped,
            Err(TrySendError::Closed(_)) => Matched::No,
        }
    }

    /// The connection broke on which they were sent.
    pub(super) fn disconnected(&self) {
        self.fail(|waiter| {
            let subject = waiter.subject.clone();
            waiter.is_sent.then_some(NatsError::Disconnected { subject })
        });
    }

    /// The server does not let us publish there.
    pub(super) fn denied(&self, subject: &str, words: &str) {
        self.fail(|waiter| {
            (waiter.subject == subject).then(|| NatsError::PermissionDenied(words.to_owned()))
        });
    }

    /// The server does not let us have an inbox.
    pub(super) fn denied_all(&self, words: &str) {
        self.fail(|_| Some(NatsError::PermissionDenied(words.to_owned())));
    }

    /// There will be no more connection.
    pub(super) fn closed(&self, reason: &str) {
        self.fail(|_| Some(NatsError::Closed(reason.to_owned())));
    }

    fn fail(&self, why: impl Fn(&Waiter) -> Option<NatsError>) {
        self.lock().by_number.retain(|_, waiter| match why(waiter) {
            Some(error) => {
                // One with so many answers hears of it by the end of its channel.
                let _ = waiter.answers.try_send(Err(error));
                false
            }
            None => true,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers<'_> {
    /// The next answer; waits for it.
    pub(super) async fn next(&mut self) -> Answer {
        let ended = || NatsError::Closed("nobody reads answers any more".to_owned());
        self.answers.recv().await.ok_or_else(ended)?
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        self.requests.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    fn requests(max: usize) -> Requests {
        Requests::new(Inbox::from_random([7; 16]), max)
    }

    fn answer(to: &str) -> NatsMessage {
        NatsMessage::new(to, None, &Headers::new(), b"yes")
    }

    #[tokio::test]
    async fn an_answer_finds_who_asked_and_nobody_else() {
        let requests = requests(10);
        let mut first = requests.begin("a", true, false).expect("there is room");
        let mut second = requests.begin("b", true, false).expect("there is room");
        assert_eq!(requests.take(answer(&second.reply)), Matched::Yes);
        assert_eq!(requests.take(answer("elsewhere")), Matched::No);
        assert_eq!(second.next().await.expect("an answer").payload(), b"yes");
        assert!(first.answers.try_recv().is_err());
        let late = first.reply.clone();
        drop(first);
        assert_eq!(requests.take(answer(&late)), Matched::No, "it leaves nothing behind");
        drop(second);
        assert!(requests.lock().by_number.is_empty());
    }

    #[tokio::test]
    async fn what_was_sent_is_lost_with_its_connection_and_what_waits_is_not() {
        let requests = requests(10);
        let mut sent = requests.begin("a", true, false).expect("there is room");
        let mut waits = requests.begin("b", false, false).expect("there is room");
        let mut denied = requests.begin("c", false, false).expect("there is room");
        requests.disconnected();
        requests.denied("c", "no");
        let error = NatsError::Disconnected { subject: "a".to_owned() };
        assert_eq!(sent.next().await, Err(error));
        assert_eq!(denied.next().await, Err(NatsError::PermissionDenied("no".to_owned())));
        assert!(waits.answers.try_recv().is_err());
        requests.closed("over");
        assert_eq!(waits.next().await, Err(NatsError::Closed("over".to_owned())));
    }

    #[test]
    fn both_bounds_hold() {
        let requests = requests(1);
        let one = requests.begin("a", true, true).expect("there is room");
        let error = requests.begin("a", true, true).expect_err("there is none");
        assert_eq!(error, NatsError::TooManyRequests { max: 1 });
        for _ in 0..MAX_WAITING {
            assert_eq!(requests.take(answer(&one.reply)), Matched::Yes);
        }
        assert_eq!(requests.take(answer(&one.reply)), Matched::Dropped);
    }
}
