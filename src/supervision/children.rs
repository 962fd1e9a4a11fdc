//! The agents of a supervisor by their ids.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use super::child::Child;
use crate::agent::AgentId;

/// A health check looks an agent up several times, and nearly nothing asks for their order: so they
/// are found by a hash, and their order stands beside. (In one map in order, a quarter of what ten
/// thousand idle agents cost was to compare their ids.)
#[derive(Debug, Default)]
pub(super) struct Children {
    by_id: HashMap<AgentId, Child>,
    order: BTreeSet<AgentId>,
    /// How many there have been.
    numbers: u64,
}

impl Children {
    pub(super) fn get(&self, id: &AgentId) -> Option<&Child> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &AgentId) -> Option<&mut Child> {
        self.by_id.get_mut(id)
    }

    /// The child with a process of that incarnation; nothing for a late notice.
    pub(super) fn present(&mut self, id: &AgentId, incarnation: u64) -> Option<&mut Child> {
        self.get_mut(id).filter(|child| child.incarnation == incarnation && child.has_process())
    }

    /// Adds one, under a number that none had before.
    pub(super) fn insert(&mut self, id: AgentId, mut child: Child) {
        self.numbers += 1;
        child.number = self.numbers;
        self.order.insert(id.clone());
        self.by_id.insert(id, child);
    }

    pub(super) fn remove(&mut self, id: &AgentId) -> Option<Child> {
        self.order.remove(id);
        self.by_id.remove(id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// In their order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &AgentId> {
        self.order.iter()
    }

    /// Those that come after an id, which need not exist, in their order.
    pub(super) fn after(&self, id: Option<&AgentId>) -> impl Iterator<Item = (&AgentId, &Child)> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.order.range::<AgentId, _>((from, Bound::Unbounded));
        rest.filter_map(|id| Some((id, self.by_id.get(id)?)))
    }
}
