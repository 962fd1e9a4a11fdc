//! The servers, and whose turn it is.

use std::collections::VecDeque;

use crate::nats::rng::Rng;
use crate::nats::url::ServerUrl;

/// How many advertised servers are kept.
const MAX_ADVERTISED: usize = 64;

/// The servers in the order of their turns: the first one is next, the last one was tried last.
#[derive(Debug)]
pub(super) struct Pool {
    servers: VecDeque<Server>,
}

#[derive(Debug)]
struct Server {
    url: ServerUrl,
    /// Failed attempts since the last success.
    failures: u32,
    /// Told of by a server, and gone when no server tells of it any more.
    advertised: bool,
}

/// What came of an advertisement.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Discovered {
    pub(super) new: Vec<String>,
    pub(super) ignored: usize,
}

impl Pool {
    pub(super) fn new(mut urls: Vec<ServerUrl>, shuffle: Option<&mut Rng>) -> Self {
        if let Some(rng) = shuffle {
            rng.shuffle(&mut urls);
        }
        let server = |url| Server { url, failures: 0, advertised: false };
        Self { servers: urls.into_iter().map(server).collect() }
    }

    /// The server whose turn it is; afterwards it is the last.
    pub(super) fn next(&mut self) -> Option<ServerUrl> {
        let server = self.servers.pop_front()?;
        let url = server.url.clone();
        self.servers.push_back(server);
        Some(url)
    }

    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    /// The servers with their failed attempts since their last success.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ServerUrl, u32)> {
        self.servers.iter().map(|s| (&s.url, s.failures))
    }

    /// Whether there is another server than `current`; of those that were advertised only
    /// `if_advertised`.
    pub(super) fn has_other(&self, current: &ServerUrl, if_advertised: bool) -> bool {
        let is_other =
            |server: &Server| (if_advertised || !server.advertised) && !same(&server.url, current);
        self.servers.iter().any(is_other)
    }

    pub(super) fn succeeded(&mut self, url: &ServerUrl) {
        self.of(url, |server| server.failures = 0);
    }

    pub(super) fn failed(&mut self, url: &ServerUrl) {
        self.of(url, |server| server.failures = server.failures.saturating_add(1));
    }

    /// Takes what `current` told: servers that are new come last, advertised ones that it does not
    /// name any more go, unless it is itself one of these.
    pub(super) fn advertise(&mut self, current: &ServerUrl, addresses: &[String]) -> Discovered {
        if addresses.is_empty() {
            return Discovered::default();
        }
        let mut discovered = Discovered::default();
        let mut urls = Vec::new();
        for address in addresses {
            match current.advertised(address) {
                Some(url) if urls.len() < MAX_ADVERTISED => urls.push(url),
                _ => discovered.ignored += 1,
            }
        }
        self.servers.retain(|server| {
            !server.advertised
                || same(&server.url, current)
                || urls.iter().any(|url| same(url, &server.url))
        });
        for url in urls {
            if !self.servers.iter().any(|server| same(&server.url, &url)) {
                discovered.new.push(url.to_string());
                // Before the one that is connected, which stays the last.
                let at = self.servers.len().saturating_sub(1);
                let server = Server { url, failures: 0, advertised: true };
                self.servers.insert(at, server);
            }
        }
        discovered
    }

    fn of(&mut self, url: &ServerUrl, change: impl Fn(&mut Server)) {
        if let Some(server) = self.servers.iter_mut().find(|s| same(&s.url, url)) {
            change(server);
        }
    }
}

/// A server is its address; path and credentials are how one reaches it.
fn same(a: &ServerUrl, b: &ServerUrl) -> bool {
    a.host() == b.host() && a.port() == b.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(names: &[&str]) -> Vec<ServerUrl> {
        let parse = |name: &&str| ServerUrl::parse(&format!("ws://{name}:1")).expect("a URL");
        names.iter().map(parse).collect()
    }

    fn turns(pool: &mut Pool, count: usize) -> Vec<String> {
        let mut turn = || pool.next().map(|url| url.host().to_owned());
        (0..count).filter_map(|_| turn()).collect()
    }

    #[test]
    fn everyone_in_turn_and_the_seed_decides_who_begins() {
        let mut pool = Pool::new(urls(&["a", "b", "c"]), None);
        assert_eq!(turns(&mut pool, 4), ["a", "b", "c", "a"]);
        let orders: std::collections::BTreeSet<_> = (0..50)
            .map(|seed| turns(&mut Pool::new(urls(&["a", "b", "c"]), Some(&mut Rng::new(seed))), 3))
            .collect();
        assert_eq!(orders.len(), 6, "every order occurs");
    }

    #[test]
    fn failures_are_counted_for_each_and_forgotten_with_success() {
        let mut pool = Pool::new(urls(&["a", "b"]), None);
        let first = pool.next().expect("a");
        pool.failed(&first);
        pool.failed(&first);
        let counts = |pool: &Pool| pool.iter().map(|(_, n)| n).collect::<Vec<_>>();
        assert_eq!(counts(&pool), [0, 2]);
        pool.succeeded(&first);
        assert_eq!(counts(&pool), [0, 0]);
    }

    #[test]
    fn advertised_servers_come_and_go() {
        let mut pool = Pool::new(urls(&["a"]), None);
        let current = pool.next().expect("a");
        let told = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let found = pool.advertise(&current, &told(&["a:1", "b:1", "c:1", "b:1", "nonsense"]));
        assert_eq!(found.new, ["ws://b:1/", "ws://c:1/"]);
        assert_eq!(found.ignored, 1);
        assert_eq!(pool.advertise(&current, &[]), Discovered::default());
        let found = pool.advertise(&current, &told(&["c:1", "d:1"]));
        assert_eq!(found.new, ["ws://d:1/"]);
        assert_eq!(turns(&mut pool, 3), ["c", "d", "a"], "the present one is last");
        // The configured one stays although it is not named.
        assert_eq!(pool.len(), 3);
    }

    #[test]
    fn advertised_servers_are_bounded() {
        let mut pool = Pool::new(urls(&["a"]), None);
        let current = pool.next().expect("a");
        let many: Vec<_> = (0..1000).map(|n| format!("h{n}:1")).collect();
        let found = pool.advertise(&current, &many);
        assert_eq!((found.new.len(), found.ignored, pool.len()), (64, 936, 65));
    }
}
