//! What a system under load costs: CPU of all its processes, short-lived ones included, and their memory. By a cgroup of its own
//! where one can be made (root, or a delegated subtree), else by the process tree in /proc.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The processes of a system.
pub struct Group {
    kind: Kind,
}

enum Kind {
    /// cgroup v1, controller cpuacct.
    CpuAccounting(PathBuf),
    /// cgroup v2.
    Unified(PathBuf),
    /// All descendants of some processes.
    Tree(Vec<u32>),
}

/// Memory of all processes of a group, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set sizes: shared pages are divided among those that share them. The fair figure for many processes.
    pub pss: u64,
    /// Resident set sizes: shared pages count for each process.
    pub rss: u64,
}

impl Memory {
    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self { pss: self.pss.max(other.pss), rss: self.rss.max(other.rss) }
    }
}

impl Group {
    /// A new cgroup, or none where the machine gives none.
    pub fn new(name: &str) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/cpuacct").join(name);
        if Path::new("/sys/fs/cgroup/cpuacct/cpuacct.usage").exists() && std::fs::create_dir(&v1).is_ok() {
            return Self { kind: Kind::CpuAccounting(v1) };
        }
        if let Some(v2) = own_unified().map(|own| own.join(name))
            && std::fs::create_dir(&v2).is_ok()
        {
            if v2.join("cpu.stat").exists() {
                return Self { kind: Kind::Unified(v2) };
            }
            drop(std::fs::remove_dir(&v2));
        }
        Self { kind: Kind::Tree(Vec::new()) }
    }

    /// The file that a process writes its id to, to be of the group; nothing where there is no cgroup.
    pub fn door(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::CpuAccounting(folder) | Kind::Unified(folder) => Some(folder.join("cgroup.procs")),
            Kind::Tree(_) => None,
        }
    }

    /// A process that others descend from.
    pub fn begins_with(&mut self, pid: u32) {
        if let Kind::Tree(roots) = &mut self.kind {
            roots.push(pid);
        }
    }

    /// How CPU is counted, for the results.
    pub fn method(&self) -> &'static str {
        match self.kind {
            Kind::CpuAccounting(_) => "cgroup cpuacct",
            Kind::Unified(_) => "cgroup v2",
            Kind::Tree(_) => "/proc (what short-lived processes used counts once their parents have waited for them)",
        }
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        match &self.kind {
            Kind::CpuAccounting(folder) | Kind::Unified(folder) => {
                let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                text.lines().filter_map(|line| line.parse().ok()).collect()
            }
            Kind::Tree(roots) => tree(roots, &all_stats()),
        }
    }

    /// CPU used so far.
    pub fn cpu(&self) -> Duration {
        match &self.kind {
            Kind::CpuAccounting(folder) => {
                let text = std::fs::read_to_string(folder.join("cpuacct.usage")).unwrap_or_default();
                Duration::from_nanos(text.trim().parse().unwrap_or(0))
            }
            Kind::Unified(folder) => {
                let text = std::fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                Duration::from_micros(usage.and_then(|micros| micros.trim().parse().ok()).unwrap_or(0))
            }
            Kind::Tree(roots) => {
                let stats = all_stats();
                let of_tree = tree(roots, &stats);
                ticks(of_tree.iter().filter_map(|pid| stats.get(pid)).map(|stat| stat.ticks).sum())
            }
        }
    }

    /// Memory in use now. Costs the kernel a walk over all page tables: not to be asked often.
    pub fn memory(&self) -> Memory {
        self.pids().into_iter().fold(Memory::default(), |sum, pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let kib = |name: &str| -> u64 {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
            };
            Memory { pss: sum.pss + (kib("Pss:") << 10), rss: sum.rss + (kib("Rss:") << 10) }
        })
    }

    /// The resident set of its largest process, bytes.
    pub fn largest(&self) -> u64 {
        let resident = |pid: u32| -> Option<u64> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
        };
        self.pids().into_iter().filter_map(resident).max().unwrap_or(0)
    }

    /// Removes the cgroup; its processes have ended.
    pub fn remove(&self) {
        if let Kind::CpuAccounting(folder) | Kind::Unified(folder) = &self.kind
            && let Err(error) = std::fs::remove_dir(folder)
        {
            tracing::warn!(%error, folder = %folder.display(), "cannot remove a cgroup");
        }
    }
}

/// The own place in the unified hierarchy.
fn own_unified() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let root = root.into_iter().find(|root| root.join("cgroup.procs").exists())?;
    Some(root.join(own.trim_start_matches('/')))
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn all_stats() -> BTreeMap<u32, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, stat(&text)?))
    })
    .collect()
}

/// Parent, and the ticks of it and of the children it has waited for (proc(5)).
fn stat(text: &str) -> Option<Stat> {
    // The name stands in parentheses and may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks: (11..15).filter_map(number).sum() })
}

fn tree(roots: &[u32], stats: &BTreeMap<u32, Stat>) -> Vec<u32> {
    let mut found = BTreeSet::from_iter(roots.iter().copied());
    loop {
        let before = found.len();
        found.extend(
            stats.iter().filter(|(_, stat)| found.contains(&stat.parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

/// Linux tells times in hundredths of a second (USER_HZ).
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}

/// What the whole machine did until now.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    busy: Duration,
    total: Duration,
}

impl Machine {
    /// Reads it.
    pub fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let fields: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
        let total = fields.iter().sum();
        let idle: u64 = fields.iter().skip(3).take(2).sum();
        Self { busy: ticks(total - idle), total: ticks(total) }
    }

    /// The share of all CPU since `before` that others than ourselves took; `ours` is what we used.
    pub fn others_since(self, before: Self, ours: Duration) -> f64 {
        let total = self.total.saturating_sub(before.total).as_secs_f64();
        let others = self.busy.saturating_sub(before.busy).saturating_sub(ours).as_secs_f64();
        if total > 0.0 { others / total } else { 0.0 }
    }

    /// CPU that this process has used so far.
    pub fn own_cpu() -> Duration {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Some((_, rest)) = text.rsplit_once(')') else { return Duration::ZERO };
        ticks(rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_stat_is_read_whatever_the_name() {
        let text = "42 (a ) name) S 7 42 42 0 -1 4194304 100 0 0 0 11 12 13 14 20 0 1 0 5 6 7";
        let stat = stat(text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, 50));
    }

    #[test]
    fn a_tree_holds_all_descendants_and_nobody_else() {
        let of = |parent| Stat { parent, ticks: 0 };
        let stats = BTreeMap::from([(9, of(1)), (5, of(9)), (3, of(5)), (4, of(1))]);
        assert_eq!(tree(&[9], &stats), [3, 5, 9]);
    }

    #[test]
    fn a_child_is_counted() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let group = Group { kind: Kind::Tree(vec![child.id()]) };
        assert_eq!(group.pids(), [child.id()]);
        assert!(group.memory().rss > 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
