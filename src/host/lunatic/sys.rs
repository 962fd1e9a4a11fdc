//! Every call into the Lunatic runtime, with what must hold for it; safe wrappers for the rest of
//! the host. Only plain processes are used: a stack overflow inside the runtime's `trap::catch`
//! aborts the whole runtime, and `AbstractProcess` and `lunatic::supervisor` start inside it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use ::lunatic::host::api;

/// A process of this runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pid(pub u64);

/// What the mailbox gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message; [`read_message`] has its bytes.
    Message,
    /// A linked process ended otherwise than by returning; the tag of the link.
    LinkDied(i64),
    /// A monitored process ended.
    ProcessDied(Pid),
    /// The time is up.
    TimedOut,
}

/// "Wait for ever", and "no timeout", in the runtime's terms.
const FOREVER: u64 = u64::MAX;
/// The encoding of an i32 parameter in the list that a spawn takes.
const PARAM_I32: u8 = 0x7F;
/// That of an i64.
const PARAM_I64: u8 = 0x7E;

thread_local! {
    /// One buffer for encoding per process: a message is built here and handed over in one call.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What was posted to one process and is not yet sent.
struct Batch {
    to: Pid,
    bytes: Vec<u8>,
}

thread_local! {
    static BATCH: RefCell<Batch> = const { RefCell::new(Batch { to: NOBODY, bytes: Vec::new() }) };
}

/// No process has this number.
const NOBODY: Pid = Pid(0);

/// The first byte of a message that is a batch; then each part with its length in four bytes.
pub const BATCH_KIND: u8 = 0xFD;

/// A batch of so many bytes is sent.
const BATCH_FULL: usize = 32 * 1024;

/// The largest scratch buffer that is kept between messages.
const SCRATCH_KEPT: usize = 64 * 1024;

/// The process that runs.
pub fn this() -> Pid {
    thread_local! {
        // Memory is per process, and the number stays the same: asking once saves a host call.
        static THIS: Cell<Pid> = const { Cell::new(NOBODY) };
    }
    if THIS.get() == NOBODY {
        // SAFETY: takes nothing and cannot fail.
        THIS.set(Pid(unsafe { api::process::process_id() }));
    }
    THIS.get()
}

/// Whether the process still runs.
pub fn exists(pid: Pid) -> bool {
    // SAFETY: any number may be asked for.
    unsafe { api::process::exists(pid.0) != 0 }
}

/// Ends a process at its next yield; nothing happens if it has ended.
pub fn kill(pid: Pid) {
    // SAFETY: any number may be named.
    unsafe { api::process::kill(pid.0) }
}

/// Asks for a `ProcessDied` when the process ends. It never comes for one that has ended already:
/// check [`exists`] afterwards.
pub fn monitor(pid: Pid) {
    // SAFETY: any number may be named.
    unsafe { api::process::monitor(pid.0) }
}

/// Links this process and another one, under a tag that both know the death of the other by. If the
/// other is dead already, this one learns so as it would have then.
pub fn link(pid: Pid, tag: i64) {
    // SAFETY: any numbers may be named.
    unsafe { api::process::link(tag, pid.0) }
}

/// From now on a linked process that dies is a message, not this process's own death.
pub fn trap_link_deaths() {
    // SAFETY: takes a flag.
    unsafe { api::process::die_when_link_dies(0) }
}

/// Gives a process a name that every process can look up. It stays when the process dies.
pub fn register(name: &str, pid: Pid) {
    register_for(name, pid, Pid(0));
}

/// As [`register`], with the process that keeps the name: the runtime stores a second number for
/// the nodes of a cluster of its own, which we have none of.
pub fn register_for(name: &str, pid: Pid, keeper: Pid) {
    // SAFETY: pointer and length are those of a live `str`.
    unsafe { api::registry::put(name.as_ptr(), name.len(), keeper.0, pid.0) }
}

/// The process that was registered last under a name.
pub fn lookup(name: &str) -> Option<Pid> {
    lookup_with_keeper(name).map(|(pid, _)| pid)
}

/// The process that was registered last under a name, and the one that keeps the name.
pub fn lookup_with_keeper(name: &str) -> Option<(Pid, Pid)> {
    let (mut keeper, mut pid) = (0_u64, 0_u64);
    // SAFETY: pointer and length are those of a live `str`; both results are live `u64`s.
    let missing = unsafe { api::registry::get(name.as_ptr(), name.len(), &mut keeper, &mut pid) };
    (missing == 0).then_some((Pid(pid), Pid(keeper)))
}

/// Takes a name back.
pub fn unregister(name: &str) {
    // SAFETY: pointer and length are those of a live `str`.
    unsafe { api::registry::remove(name.as_ptr(), name.len()) }
}

/// Suspends this process, not the thread that runs it.
pub fn sleep(duration: Duration) {
    send_posted();
    // SAFETY: takes a number.
    unsafe { api::process::sleep_ms(millis(duration)) }
}

/// Sends what `encode` writes: one buffer, handed over in one call, since each call costs about as
/// much as copying a kilobyte. A `TcpStream` that is serialized inside of `encode` travels along.
/// Nothing happens if the process has ended.
pub fn send_with(pid: Pid, tag: i64, encode: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = try_send_with(pid, tag, |buffer| {
        encode(buffer);
        Ok::<(), std::convert::Infallible>(())
    });
}

/// As [`send_with`]; where `encode` fails nothing is sent.
pub fn try_send_with<E>(
    pid: Pid,
    tag: i64,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    prepare(tag, encode)?;
    // SAFETY: a message is in the scratch area, as `prepare` has just put it there.
    unsafe { api::message::send(pid.0) };
    Ok(())
}

/// Sends ready-made bytes.
pub fn send(pid: Pid, tag: i64, bytes: &[u8]) {
    create(tag, bytes);
    // SAFETY: as in `send_with`.
    unsafe { api::message::send(pid.0) };
}

/// Sends bytes after a while. A timer cannot be taken back cheaply: have few.
pub fn send_after(pid: Pid, tag: i64, bytes: &[u8], after: Duration) {
    create(tag, bytes);
    // SAFETY: as in `send_with`.
    unsafe { api::timer::send_after(pid.0, millis(after)) };
}

/// Sends, and waits for a message with `reply_tag`; whatever else comes stays in the mailbox. The
/// tag must be one that was never waited for before.
pub fn request_with<E>(
    pid: Pid,
    reply_tag: i64,
    timeout: Option<Duration>,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Received, E> {
    prepare(0, encode)?;
    let timeout = timeout.map_or(FOREVER, millis);
    // SAFETY: a message is in the scratch area; the reply is read from there afterwards.
    Ok(match unsafe { api::message::send_receive_skip_search(pid.0, reply_tag, timeout) } {
        0 => Received::Message,
        _ => Received::TimedOut,
    })
}

/// Adds what `encode` writes to what goes to a process together: a send and its receive cost ten
/// times what a message of 100 bytes costs to write. It is sent before this process waits for
/// anything, sends anything else, posts to somebody else, or has posted 32 KiB; so order is kept,
/// and nobody waits for what is not sent. Only a kill, a stack overflow or the end of fuel takes
/// what was posted since then with it.
pub fn post<E>(pid: Pid, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    BATCH.with_borrow_mut(|batch| {
        if batch.to != pid {
            batch.send();
            batch.bytes.push(BATCH_KIND);
            batch.to = pid;
        }
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(&[0; 4]);
        if let Err(error) = encode(&mut batch.bytes) {
            batch.bytes.truncate(start);
            return Err(error);
        }
        // A message is far below 4 GiB: payloads are bounded, and so are names.
        let len = (batch.bytes.len() - start - 4) as u32;
        batch.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
        if batch.bytes.len() >= BATCH_FULL {
            batch.send();
        }
        Ok(())
    })
}

/// The parts of a batch, which begins behind its first byte.
pub fn parts(mut batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = batch.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        batch = rest;
        Some(part)
    })
}

impl Batch {
    /// Sends what is there; without allocating, since it may be the last thing that happens.
    fn send(&mut self) {
        let to = std::mem::replace(&mut self.to, NOBODY);
        if to == NOBODY {
            return;
        }
        if self.bytes.len() > 1 {
            // SAFETY: a message is made, filled from a live buffer, and sent.
            unsafe {
                api::message::create_data(0, 0);
                api::message::write_data(self.bytes.as_ptr(), self.bytes.len());
                api::message::send(to.0);
            }
        }
        self.bytes.clear();
        if self.bytes.capacity() > SCRATCH_KEPT {
            self.bytes = Vec::new();
        }
    }
}

/// Sends what was posted. Where a batch is just being written, it is not to be sent yet.
pub fn send_posted() {
    BATCH.with(|batch| {
        if let Ok(mut batch) = batch.try_borrow_mut() {
            batch.send();
        }
    });
}

/// Waits for the next message, or the next one with one of `tags`.
pub fn receive(tags: &[i64], timeout: Option<Duration>) -> Received {
    send_posted();
    let timeout = timeout.map_or(FOREVER, millis);
    // SAFETY: pointer and length are those of a live slice.
    match unsafe { api::message::receive(tags.as_ptr(), tags.len(), timeout) } {
        0 => Received::Message,
        // SAFETY: the signal is in the scratch area.
        1 => Received::LinkDied(unsafe { api::message::get_tag() }),
        // SAFETY: the signal is in the scratch area.
        2 => Received::ProcessDied(Pid(unsafe { api::message::get_process_id() })),
        _ => Received::TimedOut,
    }
}

/// The tag of the message that was received last.
pub fn message_tag() -> i64 {
    // SAFETY: a message is in the scratch area, as this is called after a receive gave one.
    unsafe { api::message::get_tag() }
}

/// Reads the message that was received last into `buffer`, whose old content is dropped.
pub fn read_message(buffer: &mut Vec<u8>) {
    buffer.clear();
    // SAFETY: a message is in the scratch area, as this is called after a receive gave one.
    let size = unsafe { api::message::data_size() } as usize;
    buffer.reserve(size);
    // SAFETY: `size` bytes are reserved; the runtime says how many of them it wrote, at most that.
    unsafe {
        let read = api::message::read_data(buffer.as_mut_ptr(), size);
        buffer.set_len(read.min(size));
    }
}

/// The permissions and limits of a process that is to be spawned: nothing, unless it is granted.
pub struct Permissions(u64);

impl Permissions {
    /// Nothing: no directory, no environment, no process of its own; no limit either.
    pub fn none() -> Option<Self> {
        // SAFETY: takes nothing; -1 says that this process may not create configs.
        match unsafe { api::process::create_config() } {
            -1 => None,
            id => Some(Self(id as u64)),
        }
    }

    /// An agent's: nothing but so many MiB of memory.
    pub fn of_agent(memory_mb: u32) -> Option<Self> {
        const MIB: u64 = 1 << 20;
        Some(Self::none()?.max_memory(u64::from(memory_mb) * MIB))
    }

    /// Limits its memory, in bytes.
    pub fn max_memory(self, bytes: u64) -> Self {
        // SAFETY: the config is ours until it is dropped.
        unsafe { api::process::config_set_max_memory(self.0, bytes) };
        self
    }

    /// Limits the fuel for its whole life; 1 is about 100,000 instructions.
    pub fn max_fuel(self, fuel: u64) -> Self {
        // SAFETY: as above.
        unsafe { api::process::config_set_max_fuel(self.0, fuel) };
        self
    }

    /// Lets it spawn processes with configs that it makes.
    pub fn may_spawn(self) -> Self {
        // SAFETY: as above.
        unsafe {
            api::process::config_set_can_spawn_processes(self.0, 1);
            api::process::config_set_can_create_configs(self.0, 1);
        }
        self
    }

    /// Grants a directory. One that does not exist traps the *spawner*: check before.
    pub fn directory(self, path: &str) -> Self {
        // SAFETY: the config is ours; pointer and length are those of a live `str`. The safe
        // wrapper of `lunatic` 0.14.1 drops this call on a current Rust.
        unsafe { api::wasi::config_preopen_dir(self.0, path.as_ptr(), path.len()) };
        self
    }
}

impl Drop for Permissions {
    fn drop(&mut self) {
        // SAFETY: the config is ours and is not used again.
        unsafe { api::process::drop_config(self.0) }
    }
}

/// The function through which the runtime enters a process that [`spawn`] made.
#[export_name = "rust_wasm_lunatic_nats_enter"]
extern "C" fn enter(entry: i32) {
    // SAFETY: `spawn` passed a `fn()` of this very module, and a function pointer is an index
    // into the module's table, the same in every process of the module.
    let entry: fn() = unsafe { std::mem::transmute(entry as usize) };
    entry();
}

/// The same for [`spawn_with`].
#[export_name = "rust_wasm_lunatic_nats_enter_with"]
extern "C" fn enter_with(entry: i32, first: i64, second: i64) {
    // SAFETY: as above, of a `fn(u64, u64)`.
    let entry: fn(u64, u64) = unsafe { std::mem::transmute(entry as usize) };
    entry(first as u64, second as u64);
}

/// A parameter of a process's first function, as the runtime reads it: one byte of type and 16 bytes
/// of value, little endian.
fn parameter(kind: u8, value: u64) -> [u8; 17] {
    let mut bytes = [0; 17];
    bytes[0] = kind;
    bytes[1..9].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// Starts a process at `entry`. With a tag it is linked to this one from its first instruction.
/// Where the runtime refuses (memory, address space), that is an error here, unlike in
/// `Process::spawn`, which takes its caller down.
pub fn spawn(permissions: &Permissions, link: Option<i64>, entry: fn()) -> Result<Pid, String> {
    let entry = parameter(PARAM_I32, entry as usize as u64);
    spawn_at("rust_wasm_lunatic_nats_enter", permissions, link, &entry)
}

/// The same with two numbers for the process, which save it to wait for a message that has them; and
/// without a link.
pub fn spawn_with(
    permissions: &Permissions,
    entry: fn(u64, u64),
    first: u64,
    second: u64,
) -> Result<Pid, String> {
    let entry = parameter(PARAM_I32, entry as usize as u64);
    let numbers = [first, second].map(|number| parameter(PARAM_I64, number));
    let [first, second] = &numbers;
    let parameters = [&entry[..], first, second].concat();
    spawn_at("rust_wasm_lunatic_nats_enter_with", permissions, None, &parameters)
}

fn spawn_at(
    function: &str,
    permissions: &Permissions,
    link: Option<i64>,
    parameters: &[u8],
) -> Result<Pid, String> {
    let mut id = 0_u64;
    // SAFETY: all pointers and lengths are those of live values; -1 is this process's own module.
    let refused = unsafe {
        api::process::spawn(
            link.unwrap_or(0),
            permissions.0 as i64,
            -1,
            function.as_ptr(),
            function.len(),
            parameters.as_ptr(),
            parameters.len(),
            &mut id,
        )
    };
    if refused == 0 {
        Ok(Pid(id))
    } else {
        Err(::lunatic::LunaticError::Error(id).to_string())
    }
}

/// The tag of the link to whoever spawned this process: the runtime gives the tag of a spawn to the
/// spawner's side alone.
pub const PARENT: i64 = 0;

/// Ends this process as its linked parent's death would, had it not trapped that: with a failure,
/// so that its own children go too, and without a word, since there is nobody to tell.
pub fn follow_parent() -> ! {
    std::process::exit(1)
}

/// The directories that this process was granted, as they were named when they were.
pub fn granted_directories() -> Vec<String> {
    /// The first file number after those of the three standard streams.
    const FIRST: u32 = 3;
    /// What WASI tells of one: its kind, of which there is but one, and the length of its name.
    #[repr(C)]
    struct Prestat {
        kind: u8,
        name_len: u32,
    }
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    extern "C" {
        fn fd_prestat_get(fd: u32, prestat: *mut Prestat) -> u32;
        fn fd_prestat_dir_name(fd: u32, name: *mut u8, len: u32) -> u32;
    }
    let mut names = Vec::new();
    for fd in FIRST.. {
        let mut prestat = Prestat { kind: 0, name_len: 0 };
        // SAFETY: the result is a live `Prestat`, laid out as WASI has it.
        if unsafe { fd_prestat_get(fd, &mut prestat) } != 0 {
            break;
        }
        let mut name = vec![0; prestat.name_len as usize];
        // SAFETY: pointer and length are those of a live buffer.
        if unsafe { fd_prestat_dir_name(fd, name.as_mut_ptr(), prestat.name_len) } == 0 {
            names.extend(String::from_utf8(name));
        }
    }
    names
}

/// The memory of this process, in bytes.
pub fn memory_bytes() -> u64 {
    const PAGE: u64 = 64 * 1024;
    core::arch::wasm32::memory_size(0) as u64 * PAGE
}

/// Sends what the parts make together, without allocating: in the last moments of a process there
/// may be no memory left.
pub fn send_parts(pid: Pid, tag: i64, parts: &[&[u8]]) {
    send_posted();
    // SAFETY: a message is made, filled from live slices, and sent.
    unsafe {
        api::message::create_data(tag, 0);
        for part in parts.iter().filter(|part| !part.is_empty()) {
            api::message::write_data(part.as_ptr(), part.len());
        }
        api::message::send(pid.0);
    }
}

fn prepare<E>(tag: i64, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    send_posted();
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut buffer) => fill(tag, &mut buffer, encode),
        // Somebody sends while encoding: rare, and worth no more than a fresh buffer.
        Err(_) => fill(tag, &mut Vec::new(), encode),
    })
}

fn fill<E>(
    tag: i64,
    buffer: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    buffer.clear();
    // SAFETY: takes two numbers. The message must exist before a resource can be pushed into it.
    unsafe { api::message::create_data(tag, 0) };
    encode(buffer)?;
    // SAFETY: pointer and length are those of a live buffer, and there is a message.
    unsafe { api::message::write_data(buffer.as_ptr(), buffer.len()) };
    if buffer.capacity() > SCRATCH_KEPT {
        *buffer = Vec::new();
    }
    Ok(())
}

fn create(tag: i64, bytes: &[u8]) {
    send_posted();
    // SAFETY: a message is made, then filled from a live slice.
    unsafe {
        api::message::create_data(tag, 0);
        api::message::write_data(bytes.as_ptr(), bytes.len());
    }
}

fn millis(duration: Duration) -> u64 {
    // One less than "for ever", which a caller has to ask for.
    let millis = duration.as_secs().saturating_mul(1000);
    millis.saturating_add(u64::from(duration.subsec_millis())).min(FOREVER - 1)
}
