//! Why a process died, from what it said and from what is known of it.

use std::time::Duration;

use super::port::LastWord;
use super::{FailureContext, FailureType};
use crate::agent::AgentConfig;

/// How a process came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It said so itself.
    Said(LastWord),
    /// It was killed for a missed deadline.
    Missed(MissedDeadline),
    /// There never was a process.
    Refused(String),
    /// It did not say.
    Silent,
}

/// The deadlines that a process is killed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MissedDeadline {
    /// It did not say that it runs.
    Start(Duration),
    /// It did not answer a ping.
    Answer(Unanswered),
}

/// A ping that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// How long the answer may take.
    pub(super) deadline: Duration,
    /// How long it has taken.
    pub(super) age: Duration,
    /// Messages that the agent handled since then, as far as it said: none if it is stuck.
    pub(super) handled: u64,
}

/// What a death means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    /// Whether it was no failure at all.
    pub(super) normal: bool,
    pub(super) failure_type: FailureType,
    pub(super) context: FailureContext,
}

/// What a death means for an agent with that config.
pub(super) fn diagnose(cause: Cause, config: &AgentConfig) -> Diagnosis {
    use FailureType::{ProcessCrash, ResourceExhaustion, TimeoutFailure};
    let known = FailureContext::default();
    let normal = cause == Cause::Said(LastWord::Farewell);
    let had_process = !matches!(cause, Cause::Refused(_));
    let (failure_type, context) = match cause {
        Cause::Said(LastWord::Panic { message, place }) => {
            (ProcessCrash, FailureContext { message: Some(message), place, ..known })
        }
        Cause::Said(LastWord::AllocationRefused { bytes }) => (
            ResourceExhaustion,
            FailureContext {
                limit: Some("memory".to_owned()),
                limit_value: Some(u64::from(config.max_memory_mb) << 20),
                requested_bytes: Some(bytes),
                ..known
            },
        ),
        Cause::Said(LastWord::Exit) => (ProcessCrash, said(known, "it called exit")),
        Cause::Said(LastWord::Farewell) => (ProcessCrash, said(known, "it returned")),
        Cause::Missed(missed) => {
            let ms = |duration: Duration| u64::try_from(duration.as_millis()).ok();
            let known = match missed {
                MissedDeadline::Start(deadline) => {
                    let deadline_ms = ms(deadline);
                    said(FailureContext { deadline_ms, ..known }, "it did not start")
                }
                MissedDeadline::Answer(Unanswered { deadline, age, handled }) => {
                    let (limit, message) = match handled {
                        0 => ("answer", "it did not answer"),
                        _ => ("backlog_age", "it did not answer: too much waited before that"),
                    };
                    let known = FailureContext {
                        limit: Some(limit.to_owned()),
                        limit_value: ms(deadline),
                        reached: ms(age),
                        handled_meanwhile: Some(handled),
                        deadline_ms: ms(deadline),
                        ..known
                    };
                    said(known, message)
                }
            };
            (TimeoutFailure, known)
        }
        Cause::Refused(reason) => (
            ResourceExhaustion,
            FailureContext { limit: Some("processes".to_owned()), message: Some(reason), ..known },
        ),
        Cause::Silent => match config.max_fuel {
            max_fuel @ Some(_) => {
                let known = FailureContext { max_fuel, ..known };
                (ResourceExhaustion, candidates(known, &["fuel", "stack", "killed"]))
            }
            None => (ProcessCrash, candidates(known, &["stack", "killed"])),
        },
    };
    let context = FailureContext { mailbox_lost: had_process, ..context };
    Diagnosis { normal, failure_type, context }
}

impl Diagnosis {
    /// The reason in a few words, for those who only want to read it.
    pub(super) fn reason(&self) -> String {
        match (&self.context.message, &self.context.limit) {
            (Some(message), _) => message.clone(),
            (None, Some(limit)) => format!("it hit its limit of {limit}"),
            (None, None) => {
                format!("it died without a word: {}", self.context.candidates.join(" or "))
            }
        }
    }
}

fn said(context: FailureContext, message: &str) -> FailureContext {
    FailureContext { message: Some(message.to_owned()), ..context }
}

fn candidates(context: FailureContext, names: &[&str]) -> FailureContext {
    FailureContext { candidates: names.iter().map(|&name| name.to_owned()).collect(), ..context }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureType::{ProcessCrash, ResourceExhaustion, TimeoutFailure};

    #[test]
    fn each_cause_has_its_type_and_what_is_known() {
        let plain = AgentConfig::default();
        let fuelled = AgentConfig { max_fuel: Some(5), ..Default::default() };
        let second = Duration::from_secs(1);
        let missed = |handled| {
            Cause::Missed(MissedDeadline::Answer(Unanswered {
                deadline: second,
                age: second,
                handled,
            }))
        };
        let panic = LastWord::Panic { message: "boom".into(), place: Some("a.rs:1:2".into()) };
        let refused = LastWord::AllocationRefused { bytes: 9 };
        let cases = [
            (Cause::Said(panic), &plain, ProcessCrash, "boom"),
            (Cause::Said(refused), &plain, ResourceExhaustion, "limit of memory"),
            (Cause::Said(LastWord::Exit), &plain, ProcessCrash, "exit"),
            (missed(0), &plain, TimeoutFailure, "not answer"),
            (missed(1), &plain, TimeoutFailure, "too much waited"),
            (Cause::Missed(MissedDeadline::Start(second)), &plain, TimeoutFailure, "not start"),
            (Cause::Refused("full".into()), &plain, ResourceExhaustion, "full"),
            (Cause::Silent, &plain, ProcessCrash, "stack or killed"),
            (Cause::Silent, &fuelled, ResourceExhaustion, "fuel or stack or killed"),
        ];
        for (cause, config, expected, reason) in cases {
            let diagnosis = diagnose(cause.clone(), config);
            assert!(!diagnosis.normal, "{cause:?}");
            assert_eq!(diagnosis.failure_type, expected, "{cause:?}");
            assert!(diagnosis.reason().contains(reason), "{diagnosis:?}");
            let refused = matches!(cause, Cause::Refused(_));
            assert_eq!(diagnosis.context.mailbox_lost, !refused, "{cause:?}");
        }
        assert!(diagnose(Cause::Said(LastWord::Farewell), &plain).normal);
    }

    #[test]
    fn the_figures_of_a_limit_are_in_the_context() {
        let config = AgentConfig::default();
        let refused = Cause::Said(LastWord::AllocationRefused { bytes: 9 });
        let memory = diagnose(refused, &config).context;
        assert_eq!(memory.limit_value, Some(64 << 20));
        assert_eq!(memory.requested_bytes, Some(9));
        for (handled, limit) in [(0, "answer"), (9, "backlog_age")] {
            let (deadline, age) = (Duration::from_millis(250), Duration::from_millis(251));
            let missed = MissedDeadline::Answer(Unanswered { deadline, age, handled });
            let context = diagnose(Cause::Missed(missed), &config).context;
            assert_eq!(context.limit.as_deref(), Some(limit));
            assert_eq!((context.limit_value, context.deadline_ms), (Some(250), Some(250)));
            assert_eq!((context.reached, context.handled_meanwhile), (Some(251), Some(handled)));
            assert!(context.to_string().starts_with("it did not answer for 250 ms"), "{context}");
        }
        let fuelled = AgentConfig { max_fuel: Some(5), ..config };
        assert_eq!(diagnose(Cause::Silent, &fuelled).context.max_fuel, Some(5));
    }
}
