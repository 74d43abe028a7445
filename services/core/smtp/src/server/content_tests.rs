//! The content against a naive reading of the same bytes, over the edges of stretches, and in any pieces.

use proptest::prelude::*;

use super::*;

const END: &[u8] = b"\r\n.\r\n";

/// What must become of a stream that ends with the first CRLF . CRLF: byte by byte and without cleverness.
fn naive(stream: &[u8], bounds: &Bounds) -> Result<Vec<u8>, Refusal> {
    let text = &stream[..stream.len() - 3];
    let mut bytes = Vec::new();
    let mut long = false;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").map_or(rest.len(), |at| at + 2);
        let (line, tail) = rest.split_at(end);
        let line = line.strip_prefix(b".").unwrap_or(line);
        long |= line.len() > bounds.text_line_bytes;
        bytes.extend_from_slice(line);
        rest = tail;
    }
    let bare = |index: usize| match text[index] {
        NUL => true,
        CR => text.get(index + 1) != Some(&LF),
        LF => index == 0 || text[index - 1] != CR,
        _ => false,
    };
    if (0..text.len()).any(bare) {
        return Err(Refusal::Broken);
    }
    if bytes.len() > bounds.message_bytes {
        return Err(Refusal::TooLarge);
    }
    if long { Err(Refusal::LongLine) } else { Ok(bytes) }
}

fn read(stream: &[u8], lengths: &[usize], bounds: &Bounds) -> (Result<Vec<u8>, Refusal>, usize) {
    let mut content = Content::new(bounds, None);
    let mut rest = stream;
    for length in lengths.iter().cycle() {
        let (piece, tail) = rest.split_at((*length).clamp(1, rest.len()));
        match content.receive(piece) {
            Progress::More => assert!(content.held_bytes() <= bounds.message_bytes),
            Progress::Ended { consumed } => {
                let left = tail.len() + piece.len() - consumed;
                return (content.finish().map(Vec::from), stream.len() - left);
            }
            Progress::Endless => panic!("it has an end"),
        }
        rest = tail;
    }
    unreachable!("it has an end")
}

/// Plain text to get over the edge of a stretch, and what may be found there.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop::sample::select(vec!["\r\n", ".", "\r\n.", "\r\n..", "\r\n.x", "\r", "\n", "\0", "\r\n\r\n"]);
    let plain = prop_oneof![0_usize..4, 60..80_usize, 400..1100_usize].prop_map(|length| "x".repeat(length));
    let line = prop_oneof![0_usize..4, 60..80_usize, 300..600_usize].prop_map(|length| "y".repeat(length) + "\r\n");
    let piece = prop_oneof![1 => odd.prop_map(str::to_owned), 1 => plain, 6 => line];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| {
        let mut stream = pieces.concat().into_bytes();
        stream.extend_from_slice(END);
        let whole = [b"\r\n", &stream[..]].concat();
        let end = whole.windows(END.len()).position(|window| window == END).unwrap();
        whole[2..end + END.len()].to_vec()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn content_is_read_as_the_naive_reader_reads_it(
        stream in stream(),
        tail in prop::sample::select(vec!["", ".", "QUIT\r\n", "\r\n.\r\n"]),
        lengths in prop::collection::vec(prop_oneof![1_usize..5, 500..2000_usize], 1..6),
        line_bound in prop::sample::select(vec![70_usize, 511, 1000]),
        message_bound in prop::sample::select(vec![0_usize, 600, 3000, 100_000]),
    ) {
        let bounds = Bounds { text_line_bytes: line_bound, message_bytes: message_bound, ..Bounds::default() };
        let expected = naive(&stream, &bounds);
        let length = stream.len();
        let all = [&stream[..], tail.as_bytes()].concat();
        for lengths in [&lengths[..], &[usize::MAX], &[1]] {
            prop_assert_eq!(&read(&all, lengths, &bounds), &(expected.clone(), length));
        }
    }
}

#[test]
fn a_message_is_handed_out_without_a_copy() {
    let mut content = Content::new(&Bounds::default(), Some(4000));
    content.receive(&b"a line\r\n".repeat(100));
    let before = content.kept.as_ptr();
    assert_eq!(content.receive(b".\r\n"), Progress::Ended { consumed: 3 });
    assert_eq!(content.finish().map(|bytes| bytes.as_ptr()), Ok(before));
}

#[test]
fn room_grows_with_what_comes_and_never_past_the_bound() {
    let bounds = Bounds { message_bytes: 100_000, ..Bounds::default() };
    let mut content = Content::new(&bounds, Some(u64::MAX));
    assert!(content.held_bytes() <= FIRST_ROOM_BYTES);
    for _ in 0..100 {
        content.receive(&b"a line\r\n".repeat(300));
        assert!(content.held_bytes() <= bounds.message_bytes);
    }
    assert_eq!(content.held_bytes(), 0);
}
