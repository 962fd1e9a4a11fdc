//! What has to hold for whatever a server, a proxy or another publisher sends, cut in whatever way:
//! no panic, no more memory than promised, and the same operations however it was cut.
//!
//! An input is `mode, count, count × piece length, stream`. The mode says whether the stream is the
//! protocol itself or WebSocket frames that hold it; the lengths, taken in turn, cut it.
//!
//! Shared by the fuzzer and by tests/nats/seeds.rs, which needs no nightly Rust.

use rust_wasm_lunatic_nats::nats::{
    ControlOp, DecodeError, Decoder, Frame, FrameError, FrameReader, Headers, OpView, Outbox,
    ServerMessage, ServerOp,
};

/// Small, so that inputs of a few KiB reach it.
const MAX_MESSAGE: usize = 512;
/// What the decoder promises to hold at the most between two chunks: a line, a message, its end.
const MAX_BUFFERED: usize = (128 << 10) + MAX_MESSAGE + 2;

/// Panics if something is not as it has to be.
pub(crate) fn check(input: &[u8]) {
    let Some((&[mode, count], rest)) = input.split_first_chunk::<2>() else { return };
    let Some((lengths, stream)) = rest.split_at_checked(usize::from(count % 32)) else { return };
    let framed = mode & 1 == 1;
    let whole = read(framed, How::LookInto, [stream]);
    let cut = read(framed, How::Take, pieces(stream, lengths));
    assert_eq!(whole, cut, "the same, however it is cut");
    let bytewise = read(framed, How::Take, stream.chunks(1));
    assert_eq!(whole, bytewise, "and byte by byte");
    let viewed = read(framed, How::View, [stream]);
    assert_eq!(whole, viewed, "and where it lies");
    let viewed = read(framed, How::View, pieces(stream, lengths));
    assert_eq!(whole, viewed, "there also however it is cut");
}

/// How messages are read.
#[derive(Clone, Copy)]
enum How {
    /// Out of the buffer.
    Take,
    /// The same, and all that they say.
    LookInto,
    /// In the buffer.
    View,
}

/// An operation, however it was read.
#[derive(Debug, PartialEq)]
enum Op {
    Message {
        sid: u64,
        subject: String,
        reply: Option<String>,
        headers: Vec<u8>,
        payload: Vec<u8>,
        wire_len: usize,
    },
    Control(ControlOp),
}

impl Op {
    fn taken(op: ServerOp, how: How) -> Self {
        let message = match op {
            ServerOp::Control(op) => return Self::Control(op),
            ServerOp::Message(message) => message,
        };
        if let How::LookInto = how {
            look_into(&message);
        }
        Self::Message {
            sid: message.sid(),
            subject: message.subject().to_owned(),
            reply: message.reply().map(str::to_owned),
            headers: message.header_block().unwrap_or_default().to_vec(),
            payload: message.payload().to_vec(),
            wire_len: message.wire_len(),
        }
    }

    fn viewed(op: OpView<'_>) -> Self {
        match op {
            OpView::Control(op) => Self::Control(op),
            OpView::Message(message) => Self::Message {
                sid: message.sid(),
                subject: message.subject().to_owned(),
                reply: message.reply().map(str::to_owned),
                headers: message.header_block().unwrap_or_default().to_vec(),
                payload: message.payload().to_vec(),
                wire_len: message.wire().len(),
            },
        }
    }
}

/// The stream in pieces of the given lengths, in turn; 0 is an empty piece, which says nothing.
fn pieces<'a>(mut stream: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    if lengths.iter().any(|&length| length > 0) {
        for &length in lengths.iter().cycle() {
            let (piece, rest) = stream.split_at(usize::from(length).min(stream.len()));
            pieces.push(piece);
            stream = rest;
            if stream.is_empty() {
                break;
            }
        }
    }
    pieces.push(stream);
    pieces
}

#[derive(Debug, PartialEq)]
struct Seen {
    ops: Vec<Op>,
    /// Control frames, in their order.
    frames: Vec<Result<Vec<u8>, String>>,
    end: Result<(usize, u64), End>,
}

#[derive(Debug, PartialEq)]
enum End {
    Decode(DecodeError),
    Frame(FrameError),
}

/// What a reader makes of it.
fn read<'a>(framed: bool, how: How, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let (mut frames, mut decoder) = (FrameReader::default(), Decoder::new(MAX_MESSAGE));
    let mut seen = Seen { ops: Vec::new(), frames: Vec::new(), end: Ok((0, 0)) };
    for piece in pieces {
        let step = match framed {
            true => unframe(&mut frames, &mut decoder, how, piece, &mut seen),
            false => decode(&mut decoder, how, piece, &mut seen.ops).map_err(End::Decode),
        };
        if let Err(end) = step {
            seen.end = Err(end);
            return seen;
        }
    }
    seen.end = Ok((decoder.buffered(), decoder.malformed_messages()));
    seen
}

fn unframe(
    frames: &mut FrameReader,
    decoder: &mut Decoder,
    how: How,
    mut piece: &[u8],
    seen: &mut Seen,
) -> Result<(), End> {
    while let Some(frame) = frames.next(&mut piece).map_err(End::Frame)? {
        match frame {
            Frame::Data(data) => decode(decoder, how, data, &mut seen.ops).map_err(End::Decode)?,
            Frame::Ping(payload) => {
                assert!(payload.len() <= 125, "{} bytes in a ping", payload.len());
                seen.frames.push(Ok(payload));
            }
            Frame::Close(reason) => seen.frames.push(Err(reason)),
        }
    }
    assert!(piece.is_empty(), "everything is taken");
    Ok(())
}

fn decode(
    decoder: &mut Decoder,
    how: How,
    data: &[u8],
    ops: &mut Vec<Op>,
) -> Result<(), DecodeError> {
    decoder.feed(data)?;
    loop {
        let next = match how {
            How::View => decoder.next_view().map(|op| op.map(Op::viewed)),
            _ => decoder.next_op().map(|op| op.map(|op| Op::taken(op, how))),
        };
        match next {
            Ok(Some(op)) => ops.push(op),
            Ok(None) => break,
            Err(error) => {
                assert_eq!(decoder.next_op(), Err(error.clone()), "it stays an error");
                assert_eq!(decoder.buffered(), 0, "and holds nothing");
                assert!(error.to_string().len() < 1000, "an error is no copy of the input");
                return Err(error);
            }
        }
    }
    assert!(decoder.buffered() <= MAX_BUFFERED, "{} bytes are held", decoder.buffered());
    Ok(())
}

/// Reads all that a subscriber can ask a message for. Headers that can be read can be sent, and are
/// the same again.
fn look_into(message: &ServerMessage) {
    let inside = message.subject().len()
        + message.reply().map_or(0, str::len)
        + message.header_block().map_or(0, <[u8]>::len)
        + message.payload().len();
    assert!(inside <= message.wire_len());
    assert!(message.payload().len() <= MAX_MESSAGE);
    let Ok(headers) = message.headers() else { return };
    if let Some(status) = message.status() {
        assert_eq!(headers.status(), Some(status), "the short reading of the status");
    }
    if headers.is_empty() {
        return;
    }
    let mut outbox = Outbox::default();
    outbox.publish("a", None, &headers, message.payload()).expect("it was small enough to come");
    let sent = outbox.take().bytes;
    // What the server makes of it.
    let sent = sent.strip_prefix(b"HPUB a ").expect("headers");
    let mut decoder = Decoder::default();
    decoder.feed(&[b"HMSG a 1 ", sent].concat()).expect("one operation");
    let Ok(Some(ServerOp::Message(again))) = decoder.next_op() else { panic!("a message") };
    let again_headers = again.headers().expect("what was encoded can be read");
    let fields = |headers: &Headers| -> Vec<(String, String)> {
        headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    assert_eq!(fields(&again_headers), fields(&headers), "the same fields");
    assert_eq!(again.payload(), message.payload());
    assert_eq!((decoder.buffered(), decoder.next_op()), (0, Ok(None)), "and nothing else");
}
