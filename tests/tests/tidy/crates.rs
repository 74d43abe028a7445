//! Dependencies between our crates point inwards only.

use serde_json::Value;

use super::tree::cargo;

/// Who may depend on whom (DESIGN.md, "Crates and folders"): model ← smtp, message, dispatch ← proto ← io ← services ←
/// postrider. Crates of `io` do not know each other, services do not know each other.
const MAY_DEPEND_ON: [(&str, &[&str]); 14] = [
    ("postrider-model", &[]),
    ("postrider-smtp", &["postrider-model"]),
    ("postrider-message", &["postrider-model"]),
    ("postrider-dispatch", &["postrider-model"]),
    ("postrider-proto", &CORE),
    ("postrider-nats", &CORE_AND_PROTO),
    ("postrider-net", &CORE_AND_PROTO),
    ("postrider-runtime", &CORE_AND_PROTO),
    ("postrider-ingress", &BELOW_SERVICES),
    ("postrider-delivery", &BELOW_SERVICES),
    ("postrider-control", &BELOW_SERVICES),
    ("postrider", &EVERYTHING),
    // The harness drives the built program from outside, as a user would.
    ("postrider-tests", &[]),
    // The simulation of the machines, and the model of JetStream that it runs them on.
    ("postrider-sim", &CORE),
];

const CORE: [&str; 4] = ["postrider-model", "postrider-smtp", "postrider-message", "postrider-dispatch"];
const CORE_AND_PROTO: [&str; 5] =
    ["postrider-model", "postrider-smtp", "postrider-message", "postrider-dispatch", "postrider-proto"];
const BELOW_SERVICES: [&str; 8] = [
    "postrider-model",
    "postrider-smtp",
    "postrider-message",
    "postrider-dispatch",
    "postrider-proto",
    "postrider-nats",
    "postrider-net",
    "postrider-runtime",
];
const EVERYTHING: [&str; 11] = [
    "postrider-model",
    "postrider-smtp",
    "postrider-message",
    "postrider-dispatch",
    "postrider-proto",
    "postrider-nats",
    "postrider-net",
    "postrider-runtime",
    "postrider-ingress",
    "postrider-delivery",
    "postrider-control",
];

/// Name and direct dependencies of our crates; what only their tests need is left out.
fn our_crates() -> Vec<(String, Vec<String>)> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let built = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
            let names = built.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (package["name"].as_str().unwrap().to_owned(), names.collect())
        })
        .collect()
}

#[test]
fn dependencies_point_inwards_only() {
    let mut wrong = Vec::new();
    for (name, dependencies) in our_crates() {
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name} is not in the table of this test: say what it may depend on"));
            continue;
        };
        for dependency in dependencies.iter().filter(|dependency| dependency.starts_with("postrider")) {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_depends_on_nothing_that_runs_waits_or_rolls_dice() {
    const KEPT_OUT: [&str; 14] = [
        "tokio",
        "tokio-util",
        "async-nats",
        "futures-util",
        "hickory-resolver",
        "rustls",
        "tokio-rustls",
        "tonic",
        "rand",
        "getrandom",
        "tracing",
        "log",
        "moka",
        "prometheus",
    ];
    let mut wrong = Vec::new();
    for (name, dependencies) in our_crates().into_iter().filter(|(name, _)| CORE.contains(&name.as_str())) {
        let found = dependencies.into_iter().filter(|dependency| KEPT_OUT.contains(&dependency.as_str()));
        wrong.extend(found.map(|dependency| format!("{name} depends on {dependency}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn versions_stand_in_the_workspace_only() {
    let mut wrong = Vec::new();
    for package in ["proto", "tests"].into_iter().map(str::to_owned).chain(members_of_services()) {
        let manifest = postrider_tests::place::repository().join(&package).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let dependencies =
            text.split("\n[").filter(|table| table.split(']').next().is_some_and(|t| t.ends_with("dependencies")));
        for line in dependencies.flat_map(|table| table.lines().skip(1)) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') && !line.contains("workspace = true") {
                wrong.push(format!("{package}/Cargo.toml: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn members_of_services() -> Vec<String> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"])).unwrap();
    let top = format!("{}/", metadata["workspace_root"].as_str().unwrap());
    let packages = metadata["packages"].as_array().unwrap();
    let folders = packages.iter().filter_map(|package| {
        let manifest = package["manifest_path"].as_str()?.strip_prefix(&top)?.strip_suffix("/Cargo.toml")?;
        manifest.starts_with("services/").then(|| manifest.to_owned())
    });
    folders.collect()
}
