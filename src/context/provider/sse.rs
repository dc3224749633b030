//! Server-sent events, as far as providers use them: lines of `data:`, ended by blank lines.

use bytes::BytesMut;

/// The longest line; an answer's piece has some hundred bytes.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// A line is longer than any piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineTooLong;

/// Collects bytes and hands out the data of events.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    buffer: BytesMut,
}

impl EventParser {
    /// Takes bytes as they come.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.buffer.len() + bytes.len() > MAX_LINE_BYTES + 64 * 1024 {
            return Err(LineTooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The data of the next whole line, if there is one. Providers put each event's data on one line.
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

    /// The data of a last line that no line end follows.
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
            let mut heard = Vec::new();
            for bytes in text.as_bytes().chunks(size) {
                events.push(bytes).expect("short");
                heard.extend(std::iter::from_fn(|| events.next_data()));
            }
            heard.extend(events.finish());
            assert_eq!(heard, ["{\"a\":1}", "é", "[DONE]"]);
        }
    }

    #[test]
    fn an_unterminated_line_is_rejected() {
        let mut events = EventParser::default();
        let chunk = vec![b'x'; 256 * 1024];
        assert!((0..10).any(|_| events.push(&chunk).is_err()));
    }
}
