use proptest::prelude::*;

use super::*;
use crate::{
    hub::Gate,
    protocol::{Encode, FrameKind},
};

/// Says its text in version 2, nothing in the others.
struct Line(String);

impl Encode for Line {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        out.extend_from_slice(self.0.as_bytes());
        (dialect == Dialect::PhoenixV2).then_some(FrameKind::Text)
    }
}

fn post(text: &str) -> Post {
    Post { message: Encodable::new(Line(text.into())), about: Hears::BROADCASTS, except: None, id: None }
}

fn member(hears: Hears) -> Member<()> {
    Member { channel: ChannelId::next(), connection: (), hears, gate: None, replayed: None }
}

fn bytes(frames: &[WireFrame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect()
}

/// What each member of the room gets, in the order given.
fn heard(rooms: &mut Rooms<()>, room: &Room, who: &[ChannelId]) -> Vec<String> {
    let (members, mut bundle) = rooms.take(room).expect("something waits");
    let texts = who.iter().map(|channel| {
        let member = members.iter().find(|member| member.channel == *channel).expect("is a member");
        let raw = bytes(&bundle.frames(member, Dialect::PhoenixV2));
        // Frames of these lengths have two bytes of header.
        let mut text = String::new();
        let mut rest = raw.as_slice();
        while let [_, length, body @ ..] = rest {
            let (one, next) = body.split_at(usize::from(*length));
            text.push_str(std::str::from_utf8(one).expect("is text"));
            rest = next;
        }
        text
    });
    texts.collect()
}

#[test]
fn everybody_hears_everything_in_order_but_what_they_said_themselves() {
    let room = Room::public("a");
    let mut rooms = Rooms::default();
    let (alice, bob) = (member(Hears::ALL), member(Hears::ALL));
    let (a, b) = (alice.channel, bob.channel);
    rooms.join(room.clone(), alice);
    rooms.join(room.clone(), bob);
    assert!(rooms.post(&room, &[post("1")]));
    assert!(!rooms.post(&room, &[Post { except: Some(a), ..post("2") }]));
    rooms.post(&room, &[Post { except: Some(b), ..post("3") }]);
    rooms.post(&room, &[post("4")]);
    assert_eq!(heard(&mut rooms, &room, &[a, b]), ["134", "124"]);
    assert!(rooms.take(&room).is_none(), "it is passed on once");
}

#[test]
fn rooms_of_one_name_public_and_private_do_not_hear_each_other() {
    let mut rooms = Rooms::default();
    rooms.join(Room::public("a"), member(Hears::ALL));
    assert!(!rooms.post(&Room::private("a"), &[post("1")]));
    assert!(rooms.take(&Room::private("a")).is_none() && rooms.take(&Room::public("a")).is_none());
}

#[test]
fn who_hears_only_a_part_gets_only_that_and_a_gate_closes_at_once() {
    let room = Room::private("a");
    let mut rooms = Rooms::default();
    let gate = Gate::new(Hears::ALL);
    let guarded = Member { gate: Some(Arc::clone(&gate)), ..member(Hears::ALL) };
    let presence = member(Hears::PRESENCE);
    let who = [guarded.channel, presence.channel];
    rooms.join(room.clone(), guarded);
    rooms.join(room.clone(), presence);
    let say = |rooms: &mut Rooms<()>| {
        rooms.post(&room, &[post("b")]);
        rooms.post(&room, &[Post { about: Hears::PRESENCE, ..post("p") }]);
    };
    say(&mut rooms);
    assert_eq!(heard(&mut rooms, &room, &who), ["bp", "p"]);
    say(&mut rooms);
    gate.set(Hears::NOTHING);
    assert_eq!(heard(&mut rooms, &room, &who), ["", "p"]);
}

#[test]
fn what_was_replayed_does_not_come_again() {
    let room = Room::private("a");
    let mut rooms = Rooms::default();
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let late = Member { replayed: Some(Box::new([old].into_iter().collect())), ..member(Hears::ALL) };
    let early = member(Hears::ALL);
    let who = [late.channel, early.channel];
    rooms.join(room.clone(), late);
    rooms.join(room.clone(), early);
    rooms.post(&room, &[Post { id: Some(old), ..post("o") }]);
    rooms.post(&room, &[Post { id: Some(new), ..post("n") }]);
    rooms.post(&room, &[post("x")]);
    assert_eq!(heard(&mut rooms, &room, &who), ["nx", "onx"]);
}

#[test]
fn large_frames_are_not_joined_beyond_a_piece() {
    let frames: Vec<_> =
        [40_000, 20_000, 10_000, 70_000, 1].map(|length| WireFrame::text(&"x".repeat(length))).into();
    let pieces = pieces(frames.iter());
    let lengths: Vec<_> = pieces.iter().map(|piece| piece.len() / 10_000).collect();
    assert_eq!(lengths, [6, 1, 7, 0]);
}

proptest! {
    /// However many come and go, each is found, and nobody twice.
    #[test]
    fn members_are_found_whatever_happened_before(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..300)) {
        let room = Room::public("a");
        let mut rooms = Rooms::default();
        let mut there: Vec<ChannelId> = Vec::new();
        for (joins, which) in steps {
            if joins || there.is_empty() {
                let member = member(Hears::ALL);
                there.push(member.channel);
                rooms.join(room.clone(), member);
            } else {
                let channel = there.swap_remove(usize::from(which) % there.len());
                prop_assert_eq!(rooms.leave(&room, channel).map(|member| member.channel), Some(channel));
                prop_assert!(rooms.leave(&room, channel).is_none());
            }
            prop_assert_eq!(rooms.members(), there.len());
            prop_assert_eq!(rooms.len(), usize::from(!there.is_empty()));
        }
        for channel in there {
            prop_assert_eq!(rooms.member_mut(&room, channel).map(|member| member.channel), Some(channel));
        }
    }
}
