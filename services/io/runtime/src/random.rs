//! Dice: bytes from a cryptographically secure generator that the operating system seeds. Fit for ids, nonces and secrets.

use rand::Rng;

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A machine-made secret for people to copy: 32 letters and digits, 160 bits.
pub fn secret() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    bytes::<32>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_throw_repeats() {
        assert_ne!(bytes::<16>(), bytes::<16>());
        assert_ne!(secret(), secret());
        assert_eq!(secret().len(), 32);
    }
}
