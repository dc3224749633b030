//! Parser for server-sent events as providers send them: one `data:` line per event.

use bytes::BytesMut;

/// A chunk of an answer usually has a few hundred bytes.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// A line exceeds [`MAX_LINE_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineTooLong;

/// Buffers bytes and returns the data of events.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    buffer: BytesMut,
}

impl EventParser {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.buffer.len() + bytes.len() > MAX_LINE_BYTES + 64 * 1024 {
            return Err(LineTooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the data of the next complete `data:` line, if any.
    pub(super) fn next_data(&mut self) -> Option<String> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end + 1);
            let line = String::from_utf8_lossy(&line);
            if let Some(data) = line.trim_end().strip_prefix("data:") {
                return Some(data.trim_start().to_owned());
            }
        }
        None
    }

    /// Returns the data of a last line without a line end.
    pub(super) fn finish(&mut self) -> Option<String> {
        self.buffer.extend_from_slice(b"\n");
        self.next_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_parsed_at_any_chunk_size() {
        let text = ": comment\r\nevent: x\ndata: {\"a\":1}\r\n\r\ndata:é\n\ndata: [DONE]";
        for size in 1..text.len() {
            let mut events = EventParser::default();
            let mut received = Vec::new();
            for bytes in text.as_bytes().chunks(size) {
                events.push(bytes).expect("short");
                received.extend(std::iter::from_fn(|| events.next_data()));
            }
            received.extend(events.finish());
            assert_eq!(received, ["{\"a\":1}", "é", "[DONE]"]);
        }
    }

    #[test]
    fn an_unterminated_line_is_rejected() {
        let mut events = EventParser::default();
        let chunk = vec![b'x'; 256 * 1024];
        assert!((0..10).any(|_| events.push(&chunk).is_err()));
    }
}
