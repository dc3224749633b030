//! Server-sent events, as far as providers use them: lines of `data:`, ended by blank lines.

use bytes::BytesMut;

/// The longest line; an answer's piece has some hundred bytes.
const LONGEST_LINE: usize = 1024 * 1024;

/// A line is longer than any piece of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// Collects bytes and hands out the data of events.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: BytesMut,
}

impl Events {
    /// Takes bytes as they come.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.waiting.len() + bytes.len() > LONGEST_LINE + 64 * 1024 {
            return Err(TooLong);
        }
        self.waiting.extend_from_slice(bytes);
        Ok(())
    }

    /// The data of the next whole line, if there is one. Providers put each event's data on one line.
    pub(super) fn next(&mut self) -> Option<String> {
        while let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
            let line = self.waiting.split_to(end + 1);
            let line = String::from_utf8_lossy(&line);
            if let Some(data) = line.trim_end().strip_prefix("data:") {
                return Some(data.trim_start().to_owned());
            }
        }
        None
    }

    /// The data of a last line that no line end follows.
    pub(super) fn last(&mut self) -> Option<String> {
        self.waiting.extend_from_slice(b"\n");
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_comes_whole_however_the_bytes_are_cut() {
        let text = ": comment\r\nevent: x\ndata: {\"a\":1}\r\n\r\ndata:é\n\ndata: [DONE]";
        for size in 1..text.len() {
            let mut events = Events::default();
            let mut heard = Vec::new();
            for bytes in text.as_bytes().chunks(size) {
                events.take(bytes).expect("short");
                heard.extend(std::iter::from_fn(|| events.next()));
            }
            heard.extend(events.last());
            assert_eq!(heard, ["{\"a\":1}", "é", "[DONE]"]);
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut events = Events::default();
        let chunk = vec![b'x'; 256 * 1024];
        assert!((0..10).any(|_| events.take(&chunk).is_err()));
    }
}
