//! Whether bytes are compressed before they are stored, and how. zstd at a low level: what it saves is written to disk for
//! each copy, and sent between servers; what it costs is CPU time at ingress and at delivery.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::body::BodyError;

/// Below this nothing is worth a zstd frame.
const COMPRESS_FROM: usize = 512;

/// From here on a sample says whether it pays.
const LARGE: usize = 32 * 1024;

/// The fastest level that finds repeats. Three costs half as much again, and saves a twentieth more.
const LEVEL: i32 = 1;

/// Bytes of one piece of the sample; there are three.
const PIECE: usize = 1024;

thread_local! {
    // zstd's working memory, kept from message to message: making it anew costs as much as a small message itself.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The bytes as a zstd frame, `None` if that does not pay: with several copies it has to save an eighth, with a single one a
/// third. Base64, which most large mail consists of, shrinks by a quarter: that is worth its time only where it is stored
/// more than once.
pub(crate) fn compress(bytes: &[u8], copies: usize) -> Option<Bytes> {
    if bytes.len() < COMPRESS_FROM {
        return None;
    }
    let pays = |stored: usize, of: usize| stored < of - of / if copies > 1 { 8 } else { 3 };
    if bytes.len() < LARGE {
        return frame(bytes).filter(|frame| pays(frame.len(), bytes.len())).map(Bytes::from);
    }
    let pieces = [1, 2, 3].map(|quarter| bytes.get(bytes.len() / 4 * quarter - PIECE / 2..).unwrap_or_default());
    let sample: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().take(PIECE)).copied().collect();
    if !pays(frame(&sample)?.len(), sample.len()) {
        return None;
    }
    frame(bytes).filter(|frame| pays(frame.len(), bytes.len())).map(Bytes::from)
}

/// The bytes again, at most `largest` of them.
///
/// # Errors
/// [`BodyError::Damaged`].
pub(crate) fn decompress(frame: &[u8], largest: usize) -> Result<Bytes, BodyError> {
    let claimed = zstd::zstd_safe::get_frame_content_size(frame)
        .map_err(|_| BodyError::Damaged("not a zstd frame".to_owned()))?
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| BodyError::Damaged("a zstd frame of unknown size".to_owned()))?;
    if claimed > largest {
        return Err(BodyError::Damaged(format!("it would unfold to {claimed} bytes, more than {largest}")));
    }
    let bytes = unfold(frame, claimed).map_err(|error| BodyError::Damaged(error.to_string()))?;
    Ok(bytes.into())
}

fn frame(bytes: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(LEVEL).ok()?),
        };
        compressor.compress(bytes).ok()
    })
}

fn unfold(frame: &[u8], size: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(decompressor) => decompressor.decompress(frame, size),
        None => kept.insert(Decompressor::new()?).decompress(frame, size),
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    fn noise(bytes: u64) -> Vec<u8> {
        (0..bytes / 8).flat_map(|number| xxh3_64(&number.to_be_bytes()).to_be_bytes()).collect()
    }

    #[test]
    fn text_is_compressed_and_comes_back() {
        for times in [50, 5_000] {
            let message = "Subject: hello\r\n\r\n".repeat(times);
            let frame = compress(message.as_bytes(), 1).unwrap();
            assert!(frame.len() < message.len() / 4);
            assert_eq!(decompress(&frame, LARGE * 10).unwrap(), message);
        }
    }

    #[test]
    fn what_does_not_shrink_is_left_as_it_is() {
        for bytes in [400, 16_000, 160_000] {
            assert_eq!(compress(&noise(bytes), 3), None);
        }
    }

    #[test]
    fn base64_is_compressed_only_where_it_is_stored_more_than_once() {
        for bytes in [3_000, 90_000] {
            let attachment = base64::engine::general_purpose::STANDARD.encode(noise(bytes));
            assert_eq!(compress(attachment.as_bytes(), 1), None);
            assert!(compress(attachment.as_bytes(), 3).is_some_and(|frame| frame.len() < attachment.len() * 4 / 5));
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_is_damaged() {
        let frame = zstd::bulk::compress(&vec![0u8; 1 << 20], 1).unwrap();
        assert!(matches!(decompress(&frame, 1 << 19), Err(BodyError::Damaged(_))));
        assert!(matches!(decompress(b"nonsense", 1 << 19), Err(BodyError::Damaged(_))));
    }
}
