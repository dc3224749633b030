//! Byte pair encoding of one piece: the adjacent pair of parts with the lowest rank is merged, as long as there is one.
//! Of equal pairs the first one is merged.

use std::{cmp::Reverse, collections::BinaryHeap, mem};

use super::vocabulary::{Rank, Vocabulary};

/// Counts the tokens of pieces. The buffers are kept from one piece to the next.
///
/// Fewer than 3 n pairs of a piece of n bytes enter the queue. So any text takes O(n log n) time; a search for the best
/// pair after each merge would take O(n²).
#[derive(Default)]
pub(super) struct Merges {
    parts: Vec<Part>,
    /// Pairs by rank, then by the start of their first part. Pairs that no longer exist are skipped.
    queue: BinaryHeap<Reverse<(Rank, u32)>>,
}

/// A part of the piece, stored at the index of its first byte. Positions are 32 bits, which halves the memory.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Start of the previous part. The first part has none; its value is not read.
    previous: u32,
    /// Start of the next part; the length of the piece if there is none.
    next: u32,
    /// Rank of this part with the next one; `None` if the pair is not a token or this part was merged.
    pair: Option<Rank>,
}

impl Merges {
    /// The number of tokens of a piece that is not empty.
    pub(super) fn count(&mut self, piece: &[u8], vocabulary: &Vocabulary) -> usize {
        if vocabulary.rank(piece).is_some() {
            return 1;
        }
        let Ok(length) = u32::try_from(piece.len()) else {
            // A piece of 4 GiB: an upper bound.
            return piece.len();
        };
        self.split_into_bytes(piece, length, vocabulary);
        let mut count = piece.len();
        while let Some(Reverse((rank, start))) = self.queue.pop() {
            if self.parts[start as usize].pair == Some(rank) {
                self.merge(start, piece, vocabulary);
                count -= 1;
            }
        }
        count
    }

    /// Makes each byte a part and queues the pairs.
    fn split_into_bytes(&mut self, piece: &[u8], length: u32, vocabulary: &Vocabulary) {
        let pairs = piece.windows(2).map(|pair| vocabulary.rank(pair)).chain([None]);
        let parts = (0..length).zip(pairs).map(|(at, pair)| Part {
            previous: at.saturating_sub(1),
            next: at + 1,
            pair,
        });
        self.parts.clear();
        self.parts.extend(parts);
        // A heap is built from a list in linear time.
        let mut queue = mem::take(&mut self.queue).into_vec();
        queue.extend((0..length).zip(&self.parts).filter_map(|(at, part)| Some(Reverse((part.pair?, at)))));
        self.queue = queue.into();
    }

    /// Merges the part at `start` with the next one.
    fn merge(&mut self, start: u32, piece: &[u8], vocabulary: &Vocabulary) {
        let absorbed = self.parts[start as usize].next;
        let merged = &mut self.parts[absorbed as usize];
        merged.pair = None;
        let next = merged.next;
        self.parts[start as usize].next = next;
        if let Some(part) = self.parts.get_mut(next as usize) {
            part.previous = start;
        }
        self.update_pair(start, piece, vocabulary);
        if start > 0 {
            self.update_pair(self.parts[start as usize].previous, piece, vocabulary);
        }
    }

    /// Looks up and queues the pair of the part at `start` and the next one.
    fn update_pair(&mut self, start: u32, piece: &[u8], vocabulary: &Vocabulary) {
        let next = self.parts[start as usize].next;
        let pair = match self.parts.get(next as usize) {
            Some(part) => vocabulary.rank(&piece[start as usize..part.next as usize]),
            None => None,
        };
        self.parts[start as usize].pair = pair;
        if let Some(rank) = pair {
            self.queue.push(Reverse((rank, start)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(Vocabulary::new);

    /// The definition of byte pair encoding, without a queue.
    fn count_by_definition(piece: &[u8]) -> usize {
        let mut ends: Vec<usize> = (0..=piece.len()).collect();
        loop {
            let pairs = ends.windows(3).enumerate();
            let ranks = pairs.filter_map(|(at, ends)| Some((VOCABULARY.rank(&piece[ends[0]..ends[2]])?, at)));
            match ranks.min() {
                Some((_, at)) => ends.remove(at + 1),
                None => return ends.len() - 1,
            };
        }
    }

    proptest! {
        #[test]
        fn counts_follow_the_definition(
            pieces in prop::collection::vec(
                prop_oneof!["[a-e]{1,60}", "[a-zA-Z]{1,60}", "[ =\\-/]{1,200}", "\\PC{1,40}", "(.[ab]{1,4}){1,20}"],
                1..4,
            ),
            bytes in prop::collection::vec(any::<u8>(), 1..80),
        ) {
            let mut merges = Merges::default();
            for piece in pieces.iter().map(String::as_bytes).chain([bytes.as_slice()]) {
                prop_assert_eq!(merges.count(piece, &VOCABULARY), count_by_definition(piece));
            }
        }
    }
}
