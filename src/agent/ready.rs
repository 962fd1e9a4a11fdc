//! Running futures that are ready at once, which is what agents' futures are on Lunatic.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use thiserror::Error;

/// The future waits, and nothing can wake it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("awaited something that nothing on this host can wake")]
pub struct NeverReady;

/// Runs a future to its end, as long as whatever it waits for wakes it before it returns.
pub fn run_ready<F: Future>(future: F) -> Result<F::Output, NeverReady> {
    let mut future = pin!(future);
    // Most futures are ready at the first look, and need no waker that can be asked.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(output);
    }
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return Ok(output),
            Poll::Pending if woken.0.swap(false, Ordering::Relaxed) => {}
            Poll::Pending => return Err(NeverReady),
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn, ready};

    #[test]
    fn what_is_ready_runs_and_what_never_wakes_is_told() {
        assert_eq!(run_ready(ready(7)), Ok(7));
        assert_eq!(run_ready(pending::<()>()), Err(NeverReady));
    }

    #[test]
    fn a_future_that_wakes_itself_is_run_on() {
        let mut left = 3;
        let countdown = poll_fn(move |cx| {
            if left == 0 {
                return Poll::Ready("done");
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(run_ready(countdown), Ok("done"));
    }
}
