//! One binary, a subcommand each.

fn main() {}
