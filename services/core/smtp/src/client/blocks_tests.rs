//! Blocks joined again are the message, stuffed, with its end.

use proptest::prelude::*;

use super::*;

fn sent(message: Bytes) -> Vec<Bytes> {
    let mut blocks = Blocks::new(message).unwrap();
    let mut sent = Vec::new();
    loop {
        let (block, last) = blocks.next_block();
        sent.push(block);
        if last {
            return sent;
        }
    }
}

fn naive(message: &str) -> String {
    let mut text = message.to_owned();
    if !text.is_empty() && !text.ends_with("\r\n") {
        text.push_str("\r\n");
    }
    let stuffed = text
        .split_inclusive("\r\n")
        .map(|line| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() });
    stuffed.collect::<String>() + ".\r\n"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn blocks_joined_are_the_stuffed_message(
        lines in prop::collection::vec(prop_oneof![3 => "[a-z]{0,40}", 1 => "[.]{1,3}[a-z]{0,4}"], 0..60),
        times in prop_oneof![Just(1_usize), 100..500_usize],
        shift in 0_usize..3,
    ) {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let message = "x".repeat(shift) + &lines.repeat(times);
        let sent = sent(Bytes::from(message.clone()));
        prop_assert!(sent.iter().all(|block| block.len() <= BLOCK_BYTES * 2));
        prop_assert!(sent.len() == 1 || message.len() > WHOLE_BYTES);
        prop_assert!(sent.concat() == naive(&message).as_bytes());
    }
}

#[test]
fn a_dot_at_the_edge_of_a_block_is_doubled() {
    for shift in 0..4 {
        let mut message = "x".repeat(BLOCK_BYTES - 3 + shift);
        message.push_str("\r\n.y\r\n");
        message.push_str(&"z\r\n".repeat(BLOCK_BYTES));
        assert!(sent(Bytes::from(message.clone())).concat() == naive(&message).as_bytes(), "{shift}");
    }
}

#[test]
fn the_size_counts_the_line_end_that_is_added_and_no_stuffing() {
    for (message, size) in [("", 0), ("a\r\n", 3), ("a", 3), (".\r\n", 3)] {
        assert_eq!(Blocks::new(Bytes::from(message)).unwrap().size(), size, "{message:?}");
    }
}
