//! Whose turn it is to ask for a connection: sites one after the other, and within a site its paths.

use std::collections::{HashMap, HashSet, VecDeque};

use postrider_model::SiteName;

use super::lane::PathId;

/// Paths that may want a connection.
#[derive(Debug, Default)]
pub(super) struct Turns {
    sites: VecDeque<SiteName>,
    paths: HashMap<SiteName, VecDeque<PathId>>,
    waiting: HashSet<PathId>,
}

impl Turns {
    /// Puts a path behind the others, unless it waits already.
    pub(super) fn push(&mut self, site: &SiteName, path: PathId) {
        if !self.waiting.insert(path) {
            return;
        }
        let paths = self.paths.entry(site.clone()).or_default();
        if paths.is_empty() {
            self.sites.push_back(site.clone());
        }
        paths.push_back(path);
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<PathId> {
        let site = self.sites.pop_front()?;
        let paths = self.paths.get_mut(&site)?;
        let path = paths.pop_front()?;
        if paths.is_empty() {
            self.paths.remove(&site);
        } else {
            self.sites.push_back(site);
        }
        self.waiting.remove(&path);
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_with_many_paths_has_one_turn_like_the_others() {
        let (a, b): (SiteName, SiteName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut turns = Turns::default();
        for path in [1, 2, 3, 3] {
            turns.push(&a, PathId(path));
        }
        turns.push(&b, PathId(9));
        let order: Vec<u64> = std::iter::from_fn(|| turns.pop()).map(|path| path.0).collect();
        assert_eq!(order, [1, 9, 2, 3]);
    }
}
