use proptest::prelude::*;

use super::*;
use crate::{
    hub::AllowedMask,
    protocol::{Encode, FrameKind},
};

/// Says its text in version 2, nothing in the others.
struct TextMessage(String);

impl Encode for TextMessage {
    fn encode_into(&self, dialect: Dialect, out: &mut Vec<u8>) -> Option<FrameKind> {
        out.extend_from_slice(self.0.as_bytes());
        (dialect == Dialect::PhoenixV2).then_some(FrameKind::Text)
    }
}

fn delivery(text: &str) -> TopicDelivery {
    TopicDelivery {
        message: Encodable::new(TextMessage(text.into())),
        kind: ReceiveMask::BROADCASTS,
        except: None,
        id: None,
    }
}

fn member(hears: ReceiveMask) -> Member<()> {
    Member { channel: ChannelId::next(), connection: (), mask: hears, allowed: None, replayed: None }
}

fn bytes(frames: &[WireFrame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect()
}

/// What each member of the room gets, in the order given.
fn received(rooms: &mut TopicTable<()>, room: &Topic, who: &[ChannelId]) -> Vec<String> {
    let (members, mut bundle) = rooms.take_pending(room).expect("something waits");
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
fn members_receive_in_order_except_their_own_messages() {
    let room = Topic::public("a");
    let mut rooms = TopicTable::default();
    let (alice, bob) = (member(ReceiveMask::ALL), member(ReceiveMask::ALL));
    let (a, b) = (alice.channel, bob.channel);
    rooms.join(room.clone(), alice);
    rooms.join(room.clone(), bob);
    assert!(rooms.publish(&room, &[delivery("1")]));
    assert!(!rooms.publish(&room, &[TopicDelivery { except: Some(a), ..delivery("2") }]));
    rooms.publish(&room, &[TopicDelivery { except: Some(b), ..delivery("3") }]);
    rooms.publish(&room, &[delivery("4")]);
    assert_eq!(received(&mut rooms, &room, &[a, b]), ["134", "124"]);
    assert!(rooms.take_pending(&room).is_none(), "it is passed on once");
}

#[test]
fn public_and_private_topics_of_one_name_are_separate() {
    let mut rooms = TopicTable::default();
    rooms.join(Topic::public("a"), member(ReceiveMask::ALL));
    assert!(!rooms.publish(&Topic::private("a"), &[delivery("1")]));
    assert!(
        rooms.take_pending(&Topic::private("a")).is_none()
            && rooms.take_pending(&Topic::public("a")).is_none()
    );
}

#[test]
fn masks_select_messages_and_restrictions_apply_at_once() {
    let room = Topic::private("a");
    let mut rooms = TopicTable::default();
    let gate = AllowedMask::new(ReceiveMask::ALL);
    let guarded = Member { allowed: Some(Arc::clone(&gate)), ..member(ReceiveMask::ALL) };
    let presence = member(ReceiveMask::PRESENCE);
    let who = [guarded.channel, presence.channel];
    rooms.join(room.clone(), guarded);
    rooms.join(room.clone(), presence);
    let say = |rooms: &mut TopicTable<()>| {
        rooms.publish(&room, &[delivery("b")]);
        rooms.publish(&room, &[TopicDelivery { kind: ReceiveMask::PRESENCE, ..delivery("p") }]);
    };
    say(&mut rooms);
    assert_eq!(received(&mut rooms, &room, &who), ["bp", "p"]);
    say(&mut rooms);
    gate.set(ReceiveMask::NONE);
    assert_eq!(received(&mut rooms, &room, &who), ["", "p"]);
}

#[test]
fn replayed_messages_are_not_delivered_again() {
    let room = Topic::private("a");
    let mut rooms = TopicTable::default();
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let late = Member { replayed: Some(Box::new([old].into_iter().collect())), ..member(ReceiveMask::ALL) };
    let early = member(ReceiveMask::ALL);
    let who = [late.channel, early.channel];
    rooms.join(room.clone(), late);
    rooms.join(room.clone(), early);
    rooms.publish(&room, &[TopicDelivery { id: Some(old), ..delivery("o") }]);
    rooms.publish(&room, &[TopicDelivery { id: Some(new), ..delivery("n") }]);
    rooms.publish(&room, &[delivery("x")]);
    assert_eq!(received(&mut rooms, &room, &who), ["nx", "onx"]);
}

#[test]
fn large_frames_are_not_joined_beyond_the_maximum() {
    let frames: Vec<_> =
        [40_000, 20_000, 10_000, 70_000, 1].map(|length| WireFrame::text(&"x".repeat(length))).into();
    let pieces = join_frames(frames.iter());
    let lengths: Vec<_> = pieces.iter().map(|piece| piece.len() / 10_000).collect();
    assert_eq!(lengths, [6, 1, 7, 0]);
}

proptest! {
    /// However many come and go, each is found, and nobody twice.
    #[test]
    fn members_are_found_whatever_happened_before(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..300)) {
        let room = Topic::public("a");
        let mut rooms = TopicTable::default();
        let mut there: Vec<ChannelId> = Vec::new();
        for (joins, which) in steps {
            if joins || there.is_empty() {
                let member = member(ReceiveMask::ALL);
                there.push(member.channel);
                rooms.join(room.clone(), member);
            } else {
                let channel = there.swap_remove(usize::from(which) % there.len());
                prop_assert_eq!(rooms.leave(&room, channel).map(|member| member.channel), Some(channel));
                prop_assert!(rooms.leave(&room, channel).is_none());
            }
            prop_assert_eq!(rooms.member_count(), there.len());
            prop_assert_eq!(rooms.len(), usize::from(!there.is_empty()));
        }
        for channel in there {
            prop_assert_eq!(rooms.member_mut(&room, channel).map(|member| member.channel), Some(channel));
        }
    }
}
