//! A Bloom filter over message ids: ten bits an id, so that one scan in a hundred reads a batch in vain.

use xxhash_rust::xxh3::xxh3_128;

const BITS_PER_ID: usize = 10;
const HASHES: u64 = 7;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter(Vec<u8>);

impl Filter {
    pub(super) fn of(ids: &[&[u8]]) -> Self {
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut bits = vec![0u8; (distinct.len() * BITS_PER_ID).div_ceil(8).max(8)];
        let count = bits.len() * 8;
        for id in distinct {
            for bit in positions(id, count) {
                bits[bit / 8] |= 1 << (bit % 8);
            }
        }
        Self(bits)
    }

    pub(super) fn may_hold(&self, id: &[u8]) -> bool {
        positions(id, self.0.len() * 8).all(|bit| self.0[bit / 8] & (1 << (bit % 8)) != 0)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn to_hex(&self) -> String {
        let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
        let pairs = text.as_bytes().chunks_exact(2);
        if text.is_empty() || !pairs.remainder().is_empty() {
            return None;
        }
        pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect::<Option<Vec<u8>>>().map(Self)
    }
}

fn positions(id: &[u8], bits: usize) -> impl Iterator<Item = usize> {
    let hash = xxh3_128(id).to_be_bytes();
    let half =
        |range: std::ops::Range<usize>| hash[range].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (first, second) = (half(0..8), half(8..16) | 1);
    let bits = u64::try_from(bits.max(1)).unwrap_or(u64::MAX);
    (0..HASHES).map(move |n| usize::try_from(first.wrapping_add(n.wrapping_mul(second)) % bits).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u32>) -> Vec<[u8; 16]> {
        range.map(|n| xxh3_128(&n.to_be_bytes()).to_be_bytes()).collect()
    }

    #[test]
    fn what_is_in_it_is_found_and_little_else() {
        let inside = ids(0..500);
        let filter = Filter::of(&inside.iter().map(|id| id.as_slice()).collect::<Vec<_>>());
        assert!(inside.iter().all(|id| filter.may_hold(id)));
        let mistaken = ids(1_000..11_000).iter().filter(|id| filter.may_hold(*id)).count();
        assert!(mistaken < 200, "{mistaken} of 10000");
    }

    #[test]
    fn it_travels_as_text() {
        let inside = ids(0..3);
        let filter = Filter::of(&inside.iter().map(|id| id.as_slice()).collect::<Vec<_>>());
        assert_eq!(Filter::from_hex(&filter.to_hex()), Some(filter));
        for bad in ["", "0", "zz", "0é"] {
            assert_eq!(Filter::from_hex(bad), None, "{bad:?}");
        }
    }
}
