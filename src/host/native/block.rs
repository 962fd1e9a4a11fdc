//! To wait for what is asynchronous from a thread that is not.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::Handle;

/// Waits for a future, whose timers are those of `runtime`. It blocks the thread: within another
/// runtime that is one of its workers, which `Handle::block_on` would refuse by a panic.
pub(super) fn on<F: Future>(runtime: &Handle, future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let _timers = runtime.enter();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            // A wake that comes before this is not lost.
            Poll::Pending => thread::park(),
        }
    }
}
