//! Last words. The runtime tells a supervisor that a linked process died, never why; so a process
//! says what it can before it dies. A panic is told by the panic hook, a refused allocation by the
//! allocator, `exit` by libc's `atexit`, a normal return by a farewell. Exhausted fuel, a stack
//! overflow and a kill from outside are silent.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::mail::{self, SupervisorMail, Word};
use super::sys::{self, Pid};

/// Who tells whom: set once, when an agent's process starts.
struct Teller {
    supervisor: Pid,
    id: String,
    incarnation: u64,
    /// The mail that a refused allocation sends, but for its last field, the number of bytes:
    /// written beforehand, since there may be no memory left to write it with.
    refused: Vec<u8>,
}

static TELLER: AtomicPtr<Teller> = AtomicPtr::new(std::ptr::null_mut());
/// Whether the farewell was said, so that the `atexit` of a normal return is none.
static FAREWELL: AtomicBool = AtomicBool::new(false);
/// Whether a refused allocation was told since the last message: once is enough.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// A panic message is cut to this many bytes.
const MAX_MESSAGE: usize = 1024;

/// From now on the death of this process is told to the supervisor.
pub(crate) fn install(supervisor: Pid, id: &str, incarnation: u64) {
    let word = Word::AllocationRefused { bytes: 0 };
    let mut refused = Vec::new();
    mail::encode(&SupervisorMail::LastWord { id, incarnation, word }, &mut refused);
    // The number of bytes, zero, is the mail's last field and one byte long.
    refused.pop();
    let teller = Teller { supervisor, id: id.to_owned(), incarnation, refused };
    TELLER.store(Box::into_raw(Box::new(teller)), Ordering::Relaxed);
    std::panic::set_hook(Box::new(on_panic));
    // SAFETY: `on_exit` is a plain function that lives as long as the process.
    unsafe { atexit(on_exit) };
}

/// Says that this process returns normally.
pub(crate) fn farewell() {
    FAREWELL.store(true, Ordering::Relaxed);
    tell(Word::Farewell);
}

/// A message was handled since: a refused allocation did not kill, and the next one is news again.
pub(crate) fn survived() {
    REFUSED.store(false, Ordering::Relaxed);
}

fn teller() -> Option<&'static Teller> {
    // SAFETY: the pointer is null or was leaked by `install`, and is never freed.
    unsafe { TELLER.load(Ordering::Relaxed).as_ref() }
}

fn tell(word: Word<'_>) {
    if let Some(Teller { supervisor, id, incarnation, .. }) = teller() {
        let word = SupervisorMail::LastWord { id, incarnation: *incarnation, word };
        mail::send(*supervisor, &word);
    }
}

fn on_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic with a payload that is no text");
    let place = info.location().map(ToString::to_string);
    let message = &message[..message.floor_char_boundary(MAX_MESSAGE)];
    tell(Word::Panic { message, place: place.as_deref() });
}

extern "C" fn on_exit() {
    if !FAREWELL.load(Ordering::Relaxed) {
        tell(Word::Exit);
        // `exit(0)` would be a normal end, which is silent on links: nobody would ever know.
        core::arch::wasm32::unreachable();
    }
}

extern "C" {
    fn atexit(callback: extern "C" fn()) -> i32;
}

/// Tells the supervisor that the memory limit refused an allocation, once between two messages.
///
/// A refusal is a suspicion, not a death: code that uses `try_reserve` lives on.
#[cold]
pub(super) fn tell_refused(bytes: usize) {
    if let Some(teller) = teller() {
        if !REFUSED.swap(true, Ordering::Relaxed) {
            let (number, len) = varint(bytes as u64);
            sys::send_parts(teller.supervisor, 0, &[&teller.refused, &number[..len]]);
        }
    }
}

/// A number as `postcard` writes it: seven bits a byte, the lowest first.
fn varint(mut number: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut len) = ([0; 10], 0);
    loop {
        bytes[len] = (number & 0x7F) as u8;
        len += 1;
        number >>= 7;
        if number == 0 {
            return (bytes, len);
        }
        bytes[len - 1] |= 0x80;
    }
}
