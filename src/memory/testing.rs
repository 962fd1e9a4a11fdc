//! What every backend has to do, for the tests of each.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::json;

use super::{MemoryBackend, MemoryError};

/// The output of a future that is ready at once, as those of all our backends are.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is not ready at once"),
    }
}

/// Keys that some file system or encoding would trip over.
pub(crate) fn awkward_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a",
        "A",
        "aB",
        "Ab",
        ".",
        "..",
        "/",
        "a/b",
        "../../etc/passwd",
        "\\",
        "C:\\x",
        "con",
        "CON",
        "nul.txt",
        " ",
        "a ",
        " a",
        "a.",
        "%",
        "%41",
        "%2f",
        "a%",
        "\0",
        "\n",
        "~",
        "*",
        "k.a",
        "h.a",
        "tmp-1",
        "a.corrupt-0",
        "é",
        "e\u{301}",
        "🦀",
        "\u{10ffff}",
        "-",
        "_",
    ]
    .map(str::to_owned)
    .into();
    keys.extend(["l".repeat(200), "l".repeat(201), "l".repeat(512), "L".repeat(512)]);
    keys.extend(["🦀".repeat(128), "/".repeat(512), format!("{}x", "l".repeat(511))]);
    keys
}

/// What `make` makes is empty, and no two share anything.
pub(crate) fn backend_suite(make: impl Fn() -> Box<dyn MemoryBackend>) {
    stores_and_forgets(&mut *make());
    keeps_awkward_keys_apart(&mut *make());
    lists_by_prefix(&mut *make());
    keeps_values_exactly(&mut *make());
    refuses_bad_keys_and_values(&mut *make());
}

fn stores_and_forgets(memory: &mut dyn MemoryBackend) {
    assert_eq!(now(memory.retrieve("k")), Ok(None));
    assert_eq!(now(memory.delete("k")), Ok(false));
    assert_eq!(now(memory.store("k", &json!(1))), Ok(()));
    assert_eq!(now(memory.store("k", &json!({"n": 2}))), Ok(()));
    assert_eq!(now(memory.retrieve("k")), Ok(Some(json!({"n": 2}))));
    assert_eq!(now(memory.delete("k")), Ok(true));
    assert_eq!(now(memory.delete("k")), Ok(false));
    assert_eq!(now(memory.retrieve("k")), Ok(None));
    assert_eq!(now(memory.store("k", &json!(null))), Ok(()));
    assert_eq!(now(memory.retrieve("k")), Ok(Some(json!(null))));
    assert_eq!(now(memory.clear()), Ok(()));
    assert_eq!(now(memory.list_keys(None)), Ok(vec![]));
    assert_eq!(now(memory.clear()), Ok(()));
    assert_eq!(now(memory.store("k", &json!(3))), Ok(()));
    assert_eq!(now(memory.list_keys(None)), Ok(vec!["k".to_owned()]));
}

fn keeps_awkward_keys_apart(memory: &mut dyn MemoryBackend) {
    let mut keys = awkward_keys();
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(now(memory.store(key, &json!(n))), Ok(()), "{key:?}");
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(now(memory.retrieve(key)), Ok(Some(json!(n))), "{key:?}");
    }
    let deleted = keys.remove(0);
    assert_eq!(now(memory.delete(&deleted)), Ok(true));
    keys.sort();
    assert_eq!(now(memory.list_keys(None)), Ok(keys));
    assert_eq!(now(memory.clear()), Ok(()));
    assert_eq!(now(memory.list_keys(None)), Ok(vec![]));
}

fn lists_by_prefix(memory: &mut dyn MemoryBackend) {
    let long = format!("a/{}", "L".repeat(400));
    for key in ["a", "a/1", "a/2", "b", "A/1", "é1", &long] {
        assert_eq!(now(memory.store(key, &json!(0))), Ok(()));
    }
    let list = |prefix| now(memory.list_keys(prefix)).expect("nothing is wrong");
    assert_eq!(list(Some("a/")), ["a/1", "a/2", &long]);
    assert_eq!(list(Some("a")), ["a", "a/1", "a/2", &long]);
    assert_eq!(list(Some("é")), ["é1"]);
    assert_eq!(list(Some("x")), [""; 0]);
    assert_eq!(list(Some("")), list(None));
    assert_eq!(list(None).len(), 7);
}

fn keeps_values_exactly(memory: &mut dyn MemoryBackend) {
    let values = json!([
        null, true, "", "\u{0}\n\"\\🦀", 0, -1, u64::MAX, i64::MIN, 0.1, 1e300, [], {},
        {"z": 1, "a": {"": [[]]}},
    ]);
    for value in values.as_array().expect("an array") {
        assert_eq!(now(memory.store("k", value)), Ok(()));
        assert_eq!(now(memory.retrieve("k")).as_ref(), Ok(&Some(value.clone())));
    }
    let largest = json!("x".repeat((1 << 20) - 2));
    assert_eq!(now(memory.store("k", &largest)), Ok(()));
    assert_eq!(now(memory.retrieve("k")), Ok(Some(largest)));
}

fn refuses_bad_keys_and_values(memory: &mut dyn MemoryBackend) {
    for key in ["", &"k".repeat(513)] {
        let len = key.len();
        let refused = MemoryError::KeyLength { len, max: 512 };
        assert_eq!(now(memory.store(key, &json!(1))), Err(refused.clone()));
        assert_eq!(now(memory.retrieve(key)), Err(refused.clone()));
        assert_eq!(now(memory.delete(key)), Err(refused));
    }
    let too_large = json!("x".repeat((1 << 20) - 1));
    let error = now(memory.store("k", &too_large)).expect_err("1 MiB and a byte");
    assert!(matches!(error, MemoryError::ValueTooLarge { max: 1_048_576, .. }));
    let too_deep = (0..128).fold(json!(0), |inner, _| json!([inner]));
    let error = now(memory.store("k", &too_deep)).expect_err("128 levels");
    assert!(matches!(error, MemoryError::InvalidValue { .. }), "{error}");
    assert_eq!(now(memory.list_keys(None)), Ok(vec![]), "nothing of it stayed");
}
