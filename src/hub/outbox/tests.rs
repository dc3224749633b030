use proptest::prelude::*;

use super::*;
use crate::model::UserId;

fn key(name: u8) -> StateKey {
    StateKey::Presence(UserId(uuid::Uuid::from_u128(name.into())))
}

fn frame(text: &str) -> WireFrame {
    WireFrame::text(text)
}

/// Writes at most `limit` bytes and returns them.
fn write(outbox: &mut Outbox, limit: usize) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 3];
    let filled = outbox.fill(&mut slices);
    let mut bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
    bytes.truncate(limit);
    outbox.advance(bytes.len());
    bytes
}

fn write_all(outbox: &mut Outbox) -> Vec<u8> {
    let mut all = Vec::new();
    while !outbox.is_empty() {
        all.extend(write(outbox, usize::MAX));
    }
    all
}

fn wire(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| frame(text).as_bytes().to_vec()).collect()
}

fn outbox() -> Outbox {
    Outbox::new(OutboxLimits::default())
}

const LIMITS: OutboxLimits = OutboxLimits {
    stream_bytes: 1000,
    stream_bytes_active_reader: 10_000,
    state_bytes: 1000,
    state_bytes_active_reader: 10_000,
};

#[test]
fn an_active_reader_gets_a_larger_limit() {
    let mut outbox = Outbox::new(LIMITS);
    let large = frame(&"x".repeat(900));
    assert_eq!(outbox.push(large.clone(), || false), Ok(()));
    assert_eq!(outbox.push(large.clone(), || false), Err(Overflow));
    while outbox.queued_bytes() < 9_000 {
        assert_eq!(outbox.push(large.clone(), || true), Ok(()));
    }
    assert_eq!(outbox.push(large, || true), Err(Overflow));
}

#[test]
fn an_active_reader_gets_a_larger_limit_of_state() {
    let mut outbox = Outbox::new(LIMITS);
    let large = frame(&"x".repeat(400));
    assert_eq!(outbox.push_state(key(0), large.clone(), || false), Ok(Queued::Added));
    assert_eq!(outbox.push_state(key(1), large.clone(), || false), Ok(Queued::Added));
    assert_eq!(outbox.push_state(key(2), large.clone(), || false), Err(Overflow));
    let mut next = 2;
    while outbox.queued_bytes() < 9_500 {
        assert_eq!(outbox.push_state(key(next), large.clone(), || true), Ok(Queued::Added));
        next += 1;
    }
    assert_eq!(outbox.push_state(key(next), large.clone(), || true), Err(Overflow));
    assert_eq!(outbox.push_state(key(0), large, || true), Ok(Queued::Coalesced));
}

#[test]
fn only_the_latest_frame_of_a_key_is_written() {
    let mut outbox = outbox();
    assert_eq!(outbox.push_state(key(1), frame("a1"), || false), Ok(Queued::Added));
    assert_eq!(outbox.push_state(key(2), frame("b1"), || false), Ok(Queued::Added));
    assert_eq!(outbox.push_state(key(1), frame("a2"), || false), Ok(Queued::Coalesced));
    assert_eq!(write_all(&mut outbox), wire(&["a2", "b1"]));
}

#[test]
fn a_state_frame_never_overtakes_an_earlier_stream_frame() {
    let mut outbox = outbox();
    outbox.push_state(key(1), frame("old"), || false).expect("within the limit");
    outbox.push_state(key(2), frame("other"), || false).expect("within the limit");
    outbox.push(frame("everything"), || false).expect("within the limit");
    assert_eq!(outbox.push_state(key(1), frame("new"), || false), Ok(Queued::Coalesced));
    assert_eq!(write_all(&mut outbox), wire(&["other", "everything", "new"]));
}

#[test]
fn a_partly_written_frame_is_finished_before_a_newer_one() {
    let mut outbox = outbox();
    outbox.push_state(key(1), frame("old"), || false).expect("within the limit");
    let mut written = write(&mut outbox, 2);
    assert_eq!(outbox.push_state(key(1), frame("new"), || false), Ok(Queued::Added));
    assert_eq!(outbox.push_state(key(1), frame("newest"), || false), Ok(Queued::Coalesced));
    written.extend(write_all(&mut outbox));
    assert_eq!(written, wire(&["old", "newest"]));
}

#[test]
fn stream_frames_overflow_but_one_large_frame_passes() {
    let mut outbox = Outbox::new(LIMITS);
    let large = "x".repeat(5000);
    assert_eq!(outbox.push(frame(&large), || false), Ok(()));
    assert_eq!(outbox.push(frame("y"), || false), Err(Overflow));
    assert_eq!(write_all(&mut outbox), wire(&[&large]));
    assert_eq!(outbox.push(frame("y"), || false), Ok(()));
}

#[test]
fn state_frames_are_bounded_and_replacing_does_not_count_twice() {
    let mut outbox = Outbox::new(LIMITS);
    let text = "x".repeat(800);
    for _ in 0..10 {
        outbox.push_state(key(1), frame(&text), || false).expect("it replaces the older frame");
    }
    assert_eq!(outbox.push_state(key(2), frame(&text), || false), Err(Overflow));
    assert_eq!(outbox.push_state(StateKey::Pong, WireFrame::pong(b""), || false), Ok(Queued::Added));
}

#[test]
fn drop_unsent_keeps_only_the_partly_written_frame() {
    let mut outbox = outbox();
    outbox.push(frame("begun"), || false).expect("within the limit");
    outbox.push(frame("waiting"), || false).expect("within the limit");
    let mut written = write(&mut outbox, 3);
    outbox.drop_unsent();
    outbox.push_last(frame("bye"));
    written.extend(write_all(&mut outbox));
    assert_eq!(written, wire(&["begun", "bye"]));
    assert_eq!(outbox.queued_bytes(), 0);
}

#[test]
fn an_emptied_outbox_releases_its_memory() {
    let mut outbox = outbox();
    for name in 0..200 {
        outbox.push_state(key(name), frame("x"), || false).expect("within the limit");
    }
    write_all(&mut outbox);
    assert!(outbox.entries.capacity() <= MAX_RETAINED_ENTRIES);
    assert!(outbox.index.is_none());
}

/// An operation on the outbox.
#[derive(Debug, Clone)]
enum Step {
    State(u8, u16),
    Stream(u16),
    Write(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..80u8, any::<u16>()).prop_map(|(name, value)| Step::State(name, value)),
        2 => any::<u16>().prop_map(Step::Stream),
        2 => (0usize..60).prop_map(Step::Write),
    ]
}

/// A simple reference implementation: the frames to send, and the written bytes of the first one.
#[derive(Default)]
struct Model {
    queue: Vec<(Option<u8>, Vec<u8>)>,
    started: usize,
}

impl Model {
    fn state(&mut self, name: u8, bytes: Vec<u8>) {
        let from = usize::from(self.started > 0);
        let old = self
            .queue
            .iter()
            .skip(from)
            .position(|(key, _)| *key == Some(name))
            .map(|position| position + from);
        match old {
            Some(position) if self.queue[position..].iter().all(|(key, _)| key.is_some()) => {
                self.queue[position].1 = bytes
            }
            Some(position) => {
                self.queue.remove(position);
                self.queue.push((Some(name), bytes));
            }
            None => self.queue.push((Some(name), bytes)),
        }
    }

    fn write(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let left = self.queue[0].1.len() - self.started;
            if bytes < left {
                self.started += bytes;
                return;
            }
            bytes -= left;
            self.started = 0;
            self.queue.remove(0);
        }
    }

    fn rest(&self) -> Vec<u8> {
        let all: Vec<u8> = self.queue.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        all[self.started..].to_vec()
    }
}

proptest! {
    #[test]
    fn the_outbox_matches_the_reference_implementation(steps in prop::collection::vec(step(), 0..400)) {
        let mut outbox = Outbox::new(OutboxLimits { stream_bytes: usize::MAX, stream_bytes_active_reader: usize::MAX, state_bytes: usize::MAX, state_bytes_active_reader: usize::MAX });
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::State(name, value) => {
                    let frame = frame(&format!("{name}={value}"));
                    model.state(name, frame.as_bytes().to_vec());
                    outbox.push_state(key(name), frame, || false).expect("no limit");
                }
                Step::Stream(value) => {
                    let frame = frame(&format!("stream {value}"));
                    model.queue.push((None, frame.as_bytes().to_vec()));
                    outbox.push(frame, || false).expect("no limit");
                }
                Step::Write(limit) => {
                    let expected = model.rest();
                    let written = write(&mut outbox, limit);
                    prop_assert!(expected.starts_with(&written));
                    model.write(written.len());
                }
            }
            let cost: usize = model.queue.iter().map(|(_, bytes)| bytes.len() + size_of::<Entry>()).sum();
            prop_assert_eq!(outbox.queued_bytes(), cost);
            prop_assert!(outbox.gaps <= INDEX_THRESHOLD + 1 || outbox.gaps * 2 <= outbox.entries.len() + 1);
        }
        let expected = model.rest();
        prop_assert_eq!(write_all(&mut outbox), expected);
        prop_assert_eq!((outbox.gaps, outbox.queued_bytes()), (0, 0));
    }
}
