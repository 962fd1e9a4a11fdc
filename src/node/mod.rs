//! A node as those see it who ask: what is answered about its agents, and how all of them are
//! stopped, whatever it runs on. A host brings the questions here, and the answers back.

mod remote;
mod roster;
mod seen;
mod stopping;
mod told;
mod tree;

pub use remote::read_remote_answer;
pub use roster::{start_error, stop_error, tree_error, Roster};
pub use seen::{NodeEvent, Stopped, Ticket};
pub use stopping::{AllStopped, StopAll, TooManyWait};
pub use told::{log_alert, log_failure};
pub use tree::{TreeCommand, TreeDone};
