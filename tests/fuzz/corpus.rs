//! Valid inputs to start from, and words that the decoders know.

/// Valid inputs of a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts: &[&str] = match target {
        "phoenix" => &[
            r#"["1","2","realtime:room","phx_join",{"config":{"broadcast":{"ack":true},"private":true}}]"#,
            r#"[null,"3","phoenix","heartbeat",{}]"#,
            r#"{"topic":"realtime:room","event":"broadcast","payload":{"type":"broadcast","event":"e","payload":{"a":[1.10,null]}},"ref":"4","join_ref":"1"}"#,
            "\0\u{1}\u{1}\u{d}\u{9}12realtime:roombroadcastdata",
            "\u{3}\u{1}\u{1}\u{d}\u{1}\u{0}\u{1}12realtime:roome{\"a\":1}",
        ],
        "dialects" => &[
            r#"{"type":"status","data":{"status":"busy","custom_status":"a","device_id":"phone"}}"#,
            r#"{"type":"presence_update","payload":{"online_status":"away","activity":"x"}}"#,
            r#"{"type":"subscribe","user_ids":["6f1c2b1e-0000-4000-8000-000000000001"]}"#,
            r#"{"type":"typing","payload":{"conversation_id":7,"is_typing":true}}"#,
            r#"{"type":"context_update","context":{"conversation_id":"a","position":{"line":3}},"timestamp":"2026-11-29T10:00:00Z"}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"auth","token":"a.b.c"}"#,
        ],
        "filters" => &[
            "id=eq.1",
            "id=in.(1,2,\"a,b\"),body=not.like.a%",
            "created_at=gte.2026-11-29T10:00:00Z,body=match.^a.*b$",
            "done=is.null,name=imatch.\"a\\\"b\"",
            r#"{"event":"UPDATE","schema":"public","table":"todos","filter":"id=eq.1","select":["id","body"]}"#,
            r#"{"event":"*","schema":"*"}"#,
        ],
        "jwt" => &[
            r#"{"sub":"6f1c2b1e-0000-4000-8000-000000000001","role":"authenticated","exp":4000000000,"nbf":1.5,"iat":7}"#,
            r#"{"userId":"6F1C2B1E-0000-4000-8000-000000000001","exp":4e9,"permissions":["presence:admin"],"aud":["a"]}"#,
            r#"{"role":"anon","exp":4000000000,"app_metadata":{"a":[{"b":null}]}}"#,
            "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiIsImV4cCI6NDAwMDAwMDAwMH0.AAAA",
        ],
        "notifications" => &[
            "1764410000.5|6f1c2b1e000040008000000000000001,6f1c2b1e000040008000000000000002",
            "12|6f1c2b1e-0000-4000-8000-000000000001:room,6f1c2b1e-0000-4000-8000-000000000002:a:b",
            "policies|0a0b0c0d,01020304",
            "6f1c2b1e-0000-4000-8000-000000000001|7,8,9",
            "6f1c2b1e000040008000000000000001:7\n6f1c2b1e000040008000000000000002:8",
            "7",
            "",
        ],
        "bodies" => &[
            r#"{"status":"busy","custom_status":"a","custom_status_expires_at":"2026-11-29T10:00:00Z","device_id":"phone","activity":"x"}"#,
            r#"{"device_id":"phone","active":true}"#,
            r#"{"is_typing":true,"conversation_id":7}"#,
            r#"{"visibility":"contacts","show_last_seen":false,"show_typing":true}"#,
            r#"{"user_ids":["6f1c2b1e-0000-4000-8000-000000000001","6f1c2b1e-0000-4000-8000-000000000002"]}"#,
            r#"{"userId":"6f1c2b1e-0000-4000-8000-000000000001","participants":["6f1c2b1e-0000-4000-8000-000000000002"],"title":"a"}"#,
            r#"{"category":"custom","event":"news","recipients":["6f1c2b1e-0000-4000-8000-000000000001"],"payload":{"a":[1]}}"#,
            r#"{"eventType":"memory_created","relatedIds":{"topicId":"6f1c2b1e-0000-4000-8000-000000000001"}}"#,
            r#"{"messages":[{"role":"user","content":"hello"}],"conversationId":"6f1c2b1e-0000-4000-8000-000000000001","stream":true,"maxTokens":10}"#,
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hello"}]}],"temperature":0.5,"stop":["a"]}"#,
            r#"{"conversation_id":"6f1c2b1e-0000-4000-8000-000000000001","path":"/a","local_time":"14:30"}"#,
            r#"{"messages":[{"topic":"room","event":"e","payload":{"a":1},"private":true}]}"#,
        ],
        _ => &[],
    };
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "frames" => seeds.extend(
            [
                &[0x81, 0x85, 1, 2, 3, 4, b'h', b'e', b'l', b'l', b'o'][..],
                // A message in fragments with a ping between them.
                &[0x01, 0x81, 0, 0, 0, 0, b'a', 0x89, 0x80, 0, 0, 0, 0, 0x80, 0x81, 0, 0, 0, 0, b'b'],
                &[0x82, 0xfe, 0, 126, 0, 0, 0, 0],
                &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
                &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8],
            ]
            .map(<[u8]>::to_vec),
        ),
        "bus" => {
            let topic = |private: u8, body: &[u8]| {
                let lengths = |length: usize| u32::try_from(length).expect("is short").to_be_bytes();
                [&[private][..], &lengths(4), b"room", &lengths(body.len()), body].concat()
            };
            let json = topic(0, b"\0{\"a\":1}");
            let user = topic(1, b"\x01\0\0\0\x01e\0\0\0\x02{}{\"b\":2}");
            let binary = topic(0, b"\x02\0\0\0\x01e\0\0\0\0\xff\xfe");
            seeds.extend([vec![1], [&[1][..], &json].concat(), [&[1][..], &user, &binary, &json].concat()]);
        }
        "pgoutput" => {
            let mut begin = b"B".to_vec();
            begin.extend([0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 7]);
            let mut commit = b"C\0".to_vec();
            commit.extend([0; 24]);
            let relation = b"R\0\0\0\x07public\0todos\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0body\0\0\0\0\x19\xff\xff\xff\xff".to_vec();
            let insert = b"I\0\0\0\x07N\0\x02t\0\0\0\x011n".to_vec();
            let update = b"U\0\0\0\x07O\0\x01t\0\0\0\x011N\0\x03t\0\0\0\x01bub\0\0\0\x02ab".to_vec();
            let delete = b"D\0\0\0\x07K\0\x01t\0\0\0\x011".to_vec();
            let truncate = b"T\0\0\0\x01\0\0\0\0\x07".to_vec();
            seeds.extend([begin, commit, relation, insert, update, delete, truncate]);
        }
        _ => {}
    }
    assert!(!seeds.is_empty(), "{target}");
    seeds
}

/// Words of a target's language.
pub fn words(target: &str) -> Vec<&'static [u8]> {
    let texts: &[&str] = match target {
        "filters" => &[
            "eq.", "neq.", "in.(", ")", "not.", "is.", "like.", "imatch.", "match.", ",", "=", "\"", "\\",
            "{", "}",
        ],
        "jwt" => &[
            "\"exp\":",
            "\"nbf\":",
            "\"role\":",
            "\"sub\":",
            "null",
            "-1",
            "1e400",
            "[",
            "{",
            "}",
            "\\u0000",
            ".",
            "%2e",
            " ",
        ],
        "notifications" => {
            &["|", ",", ":", "\n", ".", "-", "ffffffffffffffffffffffffffffffff", "9223372036854775808", "é"]
        }
        _ => &[
            "[",
            "]",
            "{",
            "}",
            "\"",
            "\\",
            "\\u0000",
            "\\ud800",
            ":",
            ",",
            "null",
            "true",
            "-0",
            "1e999",
            "99999999999999999999",
            "\"type\":",
            "\"payload\":",
            "\"topic\":",
            "\"event\":",
            "\"ref\":",
            "é",
            "\u{202e}",
            "\0",
        ],
    };
    texts.iter().map(|text| text.as_bytes()).collect()
}
