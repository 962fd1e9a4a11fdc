use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use serde_json::{json, Value};

use super::*;
use crate::memory::testing::{backend_suite, now};
use crate::memory::{FileOperation, MemoryBackend};

/// A directory of its own for each, removed at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // wasip1 has no directory for temporary files, and one process at a time.
        let (base, process) = if cfg!(target_os = "wasi") {
            (PathBuf::from("."), 0)
        } else {
            (std::env::temp_dir(), std::process::id())
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("file-store-test-{process}-{number}"));
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    fn store(&self) -> FileStore {
        FileStore::open(&self.0).expect("the directory is fine")
    }

    fn agent_dir(&self) -> PathBuf {
        let dir = self.0.join("a");
        fs::create_dir_all(&dir).expect("the directory is fine");
        dir
    }

    /// The names in the agent's directory.
    fn names(&self) -> BTreeSet<String> {
        fs::read_dir(self.agent_dir())
            .expect("the directory is fine")
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("our names are ASCII"))
            .collect()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.agent_dir().join(name)).expect(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.agent_dir().join(name), bytes).expect(name);
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("nobody else removes it");
    }
}

fn a() -> AgentId {
    AgentId("a".to_owned())
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// Where the corrupt file was set aside.
fn set_aside<T: std::fmt::Debug>(result: Result<T, MemoryError>) -> Option<String> {
    match result {
        Err(MemoryError::Corrupt { set_aside, .. }) => set_aside,
        other => panic!("not reported as corrupt: {other:?}"),
    }
}

/// A client whose requests and responses travel as they do between Lunatic processes.
#[derive(Debug)]
struct ByBincode(LocalStore);

impl StoreClient for ByBincode {
    fn call(&self, request: StoreRequest) -> Result<StoreResponse, MemoryError> {
        let request = postcard::to_stdvec(&request).expect("plain data");
        let response = self.0.call(postcard::from_bytes(&request).expect("as it was written"))?;
        let response = postcard::to_stdvec(&response).expect("plain data");
        Ok(postcard::from_bytes(&response).expect("as it was written"))
    }
}

#[test]
fn it_does_what_every_backend_does() {
    let dirs = std::cell::RefCell::new(Vec::new());
    let dir = || {
        let dir = TempDir::new();
        let path = dir.0.clone();
        dirs.borrow_mut().push(dir);
        path
    };
    backend_suite(|| Box::new(FileBackend::open(dir(), &a()).expect("the directory is fine")));
    backend_suite(|| {
        let store = FileStore::open(dir()).expect("the directory is fine");
        Box::new(ClientBackend::new(a(), ByBincode(LocalStore(Mutex::new(store)))))
    });
}

#[test]
fn what_was_stored_is_there_again() {
    let dir = TempDir::new();
    let mut memory = FileBackend::open(&dir.0, &a()).expect("fine");
    now(memory.store("k", &json!({"n": 1}))).expect("fine");
    drop(memory);
    let mut memory = FileBackend::open(&dir.0, &a()).expect("fine");
    assert_eq!(now(memory.retrieve("k")), Ok(Some(json!({"n": 1}))));
    assert_eq!(dir.names(), names(["k.k"]));
}

#[test]
fn agents_share_nothing() {
    let dir = TempDir::new();
    let mut store = dir.store();
    let b = AgentId("b".into());
    store.store(&a(), "k", b"1").expect("fine");
    store.store(&b, "k", b"2").expect("fine");
    assert_eq!(store.clear(&a()), Ok(()));
    assert_eq!(store.retrieve(&a(), "k"), Ok(None));
    assert_eq!(store.retrieve(&b, "k"), Ok(Some(b"2".to_vec())));
}

#[test]
fn an_id_that_breaks_the_rule_never_becomes_a_path() {
    let dir = TempDir::new();
    let mut store = dir.store();
    for id in ["", "..", "../x", "a/b", "/tmp"] {
        let agent = AgentId(id.to_owned());
        let error = store.store(&agent, "k", b"1").expect_err(id);
        assert!(matches!(error, MemoryError::InvalidAgent { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{id:?}")), "{error}");
        assert!(FileBackend::open(&dir.0, &agent).is_err());
    }
    assert_eq!(fs::read_dir(&dir.0).expect("fine").count(), 0);
}

#[cfg(unix)]
#[test]
fn agents_that_differ_in_case_only_never_share_a_directory() {
    let dir = TempDir::new();
    let mut store = dir.store();
    store.store(&a(), "k", b"1").expect("fine");
    // What a file system that ignores case does.
    std::os::unix::fs::symlink(dir.0.join("a"), dir.0.join("A")).expect("a link");
    let error = store.retrieve(&AgentId("A".into()), "k").expect_err("shared");
    assert!(error.to_string().contains("\"A\" cannot keep files"), "{error}");
    assert_eq!(store.retrieve(&a(), "k"), Ok(Some(b"1".to_vec())));
}

#[test]
fn limits_for_keys_and_values() {
    let dir = TempDir::new();
    let limits = FileLimits { max_value_bytes: 4, max_keys: 2, ..Default::default() };
    let open = || FileStore::with_limits(&dir.0, limits).expect("fine");
    let mut store = open();
    store.store(&a(), "k1", b"1234").expect("4 bytes");
    let error = store.store(&a(), "k1", b"12345").expect_err("5 bytes");
    assert!(matches!(error, MemoryError::ValueTooLarge { max: 4, .. }));
    store.store(&a(), "k2", b"2").expect("the second");
    for mut store in [store, open()] {
        let error = store.store(&a(), "k3", b"3").expect_err("the third");
        assert!(matches!(error, MemoryError::TooManyKeys { max: 2, .. }));
        store.store(&a(), "k2", b"22").expect("an old one");
        assert_eq!(store.delete(&a(), "k1"), Ok(true));
        store.store(&a(), "k1", b"1").expect("there is room again");
    }
    let mut store = open();
    store.clear(&a()).expect("fine");
    store.store(&a(), "k3", b"3").expect("there is room again");
    assert_eq!(dir.names(), names(["k.k3"]), "no refused value left anything");
}

#[test]
fn what_is_not_json_is_never_kept() {
    let dir = TempDir::new();
    let mut store = dir.store();
    for bad in [&b""[..], b"{", b"1 2", b"\xff", b"nan"] {
        let error = store.store(&a(), "k", bad).expect_err("not JSON");
        assert!(matches!(error, MemoryError::InvalidValue { .. }), "{error}");
    }
    assert_eq!(store.retrieve(&a(), "k"), Ok(None));
}

#[test]
fn the_store_forgets_counts_beyond_its_bound_and_nothing_else() {
    let dir = TempDir::new();
    let mut store = dir.store();
    store.store(&a(), "k", b"1").expect("fine");
    while store.agents.len() < MAX_OPEN {
        let open = AgentDir::open(&store.disk, &dir.0, &a(), store.limits).expect("fine");
        let id = AgentId(format!("x{}", store.agents.len()));
        store.agents.insert(id, open);
    }
    assert_eq!(store.retrieve(&AgentId("b".into()), "k"), Ok(None));
    assert_eq!(store.agents.len(), 1);
    assert_eq!(store.retrieve(&a(), "k"), Ok(Some(b"1".to_vec())));
}

#[test]
fn a_directory_that_vanished_is_reported_once_and_made_again() {
    let dir = TempDir::new();
    let mut store = dir.store();
    store.store(&a(), "k", b"1").expect("fine");
    fs::remove_dir_all(dir.0.join("a")).expect("fine");
    let error = store.store(&a(), "k", b"2").expect_err("gone");
    assert!(error.to_string().starts_with("cannot create "), "{error}");
    assert!(matches!(error, MemoryError::Io { operation: FileOperation::Create, .. }));
    assert_eq!(store.store(&a(), "k", b"2"), Ok(()));
}

#[test]
fn a_file_where_the_directory_should_be_is_named() {
    let dir = TempDir::new();
    let file = dir.0.join("file");
    fs::write(&file, "x").expect("fine");
    let error = FileStore::open(&file).expect_err("a file").to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
}

#[test]
fn a_value_is_on_the_disk_before_it_gets_its_name_and_its_name_before_it_is_reported() {
    use FileOperation::{Create, Read, Remove, Rename, Sync, Write};

    let dir = TempDir::new();
    let mut store = dir.store();
    store.list_keys(&a(), None).expect("fine");
    store.disk.crash.log();
    store.store(&a(), "k", b"1").expect("fine");
    let (agent_dir, temporary) = (dir.agent_dir(), dir.agent_dir().join("tmp-0"));
    let expected = [
        (Read, agent_dir.join("k.k")),
        (Create, temporary.clone()),
        (Write, temporary.clone()),
        (Sync, temporary.clone()),
        (Rename, temporary),
        (Sync, agent_dir.clone()),
    ];
    assert_eq!(store.disk.crash.log(), expected);
    store.delete(&a(), "k").expect("fine");
    let expected = [(Remove, agent_dir.join("k.k")), (Sync, agent_dir)];
    assert_eq!(store.disk.crash.log(), expected);
}

/// Runs `work` on a store that crashes after 0, 1, 2 … steps, each time in a fresh directory that
/// `prepare` filled, until it runs to its end; `check` then looks at what a new store finds.
fn crash_everywhere(
    prepare: impl Fn(&TempDir, &mut FileStore),
    work: impl Fn(&mut FileStore),
    check: impl Fn(&TempDir, &mut FileStore, &str),
) {
    for torn_at in [0, 1, 21, usize::MAX] {
        for steps in 0.. {
            let dir = TempDir::new();
            prepare(&dir, &mut dir.store());
            let mut store = dir.store();
            store.disk.crash.after(steps, torn_at);
            work(&mut store);
            check(&dir, &mut dir.store(), &format!("crashed after {steps}, {torn_at} bytes"));
            if !store.disk.crash.happened() {
                assert!(steps > 3, "it crashed at several steps before");
                break;
            }
        }
    }
}

#[test]
fn a_crash_while_storing_leaves_the_old_value_or_the_new_one() {
    let both_seen = std::cell::RefCell::new(BTreeSet::new());
    for key in ["k", &"l".repeat(300)] {
        for old in [None, Some(b"\"old\"".to_vec())] {
            crash_everywhere(
                |_, store| {
                    if let Some(old) = &old {
                        store.store(&a(), key, old).expect("fine");
                    }
                },
                |store| drop(store.store(&a(), key, b"\"new\"")),
                |dir, store, when| {
                    let found = store.retrieve(&a(), key).expect(when);
                    let new = found == Some(b"\"new\"".to_vec());
                    assert!(new || found == old, "{when}: {found:?}");
                    let keys = store.list_keys(&a(), None).expect(when);
                    assert_eq!(keys.len(), usize::from(found.is_some()), "{when}");
                    assert_eq!(dir.names().len(), keys.len(), "{when}: something is left over");
                    both_seen.borrow_mut().insert((old.is_some(), new));
                },
            );
        }
    }
    assert_eq!(both_seen.into_inner().len(), 4, "each outcome was reached");
}

#[test]
fn a_crash_while_deleting_or_clearing_leaves_whole_values() {
    for clear in [false, true] {
        crash_everywhere(
            |_, store| {
                for key in ["k", "l", "m"] {
                    store.store(&a(), key, b"1").expect("fine");
                }
            },
            |store| {
                if clear {
                    drop(store.clear(&a()));
                } else {
                    drop(store.delete(&a(), "k"));
                }
            },
            |dir, store, when| {
                let keys = store.list_keys(&a(), None).expect(when);
                assert!(clear || keys.len() >= 2, "{when}");
                for key in &keys {
                    assert_eq!(store.retrieve(&a(), key).expect(when), Some(b"1".to_vec()));
                }
                assert_eq!(dir.names().len(), keys.len(), "{when}");
            },
        );
    }
}

#[test]
fn a_crash_while_setting_aside_never_loses_the_evidence() {
    for storing in [false, true] {
        crash_everywhere(
            |dir, store| {
                store.store(&a(), "k", b"1").expect("fine");
                dir.write("k.k", b"garbage");
            },
            |store| {
                if storing {
                    drop(store.store(&a(), "k", b"2"));
                } else {
                    drop(store.retrieve(&a(), "k"));
                    drop(store.retrieve(&a(), "k"));
                }
            },
            |dir, store, when| {
                // Found now, or already set aside.
                match store.retrieve(&a(), "k") {
                    Ok(None) => {}
                    Ok(Some(value)) => assert_eq!((value, storing), (b"2".to_vec(), true)),
                    error => drop(set_aside(error)),
                }
                assert_eq!(dir.read("k.k.corrupt-0"), b"garbage", "{when}");
            },
        );
    }
}

#[test]
fn what_a_crash_left_half_written_is_removed_and_strangers_are_not() {
    let dir = TempDir::new();
    dir.write("tmp-0", b"AKV\n");
    dir.write("tmp-7", b"");
    dir.write("k.k", &record::encode("k", b"1"));
    dir.write("notes.txt", b"mine");
    let mut store = dir.store();
    assert_eq!(store.list_keys(&a(), None), Ok(vec!["k".to_owned()]));
    assert_eq!(dir.names(), names(["k.k", "notes.txt"]));
    store.clear(&a()).expect("fine");
    assert_eq!(dir.names(), names(["notes.txt"]));
}

#[test]
fn a_temporary_name_that_is_taken_is_not_written_to() {
    let dir = TempDir::new();
    let mut store = dir.store();
    store.list_keys(&a(), None).expect("fine");
    dir.write("tmp-0", b"another store's");
    store.store(&a(), "k", b"1").expect("fine");
    assert_eq!(dir.read("tmp-0"), b"another store's");
    assert_eq!(dir.names(), names(["k.k", "tmp-0"]));
    for number in 0..1010 {
        dir.write(&format!("tmp-{number}"), b"");
    }
    let error = store.store(&a(), "k", b"2").expect_err("all names are taken");
    assert!(error.to_string().contains("1000 temporary files"), "{error}");
    assert_eq!(store.store(&a(), "k", b"2"), Ok(()), "they were cleared away");
}

#[test]
fn a_step_that_fails_leaves_nothing_behind_and_the_next_try_works() {
    let mut failed = BTreeSet::new();
    for steps in 0.. {
        let dir = TempDir::new();
        let mut store = dir.store();
        store.store(&a(), "k", b"1").expect("fine");
        store.disk.crash.fail_once_after(steps);
        let Err(error) = store.store(&a(), "k", b"2") else {
            break;
        };
        let MemoryError::Io { operation, .. } = error else {
            panic!("{error}");
        };
        failed.insert(operation.to_string());
        assert_eq!(dir.names(), names(["k.k"]), "after {operation} failed");
        let found = store.retrieve(&a(), "k").expect("whole");
        assert!([Some(b"1".to_vec()), Some(b"2".to_vec())].contains(&found));
        assert_eq!(store.store(&a(), "k", b"3"), Ok(()));
        assert_eq!(store.retrieve(&a(), "k"), Ok(Some(b"3".to_vec())));
    }
    assert_eq!(failed, names(["create", "read", "rename", "sync", "write"]));
}

#[test]
fn a_file_torn_at_any_length_or_with_any_byte_changed_is_set_aside_once() {
    let whole = record::encode("k", b"[1,2]");
    let torn = (0..whole.len()).map(|len| whole[..len].to_vec());
    let changed = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    });
    let dir = TempDir::new();
    let mut store = dir.store();
    let mut evidence = Vec::new();
    for bytes in torn.chain(changed) {
        dir.write("k.k", &bytes);
        let path = set_aside(store.retrieve(&a(), "k")).expect("there is room");
        assert_eq!(store.retrieve(&a(), "k"), Ok(None));
        assert!(path.ends_with(&format!("k.k.corrupt-{}", evidence.len())), "{path}");
        evidence.push((path, bytes));
    }
    assert_eq!(evidence.len(), 2 * whole.len());
    for (path, bytes) in evidence {
        assert_eq!(fs::read(&path).expect(&path), bytes, "what is set aside stays as it was");
    }
}

#[test]
fn at_most_so_many_corrupt_files_are_set_aside_and_none_is_overwritten() {
    let dir = TempDir::new();
    let limits = FileLimits::default();
    assert_eq!(limits.max_set_aside, 100);
    let mut store = dir.store();
    for n in 0..100 {
        dir.write("k.k", format!("garbage {n}").as_bytes());
        assert!(set_aside(store.retrieve(&a(), "k")).is_some(), "{n}");
    }
    dir.write("k.k", b"the last straw");
    for mut store in [store, dir.store()] {
        assert_eq!(set_aside(store.retrieve(&a(), "k")), None);
        assert_eq!(set_aside(store.store(&a(), "k", b"1")), None, "nor is it stored over");
        assert_eq!(dir.read("k.k"), b"the last straw");
        assert_eq!(dir.names().len(), 101);
    }
    let mut store = dir.store();
    assert_eq!(store.delete(&a(), "k"), Ok(true), "but it can be forgotten");
    assert_eq!(store.store(&a(), "k", b"1"), Ok(()));
    assert_eq!(dir.read("k.k.corrupt-99"), b"garbage 99");
    assert_eq!(store.clear(&a()), Ok(()), "clear keeps what was set aside");
    assert_eq!(dir.names().len(), 100);
}

#[test]
fn numbers_of_what_was_set_aside_are_never_used_twice() {
    let dir = TempDir::new();
    dir.write("k.other.corrupt-4", b"older");
    dir.write("k.k", b"garbage");
    let mut store = dir.store();
    let path = set_aside(store.retrieve(&a(), "k")).expect("there is room");
    assert!(path.ends_with("k.k.corrupt-5"), "{path}");
    // Somebody else's, that came while the store was open.
    dir.write("k.k.corrupt-6", b"somebody's");
    dir.write("k.k", b"garbage");
    let path = set_aside(store.retrieve(&a(), "k")).expect("there is room");
    assert!(path.ends_with("k.k.corrupt-7"), "{path}");
    assert_eq!(dir.read("k.k.corrupt-6"), b"somebody's");

    dir.write("k.z.corrupt-4294967295", b"the last number");
    dir.write("k.k", b"garbage");
    assert_eq!(set_aside(dir.store().retrieve(&a(), "k")), None);
}

#[test]
fn a_corrupt_file_frees_its_key() {
    let dir = TempDir::new();
    let limits = FileLimits { max_keys: 1, ..Default::default() };
    let mut store = FileStore::with_limits(&dir.0, limits).expect("fine");
    store.store(&a(), "k", b"1").expect("fine");
    dir.write("k.k", b"garbage");
    assert!(set_aside(store.retrieve(&a(), "k")).is_some());
    assert_eq!(store.store(&a(), "other", b"1"), Ok(()));
    assert!(store.store(&a(), "k", b"1").is_err());
}

#[test]
fn a_file_in_the_wrong_place_is_corrupt_and_a_newer_one_is_left_alone() {
    let dir = TempDir::new();
    let mut store = dir.store();
    dir.write("k.b", &record::encode("c", b"1"));
    let error = store.retrieve(&a(), "b").expect_err("another key's");
    assert!(error.to_string().contains("another key"), "{error}");
    assert!(set_aside(Err::<(), _>(error)).is_some());

    let mut newer = record::encode("k", b"1");
    newer[4] = 2;
    // The CRC-32 of that, as Python's zlib has it.
    newer[8..12].copy_from_slice(&0xc39cb7a7_u32.to_le_bytes());
    dir.write("k.k", &newer);
    for result in [store.retrieve(&a(), "k").map(drop), store.store(&a(), "k", b"2")] {
        let error = result.expect_err("version 2");
        assert!(matches!(error, MemoryError::UnknownFormat { version: 2, known: 1, .. }));
    }
    assert_eq!(dir.read("k.k"), newer);
}

#[test]
fn a_corrupt_file_of_a_long_key_is_reported_by_list_once() {
    let dir = TempDir::new();
    let mut store = dir.store();
    store.store(&a(), &"l".repeat(300), b"1").expect("fine");
    store.store(&a(), "k", b"1").expect("fine");
    let long = dir.names().pop_first().expect("h. comes before k.");
    dir.write(&long, b"garbage");
    assert!(set_aside(store.list_keys(&a(), None)).is_some());
    assert_eq!(store.list_keys(&a(), None), Ok(vec!["k".to_owned()]));
}

#[test]
fn a_file_longer_than_any_value_is_read_no_further() {
    let dir = TempDir::new();
    let mut store = dir.store();
    let file = fs::File::create(dir.agent_dir().join("k.k")).expect("fine");
    file.set_len(1 << 40).expect("a hole takes no room");
    assert!(set_aside(store.retrieve(&a(), "k")).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Store(String, u8),
    Delete(String),
    Retrieve(String),
    List(String),
    Clear,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || "[aA/]{1,2}|x{300}[ab]";
    let step = prop_oneof![
        4 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Store(key, value)),
        2 => key().prop_map(Step::Delete),
        2 => key().prop_map(Step::Retrieve),
        2 => "[aAx]?".prop_map(Step::List),
        1 => Just(Step::Clear),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_behaves_as_a_map(steps in steps()) {
        let dir = TempDir::new();
        let limits = FileLimits { max_keys: 4, ..Default::default() };
        let open = || FileStore::with_limits(&dir.0, limits).expect("fine");
        let (mut store, mut map) = (open(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Store(key, n) => {
                    let fits = map.contains_key(&key) || map.len() < 4;
                    let stored = store.store(&a(), &key, n.to_string().as_bytes());
                    prop_assert_eq!(stored.is_ok(), fits);
                    if fits {
                        map.insert(key, n);
                    }
                }
                Step::Delete(key) => {
                    prop_assert_eq!(store.delete(&a(), &key), Ok(map.remove(&key).is_some()));
                }
                Step::Retrieve(key) => {
                    let value = map.get(&key).map(|n| n.to_string().into_bytes());
                    prop_assert_eq!(store.retrieve(&a(), &key), Ok(value));
                }
                Step::List(prefix) => {
                    let keys = map.keys().filter(|key| key.starts_with(&prefix));
                    let keys = keys.cloned().collect::<Vec<_>>();
                    prop_assert_eq!(store.list_keys(&a(), Some(&prefix)), Ok(keys));
                }
                Step::Clear => {
                    prop_assert_eq!(store.clear(&a()), Ok(()));
                    map.clear();
                }
                Step::Reopen => store = open(),
            }
        }
    }
}

#[test]
fn values_keep_what_json_can_say() {
    let dir = TempDir::new();
    let mut memory = FileBackend::open(&dir.0, &a()).expect("fine");
    let value: Value = serde_json::from_str(r#"{"a":[1,2.5,"x",null,{"b":true}]}"#).expect("JSON");
    now(memory.store("k", &value)).expect("fine");
    assert!(dir.read("k.k").ends_with(value.to_string().as_bytes()), "readable by people");
}
