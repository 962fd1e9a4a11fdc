//! The codec, against tables, against hostile input, and against another implementation.

use bytes::BufMut;
use proptest::prelude::*;
use watermelon_proto::proto as other;

use super::*;
use crate::message::Headers;
use crate::nats::error::{DecodeError, OutboxError};

/// Everything that `chunks` decode to, and how it ended.
fn decode<'a>(
    mut decoder: Decoder,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<ServerOp>, Result<Decoder, DecodeError>) {
    let mut ops = Vec::new();
    for chunk in chunks {
        if let Err(error) = decoder.feed(chunk) {
            return (ops, Err(error));
        }
        loop {
            match decoder.next_op() {
                Ok(Some(op)) => ops.push(op),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_op(), Err(error.clone()), "it stays an error");
                    assert_eq!(decoder.feed(b"PING\r\n"), Err(error.clone()));
                    assert_eq!(decoder.buffered(), 0);
                    return (ops, Err(error));
                }
            }
        }
    }
    (ops, Ok(decoder))
}

fn ops(input: &[u8]) -> Vec<ServerOp> {
    let (ops, end) = decode(Decoder::default(), [input]);
    end.expect("well-formed");
    ops
}

fn message(op: &ServerOp) -> &ServerMessage {
    match op {
        ServerOp::Message(message) => message,
        ServerOp::Control(op) => panic!("{op:?} is no message"),
    }
}

const TRANSCRIPT: &[u8] = b"INFO {\"server_id\":\"S\",\"max_payload\":1024} \r\n\
    PING\r\nPONG\r\n+OK\r\n-ERR 'Unknown Protocol Operation'\r\n\
    MSG a.b 1 5\r\nhello\r\nMSG a.b 1 0\r\n\r\n\
    MSG a 18446744073709551615 _INBOX.x.1 4\r\nPI\r\n\r\n\
    HMSG a 2 r.s 17 20\r\nNATS/1.0\r\nA:b\r\n\r\nabc\r\nPONG\r\n\
    HMSG a 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\nping\r\nMSG  a\t1   2\r\nhi\r\n";

#[test]
fn a_transcript() {
    let ops = ops(TRANSCRIPT);
    assert_eq!(ops.len(), 13);
    let ServerOp::Control(ControlOp::Info(info)) = &ops[0] else { panic!("{:?}", ops[0]) };
    assert_eq!((info.server_id.as_str(), info.max_payload), ("S", 1024));
    let control = |at: usize| match &ops[at] {
        ServerOp::Control(op) => op.clone(),
        ServerOp::Message(message) => panic!("{message:?} is no control operation"),
    };
    assert_eq!(control(1), ControlOp::Ping);
    assert_eq!(control(2), ControlOp::Pong);
    assert_eq!(control(3), ControlOp::Ok);
    let error = ServerError::Other("Unknown Protocol Operation".into());
    assert_eq!(control(4), ControlOp::Err(error));

    let hello = message(&ops[5]);
    assert_eq!((hello.sid(), hello.subject(), hello.reply()), (1, "a.b", None));
    assert_eq!(hello.payload(), b"hello");
    assert_eq!(hello.wire_len(), b"MSG a.b 1 5\r\nhello\r\n".len());
    assert_eq!((hello.header_block(), hello.status()), (None, None));
    assert_eq!(hello.headers(), Ok(Headers::new()));
    assert_eq!(message(&ops[6]).payload(), b"");

    let tricky = message(&ops[7]);
    assert_eq!((tricky.sid(), tricky.reply()), (u64::MAX, Some("_INBOX.x.1")));
    assert_eq!(tricky.payload(), b"PI\r\n");

    let headed = message(&ops[8]);
    assert_eq!(headed.headers().expect("headers").value("A"), Some("b"));
    assert_eq!((headed.reply(), &headed.payload_bytes()[..]), (Some("r.s"), &b"abc"[..]));
    let status = message(&ops[10]).status().expect("a status");
    assert_eq!(status, crate::nats::StatusCode::NO_RESPONDERS);
    assert_eq!(message(&ops[12]).payload(), b"hi");
}

#[test]
fn any_cut_gives_the_same_and_nothing_is_held_back() {
    let whole = ops(TRANSCRIPT);
    for at in 0..=TRANSCRIPT.len() {
        let (head, tail) = TRANSCRIPT.split_at(at);
        let (ops, end) = decode(Decoder::default(), [head, tail]);
        assert_eq!(ops, whole, "cut at {at}");
        assert_eq!(end.expect("well-formed").buffered(), 0);
    }
    let (ops, _) = decode(Decoder::default(), TRANSCRIPT.chunks(1));
    assert_eq!(ops, whole);
}

#[test]
fn each_fault_is_named() {
    type Expected = fn(&DecodeError) -> bool;
    let line: Expected = |e| matches!(e, DecodeError::MessageLine(_));
    let table: &[(&[u8], Expected)] = &[
        (b"HELLO\r\n", |e| matches!(e, DecodeError::UnknownOperation(_))),
        (b"\r\n", |e| matches!(e, DecodeError::UnknownOperation(_))),
        (b"MSGa 1 1\r\n", |e| matches!(e, DecodeError::UnknownOperation(_))),
        (b"MSG\r\n", line),
        (b"MSG a\r\n", line),
        (b"MSG a 1\r\n", line),
        (b"MSG a 1 b c 1\r\n", line),
        (b"MSG a 1 b c d 1\r\n", line),
        (b"MSG a x 1\r\n", line),
        (b"MSG a 1 -1\r\n", line),
        (b"MSG a 1 +1\r\n", line),
        (b"MSG a 18446744073709551616 1\r\n", line),
        (b"MSG a 1 18446744073709551616\r\n", line),
        (b"HMSG a 1 1\r\n", line),
        (b"HMSG a 1 5 4\r\n", line),
        (b"HMSG a 1 x 4\r\n", line),
        (b"MSG a 1 18446744073709551615\r\n", |e| matches!(e, DecodeError::MessageTooLarge { .. })),
        (b"MSG a 1 2\r\nabc\r\n", |e| matches!(e, DecodeError::PayloadEnd { len: 2 })),
        (b"INFO {\r\n", |e| matches!(e, DecodeError::Info(_))),
        (b"INFO\r\n", |e| matches!(e, DecodeError::Info(_))),
        (b"INFO {\"max_payload\":-1}\r\n", |e| matches!(e, DecodeError::Info(_))),
    ];
    for (input, expected) in table {
        let (ops, end) = decode(Decoder::default(), [*input]);
        assert!(ops.is_empty());
        let error = end.expect_err("refused");
        assert!(expected(&error), "{}: {error}", shown(input));
        assert!(error.to_string().len() < 400, "{error}");
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_a_publisher_can_send_through_a_server_does_not_end_the_connection() {
    // nats-server 2.9.10 passes all of these on.
    let ops = ops(b"MSG a 1 x..y 0\r\n\r\nMSG a* 1 0\r\n\r\nMSG a 1 x.>.y 0\r\n\r\n\
        HMSG a 1 18 18\r\nNATS/1.0\r\nnope\r\n\r\n\r\nPONG\r\n");
    assert_eq!(ops.len(), 5);
    assert_eq!(message(&ops[0]).reply(), Some("x..y"));
    assert!(message(&ops[3]).headers().is_err());
    assert_eq!(message(&ops[3]).status(), None);
}

#[test]
fn a_message_whose_subject_is_no_text_is_left_out_and_counted() {
    let input: &[u8] = b"MSG \xff 1 1\r\nx\r\nMSG a 1 \xfe 1\r\nx\r\nPING\r\n";
    let (ops, end) = decode(Decoder::default(), [input]);
    assert_eq!(ops, [ServerOp::Control(ControlOp::Ping)]);
    assert_eq!(end.expect("goes on").malformed_messages(), 2);
}

#[test]
fn the_bounds_hold() {
    let small = || Decoder::new(10);
    let (ops, end) = decode(small(), [&b"MSG a 1 10\r\n0123456789\r\n"[..]]);
    assert_eq!((ops.len(), end.is_ok()), (1, true));
    let (_, end) = decode(small(), [&b"MSG a 1 11\r\n"[..]]);
    let error = DecodeError::MessageTooLarge { len: 11, max: 10 };
    assert_eq!(end.err(), Some(error));
    let (_, end) = decode(small(), [&b"HMSG a 1 1 11\r\n"[..]]);
    assert!(end.is_err());

    // A line that never ends, in one piece and in many, and one that just fits.
    let max = 128 << 10;
    let endless = vec![b'x'; max + 1];
    for size in [1000, endless.len()] {
        let (_, end) = decode(small(), endless.chunks(size));
        assert_eq!(end.err(), Some(DecodeError::LineTooLong { max }));
    }
    let mut fits = b"-ERR '".to_vec();
    fits.resize(max - 3, b'x');
    fits.extend_from_slice(b"'\r\n");
    assert_eq!(decode(small(), [&fits[..]]).0.len(), 1);
    fits.insert(6, b'x');
    let (_, end) = decode(small(), [&fits[..]]);
    assert_eq!(end.err(), Some(DecodeError::LineTooLong { max }));

    // The longest line and the largest message together, one byte after the other.
    let mut largest =
        format!("MSG {} 1 10\r\n", "x".repeat(max - "MSG  1 10\r\n".len())).into_bytes();
    assert_eq!(largest.len(), max);
    largest.extend_from_slice(b"0123456789\r\n");
    let (head, tail) = largest.split_at(max);
    let pieces = std::iter::once(head).chain(tail.chunks(1));
    assert_eq!(decode(small(), pieces).0.len(), 1);
    // Who feeds without decoding is stopped.
    let mut decoder = small();
    let fed = (0..1000).map_while(|_| decoder.feed(&[b'x'; 1000]).ok());
    assert_eq!(fed.count(), (max + 10) / 1000 + 1);
    assert!(matches!(decoder.next_op(), Err(DecodeError::Backlog { .. })));
}

#[test]
fn publishes_as_bytes() {
    let mut outbox = Outbox::new(100);
    let mut headers = Headers::new();
    headers.append("A", "b").expect("a header");
    outbox.publish("s", None, &Headers::new(), b"").expect("fits");
    outbox.publish("s.t", Some("r"), &Headers::new(), b"x\r\ny").expect("fits");
    outbox.publish("s", None, &headers, b"abc").expect("fits");
    outbox.publish("s", Some("r"), &headers, &[b'z'; 82]).expect("just fits");
    assert_eq!(outbox.ops(), 4);
    let batch = outbox.take();
    let expected = format!(
        "PUB s 0\r\n\r\nPUB s.t r 4\r\nx\r\ny\r\nHPUB s 18 21\r\nNATS/1.0\r\nA: b\r\n\r\nabc\r\n\
         HPUB s r 18 100\r\nNATS/1.0\r\nA: b\r\n\r\n{}\r\n",
        "z".repeat(82)
    );
    assert_eq!((shown(&batch.bytes), batch.ops), (expected, 4));
    assert!(outbox.is_empty() && outbox.take() == Batch::default());
}

#[test]
fn a_refused_publish_leaves_nothing() {
    let mut outbox = Outbox::new(20).with_max_bytes(120);
    let (none, mut one) = (Headers::new(), Headers::new());
    one.append("A", "b").expect("a header");
    let evil = "a 0\r\n\r\nPUB b";
    for (subject, reply) in
        [(evil, None), ("a", Some(evil)), ("a.*", None), ("a", Some(">")), ("", None)]
    {
        let error = outbox.publish(subject, reply, &none, b"x").expect_err("refused");
        assert!(matches!(error, OutboxError::Subject(_)), "{error}");
    }
    let too_large = |len| Err(OutboxError::TooLarge { len, max: 20 });
    assert_eq!(outbox.publish("a", None, &none, &[0; 21]), too_large(21));
    assert_eq!(outbox.publish("a", None, &one, b"abc"), too_large(21));
    assert_eq!((outbox.len(), outbox.ops()), (0, 0));

    outbox.publish("a", None, &none, &[0; 20]).expect("fits");
    outbox.publish("a", None, &none, &[0; 20]).expect("fits");
    let error = outbox.publish("a", None, &none, &[0; 20]).expect_err("full");
    assert_eq!(error, OutboxError::Full { held: 64, len: 77, max: 120 });
    assert_eq!(outbox.ops(), 2);
    outbox.set_max_payload(5);
    assert!(outbox.publish("a", None, &none, &[0; 6]).is_err());
}

/// A message as a sound server would write it: subject, sid, reply, headers, payload.
type Made = (String, u64, Option<String>, Option<String>, Vec<u8>);

fn made() -> impl Strategy<Value = Made> {
    let subject = "[a-z]{1,4}(\\.[a-z]{1,4}){0,3}";
    (
        subject,
        any::<u64>(),
        proptest::option::of(subject),
        proptest::option::of("[A-Za-z]{1,8}"),
        proptest::collection::vec(any::<u8>(), 0..64),
    )
}

fn on_the_wire((subject, sid, reply, header, payload): &Made) -> Vec<u8> {
    let reply = reply.as_ref().map_or(String::new(), |r| format!("{r} "));
    let line = match header {
        Some(value) => {
            let block = format!("NATS/1.0\r\nName: {value}\r\n\r\n");
            let (headers, all) = (block.len(), block.len() + payload.len());
            format!("HMSG {subject} {sid} {reply}{headers} {all}\r\n{block}")
        }
        None => format!("MSG {subject} {sid} {reply}{}\r\n", payload.len()),
    };
    [line.as_bytes(), payload, b"\r\n"].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_implementations_read_the_same(messages in proptest::collection::vec(made(), 1..5), cut in 1usize..40) {
        let wire: Vec<u8> = messages.iter().flat_map(on_the_wire).collect();
        let (ours, end) = decode(Decoder::default(), wire.chunks(cut));
        prop_assert!(end.is_ok());
        let mut decoder = other::StreamDecoder::new();
        decoder.read_buf().put_slice(&wire);
        let mut ours = ours.iter().map(message);
        for (_, _, _, header, _) in &messages {
            let Ok(Some(other::ServerOp::Message { message })) = decoder.decode() else {
                panic!("a message")
            };
            let mine = ours.next().expect("as many");
            prop_assert_eq!(mine.sid(), u64::from(message.subscription_id));
            prop_assert_eq!(mine.subject(), message.base.subject.as_str());
            prop_assert_eq!(mine.reply(), message.base.reply_subject.as_ref().map(|r| r.as_str()));
            prop_assert_eq!(mine.payload(), &message.base.payload[..]);
            let headers = mine.headers().expect("headers");
            prop_assert_eq!(headers.value("Name"), header.as_deref());
        }
        prop_assert!(ours.next().is_none());
    }

    #[test]
    fn any_bytes_in_any_cut_end_alike(
        pieces in proptest::collection::vec(hostile(), 0..8),
        cut in 1usize..20,
    ) {
        let input = pieces.concat();
        let (whole, end) = decode(Decoder::new(64), [&input[..]]);
        let (cut_up, cut_end) = decode(Decoder::new(64), input.chunks(cut));
        prop_assert_eq!(whole, cut_up);
        let left = |end: Result<Decoder, DecodeError>| end.map(|d| (d.buffered(), d.malformed_messages()));
        prop_assert_eq!(left(end), left(cut_end));
    }
}

/// Pieces of the protocol, and of nothing.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let words = proptest::sample::select(vec![
        "MSG ",
        "HMSG ",
        "INFO ",
        "-ERR ",
        "+OK",
        "PING",
        "PONG",
        "\r\n",
        "\r",
        "\n",
        " ",
        "a.b ",
        "1 ",
        "9 12\r\n",
        "3\r\n",
        "64\r\n",
        "65\r\n",
        "NATS/1.0",
        "{}",
        "'",
        "99999999999999999999 ",
    ]);
    prop_oneof![
        3 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => made().prop_map(|made| on_the_wire(&made)),
    ]
}
