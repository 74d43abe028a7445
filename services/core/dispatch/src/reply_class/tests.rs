//! Every rule against the replies in `fixtures.tsv`, and the order of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postrider_model::{EnhancedCode, Reply, SiteName};

use super::classify::rules_of;
use super::rule::{On, Rule};
use super::rules::TABLES;
use super::{Classified, ReplyClass, Scope, classify};
use crate::sites;

/// A line of `fixtures.tsv`.
struct Fixture {
    site: SiteName,
    class: &'static str,
    scope: &'static str,
    rule: &'static str,
    wait: Option<Duration>,
    reply: Reply,
}

fn fixtures() -> Vec<Fixture> {
    include_str!("fixtures.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&'static str> = line.split('\t').collect();
            let [site, class, scope, rule, wait, wire] = fields[..] else { panic!("six fields: {line:?}") };
            let wait = (wait != "-").then(|| Duration::from_secs(wait.parse().unwrap()));
            Fixture { site: site.parse().unwrap(), class, scope, rule, wait, reply: from_wire(wire) }
        })
        .collect()
}

/// A reply as the client takes it in: lines joined, an enhanced code of the reply's class taken out of all of them.
fn from_wire(wire: &str) -> Reply {
    let lines: Vec<&str> = wire.split("\\n").collect();
    let code = lines[0][..3].parse().unwrap();
    let texts: Vec<&str> = lines.iter().map(|line| line.get(4..).unwrap_or_default()).collect();
    let enhanced_of = |text: &str| text.split(' ').next().and_then(|head| head.parse::<EnhancedCode>().ok());
    let enhanced = enhanced_of(texts[0]).filter(|enhanced| u16::from(enhanced.0) == code / 100);
    let texts: Vec<&str> = texts
        .into_iter()
        .map(|text| match enhanced_of(text) {
            Some(repeated) if Some(repeated) == enhanced => text.split_once(' ').map_or("", |(_, rest)| rest),
            _ => text,
        })
        .collect();
    Reply::new(code, enhanced, &texts.join(" "))
}

fn site(name: &str) -> SiteName {
    name.parse().unwrap()
}

#[test]
fn every_fixture_is_taken_for_what_it_says() {
    for Fixture { site, class, scope, rule, wait, reply } in fixtures() {
        let found = classify(&site, &reply);
        let found = (found.class.as_str(), found.scope.as_str(), found.rule, found.wait);
        assert_eq!(found, (class, scope, rule, wait), "{site}: {reply}");
    }
}

#[test]
fn every_rule_has_a_fixture() {
    let met: BTreeSet<&str> = fixtures().iter().map(|fixture| fixture.rule).collect();
    for rule in TABLES.iter().flat_map(|table| table.rules) {
        assert!(met.contains(rule.name), "{} has none", rule.name);
    }
}

#[test]
fn no_two_rules_have_the_same_name() {
    let mut names = BTreeSet::from(["enhanced-code", "code", "positive"]);
    for rule in TABLES.iter().flat_map(|table| table.rules) {
        assert!(names.insert(rule.name), "{} is there twice", rule.name);
        assert!(rule.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{}", rule.name);
    }
}

#[test]
fn no_rule_stands_behind_one_that_takes_all_its_replies() {
    let mut earlier: Vec<(&[&str], &Rule)> = Vec::new();
    for table in TABLES {
        for rule in table.rules {
            for (sites, before) in &earlier {
                let same_sites = sites.is_empty()
                    || (!table.sites.is_empty() && table.sites.iter().all(|site| sites.contains(site)));
                let takes_all = same_sites && covers(before.on, rule.on) && rule.says.contains(before.says);
                assert!(!takes_all, "{} never comes to speak: {} takes all its replies", rule.name, before.name);
            }
            earlier.push((table.sites, rule));
        }
    }
}

/// Whether each reply with numbers of `narrow` has numbers of `wide`.
fn covers(wide: On, narrow: On) -> bool {
    match (wide, narrow) {
        (On::Any, _) => true,
        (On::Permanent, On::Permanent) | (On::Temporary, On::Temporary) => true,
        (On::Permanent, On::Code(code)) => (500..600).contains(&code),
        (On::Temporary, On::Code(code)) => !(500..600).contains(&code),
        (On::Permanent, On::Enhanced(class, ..)) => class == Some(5),
        (On::Temporary, On::Enhanced(class, ..)) => class == Some(4),
        (On::Code(a), On::Code(b)) => a == b,
        (On::Enhanced(wide_class, wide_subject, a, z), On::Enhanced(class, subject, b, y)) => {
            (wide_class.is_none() || wide_class == class) && wide_subject == subject && a <= b && y <= z
        }
        (On::Code(_) | On::Enhanced(..), _) | (On::Permanent | On::Temporary, On::Any) => false,
        (On::Permanent, On::Temporary) | (On::Temporary, On::Permanent) => false,
    }
}

#[test]
fn rules_are_written_in_the_form_that_texts_are_folded_to() {
    for rule in TABLES.iter().flat_map(|table| table.rules) {
        let folded = super::rule::folded(rule.says);
        assert!(folded.contains(rule.says), "{}: {:?} is never found", rule.name, rule.says);
        let from_to = if let On::Enhanced(_, _, from, to) = rule.on { (from, to) } else { (0, 0) };
        assert!(from_to.0 <= from_to.1, "{}: {from_to:?}", rule.name);
        assert!(rule.on != On::Any && rule.on != On::Temporary && rule.on != On::Permanent || !rule.says.is_empty());
    }
}

#[test]
fn rules_are_about_sites_that_there_are() {
    let known: BTreeSet<&str> = sites::configured_sites().collect();
    for site in TABLES.iter().flat_map(|table| table.sites) {
        assert!(known.contains(site), "{site}");
    }
}

#[test]
fn the_same_words_mean_what_their_site_means_by_them() {
    let reply = from_wire("550 5.7.27 no");
    assert_eq!(classify(&site("google"), &reply).rule, "google-spf");
    assert_eq!(classify(&site("example.net"), &reply).rule, "null-mx-sender");
}

#[test]
fn only_rates_blocks_and_what_belongs_to_an_address_are_about_the_source() {
    use ReplyClass::{Authentication, Blocked, Policy, RateLimited};
    for rule in TABLES.iter().flat_map(|table| table.rules).filter(|rule| rule.scope == Scope::Source) {
        assert!(matches!(rule.class, RateLimited | Blocked | Authentication | Policy), "{}", rule.name);
    }
}

#[test]
fn what_is_wrong_with_an_address_or_a_mailbox_is_about_the_recipient_alone() {
    for rule in TABLES.iter().flat_map(|table| table.rules) {
        if matches!(rule.class, ReplyClass::BadAddress | ReplyClass::Mailbox) {
            assert_eq!(rule.scope, Scope::Recipient, "{}", rule.name);
        }
    }
}

#[test]
fn a_hint_is_read_off_the_text() {
    let waits = |wire| classify(&site("example.net"), &from_wire(wire)).wait.map(|wait| wait.as_secs());
    assert_eq!(waits("450 4.2.0 Greylisted for 5 minutes"), Some(300));
    assert_eq!(waits("450 4.2.0 Greylisted, 90s left"), None);
    assert_eq!(waits("450 4.2.0 Greylisted for 90 s"), Some(90));
    assert_eq!(waits("450 4.2.0 Greylisted for 2 hours"), Some(7_200));
    assert_eq!(waits("450 4.2.0 Greylisted for 0 seconds"), None);
    assert_eq!(waits("450 4.2.0 Greylisted for 99999999999999999999 hours"), None);
    assert_eq!(waits("450 4.2.0 Greylisted for 48 hours"), None);
    assert_eq!(waits("550 5.7.1 rate limit of 10 in 60 seconds exceeded"), None);
    assert_eq!(waits("451 4.3.0 no rule knows it, so its 60 seconds count for nothing"), None);
}

#[test]
fn no_text_is_too_strange() {
    for text in ["", " ", "\u{2019}\u{2019}", "ÄÖÜ İ ﬁ", &"spa".repeat(400), "42", "42 seconds"] {
        for code in [0, 199, 354, 421, 450, 550, 599, 600] {
            let reply = Reply::new(code, None, text);
            let Classified { class, .. } = classify(&site("google"), &reply);
            assert_ne!(class, ReplyClass::Positive, "{reply}");
        }
    }
}

/// So that a new table is not forgotten here: how many rules are asked about each kind of site.
#[test]
fn every_site_is_asked_its_own_rules_before_everybodys() {
    let everybodys = rules_of("example.net", true).count();
    let own: BTreeMap<&str, usize> =
        sites::configured_sites().map(|site| (site, rules_of(site, true).count() - everybodys)).collect();
    assert!(own["google"] > 40 && own["microsoft-365"] > 40 && own["yahoo"] > 15 && own["apple"] > 10, "{own:?}");
    assert_eq!(own["microsoft-365"], own["microsoft-consumer"]);
}

#[test]
fn names_of_domains_and_addresses_are_not_read_as_words() {
    let read = |reply: &str| classify(&site("example.net"), &from_wire(reply));
    let ours = [
        "550 5.1.2 spamcop.net has no address in DNS",
        "451 4.4.1 cannot connect to mx.antispamcloud.com",
        "451 4.4.3 no answer about greylist.example",
    ];
    for reply in ours {
        assert_eq!(read(reply).rule, "enhanced-code", "{reply}");
    }
    for reply in
        ["550 5.1.1 <dmarc@example.com>: User unknown", "550 5.1.1 <spam@example.com>: Recipient address rejected"]
    {
        assert_eq!(read(reply).class, ReplyClass::BadAddress, "{reply}");
    }
}
