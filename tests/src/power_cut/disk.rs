//! What a disk holds after a list of calls: for every file the bytes and for every folder the names that the system showed,
//! and beside them those that were put down. The rules stand in `power_cut`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::record::{Call, Record, path};

/// What is kept of that which was not put down by an fsync of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// All of it: no power cut at all.
    Live,
    /// The names of files that were put down themselves, as filesystems with a journal keep them.
    Journal,
    /// Nothing.
    Posix,
}

/// The content of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub folders: BTreeSet<PathBuf>,
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

/// Replays the calls that had returned by `until`, all of them without it. What had returned by `all_down` was put down by a
/// sync of the whole filesystem.
pub fn replay(
    record: &Record,
    store: &Path,
    until: Option<Duration>,
    all_down: Option<Duration>,
    disk: Disk,
) -> Result<Tree> {
    let mut state = State::new(store, disk);
    let mut all_down = all_down;
    for (index, call) in record.calls.iter().enumerate() {
        if until.is_some_and(|until| call.returned > until) {
            continue;
        }
        if all_down.take_if(|all_down| call.returned > *all_down).is_some() {
            state.put_all_down();
        }
        state.apply(index, call).with_context(|| format!("call {index}, {}", call.name))?;
    }
    if all_down.is_some() {
        state.put_all_down();
    }
    let mut tree = Tree::default();
    state.gather(State::ROOT, Path::new(""), &mut tree);
    Ok(tree)
}

impl Tree {
    /// Reads a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let mut left = vec![PathBuf::new()];
        while let Some(below) = left.pop() {
            for entry in std::fs::read_dir(folder.join(&below))? {
                let entry = entry?;
                let path = below.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    tree.folders.insert(path.clone());
                    left.push(path);
                } else {
                    tree.files.insert(path, std::fs::read(entry.path())?);
                }
            }
        }
        Ok(tree)
    }

    /// Writes it into a folder that is made.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        for below in &self.folders {
            std::fs::create_dir_all(folder.join(below))?;
        }
        for (below, bytes) in &self.files {
            std::fs::write(folder.join(below), bytes)?;
        }
        Ok(())
    }
}

type Id = usize;

/// A change to bytes, and the number of the call that made it.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::Cut(length) => bytes.resize(*length, 0),
        }
    }
}

/// A file or a folder: as the system shows it, and as it is on disk.
#[derive(Debug, Default)]
struct Node {
    is_folder: bool,
    parent: Option<Id>,
    bytes: Vec<u8>,
    bytes_on_disk: Vec<u8>,
    pending: Vec<(usize, Change)>,
    names: BTreeMap<OsString, Id>,
    names_on_disk: BTreeMap<OsString, Id>,
}

type Name = (Id, OsString);

/// A name that came, went or changed, not yet on disk. `at` is the number of the call.
#[derive(Clone, Debug)]
struct Renaming {
    at: usize,
    node: Id,
    gone: Option<Name>,
    come: Option<Name>,
}

impl Renaming {
    fn names(&self) -> impl Iterator<Item = &Name> {
        self.gone.iter().chain(&self.come)
    }
}

/// What a descriptor stands for.
#[derive(Clone, Debug)]
struct Open {
    node: Id,
    at: usize,
    appends: bool,
    syncs: bool,
    offset: usize,
}

struct State {
    store: PathBuf,
    disk: Disk,
    nodes: Vec<Node>,
    renamings: Vec<Renaming>,
    open: HashMap<i64, Open>,
}

impl State {
    const ROOT: Id = 0;

    fn new(store: &Path, disk: Disk) -> Self {
        let root = Node { is_folder: true, ..Node::default() };
        Self { store: store.to_owned(), disk, nodes: vec![root], renamings: Vec::new(), open: HashMap::new() }
    }

    fn gather(&self, folder: Id, path: &Path, into: &mut Tree) {
        let node = &self.nodes[folder];
        let live = self.disk == Disk::Live;
        for (name, &id) in if live { &node.names } else { &node.names_on_disk } {
            let (path, child) = (path.join(name), &self.nodes[id]);
            if child.is_folder {
                into.folders.insert(path.clone());
                self.gather(id, &path, into);
            } else {
                into.files.insert(path, if live { child.bytes.clone() } else { child.bytes_on_disk.clone() });
            }
        }
    }

    /// The folder and last name of a path, if it lies in the store.
    fn place(&self, folder: Option<i64>, path: &Path) -> Result<Option<Name>> {
        let (mut at, below) = match (path.strip_prefix(&self.store), folder.and_then(|fd| self.open.get(&fd))) {
            (Ok(below), _) => (Self::ROOT, below),
            (Err(_), Some(open)) if path.is_relative() => (open.node, path),
            (Err(_), _) => return Ok(None),
        };
        let mut names: Vec<&OsStr> = below.iter().collect();
        let Some(last) = names.pop() else { return Ok(None) };
        for name in names {
            at = *self.nodes[at].names.get(name).with_context(|| format!("{} was never made", path.display()))?;
        }
        Ok(Some((at, last.to_owned())))
    }

    fn found(&self, (folder, name): &Name) -> Option<Id> {
        self.nodes[*folder].names.get(name).copied()
    }

    fn make(&mut self, at: usize, place: Name, is_folder: bool) -> Id {
        let node = self.nodes.len();
        self.nodes.push(Node { is_folder, ..Node::default() });
        self.rename(Renaming { at, node, gone: None, come: Some(place) });
        node
    }

    fn rename(&mut self, renaming: Renaming) {
        if let Some((folder, name)) = &renaming.gone {
            self.nodes[*folder].names.remove(name);
        }
        if let Some((folder, name)) = &renaming.come {
            self.nodes[*folder].names.insert(name.clone(), renaming.node);
        }
        self.nodes[renaming.node].parent = renaming.come.as_ref().map(|(folder, _)| *folder);
        self.renamings.push(renaming);
    }

    fn change(&mut self, at: usize, node: Id, change: Change, synced: bool) {
        let node_of = &mut self.nodes[node];
        change.apply(&mut node_of.bytes);
        if synced {
            // The length is part of what O_SYNC puts down, other bytes are not.
            for (_, earlier) in &node_of.pending {
                if let Change::Cut(_) = earlier {
                    earlier.apply(&mut node_of.bytes_on_disk);
                }
            }
            change.apply(&mut node_of.bytes_on_disk);
        }
        node_of.pending.push((at, change));
        if synced {
            self.put_down_its_name(node, at + 1);
        }
    }

    /// An fsync that began when so many calls had returned.
    fn sync(&mut self, node: Id, began_after: usize) {
        if self.nodes[node].is_folder {
            self.put_down(|renaming| renaming.at < began_after && renaming.names().any(|(folder, _)| *folder == node));
        } else {
            let node_of = &mut self.nodes[node];
            let (done, left) = std::mem::take(&mut node_of.pending).into_iter().partition(|(at, _)| *at < began_after);
            node_of.pending = left;
            let done: Vec<(usize, Change)> = done;
            done.iter().for_each(|(_, change)| change.apply(&mut node_of.bytes_on_disk));
        }
        self.put_down_its_name(node, began_after);
    }

    fn put_down_its_name(&mut self, node: Id, began_after: usize) {
        if self.disk != Disk::Journal {
            return;
        }
        let mut next = Some(node);
        while let Some(node) = next {
            self.put_down(|renaming| renaming.at < began_after && renaming.node == node && renaming.come.is_some());
            next = self.nodes[node].parent;
        }
    }

    /// A sync of everything.
    fn put_all_down(&mut self) {
        for node in &mut self.nodes {
            node.bytes_on_disk.clone_from(&node.bytes);
            node.pending.clear();
            node.names_on_disk.clone_from(&node.names);
        }
        self.renamings.clear();
    }

    /// Puts names down, and with each what happened to the same name before.
    fn put_down(&mut self, which: impl Fn(&Renaming) -> bool) {
        let mut names = BTreeSet::new();
        let mut done = Vec::new();
        for index in (0..self.renamings.len()).rev() {
            let renaming = &self.renamings[index];
            if which(renaming) || renaming.names().any(|name| names.contains(name)) {
                names.extend(renaming.names().cloned());
                done.push(self.renamings.remove(index));
            }
        }
        for renaming in done.into_iter().rev() {
            if let Some((folder, name)) = renaming.gone {
                self.nodes[folder].names_on_disk.remove(&name);
            }
            if let Some((folder, name)) = renaming.come {
                self.nodes[folder].names_on_disk.insert(name, renaming.node);
            }
        }
    }

    fn apply(&mut self, at: usize, call: &Call) -> Result<()> {
        match call.name.as_str() {
            "open" => self.opened(at, call, None),
            "openat" => self.opened(at, call, call.folder(0)?),
            "close" => {
                // Its number may have been given away before it returned.
                let descriptor = call.number(0)?;
                if self.open.get(&descriptor).is_some_and(|open| open.at < call.began_after) {
                    self.open.remove(&descriptor);
                }
                Ok(())
            }
            "dup" | "dup2" | "dup3" => self.duplicated(call),
            "fcntl" if call.has("F_DUPFD") || call.has("F_DUPFD_CLOEXEC") => self.duplicated(call),
            "fcntl" | "sync_file_range" => Ok(()),
            "write" | "writev" | "pwrite64" => self.written(at, call),
            "lseek" => {
                if let Some(open) = self.open.get_mut(&call.number(0)?) {
                    open.offset = usize::try_from(call.result)?;
                }
                Ok(())
            }
            "ftruncate" => {
                if let Some(open) = self.open.get(&call.number(0)?).cloned() {
                    self.change(at, open.node, Change::Cut(usize::try_from(call.number(1)?)?), false);
                }
                Ok(())
            }
            "fsync" | "fdatasync" => {
                if let Some(open) = self.open.get(&call.number(0)?) {
                    self.sync(open.node, call.began_after);
                }
                Ok(())
            }
            "mkdir" => self.named(at, call, None),
            "mkdirat" | "unlinkat" => self.named(at, call, call.folder(0)?),
            "unlink" | "rmdir" => self.named(at, call, None),
            "rename" => self.renamed(at, call, None, None),
            "renameat" | "renameat2" => self.renamed(at, call, call.folder(0)?, call.folder(2)?),
            other => {
                let named = call.strings()?.into_iter().any(|text| path(text).starts_with(&self.store));
                let open = call.number(0).is_ok_and(|descriptor| self.open.contains_key(&descriptor));
                if named || open {
                    bail!("{other} on the store is not understood");
                }
                Ok(())
            }
        }
    }

    fn opened(&mut self, at: usize, call: &Call, folder: Option<i64>) -> Result<()> {
        self.open.remove(&call.result);
        let name = path(call.strings()?.into_iter().next().context("no path")?);
        let node = if name == self.store {
            Self::ROOT
        } else {
            let Some(place) = self.place(folder, &name)? else { return Ok(()) };
            match self.found(&place) {
                Some(node) => node,
                None if call.has("O_CREAT") => self.make(at, place, false),
                None => bail!("{} was there before the record began", name.display()),
            }
        };
        if call.has("O_TRUNC") {
            self.change(at, node, Change::Cut(0), false);
        }
        let syncs = call.has("O_SYNC") || call.has("O_DSYNC");
        self.open.insert(call.result, Open { node, at, appends: call.has("O_APPEND"), syncs, offset: 0 });
        Ok(())
    }

    fn duplicated(&mut self, call: &Call) -> Result<()> {
        match self.open.get(&call.number(0)?).cloned() {
            Some(open) => drop(self.open.insert(call.result, open)),
            None => drop(self.open.remove(&call.result)),
        }
        Ok(())
    }

    fn written(&mut self, at: usize, call: &Call) -> Result<()> {
        let Some(open) = self.open.get_mut(&call.number(0)?) else { return Ok(()) };
        let data = call.data()?;
        let offset = match call.name.as_str() {
            "pwrite64" => usize::try_from(call.last_number()?)?,
            _ if open.appends => self.nodes[open.node].bytes.len(),
            _ => open.offset,
        };
        if call.name != "pwrite64" {
            open.offset = offset + data.len();
        }
        let Open { node, syncs, .. } = *open;
        self.change(at, node, Change::Write(offset, data), syncs);
        Ok(())
    }

    /// A name that comes (a folder) or goes.
    fn named(&mut self, at: usize, call: &Call, folder: Option<i64>) -> Result<()> {
        let name = path(call.strings()?.into_iter().next().context("no path")?);
        let Some(place) = self.place(folder, &name)? else { return Ok(()) };
        if call.name.starts_with("mkdir") {
            self.make(at, place, true);
        } else {
            let node = self.found(&place).with_context(|| format!("{} was never made", name.display()))?;
            self.rename(Renaming { at, node, gone: Some(place), come: None });
        }
        Ok(())
    }

    fn renamed(&mut self, at: usize, call: &Call, from: Option<i64>, to: Option<i64>) -> Result<()> {
        let [old, new] = <[Vec<u8>; 2]>::try_from(call.strings()?).ok().context("not two paths")?;
        let (old, new) = (path(old), path(new));
        match (self.place(from, &old)?, self.place(to, &new)?) {
            (Some(gone), Some(come)) => {
                let node = self.found(&gone).with_context(|| format!("{} was never made", old.display()))?;
                self.rename(Renaming { at, node, gone: Some(gone), come: Some(come) });
                Ok(())
            }
            (None, None) => Ok(()),
            _ => bail!("renamed into the store or out of it: {} to {}", old.display(), new.display()),
        }
    }
}

#[cfg(test)]
mod tests;
