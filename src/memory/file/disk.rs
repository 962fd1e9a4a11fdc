//! Every use that the file backend makes of the file system, each error with what was tried and
//! on what. In tests it can be made to stop for good at any step, as a crash would.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use super::super::{FileOperation, MemoryError};

#[derive(Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) crash: crash::Crash,
}

impl Disk {
    /// Makes the directory and those above it, and brings the news of it to the disk.
    pub(super) fn create_dir(&self, path: &Path) -> Result<(), MemoryError> {
        self.step(FileOperation::Create, path)?;
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(path).map_err(at(FileOperation::Create, path))?;
        match path.parent() {
            Some(parent) if parent != Path::new("") => self.sync_dir(parent),
            _ => Ok(()),
        }
    }

    /// The names in a directory that are UTF-8, as all of ours are.
    pub(super) fn names(&self, dir: &Path) -> Result<Vec<String>, MemoryError> {
        self.step(FileOperation::List, dir)?;
        fs::read_dir(dir)
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name().into_string().ok()))
                    .filter_map(Result::transpose)
                    .collect()
            })
            .map_err(at(FileOperation::List, dir))
    }

    /// A file's bytes, at most `max` and one more; none if there is no such file.
    pub(super) fn read(&self, path: &Path, max: usize) -> Result<Option<Vec<u8>>, MemoryError> {
        self.step(FileOperation::Read, path)?;
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(max as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(FileOperation::Read, path)(error)),
        }
    }

    /// Whether something has this name.
    pub(super) fn exists(&self, path: &Path) -> Result<bool, MemoryError> {
        self.step(FileOperation::Read, path)?;
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at(FileOperation::Read, path)(error)),
        }
    }

    /// Makes a new file; none if something has its name already.
    pub(super) fn create_new(&self, path: &Path) -> Result<Option<File>, MemoryError> {
        self.step(FileOperation::Create, path)?;
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(at(FileOperation::Create, path)(error)),
        }
    }

    /// Writes all of `bytes`.
    pub(super) fn write(
        &self,
        file: &mut File,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), MemoryError> {
        #[cfg(test)]
        self.crash.tear(file, bytes);
        self.step(FileOperation::Write, path)?;
        file.write_all(bytes).map_err(at(FileOperation::Write, path))
    }

    /// Waits until the file is on the disk.
    pub(super) fn sync(&self, file: &File, path: &Path) -> Result<(), MemoryError> {
        self.step(FileOperation::Sync, path)?;
        file.sync_all().map_err(at(FileOperation::Sync, path))
    }

    /// Waits until a directory's names are on the disk. Only Unix can: elsewhere (a directory on
    /// wasip1 answers EBADF) a rename may be lost with the power, which leaves the old value.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<(), MemoryError> {
        self.step(FileOperation::Sync, dir)?;
        if cfg!(unix) {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(FileOperation::Sync, dir))?;
        }
        Ok(())
    }

    /// Gives a file another name, in place of what had it.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), MemoryError> {
        self.step(FileOperation::Rename, from)?;
        fs::rename(from, to).map_err(at(FileOperation::Rename, from))
    }

    /// Removes a file; whether it was there.
    pub(super) fn remove(&self, path: &Path) -> Result<bool, MemoryError> {
        self.step(FileOperation::Remove, path)?;
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at(FileOperation::Remove, path)(error)),
        }
    }

    #[cfg(not(test))]
    fn step(&self, _: FileOperation, _: &Path) -> Result<(), MemoryError> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, operation: FileOperation, path: &Path) -> Result<(), MemoryError> {
        self.crash.step(operation, path)
    }
}

fn at(operation: FileOperation, path: &Path) -> impl FnOnce(io::Error) -> MemoryError {
    let path = path.display().to_string();
    move |error| MemoryError::Io { operation, path, reason: error.to_string() }
}

#[cfg(test)]
pub(super) mod crash {
    use std::cell::{Cell, RefCell};
    use std::path::PathBuf;

    use super::*;

    /// After so many steps nothing happens any more.
    #[derive(Debug)]
    pub(in super::super) struct Crash {
        steps_left: Cell<u32>,
        torn_at: Cell<usize>,
        once: Cell<bool>,
        log: RefCell<Vec<(FileOperation, PathBuf)>>,
    }

    impl Default for Crash {
        fn default() -> Self {
            Self {
                steps_left: Cell::new(u32::MAX),
                torn_at: Cell::new(0),
                once: Cell::new(false),
                log: RefCell::default(),
            }
        }
    }

    impl Crash {
        /// Lets `steps` more happen; if the one after them writes, `torn_at` bytes of it.
        pub(in super::super) fn after(&self, steps: u32, torn_at: usize) {
            self.steps_left.set(steps);
            self.torn_at.set(torn_at);
        }

        /// Lets `steps` more happen, fails the one after them, and then no more.
        pub(in super::super) fn fail_once_after(&self, steps: u32) {
            self.after(steps, 0);
            self.once.set(true);
        }

        /// Whether it has come to that.
        pub(in super::super) fn happened(&self) -> bool {
            self.steps_left.get() == 0
        }

        /// What happened since this was last asked.
        pub(in super::super) fn log(&self) -> Vec<(FileOperation, PathBuf)> {
            self.log.take()
        }

        pub(super) fn step(
            &self,
            operation: FileOperation,
            path: &Path,
        ) -> Result<(), MemoryError> {
            if self.happened() {
                if self.once.take() {
                    self.steps_left.set(u32::MAX);
                }
                return Err(at(operation, path)(io::Error::other("crashed")));
            }
            self.steps_left.set(self.steps_left.get() - 1);
            self.log.borrow_mut().push((operation, path.to_owned()));
            Ok(())
        }

        pub(super) fn tear(&self, file: &mut File, bytes: &[u8]) {
            if self.happened() {
                let torn_at = self.torn_at.take().min(bytes.len());
                file.write_all(&bytes[..torn_at]).expect("the disk is fine");
            }
        }
    }
}
