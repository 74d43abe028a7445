//! Tests of the dispatcher together with the limit owner, by concern.

mod world;

mod choosing;

mod fairness;

mod ramp;

mod conversations;

mod far_owner;

mod waiting;

mod jams;

mod outcomes;

mod bodies;

mod orders;

mod full;

mod shards;

mod random;
