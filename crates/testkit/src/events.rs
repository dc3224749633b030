//! A reader of server-sent events, as strict as the specification of `EventSource`.

use reqwest::Response;

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name; `message` without one.
    pub name: String,
    pub id: Option<String>,
    pub data: String,
}

/// Reads a response as a stream of events.
#[derive(Debug)]
pub struct EventStream {
    response: Response,
    /// Received and not read yet.
    rest: Vec<u8>,
    /// Comments received so far.
    pub comments: usize,
    /// ID of the last event that had one, also of events without data.
    pub last_id: Option<String>,
}

impl EventStream {
    /// Checks the head of the response.
    pub fn new(response: Response) -> Self {
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self::new_through_proxy(response)
    }

    /// As [`Self::new`], for a response from which nginx removed the header that is for it.
    pub fn new_through_proxy(response: Response) -> Self {
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, rest: Vec::new(), comments: 0, last_id: None }
    }

    /// The next event; `None` at the end of the stream. May be cancelled.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.rest.drain(..end + 2).collect();
                let block = String::from_utf8(block).expect("UTF-8");
                if let Some(event) = self.parse(&block) {
                    return Some(event);
                }
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.rest.extend_from_slice(&bytes),
                Ok(None) | Err(_) => {
                    assert!(self.rest.is_empty(), "the stream ended in an event: {:?}", self.rest);
                    return None;
                }
            }
        }
    }

    fn parse(&mut self, block: &str) -> Option<Event> {
        let (mut name, mut id, mut data) = ("message".to_owned(), None, Vec::new());
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("data", value)) => data.push(value),
                _ if line.starts_with(':') => self.comments += 1,
                _ => panic!("no line of an event: {line:?}"),
            }
        }
        if id.is_some() {
            self.last_id.clone_from(&id);
        }
        (!data.is_empty()).then(|| Event { name, id, data: data.join("\n") })
    }
}
