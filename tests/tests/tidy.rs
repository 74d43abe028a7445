//! What the house style promises and only a test keeps: which way dependencies point, what the core never touches, how long
//! a file gets, that every file says what it is for, and that one crypto provider is built.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod tidy {
    mod tree;

    mod crates;

    mod core;

    mod files;

    mod lockfile;
}
