//! The client machine hears the same whatever pieces its input comes in, and every recipient gets one result.

use postrider_smtp::{ClientConfig, ClientStep, TlsWish};
use proptest::prelude::*;

use crate::support::{Host, client_config, pieces, transaction};

fn reply() -> impl Strategy<Value = String> {
    let code = prop_oneof![
        6 => Just(250), 3 => Just(354), 1 => Just(220), 1 => Just(421), 1 => Just(550), 1 => Just(450), 1 => Just(552),
        1 => 100_u16..700,
    ];
    let text = prop::sample::select(vec!["", " ok", " 5.7.1 no", " 2.0.0 yes", "\u{1b} odd", "+ no form"]);
    (code, text, 0_usize..3, any::<bool>()).prop_map(|(code, text, more, bare)| {
        let line_end = if bare { "\n" } else { "\r\n" };
        format!("{code}-more{line_end}").repeat(more) + &format!("{code}{text}{line_end}")
    })
}

/// All steps but reads of a connection with two transactions, its server saying these replies, each in such pieces.
fn steps(config: &ClientConfig, opening: &str, replies: &[String], lengths: &[usize]) -> Vec<ClientStep> {
    let mut host = Host::new(config.clone());
    let opening: Vec<String> = opening.split_inclusive("@").map(|reply| reply.replace('@', "\r\n")).collect();
    let mut input = opening.iter().chain(replies).flat_map(|reply| pieces(reply.as_bytes(), lengths));
    let mut steps = Vec::new();
    let mut left = 2;
    loop {
        let step = host.client.step();
        match &step {
            ClientStep::Read { .. } => {
                match input.next() {
                    Some(piece) => host.client.receive(piece),
                    None => host.client.end_of_stream(),
                }
                continue;
            }
            ClientStep::StartTls => host.client.tls_started(),
            ClientStep::Ready if left == 0 => host.client.quit(),
            ClientStep::Ready => {
                host.client.transact(transaction(&["b", "c", "d"], "hello\r\n.\r\n"));
                left -= 1;
            }
            ClientStep::Send(_) | ClientStep::Done(_) => {}
            ClientStep::Close(_) => {
                steps.push(step);
                return steps;
            }
        }
        steps.push(step);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]
    #[test]
    fn any_replies_in_any_pieces_give_the_same_steps(
        replies in prop::collection::vec(reply(), 0..25),
        lengths in prop::collection::vec(1_usize..9, 1..6),
        opening in prop::sample::select(vec!["", "220 hi@250 mx@", "220 hi@250-mx\r\n250 PIPELINING@"]),
        lmtp in any::<bool>(),
        tls in prop::sample::select(vec![TlsWish::Never, TlsWish::Opportunistic]),
    ) {
        let config = ClientConfig { lmtp, ..client_config(tls) };
        let whole = steps(&config, opening, &replies, &[usize::MAX]);
        prop_assert_eq!(&steps(&config, opening, &replies, &[1]), &whole);
        prop_assert_eq!(&steps(&config, opening, &replies, &lengths), &whole);

        let transactions = whole.iter().filter(|step| matches!(step, ClientStep::Ready)).count().min(2);
        let mut results = 0;
        for step in &whole {
            if let ClientStep::Done(result) = step {
                results += 1;
                let numbers: Vec<u32> = result.recipients.iter().map(|(number, _)| *number).collect();
                prop_assert_eq!(numbers, vec![0, 1, 2]);
            }
        }
        prop_assert_eq!(results, transactions);
    }
}
