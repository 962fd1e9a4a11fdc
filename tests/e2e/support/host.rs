//! The hosts that the tests run on. They keep one contract, so one test runs once for each.

use std::cell::Cell;
use std::path::PathBuf;

use crate::from_env;

thread_local! {
    // A test has a thread to itself, with all its tasks.
    static CURRENT: Cell<Host> = const { Cell::new(Host::Lunatic) };
}

/// What a node runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The wasm program under `lunatic run`: each agent has a sandbox of its own.
    Lunatic,
    /// The native program: each agent is a task.
    Native,
}

impl Host {
    /// The one that the present test runs on; [`Host::Lunatic`], unless
    /// [`on_each_host`](crate::on_each_host) said otherwise.
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// Runs a test on this host.
    pub async fn run(self, test: impl Future<Output = ()>) {
        /// With one thread for all tests, the next one must not begin with this one's host.
        struct Reset(Host);
        impl Drop for Reset {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _reset = Reset(CURRENT.replace(self));
        test.await;
    }

    /// What nodes say that they run on.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lunatic => "lunatic",
            Self::Native => "native",
        }
    }

    /// The program with NATS.
    ///
    /// # Panics
    /// If nobody has said where it is.
    pub fn program(self) -> PathBuf {
        from_env(match self {
            Self::Lunatic => "E2E_WASM",
            Self::Native => "E2E_NATIVE",
        })
    }
}

/// Makes a test of each function for each host: `lunatic::NAME` and `native::NAME`. What a host cannot
/// do is said with its reason, which the test's output shows where the result would be:
///
/// ```text
/// on_each_host! {
///     an_agent_answers,
///     exhausted_fuel_is_named: native cannot "a task has no fuel",
/// }
/// ```
/// ```text
/// test lunatic::exhausted_fuel_is_named ... ok
/// test native::exhausted_fuel_is_named ... ignored, a task has no fuel
/// ```
/// `scripts/conformance` shows both side by side.
#[macro_export]
macro_rules! on_each_host {
    ($($test:ident $(: native cannot $reason:literal)?),+ $(,)?) => {
        mod lunatic {
            $(#[tokio::test]
            async fn $test() {
                $crate::Host::Lunatic.run(super::$test()).await;
            })+
        }

        mod native {
            $(#[tokio::test]
            $(#[ignore = $reason])?
            async fn $test() {
                $crate::Host::Native.run(super::$test()).await;
            })+
        }
    };
}
