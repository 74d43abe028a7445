//! One transaction from MAIL to the reply after its end, with a result for each recipient. Never asks twice, and never
//! forgets a recipient.

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;
use postrider_model::{EnhancedCode, Mailbox, Reply, ReversePath};

use super::blocks::Blocks;
use super::reply::RawReply;
use super::{Capabilities, ClientPhase, RecipientResult, Transaction, TransactionResult};

/// A command that is to be sent, or whose reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Reset,
    Mail,
    Recipient(usize),
    Data,
    /// The end of the content, for all accepted recipients.
    End,
    /// The end of the content, for one of them (RFC 2033 section 4.2).
    EndFor(usize),
    /// The end of an empty content that nobody is to get.
    EmptyEnd,
}

impl Asked {
    fn phase(self) -> ClientPhase {
        match self {
            Self::Reset => ClientPhase::Rset,
            Self::Mail => ClientPhase::Mail,
            Self::Recipient(_) => ClientPhase::Rcpt,
            Self::Data => ClientPhase::DataCommand,
            Self::End | Self::EndFor(_) | Self::EmptyEnd => ClientPhase::DataEnd,
        }
    }

    /// Whether a reply of this class answers it at all (RFC 5321 section 4.3.2). Without RSET there is no next MAIL.
    fn is_answered_by(self, raw: &RawReply) -> bool {
        match self {
            Self::Data => !raw.is_positive(),
            Self::Reset => raw.is_positive(),
            _ => !raw.is_intermediate(),
        }
    }
}

/// A recipient and its result, once it has one. Who has none after the replies to RCPT was accepted.
#[derive(Debug)]
struct Fate {
    number: u32,
    mailbox: Mailbox,
    result: Option<RecipientResult>,
}

/// A transaction that is under way.
#[derive(Debug)]
pub(super) struct OpenTransaction {
    mail_parameters: String,
    sender: ReversePath,
    fates: Vec<Fate>,
    /// The content, until its last block has left.
    blocks: Option<Blocks>,
    to_ask: VecDeque<Asked>,
    awaited: VecDeque<Asked>,
    go_ahead: bool,
    end_sent: bool,
    /// The server may still hold an open transaction.
    left_open: bool,
    lmtp: bool,
    pipelining: bool,
}

/// What the connection has to do for the transaction.
#[derive(Debug)]
pub(super) enum Need {
    Send(Bytes),
    Reply(ClientPhase),
}

/// What a reply means for the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Continue,
    /// 421: the server ends the connection.
    Goodbye(ClientPhase, Reply),
    /// It makes no sense here.
    Nonsense(ClientPhase, String),
}

impl OpenTransaction {
    pub(super) fn new(transaction: Transaction, can: &Capabilities, lmtp: bool, reset_first: bool) -> Self {
        let Transaction { sender, recipients, eight_bit, smtputf8, message } = transaction;
        let fates = recipients.into_iter().map(|(number, mailbox)| Fate::new(number, mailbox)).collect();
        let mut open = Self {
            mail_parameters: String::new(),
            sender,
            fates,
            blocks: Blocks::new(message),
            to_ask: VecDeque::new(),
            awaited: VecDeque::new(),
            go_ahead: false,
            end_sent: false,
            left_open: reset_first,
            lmtp,
            pipelining: can.pipelining,
        };
        open.refuse_what_cannot_be(can, smtputf8);
        open.plan(can, eight_bit, smtputf8);
        open
    }

    /// Refuses what the server's own announcement, or the content, rules out.
    fn refuse_what_cannot_be(&mut self, can: &Capabilities, smtputf8: bool) {
        let Some(blocks) = &self.blocks else {
            let reply = own_reply(550, EnhancedCode(5, 6, 0), "Message holds a bare CR, a bare LF or a NUL");
            return self.refuse_undecided(ClientPhase::DataBlock, &reply);
        };
        // RFC 1870 section 6.1: no use in trying.
        let size = u64::try_from(blocks.size()).unwrap_or(u64::MAX);
        if let Some(limit) = can.size.flatten().filter(|limit| size > *limit) {
            let text = format!("Message of {size} octets exceeds the server's announced limit of {limit}");
            return self.refuse_undecided(ClientPhase::Mail, &own_reply(552, EnhancedCode(5, 3, 4), &text));
        }
        // RFC 6531 section 3.2: what needs SMTPUTF8 does not go where it is missing.
        let no_utf8 = own_reply(550, EnhancedCode(5, 6, 7), "The server does not offer SMTPUTF8, which this needs");
        let sender_needs = self.sender.mailbox().is_some_and(Mailbox::needs_smtputf8);
        if !can.smtputf8 && (smtputf8 || sender_needs) {
            return self.refuse_undecided(ClientPhase::Mail, &no_utf8);
        }
        // RFC 9422 section 3: the rest goes another time.
        let too_many = own_reply(452, EnhancedCode(4, 5, 3), "More recipients than the server takes at once");
        let mut room = can.recipients_max.unwrap_or(usize::MAX);
        for fate in &mut self.fates {
            if fate.mailbox.needs_smtputf8() && !can.smtputf8 {
                fate.refuse(ClientPhase::Rcpt, no_utf8.clone());
            } else if room == 0 {
                fate.refuse(ClientPhase::Rcpt, too_many.clone());
            } else {
                room -= 1;
            }
        }
    }

    fn plan(&mut self, can: &Capabilities, eight_bit: bool, smtputf8: bool) {
        let undecided: Vec<usize> = (0..self.fates.len()).filter(|i| self.fate_is_open(*i)).collect();
        if undecided.is_empty() {
            return;
        }
        if self.left_open {
            self.to_ask.push_back(Asked::Reset);
        }
        self.to_ask.push_back(Asked::Mail);
        self.to_ask.extend(undecided.into_iter().map(Asked::Recipient));
        self.to_ask.push_back(Asked::Data);
        let utf8_addresses = self.fates.iter().any(|fate| fate.mailbox.needs_smtputf8())
            || self.sender.mailbox().is_some_and(Mailbox::needs_smtputf8);
        if let (Some(_), Some(blocks)) = (can.size, &self.blocks) {
            self.mail_parameters.push_str(&format!(" SIZE={}", blocks.size()));
        }
        if eight_bit && can.eight_bit_mime {
            self.mail_parameters.push_str(" BODY=8BITMIME");
        }
        if can.smtputf8 && (smtputf8 || utf8_addresses) {
            self.mail_parameters.push_str(" SMTPUTF8");
        }
    }

    fn fate_is_open(&self, index: usize) -> bool {
        self.fates.get(index).is_some_and(|fate| fate.result.is_none())
    }

    /// What is awaited, or being sent.
    pub(super) fn phase(&self) -> ClientPhase {
        match self.awaited.front() {
            Some(asked) => asked.phase(),
            None if self.go_ahead => ClientPhase::DataBlock,
            None => self.to_ask.front().map_or(ClientPhase::Idle, |asked| asked.phase()),
        }
    }

    /// Whether the server must be told RSET before the next transaction.
    pub(super) fn leaves_open(&self) -> bool {
        self.left_open
    }

    /// Whether every recipient has its result and no reply is awaited.
    pub(super) fn is_over(&self) -> bool {
        self.awaited.is_empty() && !self.go_ahead && !self.any_open()
    }

    /// What has to be done next while it is not over. A reply that has come is told to [`OpenTransaction::hear`] first.
    pub(super) fn need(&mut self) -> Need {
        if let Some(asked) = self.awaited.front() {
            return Need::Reply(asked.phase());
        }
        if self.go_ahead {
            return Need::Send(self.next_block());
        }
        let together = if self.pipelining { self.to_ask.len() } else { 1 };
        self.awaited.extend(self.to_ask.drain(..together.min(self.to_ask.len())));
        Need::Send(Bytes::from(self.commands()))
    }

    fn any_open(&self) -> bool {
        self.fates.iter().any(|fate| fate.result.is_none())
    }

    /// The commands whose replies are awaited from now on.
    fn commands(&self) -> String {
        let mut text = String::with_capacity(64 * self.awaited.len());
        for asked in &self.awaited {
            // Writing into a String cannot fail.
            let written = match asked {
                Asked::Reset => text.write_str("RSET"),
                Asked::Mail => write!(text, "MAIL FROM:<{}>{}", self.sender, self.mail_parameters),
                Asked::Recipient(index) => match self.fates.get(*index) {
                    Some(fate) => write!(text, "RCPT TO:<{}>", fate.mailbox),
                    None => Ok(()),
                },
                Asked::Data => text.write_str("DATA"),
                Asked::End | Asked::EndFor(_) | Asked::EmptyEnd => Ok(()),
            };
            if written.is_ok() {
                text.push_str("\r\n");
            }
        }
        text
    }

    /// The next block of the content; nobody to get it, or no content: an empty one, with its end.
    fn next_block(&mut self) -> Bytes {
        let waiting: Vec<usize> = (0..self.fates.len()).filter(|index| self.fate_is_open(*index)).collect();
        let (Some(blocks), false) = (&mut self.blocks, waiting.is_empty()) else {
            // 354 although every recipient was refused (RFC 2920 section 3.1).
            self.go_ahead = false;
            self.awaited.push_back(Asked::EmptyEnd);
            return Bytes::from_static(b".\r\n");
        };
        let (block, last) = blocks.next_block();
        if last {
            self.blocks = None;
            self.go_ahead = false;
            self.end_sent = true;
            if self.lmtp {
                self.awaited.extend(waiting.into_iter().map(Asked::EndFor));
            } else {
                self.awaited.push_back(Asked::End);
            }
        }
        block
    }

    /// Takes the next reply.
    pub(super) fn hear(&mut self, raw: &RawReply) -> Meaning {
        let phase = self.phase();
        let reply = raw.to_reply();
        if raw.code == 421 {
            // RFC 5321 section 3.8: it may come at any time, and ends the connection.
            self.refuse_undecided(phase, &reply);
            return Meaning::Goodbye(phase, reply);
        }
        let Some(asked) = self.awaited.front().copied() else { return self.hear_unasked(raw, reply) };
        if !asked.is_answered_by(raw)
            || (asked == Asked::Data && self.lmtp && raw.is_intermediate() && !self.any_open())
        {
            return Meaning::Nonsense(phase, format!("{} was answered with {reply}", phase.as_str()));
        }
        self.awaited.pop_front();
        match asked {
            Asked::Reset => self.left_open = false,
            Asked::Mail if raw.is_positive() => self.left_open = true,
            Asked::Mail => self.refuse_undecided(phase, &reply),
            Asked::Recipient(index) => self.hear_recipient(index, reply),
            Asked::Data if raw.is_intermediate() => self.go_ahead = true,
            Asked::Data => self.refuse_undecided(phase, &reply),
            Asked::End => self.hear_end(None, &reply),
            Asked::EndFor(index) => self.hear_end(Some(index), &reply),
            Asked::EmptyEnd => self.left_open = true,
        }
        Meaning::Continue
    }

    /// A reply that nothing was asked for. A refusal amid the content ends the transaction and the connection, for the
    /// server now waits for something else than we would send.
    fn hear_unasked(&mut self, raw: &RawReply, reply: Reply) -> Meaning {
        let phase = self.phase();
        if !self.go_ahead || raw.is_positive() || raw.is_intermediate() {
            return Meaning::Nonsense(phase, format!("the server spoke out of turn: {reply}"));
        }
        self.refuse_undecided(phase, &reply);
        Meaning::Goodbye(phase, reply)
    }

    fn hear_recipient(&mut self, index: usize, reply: Reply) {
        self.left_open |= reply.is_positive();
        let Some(fate) = self.fates.get_mut(index).filter(|fate| fate.result.is_none()) else { return };
        if !reply.is_positive() {
            fate.refuse(ClientPhase::Rcpt, as_temporary_if_552(reply));
        }
    }

    /// The reply after the end, for one recipient or all that wait.
    fn hear_end(&mut self, index: Option<usize>, reply: &Reply) {
        self.left_open = false;
        for (at, fate) in self.fates.iter_mut().enumerate() {
            if fate.result.is_some() || index.is_some_and(|index| index != at) {
                continue;
            }
            if reply.is_positive() {
                fate.result = Some(RecipientResult::Accepted(reply.clone()));
            } else {
                fate.refuse(ClientPhase::DataEnd, reply.clone());
            }
        }
    }

    fn refuse_undecided(&mut self, phase: ClientPhase, reply: &Reply) {
        for fate in self.fates.iter_mut().filter(|fate| fate.result.is_none()) {
            fate.refuse(phase, reply.clone());
        }
    }

    /// The connection failed: whoever has no result yet is lost.
    pub(super) fn lose(&mut self, why: &str) {
        let (phase, after_end_of_data) = (self.phase(), self.end_sent);
        for fate in self.fates.iter_mut().filter(|fate| fate.result.is_none()) {
            fate.result = Some(RecipientResult::Lost { phase, after_end_of_data, why: why.to_owned() });
        }
    }

    pub(super) fn into_result(self, usable: bool) -> TransactionResult {
        let nobody_asked = || RecipientResult::Lost {
            phase: ClientPhase::Idle,
            after_end_of_data: false,
            why: "the transaction ended without a result".to_owned(),
        };
        let results = self.fates.into_iter().map(|fate| (fate.number, fate.result.unwrap_or_else(nobody_asked)));
        TransactionResult { recipients: results.collect(), usable }
    }
}

impl Fate {
    fn new(number: u32, mailbox: Mailbox) -> Self {
        Self { number, mailbox, result: None }
    }

    fn refuse(&mut self, phase: ClientPhase, reply: Reply) {
        self.result = Some(RecipientResult::Refused { phase, reply });
    }
}

fn own_reply(code: u16, enhanced: EnhancedCode, text: &str) -> Reply {
    Reply { code, enhanced: Some(enhanced), text: text.to_owned() }
}

/// RFC 5321 section 4.5.3.1.10: old servers say 552 for too many recipients; it means 452.
fn as_temporary_if_552(reply: Reply) -> Reply {
    if reply.code != 552 {
        return reply;
    }
    let enhanced = reply.enhanced.map(|EnhancedCode(_, subject, detail)| EnhancedCode(4, subject, detail));
    Reply { code: 452, enhanced, ..reply }
}
