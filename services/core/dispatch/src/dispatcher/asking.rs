//! How a conversation comes about: a lane wants one, its path asks the limit owner, one question at a time for each class,
//! tenants in turn; a permit opens a connection for the next ticket. Also the renewal of permits.

use std::time::Duration;

use postrider_model::{Class, Timestamp, WaitReason};

use super::alarm::Alarm;
use super::conversation::{Talk, TalkStage};
use super::index::Stage;
use super::lane::{LaneId, PathId, Wait};
use super::{Action, Ask, Conversation, Dispatcher, Permit, PermitId, RequestId};

/// Nobody is asked more often than this, whatever he says.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// A question that is out.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// For a connection.
    Connection { path: PathId, class: Class },
    /// For keeping one, or for more messages over it. The conversation may have ended meanwhile.
    Renewal { conversation: Conversation, path: super::Path, permit: PermitId },
}

impl Dispatcher {
    /// Notes that a lane may want a connection for a class.
    pub(super) fn wants(&mut self, id: LaneId, class: Class) {
        let quantum = self.config.quantum;
        let Some((lane, path)) = self.lanes.both_mut(id) else { return };
        if !lane.wants(class, &self.config, self.now) {
            return;
        }
        let path_id = lane.path;
        let Some(tenant) = lane.queues[class].next_tenant(quantum) else { return };
        path.wanting[class].push(tenant, id);
        self.turns[class].push(tenant, &path.path.site, path_id);
    }

    /// Asks for connections, as far as there is room for them in this process.
    pub(super) fn ask_for_connections(&mut self) {
        for class in Class::ALL {
            while self.has_room_for_conversation(class) {
                let Some(path) = self.turns[class].pop() else { break };
                self.ask_for_connection(path, class);
            }
            // No room: one that has nothing to do makes some.
            if !self.turns[class].is_empty()
                && let Some(&id) = self.idle.first()
            {
                self.close(id);
            }
        }
    }

    pub(super) fn has_room_for_conversation(&self, class: Class) -> bool {
        let all = self.config.conversations.max(1);
        let open = self.conversations.len() + self.asked_connections;
        match class {
            Class::Transactional => open < all,
            Class::Bulk => open < all - all / 5,
        }
    }

    fn ask_for_connection(&mut self, id: PathId, class: Class) {
        let now = self.now;
        let Some(path) = self.lanes.path(id) else { return };
        let waits = path.wait[class].is_some_and(|wait| wait.until > now);
        if waits || path.asked[class].is_some() || self.lanes.suspended_until(&path.path.source, now).is_some() {
            return;
        }
        let Some(lane_id) = self.next_wanting(id, class) else { return };
        let quantum = self.config.quantum;
        let Some((lane, path)) = self.lanes.both_mut(lane_id) else { return };
        let Some((_, least)) = lane.queues[class].next(quantum) else { return };
        let messages = u32::try_from(lane.queues[class].cost()).unwrap_or(u32::MAX - 1);
        let ask = Ask { path: path.path.clone(), class, least, messages, connections: path.conversations };
        path.asked[class] = Some(now);
        self.asked_connections += 1;
        let request = self.new_request(Request::Connection { path: id, class });
        self.actions.push_back(Action::Acquire { request, ask });
    }

    /// The lane of a path whose turn it is to get a connection.
    fn next_wanting(&mut self, id: PathId, class: Class) -> Option<LaneId> {
        loop {
            let (_, &lane) = self.lanes.path_mut(id)?.wanting[class].first()?;
            if self.lanes.lane(lane).is_some_and(|lane| lane.wants(class, &self.config, self.now)) {
                return Some(lane);
            }
            self.lanes.path_mut(id)?.wanting[class].pop();
        }
    }

    fn new_request(&mut self, request: Request) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.requests.insert(id, request);
        id
    }

    /// A limit owner said yes.
    pub(super) fn granted(&mut self, request: RequestId, permit: Permit) {
        match self.requests.remove(&request) {
            None => {}
            Some(Request::Connection { path, class }) => self.connection_granted(path, class, permit),
            Some(Request::Renewal { conversation, path, permit: before }) => {
                let answered =
                    self.change(conversation, |talk, now| talk.request.take().map(|_| talk.renewed(permit, now)));
                if answered.is_none() && permit.id != before {
                    self.actions.push_back(Action::Release { permit: permit.id, path, used: 0 });
                }
                self.choose(conversation);
            }
        }
    }

    fn connection_granted(&mut self, id: PathId, class: Class, permit: Permit) {
        self.answered(id, class, None);
        match self.next_wanting(id, class) {
            Some(lane) => self.open(lane, class, permit),
            None => {
                if let Some(path) = self.lanes.path(id) {
                    let path = path.path.clone();
                    self.actions.push_back(Action::Release { permit: permit.id, path, used: 0 });
                }
            }
        }
        self.ask_again(id, class);
    }

    /// A limit owner said not now.
    pub(super) fn told_to_wait(&mut self, request: RequestId, until: Timestamp, reason: WaitReason) {
        let until = until.max(self.now.after(SHORTEST_WAIT));
        match self.requests.remove(&request) {
            None => {}
            Some(Request::Connection { path, class }) => {
                self.answered(path, class, Some(Wait { until, reason }));
                self.set_path_alarm(path);
                self.move_path_if_blocked(path, class);
                if reason == WaitReason::ConnectionLimit {
                    self.make_room_on_path(path, class);
                }
            }
            Some(Request::Renewal { conversation, .. }) => self.renewal_must_wait(conversation, until),
        }
    }

    /// Closes a conversation of a path that has nothing to do: another of its lanes wants one, and its limit is reached.
    fn make_room_on_path(&mut self, id: PathId, class: Class) {
        let Some(path) = self.lanes.path(id) else { return };
        let shared = path.idle[Class::Bulk].first();
        let reserved = path.idle[Class::Transactional].first().filter(|_| class == Class::Transactional);
        if let Some(&idle) = shared.or(reserved) {
            self.close(idle);
        }
    }

    fn answered(&mut self, id: PathId, class: Class, wait: Option<Wait>) {
        self.asked_connections -= 1;
        if let Some(path) = self.lanes.path_mut(id) {
            path.asked[class] = None;
            path.wait[class] = wait;
        }
        self.lanes.forget_path_if_unused(id);
    }

    fn renewal_must_wait(&mut self, id: Conversation, until: Timestamp) {
        let idle_timeout = self.config.idle_timeout;
        let too_long = self.change(id, |talk, now| {
            talk.request = None;
            talk.ask_at = Some(until);
            matches!(talk.stage, TalkStage::Idle { .. })
                && (until >= talk.permit.until || until > now.after(idle_timeout))
        });
        if too_long == Some(true) {
            self.close(id);
        }
    }

    /// Lets a path ask once more, if one of its lanes wants a connection.
    pub(super) fn ask_again(&mut self, id: PathId, class: Class) {
        let Some(path) = self.lanes.path_mut(id) else { return };
        if let Some((tenant, _)) = path.wanting[class].first() {
            self.turns[class].push(tenant, &path.path.site, id);
        }
    }

    pub(super) fn set_path_alarm(&mut self, id: PathId) {
        let now = self.now;
        let Some(path) = self.lanes.path(id) else { return };
        let wait = |class| path.wait[class].map(|wait| wait.until).filter(|&until| until > now);
        let next = Class::ALL.into_iter().filter_map(wait).min();
        self.alarms.set(Alarm::Path(id), next);
    }

    /// Opens a conversation for the next ticket of a lane.
    fn open(&mut self, lane_id: LaneId, asked: Class, permit: Permit) {
        let (now, quantum) = (self.now, self.config.quantum);
        let Some((lane, path)) = self.lanes.both_mut(lane_id) else { return };
        let bulk = (permit.class == Class::Bulk).then_some(Class::Bulk);
        let mut classes = [Some(Class::Transactional), bulk].into_iter().flatten();
        let path_state = path.path.clone();
        let Some(ticket) = classes.find_map(|class| lane.queues[class].pop(quantum)) else {
            self.actions.push_back(Action::Release { permit: permit.id, path: path_state, used: 0 });
            return;
        };
        path.wanting[asked].pop();
        let Some(tenant) = self.index.get(ticket).map(|held| held.entry.tenant.clone()) else { return };
        path.conversations += 1;
        lane.conversations += 1;
        self.last_conversation += 1;
        let id = Conversation(self.last_conversation);
        let talk = Talk::new(lane_id, asked, tenant.clone(), permit, ticket, now);
        lane.count(id, &talk);
        self.alarms.set(Alarm::Conversation(id), talk.wake_at(self.config.idle_timeout));
        self.conversations.insert(id, talk);
        let exchange = lane.exchange.clone();
        let weight = self.weight_of(&tenant);
        self.shares.add(&tenant, weight);
        self.left_line(lane_id);
        self.set_stage(ticket, Stage::Bound(id));
        self.actions.push_back(Action::Open { conversation: id, path: path_state, exchange, ticket });
        self.read_ahead_of(ticket);
        self.wants(lane_id, asked);
    }

    /// Asks to keep a conversation's permit, and for leave to send to `messages` more recipients.
    pub(super) fn renew(&mut self, id: Conversation, class: Class, least: u32, messages: u32) {
        let Some(talk) = self.conversations.get(&id) else { return };
        let Some((_, path)) = self.lanes.both(talk.lane) else { return };
        let ask = Ask { path: path.path.clone(), class, least, messages, connections: path.conversations };
        let (permit, used, path) = (talk.permit.id, talk.used, path.path.clone());
        let request = self.new_request(Request::Renewal { conversation: id, path, permit });
        self.change(id, |talk, _| talk.asks(request));
        self.actions.push_back(Action::Renew { request, permit, used, ask });
    }
}
