//! What nodes answer, read as from a stranger: a node of another version may say more than we know.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::harmless::harmless;

/// What is in an `Ok`: what we know of it, and all of it as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer<T> {
    /// What we know.
    pub(super) known: T,
    /// All of it; programs get to see that.
    pub(super) whole: Value,
}

/// The answer in these bytes.
///
/// # Errors
/// It is an `Err`, not JSON, or has another shape. Codes that we do not know are errors like others.
pub(super) fn answer<T: DeserializeOwned>(bytes: &[u8]) -> Result<Answer<T>, Failure> {
    let whole = ok(parse(bytes)?)?;
    let known = T::deserialize(&whole);
    let known = known.map_err(|error| not_understood(&error.to_string(), &whole.to_string()))?;
    Ok(Answer { known, whole })
}

/// What is in the `Ok`; an `Err` is our failure.
fn ok(mut body: Map<String, Value>) -> Result<Value, Failure> {
    if let Some(value) = body.remove("Ok") {
        return Ok(value);
    }
    let error = body.get("Err").unwrap_or(&Value::Null);
    match (error["code"].as_str(), error["message"].as_str()) {
        (Some(code), Some(message)) => Err(Failure::refused(code, message)),
        _ => {
            let whole = Value::Object(body).to_string();
            Err(not_understood("it is neither an Ok nor an Err", &whole))
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    serde_json::from_slice(bytes).map_err(|error| not_understood(&error.to_string(), &shown(bytes)))
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

fn not_understood(why: &str, whole: &str) -> Failure {
    Failure::not_understood(&format!("{}: {}", harmless(why, 200), harmless(whole, 100)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::message::{NodeSummary, Pong, Stopped};

    fn code(failure: &Failure) -> String {
        failure.told().expect("it is told").code.clone()
    }

    #[test]
    fn an_answer_is_read_and_what_is_new_in_it_is_kept() {
        let body = json!({"Ok": {"node_id": "n", "host": "lunatic", "version": "9.9", "agents": 2,
            "moons": 1}});
        let pong = answer::<Pong>(body.to_string().as_bytes()).expect("a pong");
        assert_eq!((pong.known.node_id.as_str(), pong.known.agents), ("n", 2));
        assert_eq!(pong.whole["moons"], 1);
    }

    #[test]
    fn an_error_is_ours_with_its_code_also_one_that_we_do_not_know() {
        for known in ["unknown_agent", "moon_phase"] {
            let body = json!({"Err": {"code": known, "message": "m"}}).to_string();
            let failure = answer::<Pong>(body.as_bytes()).expect_err("an error");
            assert_eq!(code(&failure), known);
        }
    }

    #[test]
    fn what_is_no_answer_is_told_in_short() {
        let long = format!("{{\"Ok\":\"{}\"}}", "x".repeat(100_000));
        for body in ["", "nonsense", "[]", "{}", "{\"Err\":1}", "{\"Ok\":1}", "\u{1b}[2J", &long] {
            let failure = answer::<NodeSummary>(body.as_bytes()).expect_err("no answer");
            assert_eq!(code(&failure), "not_understood", "{body:.50}");
            assert!(failure.told().is_some_and(|told| told.message.len() < 600), "{body:.50}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _outcome = answer::<Stopped>(&bytes);
        }
    }
}
