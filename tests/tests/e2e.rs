//! End to end: the built program on loopback, mail in by real clients, out to real and simulated servers, and what the
//! client commands say of it. One file a scenario, named by the scenario.

mod e2e {
    mod bench;

    mod first_message;

    mod peers;

    mod peer_matrix;

    mod large_and_foreign;

    mod fan_out;

    mod deferred_then_delivered;

    mod operator;

    mod backlog;

    mod bounced;

    mod receiver_misbehaves;

    mod receiver_limits;

    mod backup_server;

    mod exchangers;

    mod transport;

    mod dkim;

    mod bad_input;

    mod config_errors;

    mod refuses_to_start;

    mod nats_server_dies;

    mod restart_resumes;

    mod stops_cleanly;

    mod faults;

    mod delivery_killed;

    mod delivery_frozen;

    mod delivery_handover;

    mod fault_points;

    mod nats_faults;

    mod nats_frozen;

    mod nats_nearly_full;

    mod front_killed;

    mod suspended;

    mod shared_bodies;

    mod chaos;

    mod durability;
}
