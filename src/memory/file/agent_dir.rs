//! One agent's directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::MemoryError;
use super::disk::Disk;
use super::name::{self, FileName};
use super::record::{self, Record, Unreadable};
use super::FileLimits;
use crate::agent::AgentId;

/// How often a name for a temporary file is tried, should somebody else write there too.
const MAX_TEMPORARY: u32 = 1000;

/// An agent's directory, and what has been counted in it.
#[derive(Debug)]
pub(super) struct AgentDir {
    path: PathBuf,
    limits: FileLimits,
    keys: usize,
    set_aside: usize,
    next_set_aside: u32,
    next_temporary: u32,
}

impl AgentDir {
    /// Opens the agent's directory in `dir`, makes it if need be, and removes what a crash left
    /// half-written.
    pub(super) fn open(
        disk: &Disk,
        dir: &Path,
        agent: &AgentId,
        limits: FileLimits,
    ) -> Result<Self, MemoryError> {
        let path = dir.join(agent.as_str());
        disk.create_dir(&path)?;
        check_case(&path, agent)?;
        let mut opened =
            Self { path, limits, keys: 0, set_aside: 0, next_set_aside: 0, next_temporary: 0 };
        for file in disk.names(&opened.path)? {
            match name::parse(&file) {
                FileName::Key(_) | FileName::Hashed => opened.keys += 1,
                FileName::SetAside(number) => {
                    opened.set_aside += 1;
                    opened.next_set_aside = opened.next_set_aside.max(number.saturating_add(1));
                }
                FileName::Temporary => {
                    disk.remove(&opened.path.join(file))?;
                }
                FileName::Foreign => {}
            }
        }
        Ok(opened)
    }

    /// Writes beside the old value, then renames over it: what is there at any moment is one or
    /// the other.
    pub(super) fn store(&mut self, disk: &Disk, key: &str, json: &[u8]) -> Result<(), MemoryError> {
        let is_new = match self.retrieve(disk, key) {
            Ok(old) => old.is_none(),
            // The old value was lost and kept as evidence; the new one can be written.
            Err(error @ MemoryError::Corrupt { set_aside: Some(_), .. }) => {
                log::warn!("while storing: {error}");
                true
            }
            Err(error) => return Err(error),
        };
        if is_new && self.keys >= self.limits.max_keys {
            return Err(MemoryError::TooManyKeys {
                key: key.to_owned(),
                max: self.limits.max_keys,
            });
        }
        let target = self.path.join(name::of_key(key));
        let temporary = self.write_temporary(disk, &record::encode(key, json))?;
        if let Err(error) = disk.rename(&temporary, &target) {
            return Err(abandon(disk, &temporary, error));
        }
        self.keys += usize::from(is_new);
        disk.sync_dir(&self.path)
    }

    pub(super) fn retrieve(
        &mut self,
        disk: &Disk,
        key: &str,
    ) -> Result<Option<Vec<u8>>, MemoryError> {
        let name = name::of_key(key);
        let Some(bytes) = disk.read(&self.path.join(&name), record::MAX_FILE)? else {
            return Ok(None);
        };
        let record = self.decode(disk, &name, &bytes)?;
        Ok(Some(record.value.to_vec()))
    }

    pub(super) fn delete(&mut self, disk: &Disk, key: &str) -> Result<bool, MemoryError> {
        let was_there = disk.remove(&self.path.join(name::of_key(key)))?;
        if was_there {
            self.keys = self.keys.saturating_sub(1);
            disk.sync_dir(&self.path)?;
        }
        Ok(was_there)
    }

    pub(super) fn list_keys(
        &mut self,
        disk: &Disk,
        prefix: &str,
    ) -> Result<Vec<String>, MemoryError> {
        let mut keys = Vec::new();
        for file in disk.names(&self.path)? {
            let key = match name::parse(&file) {
                FileName::Key(key) => key,
                FileName::Hashed => match disk.read(&self.path.join(&file), record::MAX_FILE)? {
                    Some(bytes) => self.decode(disk, &file, &bytes)?.key.to_owned(),
                    None => continue,
                },
                _ => continue,
            };
            if key.starts_with(prefix) {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Removes every value. A crash in the middle leaves the rest.
    pub(super) fn clear(&mut self, disk: &Disk) -> Result<(), MemoryError> {
        for file in disk.names(&self.path)? {
            if matches!(name::parse(&file), FileName::Key(_) | FileName::Hashed) {
                disk.remove(&self.path.join(file))?;
                self.keys = self.keys.saturating_sub(1);
            }
        }
        disk.sync_dir(&self.path)
    }

    /// What the file called `name` holds, if it is whole and where it belongs; else it is set
    /// aside.
    fn decode<'a>(
        &mut self,
        disk: &Disk,
        name: &str,
        bytes: &'a [u8],
    ) -> Result<Record<'a>, MemoryError> {
        match record::decode(bytes) {
            Ok(record) if name::of_key(record.key) == name => Ok(record),
            Ok(_) => Err(self.set_aside(disk, name, "it holds the value of another key")),
            Err(Unreadable::Corrupt(reason)) => Err(self.set_aside(disk, name, reason)),
            Err(Unreadable::UnknownVersion(version)) => Err(MemoryError::UnknownFormat {
                path: self.path.join(name).display().to_string(),
                version,
                known: record::VERSION,
            }),
        }
    }

    /// Moves the file called `name` out of the way, under a name that nothing has; the error to
    /// report.
    fn set_aside(&mut self, disk: &Disk, name: &str, reason: &str) -> MemoryError {
        let path = self.path.join(name);
        let set_aside = match self.move_aside(disk, name) {
            Ok(moved) => moved,
            Err(error) => return error,
        };
        MemoryError::Corrupt {
            path: path.display().to_string(),
            reason: reason.to_owned(),
            set_aside: set_aside.map(|path| path.display().to_string()),
        }
    }

    fn move_aside(&mut self, disk: &Disk, name: &str) -> Result<Option<PathBuf>, MemoryError> {
        if self.set_aside >= self.limits.max_set_aside {
            return Ok(None);
        }
        loop {
            let aside = self.path.join(name::set_aside(name, self.next_set_aside));
            // Only when all numbers are used up is there none left to take.
            let Some(next) = self.next_set_aside.checked_add(1) else {
                return Ok(None);
            };
            self.next_set_aside = next;
            if disk.exists(&aside)? {
                continue;
            }
            disk.rename(&self.path.join(name), &aside)?;
            self.set_aside += 1;
            self.keys = self.keys.saturating_sub(1);
            // Not brought to the disk: if the power takes it back, it is found again.
            return Ok(Some(aside));
        }
    }

    /// A new file with these bytes, all of them on the disk.
    fn write_temporary(&mut self, disk: &Disk, bytes: &[u8]) -> Result<PathBuf, MemoryError> {
        for _ in 0..MAX_TEMPORARY {
            let path = self.path.join(name::temporary(self.next_temporary));
            self.next_temporary = self.next_temporary.wrapping_add(1);
            let Some(mut file) = disk.create_new(&path)? else {
                continue;
            };
            let written =
                disk.write(&mut file, &path, bytes).and_then(|()| disk.sync(&file, &path));
            return match written {
                Ok(()) => Ok(path),
                Err(error) => Err(abandon(disk, &path, error)),
            };
        }
        Err(MemoryError::Unavailable {
            reason: format!(
                "{} is being written to by somebody else: {MAX_TEMPORARY} temporary files are in \
                 the way",
                self.path.display()
            ),
        })
    }
}

/// Removes a temporary file, so that a full disk is not made fuller. If that fails as well, it is
/// done when the directory is opened the next time.
fn abandon(disk: &Disk, temporary: &Path, error: MemoryError) -> MemoryError {
    if let Err(left) = disk.remove(temporary) {
        log::warn!("after {error}: {left}");
    }
    error
}

/// A file system that ignores case would let agents `A` and `a` share what they keep. Where the
/// true name of a directory cannot be had (on wasip1) this finds nothing.
fn check_case(path: &Path, agent: &AgentId) -> Result<(), MemoryError> {
    let Ok(real) = fs::canonicalize(path) else {
        return Ok(());
    };
    match real.file_name().and_then(|name| name.to_str()) {
        Some(name) if name != agent.as_str() && name.eq_ignore_ascii_case(agent.as_str()) => {
            Err(MemoryError::InvalidAgent {
                reason: format!(
                    "agent {:?} cannot keep files: on this file system its directory is that of \
                     agent {name:?}",
                    agent.as_str()
                ),
            })
        }
        _ => Ok(()),
    }
}
