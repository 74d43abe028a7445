//! Whose turn it is to have something there is not enough of: tenants one after the other, each as often as the next; who has
//! waited for nothing has one turn before the others, and none like it until the round is over.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use postrider_model::{SiteName, TenantId};

use super::lane::PathId;

/// What tenants wait for, each thing once for each tenant. Nearly always that is one thing, and takes hardly any memory.
#[derive(Debug)]
pub(super) struct Turns<T> {
    one: Option<(TenantId, T)>,
    /// Or several, until nothing is left.
    several: Option<Box<Several<T>>>,
}

#[derive(Debug)]
struct Several<T> {
    /// Tenants that have had no turn since they came.
    fresh: VecDeque<TenantId>,
    /// All others, and some that wait for nothing any more: until their turn comes, they are not new again.
    ring: VecDeque<TenantId>,
    lines: HashMap<TenantId, VecDeque<T>>,
    waiting: HashSet<(TenantId, T)>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { one: None, several: None }
    }
}

impl<T: Clone + Eq + Hash> Turns<T> {
    /// Puts a thing behind the tenant's others, unless it waits already.
    pub(super) fn push(&mut self, tenant: &TenantId, thing: T) {
        if let Some(several) = &mut self.several {
            return several.push(tenant, thing);
        }
        match self.one.take() {
            None => self.one = Some((tenant.clone(), thing)),
            Some(one) if one.0 == *tenant && one.1 == thing => self.one = Some(one),
            Some((first, its)) => {
                let several = self.several.insert(Box::default());
                several.push(&first, its);
                several.push(tenant, thing);
            }
        }
    }

    /// Whose turn it is, and for what.
    pub(super) fn first(&mut self) -> Option<(&TenantId, &T)> {
        match &mut self.several {
            Some(several) => several.first(),
            None => self.one.as_ref().map(|(tenant, thing)| (tenant, thing)),
        }
    }

    /// What the first other tenant waits for, and whether that one has had no turn since it came.
    pub(super) fn first_but(&self, tenant: &TenantId) -> Option<(&T, bool)> {
        match &self.several {
            Some(several) => several.first_but(tenant),
            None => self.one.as_ref().filter(|(one, _)| one != tenant).map(|(_, thing)| (thing, true)),
        }
    }

    /// How many things others than this tenant wait for.
    fn others_than(&self, tenant: &TenantId) -> usize {
        match &self.several {
            Some(several) => several.others_than(tenant),
            None => usize::from(self.one.as_ref().is_some_and(|(one, _)| one != tenant)),
        }
    }

    /// Takes the first: the tenant's turn is over.
    pub(super) fn pop(&mut self) -> Option<(TenantId, T)> {
        let Some(several) = &mut self.several else { return self.one.take() };
        let popped = several.pop();
        if several.waiting.is_empty() {
            self.several = None;
        }
        popped
    }
}

impl<T> Default for Several<T> {
    fn default() -> Self {
        Self { fresh: VecDeque::new(), ring: VecDeque::new(), lines: HashMap::new(), waiting: HashSet::new() }
    }
}

impl<T: Clone + Eq + Hash> Several<T> {
    fn push(&mut self, tenant: &TenantId, thing: T) {
        if !self.waiting.insert((tenant.clone(), thing.clone())) {
            return;
        }
        if !self.lines.contains_key(tenant) {
            self.fresh.push_back(tenant.clone());
        }
        self.lines.entry(tenant.clone()).or_default().push_back(thing);
    }

    fn first(&mut self) -> Option<(&TenantId, &T)> {
        loop {
            let is_fresh = !self.fresh.is_empty();
            let turns = if is_fresh { &mut self.fresh } else { &mut self.ring };
            if self.lines.get(turns.front()?).is_some_and(|line| !line.is_empty()) {
                break;
            }
            let tenant = turns.pop_front()?;
            if is_fresh {
                self.ring.push_back(tenant);
            } else {
                self.lines.remove(&tenant);
            }
        }
        let tenant = self.fresh.front().or(self.ring.front())?;
        Some((tenant, self.lines.get(tenant)?.front()?))
    }

    fn first_but(&self, tenant: &TenantId) -> Option<(&T, bool)> {
        let others = self.fresh.iter().map(|other| (other, true)).chain(self.ring.iter().map(|other| (other, false)));
        let mut others = others.filter(|&(other, _)| other != tenant);
        others.find_map(|(other, is_fresh)| Some((self.lines.get(other)?.front()?, is_fresh)))
    }

    fn others_than(&self, tenant: &TenantId) -> usize {
        self.waiting.len() - self.lines.get(tenant).map_or(0, VecDeque::len)
    }

    fn pop(&mut self) -> Option<(TenantId, T)> {
        self.first()?;
        let tenant = self.fresh.pop_front().or_else(|| self.ring.pop_front())?;
        let thing = self.lines.get_mut(&tenant)?.pop_front()?;
        self.ring.push_back(tenant.clone());
        let taken = (tenant, thing);
        self.waiting.remove(&taken);
        Some(taken)
    }
}

/// Paths that may want a connection: within a tenant, sites one after the other, and within a site its paths.
#[derive(Debug, Default)]
pub(super) struct PathTurns {
    sites: Turns<SiteName>,
    paths: HashMap<SiteName, VecDeque<PathId>>,
    waiting: HashSet<PathId>,
}

impl PathTurns {
    /// Puts a path behind the tenant's others, unless it waits already.
    pub(super) fn push(&mut self, tenant: &TenantId, site: &SiteName, path: PathId) {
        if self.waiting.insert(path) {
            self.paths.entry(site.clone()).or_default().push_back(path);
        }
        self.sites.push(tenant, site.clone());
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// For how many sites others than this tenant wait.
    pub(super) fn others_than(&self, tenant: &TenantId) -> usize {
        self.sites.others_than(tenant)
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<PathId> {
        loop {
            let (tenant, site) = self.sites.pop()?;
            // Another tenant's turn may have been used for the same path.
            let Some(paths) = self.paths.get_mut(&site) else { continue };
            let path = paths.pop_front()?;
            if paths.is_empty() {
                self.paths.remove(&site);
            } else {
                self.sites.push(&tenant, site);
            }
            self.waiting.remove(&path);
            return Some(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn things(turns: &mut Turns<u32>) -> Vec<u32> {
        std::iter::from_fn(|| turns.pop()).map(|(_, thing)| thing).collect()
    }

    #[test]
    fn a_site_with_many_paths_has_one_turn_like_the_others() {
        let (a, b): (SiteName, SiteName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut turns = PathTurns::default();
        for path in [1, 2, 3, 3] {
            turns.push(&tenant("acme"), &a, PathId(path));
        }
        turns.push(&tenant("acme"), &b, PathId(9));
        let order: Vec<u64> = std::iter::from_fn(|| turns.pop()).map(|path| path.0).collect();
        assert_eq!(order, [1, 9, 2, 3]);
        assert!(turns.is_empty());
    }

    #[test]
    fn tenants_have_their_turns_one_after_the_other() {
        let mut turns = Turns::default();
        for thing in [1, 2, 3, 3] {
            turns.push(&tenant("large"), thing);
        }
        turns.push(&tenant("small"), 3);
        assert_eq!(things(&mut turns), [1, 3, 2, 3]);
    }

    #[test]
    fn who_is_new_goes_first_once_in_a_round() {
        let mut turns = Turns::default();
        for thing in 1..9 {
            turns.push(&tenant("large"), thing);
        }
        turns.pop();
        turns.push(&tenant("small"), 100);
        assert_eq!(turns.pop().map(|(_, thing)| thing), Some(100));
        turns.push(&tenant("small"), 101);
        turns.push(&tenant("third"), 200);
        assert_eq!(turns.first_but(&tenant("large")), Some((&200, true)));
        assert_eq!(things(&mut turns)[..3], [200, 2, 101]);
    }
}
