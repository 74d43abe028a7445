//! Both machines wired together, the wire cutting what they say in random pieces: what the client is told is what the server
//! has, byte for byte.

use std::collections::VecDeque;

use bytes::Bytes;
use postrider_model::ReversePath;
use postrider_smtp::{
    Bounds, Client, ClientPhase, ClientStep, CloseReason, Phase, Question, RecipientResult, Server, ServerStep,
    TlsOffer, TlsWish, Transaction, TransactionResult,
};
use proptest::prelude::*;

use crate::support::{client_config, config, policy};

/// Two machines and the wire between them.
struct Wire {
    client: Client,
    server: Server,
    to_client: VecDeque<u8>,
    to_server: VecDeque<u8>,
    lengths: Vec<usize>,
    cuts: usize,
    /// What the server is not allowed to offer.
    masked: Option<&'static str>,
    messages: Vec<Question>,
    results: Vec<TransactionResult>,
    handshakes: usize,
}

impl Wire {
    fn new(lengths: Vec<usize>, masked: Option<&'static str>, tls: TlsWish) -> Self {
        let mut offering = config();
        offering.tls = TlsOffer::StartTls;
        Self {
            client: Client::new(client_config(tls), Bounds::default()),
            server: Server::new(offering, Bounds { message_bytes: 300_000, ..Bounds::default() }),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            lengths,
            cuts: 0,
            masked,
            messages: Vec::new(),
            results: Vec::new(),
            handshakes: 0,
        }
    }

    fn piece(&mut self, towards_client: bool) -> Vec<u8> {
        self.cuts += 1;
        let length = self.lengths[self.cuts % self.lengths.len()];
        let queue = if towards_client { &mut self.to_client } else { &mut self.to_server };
        let length = length.min(queue.len());
        queue.drain(..length).collect()
    }

    /// The server does what it can; true if it closed.
    fn serve(&mut self) -> bool {
        loop {
            match self.server.step() {
                ServerStep::Send(bytes) => self.to_client.extend(self.mask(&bytes)),
                ServerStep::Ask(question) => {
                    self.server.answer(policy(&question));
                    if matches!(question, Question::Message(_)) {
                        self.messages.push(question);
                    }
                }
                ServerStep::StartTls => {
                    self.handshakes += 1;
                    return false;
                }
                ServerStep::Read { phase } => {
                    if self.to_server.is_empty() {
                        return false;
                    }
                    let piece = self.piece(false);
                    assert!(phase != Phase::Auth);
                    self.server.receive(&piece);
                }
                ServerStep::Close => return true,
            }
        }
    }

    fn mask(&self, bytes: &Bytes) -> Vec<u8> {
        match self.masked {
            None => bytes.to_vec(),
            Some(masked) => {
                String::from_utf8(bytes.to_vec()).unwrap().replace(masked, &"X".repeat(masked.len())).into_bytes()
            }
        }
    }

    /// Carries out the work and returns why the connection closed.
    fn run(&mut self, work: Vec<Transaction>) -> CloseReason {
        let mut work = VecDeque::from(work);
        let mut closed = self.serve();
        loop {
            match self.client.step() {
                ClientStep::Send(bytes) => {
                    self.to_server.extend(&bytes);
                    closed |= self.serve();
                }
                ClientStep::Read { .. } if self.to_client.is_empty() => {
                    assert!(closed, "both machines wait in phase {:?}", self.client.phase());
                    self.client.end_of_stream();
                }
                ClientStep::Read { .. } => {
                    let piece = self.piece(true);
                    self.client.receive(&piece);
                }
                ClientStep::StartTls => {
                    assert!(self.to_server.is_empty() && self.to_client.is_empty());
                    self.client.tls_started();
                    self.server.tls_started();
                }
                ClientStep::Ready => match work.pop_front() {
                    Some(transaction) => self.client.transact(transaction),
                    None => self.client.quit(),
                },
                ClientStep::Done(result) => self.results.push(result),
                ClientStep::Close(reason) => return reason,
            }
        }
    }
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,80}",
        1 => "[.]{1,4}[a-z]{0,5}",
        1 => "[a-zé]{0,300}",
        1 => Just(String::new()),
    ]
}

fn message() -> impl Strategy<Value = Bytes> {
    (prop::collection::vec(line(), 0..40), 1_usize..80, any::<bool>()).prop_map(|(lines, times, complete)| {
        let mut text = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>().repeat(times);
        if !complete && text.ends_with("x\r\n") {
            text.truncate(text.len() - 2);
        }
        Bytes::from(text)
    })
}

fn work() -> impl Strategy<Value = Transaction> {
    let local = prop::sample::select(vec!["a", "b", "c", "no1", "no2", "later1", "\"q \\\" d\"", "δ"]);
    let recipients = prop::collection::vec(local, 1..6);
    let sender = prop::sample::select(vec!["", "s@x.example", "no@x.example", "δ@x.example"]);
    (recipients, sender, message(), any::<bool>()).prop_map(|(recipients, sender, message, eight_bit)| Transaction {
        sender: sender.parse().unwrap(),
        recipients: (10..).zip(recipients.iter().map(|local| format!("{local}@y.example").parse().unwrap())).collect(),
        eight_bit,
        smtputf8: false,
        message,
    })
}

/// What the server must have for this transaction: the accepted recipients, if any.
fn expected(work: &Transaction, smtputf8: bool) -> Vec<String> {
    let sender = work.sender.to_string();
    if sender.starts_with("no") || (!smtputf8 && !sender.is_ascii()) || work.message.len() > 299_000 {
        return Vec::new();
    }
    let wanted = |mailbox: &String| !mailbox.starts_with("no") && !mailbox.starts_with("later");
    let possible = |mailbox: &String| smtputf8 || mailbox.is_ascii();
    work.recipients.iter().map(|(_, mailbox)| mailbox.to_string()).filter(wanted).filter(possible).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_the_client_is_told_is_what_the_server_has(
        work in prop::collection::vec(work(), 1..6),
        lengths in prop::collection::vec(prop_oneof![1_usize..9, 100..3000_usize], 1..6),
        masked in prop::sample::select(vec![None, Some("PIPELINING"), Some("SMTPUTF8"), Some("SIZE"), Some("STARTTLS")]),
        tls in prop::sample::select(vec![TlsWish::Never, TlsWish::Opportunistic]),
    ) {
        let mut wire = Wire::new(lengths, masked, tls);
        let reason = wire.run(work.clone());
        prop_assert_eq!(reason, CloseReason::Finished);
        prop_assert_eq!(wire.handshakes, usize::from(tls == TlsWish::Opportunistic && masked != Some("STARTTLS")));
        prop_assert_eq!(wire.results.len(), work.len());

        let mut messages = wire.messages.iter();
        for (work, result) in work.iter().zip(&wire.results) {
            let told: Vec<String> = work
                .recipients
                .iter()
                .zip(&result.recipients)
                .filter(|(_, (_, result))| matches!(result, RecipientResult::Accepted(_)))
                .map(|((_, mailbox), _)| mailbox.to_string())
                .collect();
            let expected = expected(work, masked != Some("SMTPUTF8"));
            prop_assert_eq!(&told, &expected);
            if expected.is_empty() {
                continue;
            }
            let Some(Question::Message(submission)) = messages.next() else { panic!("a message is missing") };
            let has: Vec<String> = submission.recipients.iter().map(ToString::to_string).collect();
            prop_assert_eq!(&has, &told);
            prop_assert_eq!(&submission.sender, &work.sender);
            prop_assert_eq!(submission.tls, wire.handshakes == 1);
            let complete = work.message.is_empty() || work.message.ends_with(b"\r\n");
            let line_end: &[u8] = if complete { b"" } else { b"\r\n" };
            prop_assert_eq!(&submission.message[..], &[&work.message[..], line_end].concat()[..]);
            let eight_bit = work.eight_bit;
            prop_assert_eq!(submission.parameters.eight_bit, eight_bit);
        }
        prop_assert!(messages.next().is_none(), "a message that nobody was told of");
    }

    #[test]
    fn a_connection_cut_anywhere_leaves_no_recipient_without_a_truthful_result(
        work in work(),
        cut in 0_usize..3000,
        lengths in prop::collection::vec(1_usize..200, 1..6),
    ) {
        // The wire breaks after so many octets towards the server; replies to what came through still arrive.
        let mut wire = Wire::new(lengths, None, TlsWish::Never);
        let mut sent = 0;
        let mut begun = false;
        let mut result = None;
        wire.serve();
        for _ in 0..100_000 {
            match wire.client.step() {
                ClientStep::Send(bytes) => {
                    let through = bytes.len().min(cut - sent);
                    wire.to_server.extend(&bytes[..through]);
                    sent += through;
                    wire.serve();
                    if through < bytes.len() {
                        let rest: Vec<u8> = wire.to_client.drain(..).collect();
                        wire.client.receive(&rest);
                        wire.client.end_of_stream();
                    }
                }
                ClientStep::Read { .. } => {
                    let piece = wire.piece(true);
                    prop_assert!(!piece.is_empty());
                    wire.client.receive(&piece);
                }
                ClientStep::Ready if begun => break,
                ClientStep::Ready => {
                    begun = true;
                    wire.client.transact(work.clone());
                }
                ClientStep::Done(done) => result = Some(done),
                ClientStep::StartTls => prop_assert!(false, "no TLS here"),
                ClientStep::Close(_) => break,
            }
        }
        let accepted = |result: &TransactionResult| {
            result.recipients.iter().any(|(_, result)| matches!(result, RecipientResult::Accepted(_)))
        };
        let maybe = |result: &TransactionResult| {
            result.recipients.iter().any(|(_, result)| matches!(result, RecipientResult::Lost { after_end_of_data: true, .. }))
        };
        prop_assert_eq!(begun, result.is_some());
        if let Some(result) = result {
            prop_assert_eq!(result.recipients.len(), work.recipients.len());
            // Told accepted: the server has it. The server has it: told accepted, or that it may have.
            prop_assert!(!accepted(&result) || wire.messages.len() == 1);
            prop_assert!(wire.messages.is_empty() || accepted(&result) || maybe(&result));
        }
    }
}

#[test]
fn megabytes_with_dots_arrive_byte_for_byte() {
    let lines = "a line of text\r\n.a line that begins with a dot\r\n..\r\n.\r\n\r\nlonger ".repeat(400) + "\r\n";
    let message = Bytes::from(lines.split_inclusive("\r\n").collect::<String>());
    let mut wire = Wire::new(vec![60_000, 1, 4096], None, TlsWish::Never);
    let mut roomy = config();
    roomy.tls = TlsOffer::None;
    wire.server = Server::new(roomy, Bounds::default());
    let work = Transaction {
        sender: ReversePath::Null,
        recipients: vec![(0, "b@y.example".parse().unwrap())],
        eight_bit: false,
        smtputf8: false,
        message: message.repeat(80).into(),
    };
    assert_eq!(wire.run(vec![work.clone()]), CloseReason::Finished);
    let [Question::Message(submission)] = &wire.messages[..] else { panic!("one message") };
    assert!(submission.message == work.message, "the content was changed");
    assert_eq!(wire.client.phase(), ClientPhase::Idle);
}
