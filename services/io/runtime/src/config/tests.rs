//! What a configuration says when it is wrong, and how the environment overrides it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Process {
    data: Option<String>,
    ingress: Ingress,
    sites: BTreeMap<String, Bounds>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Ingress {
    host_name: String,
    listeners: Vec<Listener>,
    networks: Vec<String>,
    bounds: Bounds,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listener {
    name: String,
    address: std::net::SocketAddr,
    #[serde(default)]
    tls: Tls,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tls {
    #[default]
    None,
    #[serde(rename = "starttls")]
    Upgrade,
    File(String),
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Bounds {
    recipients: u16,
    share: f64,
    strict: bool,
    #[serde(deserialize_with = "even")]
    even: u8,
}

fn even<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = u8::deserialize(deserializer)?;
    if number % 2 == 0 { Ok(number) } else { Err(serde::de::Error::custom("is odd")) }
}

const FILE: &str = "
data = '/var/lib'
[ingress]
host_name = 'mx.example'
[[ingress.listeners]]
name = 'relay'
address = '127.0.0.1:25'
tls = 'starttls'
[ingress.bounds]
recipients = 1_000
[sites.google]
share = 0.5
";

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Process, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    parse_config(text, "p.toml", "POSTRIDER", environment)
}

#[track_caller]
fn check_refused(text: &str, environment: &[(&str, &str)], expected: &str) {
    assert_eq!(parse(text, environment).unwrap_err().to_string(), expected);
}

#[test]
fn a_file_is_read_into_its_struct() {
    let process = parse(FILE, &[]).unwrap();
    assert_eq!(process.data.as_deref(), Some("/var/lib"));
    assert_eq!(process.ingress.listeners[0].tls, Tls::Upgrade);
    assert_eq!(process.ingress.bounds.recipients, 1000);
    assert_eq!(process.sites["google"].share, 0.5);
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(parse("", &[]).unwrap(), Process::default());
}

#[test]
fn an_unknown_key_is_named_with_its_table_and_the_nearest_known_key() {
    check_refused(
        "[ingress]\nhostname = 'x'",
        &[],
        "p.toml: unknown key \"ingress.hostname\"; did you mean \"host_name\"?",
    );
    check_refused(
        "[[ingress.listeners]]\nname = 'a'\naddress = '127.0.0.1:25'\nTLS = 'none'",
        &[],
        "p.toml: unknown key \"ingress.listeners.0.TLS\"; did you mean \"tls\"?",
    );
    check_refused(
        "[sites.google]\nrecipient = 1",
        &[],
        "p.toml: unknown key \"sites.google.recipient\"; did you mean \"recipients\"?",
    );
}

#[test]
fn an_unknown_key_like_no_other_gets_the_list() {
    check_refused("zzz = 1", &[], "p.toml: unknown key \"zzz\"; known there: data, ingress, sites");
}

#[test]
fn a_syntax_error_is_named_with_its_line() {
    let error = parse("data = 'x'\n[ingress]\nhost_name = \n", &[]).unwrap_err().to_string();
    assert!(error.starts_with("p.toml:3:13: "), "{error}");
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_key() {
    check_refused(
        "[ingress.bounds]\nrecipients = 'many'",
        &[],
        "p.toml: ingress.bounds.recipients: invalid type: string \"many\", expected u16",
    );
    check_refused(
        "[ingress.bounds]\nrecipients = 70000",
        &[],
        "p.toml: ingress.bounds.recipients: invalid value: integer `70000`, expected u16",
    );
}

#[test]
fn a_value_that_its_type_refuses_is_named_with_its_key() {
    check_refused("[ingress.bounds]\neven = 3", &[], "p.toml: ingress.bounds.even: is odd");
}

#[test]
fn a_missing_key_is_named_with_its_table() {
    check_refused("[[ingress.listeners]]\nname = 'a'", &[], "p.toml: ingress.listeners.0.address: is required");
}

#[test]
fn an_unknown_word_is_named_with_the_nearest_known_one() {
    check_refused(
        "[[ingress.listeners]]\nname = 'a'\naddress = '127.0.0.1:25'\ntls = 'start-tls'",
        &[],
        "p.toml: ingress.listeners.0.tls: \"start-tls\" is none of none, starttls, file; did you mean \"starttls\"?",
    );
}

#[test]
fn a_table_may_choose_a_word_with_a_value() {
    let text = "[[ingress.listeners]]\nname = 'a'\naddress = '127.0.0.1:25'\ntls = { file = 'x.pem' }";
    assert_eq!(parse(text, &[]).unwrap().ingress.listeners[0].tls, Tls::File("x.pem".to_owned()));
}

#[test]
fn the_environment_overrides_the_file() {
    let process = parse(
        FILE,
        &[
            ("POSTRIDER_DATA", "/data"),
            ("POSTRIDER_INGRESS__HOST_NAME", "12345"),
            ("POSTRIDER_INGRESS__LISTENERS__0__ADDRESS", "127.0.0.1:2525"),
            ("POSTRIDER_INGRESS__NETWORKS", "10.0.0.0/8, 127.0.0.1"),
            ("POSTRIDER_INGRESS__BOUNDS__RECIPIENTS", "5"),
            ("POSTRIDER_INGRESS__BOUNDS__STRICT", "true"),
        ],
    )
    .unwrap();
    assert_eq!(process.data.as_deref(), Some("/data"));
    assert_eq!(process.ingress.host_name, "12345");
    assert_eq!(process.ingress.listeners[0].address.port(), 2525);
    assert_eq!(process.ingress.networks, ["10.0.0.0/8", "127.0.0.1"]);
    assert_eq!(process.ingress.bounds, Bounds { recipients: 5, share: 0.0, strict: true, even: 0 });
}

#[test]
fn the_environment_may_give_lists_and_tables_without_a_file() {
    let process = parse(
        "",
        &[
            ("POSTRIDER_INGRESS__LISTENERS__0__NAME", "a"),
            ("POSTRIDER_INGRESS__LISTENERS__0__ADDRESS", "127.0.0.1:1"),
            ("POSTRIDER_INGRESS__BOUNDS", "{ recipients = 7 }"),
        ],
    )
    .unwrap();
    assert_eq!(process.ingress.listeners.len(), 1);
    assert_eq!(process.ingress.bounds.recipients, 7);
    let inline = [("POSTRIDER_INGRESS__LISTENERS", "[{ name = 'a', address = '127.0.0.1:1' }]")];
    assert_eq!(parse("", &inline).unwrap().ingress.listeners.len(), 1);
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    check_refused(
        "",
        &[("POSTRIDER_INGRESS__HOSTNAME", "x")],
        "POSTRIDER_INGRESS__HOSTNAME: unknown key \"ingress.hostname\"; did you mean \"host_name\"?",
    );
    check_refused(
        "",
        &[("POSTRIDER_INGRES__HOST_NAME", "x")],
        "POSTRIDER_INGRES__HOST_NAME: unknown key \"ingres\"; did you mean \"ingress\"?",
    );
    check_refused(
        "",
        &[("POSTRIDER_INGRESS__BOUNDS__RECIPIENTS", "many")],
        "POSTRIDER_INGRESS__BOUNDS__RECIPIENTS: ingress.bounds.recipients: invalid type: string \"many\", expected u16",
    );
}

#[test]
fn variables_of_others_do_not_disturb() {
    let foreign = [("POSTRIDER_TOKEN_FILE", "t"), ("POSTRIDER_INGRESS_SERVICE_HOST", "10.1.2.3"), ("PATH", "/bin")];
    assert_eq!(parse("", &foreign).unwrap(), Process::default());
}

#[test]
fn an_absent_file_is_named() {
    let error = load_config::<Process>(Path::new("/nonexistent/p.toml"), "POSTRIDER").unwrap_err();
    assert_eq!(error.to_string(), "/nonexistent/p.toml: cannot be read");
}
