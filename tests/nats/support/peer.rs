//! The other client library: async-nats over TCP, for a thread that waits for it.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{ConnectOptions, HeaderMap, Message, Subscriber};
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};

use crate::SOON;

/// A client of the other library.
#[derive(Debug)]
pub struct Peer {
    runtime: Runtime,
    nats: async_nats::Client,
}

impl Peer {
    /// One that is connected.
    #[track_caller]
    pub fn connect(url: &str, options: ConnectOptions) -> Self {
        // One that works while nobody waits for it.
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let nats = runtime.block_on(options.connect(url)).expect("it connects");
        Self { runtime, nats }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(SOON, future).await }).expect("in time")
    }

    /// Publishes; goes out with the next [`Peer::flush`] at the latest.
    pub fn publish(&self, subject: &str, payload: impl Into<Vec<u8>>) {
        let payload = payload.into().into();
        self.wait(self.nats.publish(subject.to_owned(), payload)).expect("it publishes");
    }

    /// Publishes with a reply subject and headers.
    pub fn publish_with(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: HeaderMap,
        payload: impl Into<Vec<u8>>,
    ) {
        let (subject, payload) = (subject.to_owned(), payload.into().into());
        let sent = match reply {
            Some(reply) => self.wait(self.nats.publish_with_reply_and_headers(
                subject,
                reply.to_owned(),
                headers,
                payload,
            )),
            None => self.wait(self.nats.publish_with_headers(subject, headers, payload)),
        };
        sent.expect("it publishes");
    }

    /// Waits until the server has everything.
    pub fn flush(&self) {
        self.wait(self.nats.flush()).expect("it flushes");
        // That was to the socket; this is to the server.
        let probe = self.nats.new_inbox();
        let answer = self.request(&probe, HeaderMap::new(), "");
        assert_eq!(answer.map(drop), Err(RequestErrorKind::NoResponders), "a probe");
    }

    /// Subscribes; the server knows of it on return.
    pub fn subscribe(&self, subject: &str) -> Inbox<'_> {
        let subscriber = self.wait(self.nats.subscribe(subject.to_owned())).expect("it subscribes");
        self.flush();
        Inbox { peer: self, subscriber }
    }

    /// Subscribes in a queue group; the server knows of it on return.
    pub fn queue_subscribe(&self, subject: &str, queue: &str) -> Inbox<'_> {
        let subscribe = self.nats.queue_subscribe(subject.to_owned(), queue.to_owned());
        let subscriber = self.wait(subscribe).expect("it subscribes");
        self.flush();
        Inbox { peer: self, subscriber }
    }

    /// Asks.
    pub fn request(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: impl Into<Vec<u8>>,
    ) -> Result<Message, RequestErrorKind> {
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(payload.into().into())
            .timeout(Some(SOON));
        self.wait(self.nats.send_request(subject.to_owned(), request)).map_err(|e| e.kind())
    }

    /// Answers what comes on a subject as [`Peer::echo`] does while `then` runs; it takes a peer that
    /// is used for nothing else.
    pub fn echo_while(self, subject: &str, then: impl FnOnce()) {
        self.echo(subject);
        then();
    }

    /// Answers what comes on a subject with what it says, headers included, from now on.
    pub fn echo(&self, subject: &str) {
        let subscribe = self.nats.subscribe(subject.to_owned());
        let mut subscriber = self.wait(subscribe).expect("it subscribes");
        let nats = self.nats.clone();
        self.runtime.spawn(async move {
            while let Some(message) = subscriber.next().await {
                let Some(reply) = message.reply else { continue };
                let headers = message.headers.unwrap_or_default();
                let answered = match headers.is_empty() {
                    true => nats.publish(reply, message.payload).await,
                    false => nats.publish_with_headers(reply, headers, message.payload).await,
                };
                answered.expect("it publishes");
            }
        });
        self.flush();
    }
}

/// What comes on a subscription.
#[derive(Debug)]
pub struct Inbox<'a> {
    peer: &'a Peer,
    subscriber: Subscriber,
}

impl Inbox<'_> {
    /// The next message, if there is one by then.
    pub fn next(&mut self, within: Duration) -> Option<Message> {
        let next = self.subscriber.next();
        let next = self.peer.runtime.block_on(async { tokio::time::timeout(within, next).await });
        next.ok().flatten()
    }

    /// The next message, which has to come.
    #[track_caller]
    pub fn expect(&mut self) -> Message {
        self.next(SOON).expect("a message")
    }

    /// What has come by now: all that the server had before this call.
    pub fn take_all(&mut self) -> Vec<Message> {
        self.peer.flush();
        std::iter::from_fn(|| self.next(Duration::from_millis(20))).collect()
    }
}
