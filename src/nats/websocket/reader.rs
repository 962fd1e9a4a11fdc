//! The frames of a WebSocket as a server sends them (RFC 6455, section 5), as a stream: a server
//! puts all that it has for a client into one frame, which can be as large as its `max_pending`
//! (64 MiB by default), so no frame is ever held whole.

use thiserror::Error;

/// Takes frames apart.
///
/// Worst case in memory: the 125 bytes of a control frame.
#[derive(Debug, Default)]
pub struct FrameReader {
    state: State,
}

/// What a piece of input holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The next bytes of the data, which is one stream over all frames.
    Data(&'a [u8]),
    /// To be answered with a pong of the same bytes.
    Ping(Vec<u8>),
    /// The server closes the connection, with what it says of that.
    Close(String),
}

/// What no server sends. It ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// An extension that was not asked for.
    #[error("a WebSocket frame uses an extension that was not asked for")]
    Reserved,
    /// A server's frames are not masked.
    #[error("a WebSocket frame of the server is masked")]
    Masked,
    /// A kind of frame that there is not.
    #[error("a WebSocket frame has the unknown opcode {0}")]
    Opcode(u8),
    /// A control frame has at most 125 bytes and is whole.
    #[error("a WebSocket control frame is fragmented or has more than 125 bytes")]
    Control,
}

#[derive(Debug)]
enum State {
    /// In a head, of which so many bytes are here.
    Head { bytes: [u8; MAX_HEAD], len: usize },
    /// In the data of a frame, of which so much is to come.
    Data { left: u64 },
    /// In a control frame.
    Control { opcode: u8, payload: Vec<u8>, left: usize },
}

/// Two bytes, and eight for a large length; a mask is an error.
const MAX_HEAD: usize = 10;

const PING: u8 = 9;
const CLOSE: u8 = 8;

impl Default for State {
    fn default() -> Self {
        Self::Head { bytes: [0; MAX_HEAD], len: 0 }
    }
}

impl FrameReader {
    /// The next thing in `input`, which is shortened by what was read. `None` if there is nothing
    /// more in it. Give all of it before new input.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        loop {
            match &mut self.state {
                State::Head { bytes, len } => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
                    // `len` stays below `MAX_HEAD`: a head of that length is complete.
                    if let Some(place) = bytes.get_mut(*len) {
                        *place = byte;
                    }
                    *len += 1;
                    *input = rest;
                    if let Some(next) = parse_head(&bytes[..(*len).min(MAX_HEAD)])? {
                        self.state = next;
                    }
                }
                State::Data { left: 0 } => self.state = State::default(),
                State::Data { left } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at(take);
                    *left -= take as u64;
                    *input = rest;
                    return Ok(Some(Frame::Data(data)));
                }
                State::Control { payload, left, .. } if *left > 0 => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let (part, rest) = input.split_at((*left).min(input.len()));
                    payload.extend_from_slice(part);
                    *left -= part.len();
                    *input = rest;
                }
                State::Control { opcode, payload, .. } => {
                    let (opcode, payload) = (*opcode, std::mem::take(payload));
                    self.state = State::default();
                    match opcode {
                        PING => return Ok(Some(Frame::Ping(payload))),
                        CLOSE => return Ok(Some(Frame::Close(close_reason(&payload)))),
                        // A pong that nobody asked for.
                        _ => {}
                    }
                }
            }
        }
    }
}

/// What follows a head, once it is complete.
fn parse_head(head: &[u8]) -> Result<Option<State>, FrameError> {
    let &[first, second, ref rest @ ..] = head else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let (whole, opcode) = (first & 0x80 != 0, first & 0x0F);
    let length = match second {
        126 => rest.first_chunk::<2>().map(|bytes| u64::from(u16::from_be_bytes(*bytes))),
        127 => rest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)),
        short => Some(u64::from(short)),
    };
    match opcode {
        // A continuation, text, or binary data: all of it is the one stream.
        0..=2 => Ok(length.map(|left| State::Data { left })),
        8..=10 if whole && second <= 125 => {
            Ok(Some(State::Control { opcode, payload: Vec::new(), left: usize::from(second) }))
        }
        8..=10 => Err(FrameError::Control),
        unknown => Err(FrameError::Opcode(unknown)),
    }
}

/// A code and a text.
fn close_reason(payload: &[u8]) -> String {
    match payload.split_first_chunk::<2>() {
        Some((code, text)) => {
            format!("{} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(text))
        }
        None => "without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything in `input`, given in pieces of a size; data put together.
    fn read(input: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<String>), FrameError> {
        let (mut reader, mut data, mut others) = (FrameReader::default(), Vec::new(), Vec::new());
        for mut part in input.chunks(piece) {
            while let Some(frame) = reader.next(&mut part)? {
                match frame {
                    Frame::Data(bytes) => data.extend_from_slice(bytes),
                    other => others.push(format!("{other:?}")),
                }
            }
            assert!(part.is_empty(), "everything is taken");
        }
        Ok((data, others))
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..=125 => bytes.push(len as u8),
            len @ 126..=0xFFFF => {
                bytes.push(126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn data_of_every_length_cut_anywhere_is_one_stream() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut input = frame(0x82, &payload);
            input.extend(frame(0x89, b"hi"));
            input.extend(frame(0x02, b"first"));
            input.extend(frame(0x8A, b""));
            input.extend(frame(0x80, b" rest"));
            input.extend(frame(0x88, b"\x03\xe8bye"));
            let expected = [&payload[..], b"first rest"].concat();
            let others = vec!["Ping([104, 105])".to_owned(), "Close(\"1000 bye\")".to_owned()];
            for piece in [1, 2, 3, 7, 1000, input.len()] {
                assert_eq!(read(&input, piece), Ok((expected.clone(), others.clone())), "{len}");
            }
        }
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        assert_eq!(read(&[0xC2, 0], 1), Err(FrameError::Reserved));
        assert_eq!(read(&[0x82, 0x85], 1), Err(FrameError::Masked));
        assert_eq!(read(&[0x83, 0], 1), Err(FrameError::Opcode(3)));
        assert_eq!(read(&[0x09, 0], 1), Err(FrameError::Control));
        assert_eq!(read(&[0x89, 126, 0, 126], 1), Err(FrameError::Control));
    }

    #[test]
    fn a_length_that_never_comes_reserves_nothing() {
        let mut input = vec![0x82, 127];
        input.extend(u64::MAX.to_be_bytes());
        input.extend(b"abc");
        assert_eq!(read(&input, 4), Ok((b"abc".to_vec(), vec![])));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            input in prop::collection::vec(any::<u8>(), 0..300), piece in 1..50_usize
        ) {
            let _ = read(&input, piece);
        }
    }
}
