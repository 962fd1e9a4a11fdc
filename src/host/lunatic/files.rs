//! Small files that are read now and then, such as credentials, by a process that has no directory.
//!
//! To grant a directory that is not there traps whoever does it, and a read blocks a thread of the
//! runtime. So each read has two processes of its own: one that grants the directory and dies if
//! that cannot be done, and the one that gets it, reads, and sends what it has read.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock;
use super::mail;
use super::sys::{self, Permissions, Pid, Received};

/// What both are told first.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    directory: String,
    path: String,
    max: u64,
    /// Who waits for it, and under which tag.
    pid: u64,
    tag: i64,
    /// Who is told when it is done.
    granter: u64,
}

/// What was read, or why it was not.
type Outcome = Result<Vec<u8>, String>;

/// Far above what they need for the largest of files.
const MAX_MEMORY: u64 = 64 << 20;

/// Reads a file of at most `max` bytes, for which the calling process has to be allowed to start
/// others. A path that is not absolute begins where the runtime was started.
pub(super) fn read(path: &str, max: usize, timeout: Duration) -> Outcome {
    /// How soon it is noticed that the directory is not there.
    const LOOK: Duration = Duration::from_millis(20);
    let granted = granting()?;
    let directory = match Path::new(path).parent().and_then(Path::to_str) {
        None | Some("") => ".",
        Some(directory) => directory,
    };
    let granter = sys::spawn(&granted, None, grant)?;
    let (directory, path) = (directory.to_owned(), path.to_owned());
    let (pid, tag) = (sys::this().0, mail::new_tag());
    let order = Order { directory, path, max: max as u64, pid, tag, granter: granter.0 };
    mail::start(granter, &order);
    let deadline = clock::now() + timeout;
    loop {
        let lives = sys::exists(granter);
        if sys::receive(&[tag], Some(LOOK)) == Received::Message {
            let mut buffer = Vec::new();
            sys::read_message(&mut buffer);
            return postcard::from_bytes(&buffer).map_err(|error| error.to_string())?;
        }
        if !lives {
            return Err("its directory is not there, or may not be read".to_owned());
        }
        if deadline <= clock::now() {
            // Whoever reads goes with it, once it is back from the disk.
            sys::kill(granter);
            return Err("it could not be read in time".to_owned());
        }
    }
}

fn granting() -> Result<Permissions, String> {
    let none = Permissions::none().ok_or("this process may not make configs")?;
    Ok(none.max_memory(MAX_MEMORY).may_spawn())
}

/// The entry of the one that grants, and traps here if there is nothing to grant.
fn grant() {
    let order: Order = mail::first();
    let granted = Permissions::none().map(|none| none.max_memory(MAX_MEMORY));
    let granted = granted.map(|granted| granted.directory(&order.directory));
    let reader = granted.ok_or_else(|| "it may not make configs".to_owned());
    match reader.and_then(|granted| sys::spawn(&granted, Some(mail::new_tag()), read_granted)) {
        // Until it has read; if it dies before, so does this one.
        Ok(reader) => {
            mail::start(reader, &order);
            sys::receive(&[], None);
        }
        Err(error) => answer(&order, &Err(error)),
    }
}

/// The entry of the one that reads.
fn read_granted() {
    let order: Order = mail::first();
    answer(&order, &read_file(&order.path, order.max));
    mail::send(Pid(order.granter), &());
}

fn read_file(path: &str, max: u64) -> Outcome {
    let text = |error: std::io::Error| error.to_string();
    let about = std::fs::metadata(path).map_err(text)?;
    // A pipe would be waited for, and nothing ends that.
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    match about.len() {
        len if len > max => Err(format!("it has {len} bytes, and may have {max}")),
        _ => std::fs::read(path).map_err(text),
    }
}

fn answer(order: &Order, outcome: &Outcome) {
    sys::send_with(Pid(order.pid), order.tag, |buffer| mail::encode(outcome, buffer));
}
