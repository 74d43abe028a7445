//! Clients that send garbage, guess passwords, or speak for others: refused, with a reply that helps nobody guess, and the
//! cluster goes on.

use std::time::{Duration, Instant};

use anyhow::Result;
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::mail::Mail;
use postrider_tests::peers::{Account, Answer, Security, smtplib};
use postrider_tests::talk::Talk;

fn goes_on(cluster: &Cluster) -> Result<()> {
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], "goes-on"))?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    Ok(())
}

#[test]
fn garbage_of_every_kind_is_refused_and_the_cluster_goes_on() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let endless_line = vec![b'x'; 4 << 20];
    let noise: Vec<u8> = (0..200_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let commands = b"FOO bar\r\n".repeat(10_000);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    for (what, bytes) in [("noise", noise), ("an endless line", endless_line), ("commands", commands), ("TLS", hello)] {
        let mut talk = Talk::begin(cluster.ready.submission)?;
        talk.send(b"EHLO test.example\r\n")?;
        talk.reply()?;
        let said = talk.until_closed(&[bytes, b"\r\nQUIT\r\n".to_vec()].concat())?;
        assert!(said.starts_with('5') || said.starts_with("421"), "{what}: {said:.200}");
    }
    goes_on(&cluster)
}

#[test]
fn a_session_that_ends_within_the_message_leaves_nothing() -> Result<()> {
    let cluster = Plan::new()?.with(&["--trust-loopback"]).start()?;
    let mut talk = Talk::begin(cluster.ready.relay)?;
    for line in ["EHLO test.example", "MAIL FROM:<a@any.example>", "RCPT TO:<cut@example.net>", "DATA"] {
        assert!(talk.ask(line)?.starts_with(['2', '3']), "{line}");
    }
    talk.send(b"From: a@any.example\r\n\r\nhalf a line")?;
    drop(talk);
    goes_on(&cluster)?;
    let found = cluster.run(&["message", "find", "--to", "cut@example.net", "--since", "10m"])?;
    assert_eq!(found.status.code(), Some(3), "{}", String::from_utf8_lossy(&found.stdout));
    Ok(())
}

#[test]
fn a_message_with_a_bare_line_feed_is_refused_whole() -> Result<()> {
    let cluster = Plan::new()?.with(&["--trust-loopback"]).start()?;
    let mut talk = Talk::begin(cluster.ready.relay)?;
    for line in ["EHLO test.example", "MAIL FROM:<a@any.example>", "RCPT TO:<alice@example.net>", "DATA"] {
        assert!(talk.ask(line)?.starts_with(['2', '3']), "{line}");
    }
    talk.send(b"From: a@any.example\r\n\r\nsmuggled\n.\nMAIL FROM:<b@any.example>\r\n.\r\n")?;
    let refusal = talk.reply()?;
    assert!(refusal.starts_with('5'), "{refusal}");
    Ok(())
}

fn with_password(cluster: &Cluster, username: &str, password: &str) -> Result<Answer> {
    let account =
        Account { username: username.to_owned(), password: password.to_owned(), ..cluster.account(Security::StartTls) };
    smtplib(&account, &Mail::new(&cluster.sender("news"), &["alice@example.net"], "guess"))
}

#[test]
fn wrong_credentials_hear_the_same_whatever_was_wrong_and_not_at_once() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let begun = Instant::now();
    let wrong_password = with_password(&cluster, &cluster.ready.username, "guess")?;
    let took = begun.elapsed();
    let wrong_user = with_password(&cluster, "nobody", &cluster.ready.password)?;
    let said = wrong_password.login.clone().unwrap_or_default();
    assert!(said.starts_with("535 5.7.8"), "{wrong_password:?}");
    assert_eq!(wrong_user.login, wrong_password.login);
    assert!(took > Duration::from_millis(200) && took < Duration::from_secs(30), "{took:?}");
    Ok(())
}

#[test]
fn a_password_is_not_taken_over_plain_text() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let mut talk = Talk::begin(cluster.ready.submission)?;
    talk.ask("EHLO test.example")?;
    let refusal = talk.ask("AUTH PLAIN AGRlbW8Ac2VjcmV0")?;
    assert!(refusal.starts_with("538") || refusal.starts_with("530"), "{refusal}");
    Ok(())
}

#[test]
fn nobody_submits_without_having_authenticated() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let mut account = cluster.account(Security::StartTls);
    account.username.clear();
    let answer = smtplib(&account, &Mail::new(&cluster.sender("news"), &["alice@example.net"], "nobody"))?;
    assert!(answer.mail.as_deref().is_some_and(|reply| reply.starts_with("530")), "{answer:?}");
    Ok(())
}

#[test]
fn mail_is_relayed_for_nobody_unknown() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let mail = Mail::new("anybody@any.example", &["alice@example.net"], "relay");
    let answer = smtplib(&cluster.account(Security::Plain), &mail)?;
    let refused = answer.mail.iter().chain(answer.recipients.values()).any(|reply| reply.starts_with('5'));
    assert!(refused && answer.data.is_none(), "{answer:?}");
    Ok(())
}

#[test]
fn a_tenant_sends_from_its_own_domains_only() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    cluster.json(&["tenant", "create", "other"])?;
    cluster.json(&["domain", "create", "other.example", "--tenant", "other", "--no-dkim"])?;
    for sender in ["ceo@other.example", "ceo@nobodys.example"] {
        let answer =
            smtplib(&cluster.account(Security::StartTls), &Mail::new(sender, &["alice@example.net"], "other"))?;
        assert!(answer.mail.as_deref().is_some_and(|reply| reply.starts_with("550 5.7.1")), "{answer:?}");
    }
    Ok(())
}

#[test]
fn a_tenant_shows_its_own_domains_only_in_the_header_from() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let mut mail = Mail::new("ceo@other.example", &["alice@example.net"], "from");
    mail.sender = cluster.sender("news");
    let answer = smtplib(&cluster.account(Security::StartTls), &mail)?;
    assert!(answer.data.as_deref().is_some_and(|reply| reply.starts_with("550 5.7.1")), "{answer:?}");
    Ok(())
}

#[test]
fn a_message_with_two_header_froms_is_refused() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let sender = cluster.sender("news");
    let mail = Mail::new(&sender, &["alice@example.net"], "two").field(&format!("From: <{sender}>"));
    let answer = smtplib(&cluster.account(Security::StartTls), &mail)?;
    assert!(answer.data.as_deref().is_some_and(|reply| reply.starts_with('5')), "{answer:?}");
    Ok(())
}
