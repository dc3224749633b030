//! Masking: XOR with a four-byte key, in place.

/// Unmasks (or masks, it is the same) `payload` with `key`.
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    // Eight bytes at a time; as native-endian words on both sides, the byte order does not matter.
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_or_one_by_one_is_the_same(mut bytes: Vec<u8>, key: [u8; 4]) {
            let expected: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            apply(&mut bytes, key);
            prop_assert_eq!(bytes, expected);
        }
    }
}
