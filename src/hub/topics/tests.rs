use proptest::prelude::*;

use super::*;
use crate::{
    hub::AllowedMask,
    protocol::{Encode, FrameKind},
};

/// Encodes as its text in Phoenix version 2 and as nothing in other dialects.
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

fn member(mask: ReceiveMask) -> Member<()> {
    Member { channel: ChannelId::next(), connection: (), mask, allowed: None, replayed: None }
}

fn bytes(frames: &[WireFrame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect()
}

/// Returns the text that each channel receives, in the order of `channels`.
fn received(topics: &mut TopicTable<()>, topic: &Topic, channels: &[ChannelId]) -> Vec<String> {
    let (members, mut batch) = topics.take_pending(topic).expect("pending deliveries");
    let texts = channels.iter().map(|channel| {
        let member = members.iter().find(|member| member.channel == *channel).expect("is a member");
        let raw = bytes(&batch.frames(member, Dialect::PhoenixV2));
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
    let topic = Topic::public("a");
    let mut topics = TopicTable::default();
    let (alice, bob) = (member(ReceiveMask::ALL), member(ReceiveMask::ALL));
    let (a, b) = (alice.channel, bob.channel);
    topics.join(topic.clone(), alice);
    topics.join(topic.clone(), bob);
    assert!(topics.publish(&topic, &[delivery("1")]));
    assert!(!topics.publish(&topic, &[TopicDelivery { except: Some(a), ..delivery("2") }]));
    topics.publish(&topic, &[TopicDelivery { except: Some(b), ..delivery("3") }]);
    topics.publish(&topic, &[delivery("4")]);
    assert_eq!(received(&mut topics, &topic, &[a, b]), ["134", "124"]);
    assert!(topics.take_pending(&topic).is_none(), "deliveries are taken once");
}

#[test]
fn public_and_private_topics_of_one_name_are_separate() {
    let mut topics = TopicTable::default();
    topics.join(Topic::public("a"), member(ReceiveMask::ALL));
    assert!(!topics.publish(&Topic::private("a"), &[delivery("1")]));
    assert!(
        topics.take_pending(&Topic::private("a")).is_none()
            && topics.take_pending(&Topic::public("a")).is_none()
    );
}

#[test]
fn masks_select_messages_and_restrictions_apply_at_once() {
    let topic = Topic::private("a");
    let mut topics = TopicTable::default();
    let allowed = AllowedMask::new(ReceiveMask::ALL);
    let restricted = Member { allowed: Some(Arc::clone(&allowed)), ..member(ReceiveMask::ALL) };
    let presence = member(ReceiveMask::PRESENCE);
    let channels = [restricted.channel, presence.channel];
    topics.join(topic.clone(), restricted);
    topics.join(topic.clone(), presence);
    let publish = |topics: &mut TopicTable<()>| {
        topics.publish(&topic, &[delivery("b")]);
        topics.publish(&topic, &[TopicDelivery { kind: ReceiveMask::PRESENCE, ..delivery("p") }]);
    };
    publish(&mut topics);
    assert_eq!(received(&mut topics, &topic, &channels), ["bp", "p"]);
    publish(&mut topics);
    allowed.set(ReceiveMask::NONE);
    assert_eq!(received(&mut topics, &topic, &channels), ["", "p"]);
}

#[test]
fn replayed_messages_are_not_delivered_again() {
    let topic = Topic::private("a");
    let mut topics = TopicTable::default();
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let late = Member { replayed: Some(Box::new([old].into_iter().collect())), ..member(ReceiveMask::ALL) };
    let early = member(ReceiveMask::ALL);
    let channels = [late.channel, early.channel];
    topics.join(topic.clone(), late);
    topics.join(topic.clone(), early);
    topics.publish(&topic, &[TopicDelivery { id: Some(old), ..delivery("o") }]);
    topics.publish(&topic, &[TopicDelivery { id: Some(new), ..delivery("n") }]);
    topics.publish(&topic, &[delivery("x")]);
    assert_eq!(received(&mut topics, &topic, &channels), ["nx", "onx"]);
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
    /// After any sequence of joins and leaves, each member is found exactly once.
    #[test]
    fn members_are_found_after_any_joins_and_leaves(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..300)) {
        let topic = Topic::public("a");
        let mut topics = TopicTable::default();
        let mut joined: Vec<ChannelId> = Vec::new();
        for (joins, choice) in steps {
            if joins || joined.is_empty() {
                let member = member(ReceiveMask::ALL);
                joined.push(member.channel);
                topics.join(topic.clone(), member);
            } else {
                let channel = joined.swap_remove(usize::from(choice) % joined.len());
                prop_assert_eq!(topics.leave(&topic, channel).map(|member| member.channel), Some(channel));
                prop_assert!(topics.leave(&topic, channel).is_none());
            }
            prop_assert_eq!(topics.member_count(), joined.len());
            prop_assert_eq!(topics.len(), usize::from(!joined.is_empty()));
        }
        for channel in joined {
            prop_assert_eq!(topics.member_mut(&topic, channel).map(|member| member.channel), Some(channel));
        }
    }
}
