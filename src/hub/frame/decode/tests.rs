use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1024;

/// An owned copy of a decoded event.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Error(ProtocolError),
}

/// A masked client frame with this first byte.
fn client_frame(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(MASKED | u8::try_from(short).expect("short")),
        medium @ 126..=65_535 => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&u16::try_from(medium).expect("medium").to_be_bytes());
        }
        long => {
            frame.push(MASKED | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&key);
    let start = frame.len();
    frame.extend_from_slice(payload);
    mask::apply(&mut frame[start..], key);
    frame
}

/// Decodes the pieces with one decoder, as the read loop does.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Output> {
    let mut decoder = Decoder::new(LIMIT);
    let mut pending = Vec::new();
    let mut outputs = Vec::new();
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            let consumed = match decoder.decode(&mut pending) {
                Ok(None) => break,
                Ok(Some(Decoded { consumed, event })) => {
                    match event {
                        Event::Message(Frame::Text(text)) => outputs.push(Output::Text(text.to_owned())),
                        Event::Message(Frame::Binary(bytes)) => {
                            outputs.push(Output::Binary(bytes.to_owned()))
                        }
                        Event::Fragment { .. } => {}
                        Event::Ping(payload) => outputs.push(Output::Ping(payload.to_owned())),
                        Event::Pong => outputs.push(Output::Pong),
                        Event::Close(close) => outputs.push(Output::Close(close.map(|close| close.number))),
                    }
                    consumed
                }
                Err(error) => {
                    outputs.push(Output::Error(error));
                    return outputs;
                }
            };
            pending.drain(..consumed);
        }
    }
    outputs
}

fn read_one(bytes: &[u8]) -> Vec<Output> {
    read([bytes])
}

const KEY: [u8; 4] = [1, 2, 3, 4];

#[test]
fn unfragmented_messages_are_decoded() {
    assert_eq!(read_one(&client_frame(0x81, "héllo".as_bytes(), KEY)), [Output::Text("héllo".into())]);
    assert_eq!(read_one(&client_frame(0x82, &[7; 300], KEY)), [Output::Binary(vec![7; 300])]);
    assert_eq!(read_one(&client_frame(0x81, b"", KEY)), [Output::Text(String::new())]);
}

#[test]
fn fragments_are_joined_around_control_frames() {
    let stream = [
        client_frame(0x01, "hé".as_bytes().split_at(2).0, KEY),
        client_frame(0x89, b"are you there", KEY),
        client_frame(0x00, "hé".as_bytes().split_at(2).1, [9; 4]),
        client_frame(0x80, b"!", KEY),
        client_frame(0x81, b"next", KEY),
    ]
    .concat();
    let expected =
        [Output::Ping(b"are you there".to_vec()), Output::Text("hé!".into()), Output::Text("next".into())];
    assert_eq!(read_one(&stream), expected);
}

#[test]
fn protocol_violations_are_errors() {
    let unmasked = [0x81, 0x01, b'x'].to_vec();
    let not_minimal = [&[0x82, MASKED | 126, 0, 5][..], &KEY, &[0; 5]].concat();
    let far_too_long = [&[0x82, MASKED | 127][..], &[0xff; 8], &KEY].concat();
    for (bytes, error) in [
        (unmasked, ProtocolError::Unmasked),
        (not_minimal, ProtocolError::BadLength),
        (far_too_long, ProtocolError::BadLength),
        (client_frame(0xc1, b"x", KEY), ProtocolError::ReservedBits),
        (client_frame(0x83, b"x", KEY), ProtocolError::UnknownOpcode),
        (client_frame(0x8b, b"x", KEY), ProtocolError::UnknownOpcode),
        (client_frame(0x09, b"x", KEY), ProtocolError::BadControl),
        (client_frame(0x89, &[0; 126], KEY), ProtocolError::BadControl),
        (client_frame(0x80, b"x", KEY), ProtocolError::BadFragment),
        ([client_frame(0x01, b"x", KEY), client_frame(0x81, b"y", KEY)].concat(), ProtocolError::BadFragment),
        (client_frame(0x81, b"\xff", KEY), ProtocolError::InvalidUtf8),
        (client_frame(0x88, b"x", KEY), ProtocolError::BadClose),
        (client_frame(0x88, &1005u16.to_be_bytes(), KEY), ProtocolError::BadClose),
        (client_frame(0x88, b"\x03\xe8\xff", KEY), ProtocolError::InvalidUtf8),
        (client_frame(0x82, &[0; LIMIT + 1], KEY), ProtocolError::TooBig),
    ] {
        assert_eq!(read_one(&bytes), [Output::Error(error)], "{:x?}", &bytes[..bytes.len().min(12)]);
    }
}

#[test]
fn a_message_over_the_limit_is_an_error_before_its_payload_arrives() {
    let mut frame = client_frame(0x82, &[0; LIMIT + 1], KEY);
    frame.truncate(4);
    assert_eq!(read_one(&frame), [Output::Error(ProtocolError::TooBig)]);
    let fragments = [client_frame(0x02, &[0; LIMIT], KEY), client_frame(0x80, &[0], KEY)].concat();
    assert_eq!(read_one(&fragments), [Output::Error(ProtocolError::TooBig)]);
    assert_eq!(read_one(&client_frame(0x82, &[0; LIMIT], KEY)), [Output::Binary(vec![0; LIMIT])]);
}

#[test]
fn a_close_frame_may_be_empty() {
    assert_eq!(read_one(&client_frame(0x88, b"", KEY)), [Output::Close(None)]);
    assert_eq!(read_one(&client_frame(0x88, b"\x0f\xa0bye", KEY)), [Output::Close(Some(4000))]);
}

/// Messages with their encoded bytes: some unfragmented, some in fragments with pings in between.
fn message() -> impl Strategy<Value = (Vec<Output>, Vec<u8>)> {
    let text = (".{0,200}", any::<[u8; 4]>(), 1usize..5).prop_map(|(text, key, parts)| {
        let bytes = text.as_bytes();
        let size = bytes.len().div_ceil(parts).max(1);
        let chunks: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(size).collect() };
        let mut wire = Vec::new();
        let mut outputs = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            let fin = if index + 1 == chunks.len() { FIN } else { 0 };
            let opcode = if index == 0 { opcode::TEXT } else { opcode::CONTINUATION };
            wire.extend(client_frame(fin | opcode, chunk, key));
            if fin == 0 {
                wire.extend(client_frame(0x89, &key, key));
                outputs.push(Output::Ping(key.to_vec()));
            }
        }
        outputs.push(Output::Text(text));
        (outputs, wire)
    });
    let binary = (prop::collection::vec(any::<u8>(), 0..LIMIT), any::<[u8; 4]>())
        .prop_map(|(bytes, key)| (vec![Output::Binary(bytes.clone())], client_frame(0x82, &bytes, key)));
    let pong = any::<[u8; 4]>().prop_map(|key| (vec![Output::Pong], client_frame(0x8a, &key, key)));
    prop_oneof![text, binary, pong]
}

proptest! {
    #[test]
    fn messages_do_not_depend_on_how_the_stream_is_split(
        messages in prop::collection::vec(message(), 0..6),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        tail in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut wire: Vec<u8> = messages.iter().flat_map(|(_, wire)| wire.clone()).collect();
        wire.extend(tail);
        let all = read_one(&wire);
        let expected: Vec<Output> = messages.into_iter().flat_map(|(outputs, _)| outputs).collect();
        prop_assert!(all.starts_with(&expected));

        let mut offsets: Vec<usize> = cuts.drain(..).map(|cut| cut.index(wire.len() + 1)).collect();
        offsets.extend([0, wire.len()]);
        offsets.sort_unstable();
        let pieces: Vec<&[u8]> = offsets.windows(2).map(|ends| &wire[ends[0]..ends[1]]).collect();
        prop_assert_eq!(read(pieces), all.clone());
        prop_assert_eq!(read(wire.chunks(1)), all);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_one(&bytes);
    }
}
