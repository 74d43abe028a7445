//! What to send next, from where, now or when; and the moves of an envelope through the queue. All of it is machines: facts
//! and the time go in, actions come out. Nothing here waits, reads a clock, rolls dice or talks to anybody.

pub mod sites;

pub mod parts;

pub mod limits;

pub mod rules;

pub mod dispatcher;

pub mod retry;

pub mod reply_class;

pub mod stay;

pub mod settle;

pub mod ownership;

pub mod takeover;

pub mod shard_state;

pub mod promote;

pub mod split;
