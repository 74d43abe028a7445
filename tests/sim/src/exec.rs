//! Virtual time: tasks of processes that wait for each other and for the clock, one at a time, in an order that the seed decides.
//! A process can be killed between any two steps, or frozen: then time goes on without it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use postrider_dispatch::retry::Dice;
use postrider_model::Timestamp;

/// The life of a process, from its start to its end. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(pub u32);

impl Life {
    /// The world outside our processes: networks, the server, exchangers, senders. Never killed.
    pub const WORLD: Self = Self(0);
}

/// Where virtual time begins.
pub const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// No story takes so many.
const MOST_STEPS: u64 = 30_000_000;

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    life: Life,
    /// Out while it is polled.
    task: Option<Task>,
    waker: Arc<Rouse>,
}

/// Puts a task back in line.
struct Rouse {
    id: u64,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Rouse {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap().push(self.id);
        }
    }
}

struct Inner {
    now: Timestamp,
    dice: Dice,
    tasks: HashMap<u64, Slot>,
    next_task: u64,
    timers: BTreeMap<(Timestamp, u64), Waker>,
    next_timer: u64,
    frozen: BTreeSet<Life>,
    parked: Vec<u64>,
    steps: u64,
    trace: u64,
}

/// The simulated world. A clone is the same one.
#[derive(Clone)]
pub struct Sim {
    inner: Rc<RefCell<Inner>>,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Sim {
    /// A world in which nothing has happened.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            now: BEGIN,
            dice: Dice::new(seed),
            tasks: HashMap::new(),
            next_task: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            frozen: BTreeSet::new(),
            parked: Vec::new(),
            steps: 0,
            trace: 0,
        };
        Self { inner: Rc::new(RefCell::new(inner)), ready: Arc::default() }
    }

    /// The time, as nobody but the world knows it exactly.
    pub fn now(&self) -> Timestamp {
        self.inner.borrow().now
    }

    /// How many times a task went on.
    pub fn steps(&self) -> u64 {
        self.inner.borrow().steps
    }

    /// Whether it never comes to rest: it has taken more steps than any story does.
    pub fn is_restless(&self) -> bool {
        self.steps() > MOST_STEPS
    }

    /// A number that is the same for two runs that went the same way.
    pub fn trace(&self) -> u64 {
        self.inner.borrow().trace
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.inner.borrow_mut().dice.roll() % end.max(1)
    }

    /// Whether something of this probability (in thousandths) happens.
    pub fn chance(&self, thousandths: u64) -> bool {
        self.below(1_000) < thousandths
    }

    /// A time below `millis`.
    pub fn some_time(&self, millis: u64) -> Duration {
        Duration::from_millis(self.below(millis))
    }

    /// Begins a task of a process.
    pub fn spawn(&self, life: Life, task: impl Future<Output = ()> + 'static) {
        let mut inner = self.inner.borrow_mut();
        let id = inner.next_task;
        inner.next_task += 1;
        let waker = Arc::new(Rouse { id, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        waker.wake_by_ref();
        inner.tasks.insert(id, Slot { life, task: Some(Box::pin(task)), waker });
    }

    /// Waits.
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.sleep_until(self.now().after(time))
    }

    /// Waits for a moment.
    pub fn sleep_until(&self, until: Timestamp) -> Sleep {
        Sleep { sim: self.clone(), until, key: None }
    }

    /// Ends all tasks of a process, wherever they are.
    pub fn kill(&self, life: Life) {
        let mut inner = self.inner.borrow_mut();
        let mut ids: Vec<u64> = inner.tasks.iter().filter(|(_, slot)| slot.life == life).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let killed: Vec<Option<Slot>> = ids.iter().map(|id| inner.tasks.remove(id)).collect();
        inner.frozen.remove(&life);
        drop(inner);
        // What a task holds may look at the world when it is dropped.
        drop(killed);
    }

    /// Time goes on without this process.
    pub fn freeze(&self, life: Life) {
        self.inner.borrow_mut().frozen.insert(life);
    }

    /// It goes on.
    pub fn thaw(&self, life: Life) {
        let mut inner = self.inner.borrow_mut();
        inner.frozen.remove(&life);
        let parked = std::mem::take(&mut inner.parked);
        self.ready.lock().unwrap().extend(parked);
    }

    /// Goes on until `done`, or until the time is over. Whether it is done.
    pub fn run(&self, until: Timestamp, done: impl Fn() -> bool) -> bool {
        loop {
            while let Some(id) = self.pick() {
                self.poll(id);
                if done() || self.is_restless() {
                    return true;
                }
            }
            let mut inner = self.inner.borrow_mut();
            let Some((&(at, _), _)) = inner.timers.first_key_value() else { return done() };
            if at > until {
                inner.now = until;
                return done();
            }
            inner.now = inner.now.max(at);
            while let Some(entry) = inner.timers.first_entry().filter(|entry| entry.key().0 <= at) {
                entry.remove().wake();
            }
        }
    }

    fn pick(&self) -> Option<u64> {
        let mut ready = self.ready.lock().unwrap();
        if ready.is_empty() {
            return None;
        }
        let mut inner = self.inner.borrow_mut();
        let count = u64::try_from(ready.len()).unwrap();
        let position = usize::try_from(inner.dice.roll() % count).unwrap();
        Some(ready.swap_remove(position))
    }

    fn poll(&self, id: u64) {
        let mut inner = self.inner.borrow_mut();
        let Some(slot) = inner.tasks.get_mut(&id) else { return };
        let life = slot.life;
        let waker = Arc::clone(&slot.waker);
        if inner.frozen.contains(&life) {
            inner.parked.push(id);
            return;
        }
        let Some(mut task) = inner.tasks.get_mut(&id).and_then(|slot| slot.task.take()) else { return };
        inner.steps += 1;
        inner.trace = (inner.trace ^ id ^ inner.now.as_millis()).wrapping_mul(0x0000_0100_0000_01b3);
        drop(inner);
        waker.queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(waker);
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        let mut inner = self.inner.borrow_mut();
        match polled {
            Poll::Ready(()) => drop(inner.tasks.remove(&id)),
            // Killed by itself, perhaps.
            Poll::Pending => match inner.tasks.get_mut(&id) {
                Some(slot) => slot.task = Some(task),
                None => {
                    drop(inner);
                    drop(task);
                }
            },
        }
    }

    /// Ends everything: tasks hold the world, and the world holds tasks.
    pub fn end(&self) {
        let tasks = std::mem::take(&mut self.inner.borrow_mut().tasks);
        drop(tasks);
    }
}

/// Waits for a moment.
pub struct Sleep {
    sim: Sim,
    until: Timestamp,
    key: Option<(Timestamp, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let sim = self.sim.clone();
        let mut inner = sim.inner.borrow_mut();
        if let Some(key) = self.key.take() {
            inner.timers.remove(&key);
        }
        if inner.now >= self.until {
            return Poll::Ready(());
        }
        inner.next_timer += 1;
        let key = (self.until, inner.next_timer);
        inner.timers.insert(key, context.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.sim.inner.borrow_mut().timers.remove(&key);
        }
    }
}
