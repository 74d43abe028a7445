//! In which order the turns are made. Pure.

use super::system::Peer;

/// The turns of so many rounds: in each, everybody once, and he who began the last one begins this one last. So a machine that
/// grows slower or faster meanwhile treats all alike.
pub fn turns(rounds: usize, peers: &[Peer]) -> Vec<(usize, Peer)> {
    let round = |round: usize| {
        let first = round % peers.len().max(1);
        peers.iter().cycle().skip(first).take(peers.len()).map(move |peer| (round, *peer))
    };
    (0..rounds).flat_map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::Durability;

    #[test]
    fn turns_interleave_and_nobody_always_begins() {
        let (a, b) = (Peer::Postrider(Durability::Process), Peer::Postfix);
        assert_eq!(turns(3, &[a, b]), [(0, a), (0, b), (1, b), (1, a), (2, a), (2, b)]);
        assert_eq!(turns(2, &[a]), [(0, a), (1, a)]);
        assert_eq!(turns(2, &[]), []);
    }
}
