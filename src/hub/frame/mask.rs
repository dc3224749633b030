//! Masking: XOR with a four-byte key, in place.

/// Masks or unmasks `payload` with `key`; both are the same operation.
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    // Eight bytes at a time. Both operands are native-endian, so the byte order does not matter.
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn masking_eight_bytes_at_a_time_equals_masking_single_bytes(mut bytes: Vec<u8>, key: [u8; 4]) {
            let expected: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            apply(&mut bytes, key);
            prop_assert_eq!(bytes, expected);
        }
    }
}
