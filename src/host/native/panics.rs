//! Panics: those of an agent are its own affair, and its supervisor's. They are caught where the agent
//! is polled, and what they said is kept for that; the other ones go their usual way.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use super::logger;
use crate::supervision::LastWord;

thread_local! {
    /// Whether this thread is within [`catch`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// What the last panic within it said.
    static CAUGHT: RefCell<Option<LastWord>> = const { RefCell::new(None) };
}

/// A panic message is cut to this many bytes.
const MAX_MESSAGE: usize = 1024;

/// Has panics within [`catch`] kept for who caught them. Others are told as before, those of the node's
/// own parts as a line of the log.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.get() {
                CAUGHT.set(Some(word(info)));
            } else if logger::is_part() {
                let (message, place) = said(info);
                log::error!(place = place.as_deref().unwrap_or_default(); "panicked: {message}");
            } else {
                before(info);
            }
        }));
    });
}

/// Does something that may panic; what the panic said, if it does.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, LastWord> {
    let outer = CATCHING.replace(true);
    // What is left half done is the agent's, which ends with it.
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    done.map_err(|payload| {
        let message = text_of(&*payload).to_owned();
        // Without the hook (another one was set since) the place is not known.
        CAUGHT.take().unwrap_or(LastWord::Panic { message, place: None })
    })
}

fn word(info: &PanicHookInfo<'_>) -> LastWord {
    let (message, place) = said(info);
    LastWord::Panic { message: message.to_owned(), place }
}

fn said<'a>(info: &'a PanicHookInfo<'_>) -> (&'a str, Option<String>) {
    let message = text_of(info.payload());
    let message = &message[..message.floor_char_boundary(MAX_MESSAGE)];
    (message, info.location().map(ToString::to_string))
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic with a payload that is no text")
}
