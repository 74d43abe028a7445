//! What strains the way of a message, by everybody's clients to everybody's servers: 20 MB, 50 recipients at 5 sites in
//! either class, an address in another script. What arrives is what was sent, byte for byte, for each recipient.

use anyhow::{Context, Result, ensure};
use postrider_tests::cluster::Plan;
use postrider_tests::mail::{Mail, check_same, split};
use postrider_tests::peers::{self, Account, Aiosmtpd, Peer, Postfix, Security};

struct Client {
    name: &'static str,
    peer: Peer,
    submit: fn(&Account, &Mail) -> Result<String>,
}

const SMTPLIB: Client = Client { name: "smtplib", peer: Peer::Python, submit: smtplib };
const NODEMAILER: Client = Client { name: "nodemailer", peer: Peer::Nodemailer, submit: peers::nodemailer };
const SWAKS: Client = Client { name: "swaks", peer: Peer::Swaks, submit: peers::swaks };
const CURL: Client = Client { name: "curl", peer: Peer::Curl, submit: peers::curl };

const ALL: [Client; 4] = [SMTPLIB, NODEMAILER, SWAKS, CURL];
/// Not swaks: it has no SMTPUTF8, and sends such an address without the parameter that RFC 6531 section 3.4 wants.
const WITH_SMTPUTF8: [Client; 3] = [SMTPLIB, NODEMAILER, CURL];

fn smtplib(account: &Account, mail: &Mail) -> Result<String> {
    peers::smtplib(account, mail)?.data.context("no reply to the data")
}

enum Server {
    Aiosmtpd(Aiosmtpd),
    Postfix(Postfix),
}

/// A message as a server keeps it, and for whom.
struct Arrived {
    token: String,
    recipients: Vec<String>,
    message: Vec<u8>,
}

impl Server {
    fn plan(&self) -> Result<Plan> {
        let address = match self {
            Self::Aiosmtpd(server) => server.address,
            Self::Postfix(server) => server.address,
        };
        let sites = (0..SITES).map(|site| format!("site{site}.example"));
        Ok(sites.fold(Plan::new()?, |plan, site| plan.route(&site, address)))
    }

    fn added(&self) -> &'static [&'static str] {
        match self {
            Self::Aiosmtpd(_) => &["Received"],
            Self::Postfix(_) => &["Received", "Return-Path", "X-Original-To", "Delivered-To"],
        }
    }

    /// What it keeps of mail to so many recipients that was delivered: each transaction's message (aiosmtpd), or each
    /// recipient's, which Postfix puts into the mailbox some time after it took the message.
    fn arrived(&self, recipients: usize) -> Result<Vec<Arrived>> {
        match self {
            Self::Aiosmtpd(server) => {
                let arrived = |kept: peers::Kept| Arrived::new(kept.rcpt_tos, kept.message);
                server.messages()?.into_iter().map(arrived).collect()
            }
            Self::Postfix(server) => {
                let arrived = |message: Vec<u8>| Arrived::new(vec![field(&message, "X-Original-To")?], message);
                server.received(recipients)?.into_iter().map(arrived).collect()
            }
        }
    }
}

impl Arrived {
    fn new(recipients: Vec<String>, message: Vec<u8>) -> Result<Self> {
        Ok(Self { token: field(&message, "X-Token")?, recipients, message })
    }
}

fn field(message: &[u8], name: &str) -> Result<String> {
    let (fields, _) = split(message)?;
    let mut values = fields.into_iter().filter_map(|field| {
        let text = String::from_utf8_lossy(field);
        let (found, value) = text.split_once(':')?;
        (found == name).then(|| value.trim().to_owned())
    });
    values.next().with_context(|| format!("no {name}"))
}

/// The message that a client sends, made of the sender and the token.
type Make = fn(&str, &str) -> Mail;

/// Every client that is here sends each of `mails` over either kind of TLS in turn; then every recipient has what was sent,
/// once. Says how many copies of each the server keeps, by token.
fn through(test: &str, peer: Peer, clients: &[Client], mails: &[Make]) -> Result<Vec<(String, usize)>> {
    if !peers::all_here(test, &[peer])? {
        return Ok(Vec::new());
    }
    let server = match peer {
        Peer::Postfix => Server::Postfix(Postfix::start()?),
        _ => Server::Aiosmtpd(Aiosmtpd::start()?),
    };
    let cluster = server.plan()?.start()?;
    let sender = cluster.sender("news");
    let mut sent = Vec::new();
    for client in clients {
        if !peers::all_here(&format!("{test} ({})", client.name), &[client.peer])? {
            continue;
        }
        for (number, make) in mails.iter().enumerate() {
            let mail = make(&sender, &format!("{}-{number}", client.name));
            let security = [Security::StartTls, Security::Implicit][sent.len() % 2];
            let said = (client.submit)(&cluster.account(security), &mail)?;
            sent.push((peers::message_id(&said).with_context(|| mail.token.clone())?, mail));
        }
    }
    for (id, mail) in &sent {
        let life = cluster.end_of(id)?;
        ensure!(life.events() == ["delivered"], "{}: {life:?}", mail.token);
    }
    let arrived = server.arrived(sent.iter().map(|(_, mail)| mail.recipients.len()).sum())?;
    let mut kept = Vec::new();
    for (_, mail) in &sent {
        let copies: Vec<&Arrived> = arrived.iter().filter(|copy| copy.token == mail.token).collect();
        let mut got: Vec<&str> = copies.iter().flat_map(|copy| &copy.recipients).map(String::as_str).collect();
        let mut expected: Vec<&str> = mail.recipients.iter().map(String::as_str).collect();
        got.sort_unstable();
        expected.sort_unstable();
        assert_eq!(got, expected, "{}: each recipient once", mail.token);
        for copy in &copies {
            check_same(&mail.message, &copy.message, server.added(), &[CLASS]).with_context(|| mail.token.clone())?;
        }
        kept.push((mail.token.clone(), copies.len()));
    }
    Ok(kept)
}

const CLASS: &str = "X-Postrider-Class";
const SITES: usize = 5;
const EACH: usize = 10;

/// Lines of base64 text, never two the same: a block lost or doubled is seen.
fn large(sender: &str, token: &str) -> Mail {
    let line = |number: usize| format!("{:0>64}\r\n", format!("{number:x}")).into_bytes();
    let attachment: Vec<u8> = (0..(20 << 20) / 66).flat_map(line).collect();
    Mail::with_body(sender, &["alice@site0.example"], token, "alice@site0.example", &attachment)
}

fn fan_out(sender: &str, token: &str, class: &str) -> Mail {
    let to: Vec<String> =
        (0..SITES * EACH).map(|number| format!("user{number}@site{}.example", number % SITES)).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    Mail::new(sender, &to, token).field(&format!("{CLASS}: {class}"))
}

fn transactional(sender: &str, token: &str) -> Mail {
    fan_out(sender, token, "transactional")
}

fn bulk(sender: &str, token: &str) -> Mail {
    fan_out(sender, token, "bulk")
}

fn internationalised(sender: &str, token: &str) -> Mail {
    Mail::new(sender, &["δοκιμή@site0.example"], token).field("X-Name: Δοκιμή Ünicode")
}

#[test]
fn messages_of_20_mb_arrive_at_aiosmtpd() -> Result<()> {
    through("messages_of_20_mb_arrive_at_aiosmtpd", Peer::Aiosmtpd, &ALL, &[large]).map(drop)
}

#[test]
fn messages_of_20_mb_arrive_at_postfix() -> Result<()> {
    through("messages_of_20_mb_arrive_at_postfix", Peer::Postfix, &ALL, &[large]).map(drop)
}

#[test]
fn messages_to_50_recipients_at_5_sites_arrive_at_aiosmtpd() -> Result<()> {
    let test = "messages_to_50_recipients_at_5_sites_arrive_at_aiosmtpd";
    for (token, transactions) in through(test, Peer::Aiosmtpd, &ALL, &[transactional, bulk])? {
        assert_eq!(transactions, if token.ends_with("-0") { SITES } else { SITES * EACH }, "{token}");
    }
    Ok(())
}

#[test]
fn messages_to_50_recipients_at_5_sites_arrive_at_postfix() -> Result<()> {
    let test = "messages_to_50_recipients_at_5_sites_arrive_at_postfix";
    through(test, Peer::Postfix, &ALL, &[transactional, bulk]).map(drop)
}

#[test]
fn messages_to_an_internationalised_address_arrive_at_aiosmtpd() -> Result<()> {
    let test = "messages_to_an_internationalised_address_arrive_at_aiosmtpd";
    through(test, Peer::Aiosmtpd, &WITH_SMTPUTF8, &[internationalised]).map(drop)
}

#[test]
fn messages_to_an_internationalised_address_arrive_at_postfix() -> Result<()> {
    let test = "messages_to_an_internationalised_address_arrive_at_postfix";
    through(test, Peer::Postfix, &WITH_SMTPUTF8, &[internationalised]).map(drop)
}
