//! A configuration that says something unknown, or nothing sensible, is refused with the file, the key and the nearest
//! known one; nothing is left running.

use anyhow::Result;
use postrider_tests::cluster::Plan;

/// Starts with this configuration; it must refuse with one complaint that holds all of these.
fn is_refused_with(config: &str, words: &[&str]) -> Result<()> {
    let plan = Plan::new()?.config(config);
    let (status, said) = plan.fails()?;
    assert_eq!(status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(said.trim().lines().count() <= 2, "not one clear line: {said}");
    Ok(())
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() -> Result<()> {
    is_refused_with(
        "[delivery]\nconection_timeout_secs = 3",
        &["config.toml", "delivery.conection_timeout_secs", "connect_timeout_secs"],
    )
}

#[test]
fn an_unknown_table_is_named_with_the_nearest_known_one() -> Result<()> {
    is_refused_with("[delivry]\nehlo_name = \"a\"", &["config.toml", "delivry", "delivery"])
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_key() -> Result<()> {
    is_refused_with("[delivery]\nconversations = \"many\"", &["config.toml", "delivery.conversations"])
}

#[test]
fn a_file_that_is_no_toml_is_named_with_line_and_column() -> Result<()> {
    is_refused_with("[delivery\nconversations = 3", &["config.toml:1:"])
}

#[test]
fn a_file_that_is_not_there_is_named() -> Result<()> {
    let (status, said) = Plan::new()?.with(&["--config", "/nonexistent/postrider.toml"]).fails()?;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("/nonexistent/postrider.toml"), "{said}");
    Ok(())
}

#[test]
fn a_limit_that_makes_no_sense_is_named_with_its_key() -> Result<()> {
    is_refused_with(
        "[delivery.shaping.site.google]\nconnections = 0",
        &["config.toml", "delivery.shaping.site.google.connections"],
    )
}

#[test]
fn tiers_that_do_not_grow_are_refused() -> Result<()> {
    is_refused_with("[nats]\ntier_delays_secs = [32, 2, 4, 8, 16]", &["config.toml", "nats.tier_delays_secs must grow"])
}
