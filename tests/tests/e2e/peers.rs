//! Everybody's clients in, everybody's servers out: what arrives is what was sent, byte for byte, but for the header fields
//! that the way adds.

use anyhow::{Context, Result, ensure};
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::mail::{Mail, check_same};
use postrider_tests::peers::{self, Account, Aiosmtpd, Peer, Postfix, Security};

const ADDED_BY_US: [&str; 1] = ["Received"];
const ADDED_BY_POSTFIX: [&str; 4] = ["Received", "Return-Path", "X-Original-To", "Delivered-To"];

type Submit = fn(&Account, &Mail) -> Result<String>;

fn smtplib(account: &Account, mail: &Mail) -> Result<String> {
    peers::smtplib(account, mail)?.data.context("no reply to the data")
}

/// Sends one message to both servers with `submit` over both kinds of TLS, and compares what they got.
fn through(test: &str, client: Peer, submit: Submit) -> Result<()> {
    if !peers::all_here(test, &[client, Peer::Aiosmtpd])? {
        return Ok(());
    }
    let aiosmtpd = Aiosmtpd::start()?;
    let cluster = Plan::new()?.route("*", aiosmtpd.address).start()?;
    for (count, security) in [Security::StartTls, Security::Implicit].into_iter().enumerate() {
        let mail = mail(&cluster, &format!("{test}-{count}"), "alice@aiosmtpd.example");
        sent(&cluster, submit(&cluster.account(security), &mail)?)?;
        let kept = aiosmtpd.received(count + 1)?;
        assert_eq!(kept[count].mail_from, mail.sender);
        assert_eq!(kept[count].rcpt_tos, mail.recipients);
        check_same(&mail.message, &kept[count].message, &ADDED_BY_US, &[])?;
    }
    if !peers::all_here(test, &[Peer::Postfix])? {
        return Ok(());
    }
    let postfix = Postfix::start()?;
    cluster.json(&["route", "create", "postfix.example", &postfix.address.to_string()])?;
    let mail = mail(&cluster, &format!("{test}-postfix"), "bob@postfix.example");
    sent(&cluster, submit(&cluster.account(Security::StartTls), &mail)?)?;
    check_same(&mail.message, &postfix.received(1)?[0], &ADDED_BY_POSTFIX, &[])
}

fn mail(cluster: &Cluster, token: &str, to: &str) -> Mail {
    Mail::new(&cluster.sender("news"), &[to], token)
}

fn sent(cluster: &Cluster, said: String) -> Result<()> {
    let id = peers::message_id(&said)?;
    let life = cluster.end_of(&id)?;
    ensure!(life.events() == ["delivered"], "{life:?}");
    Ok(())
}

#[test]
fn what_smtplib_submits_arrives_byte_for_byte() -> Result<()> {
    through("what_smtplib_submits_arrives_byte_for_byte", Peer::Python, smtplib)
}

#[test]
fn what_nodemailer_submits_arrives_byte_for_byte() -> Result<()> {
    through("what_nodemailer_submits_arrives_byte_for_byte", Peer::Nodemailer, peers::nodemailer)
}

#[test]
fn what_swaks_submits_arrives_byte_for_byte() -> Result<()> {
    through("what_swaks_submits_arrives_byte_for_byte", Peer::Swaks, peers::swaks)
}

#[test]
fn what_curl_submits_arrives_byte_for_byte() -> Result<()> {
    through("what_curl_submits_arrives_byte_for_byte", Peer::Curl, peers::curl)
}
