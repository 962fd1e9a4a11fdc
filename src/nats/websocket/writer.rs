//! The frames that a client sends (RFC 6455, section 5): each whole, masked, and in one piece of
//! memory, so that it is one write.

use crate::nats::rng::Rng;

/// Makes frames. The memory of one is used again for the next.
///
/// Worst case in memory: the largest frame that it is given, of which up to
/// [`Self::KEPT`] bytes stay between two frames.
#[derive(Clone, Debug)]
pub struct FrameWriter {
    /// Masks keep a script in a browser from choosing what a proxy sees on the wire. So they must
    /// not be guessed by whoever writes the payload, which is not to say that they are secrets: who
    /// sees the wire sees them too. A generator that starts at a random place is enough, and each
    /// frame gets a new one, as the RFC wants it.
    masks: Rng,
    /// Room for the longest head, and then the payload, so that the head can be put right before it
    /// once the length is known.
    buffer: Vec<u8>,
}

const BINARY: u8 = 0x2;
const PONG: u8 = 0xA;

/// Two bytes, eight for a large length, and the mask.
const MAX_HEAD: usize = 14;

/// What a control frame can hold.
const MAX_CONTROL: usize = 125;

impl FrameWriter {
    /// So much memory is kept for the next frame.
    pub const KEPT: usize = 512 * 1024;

    /// `seed` is to be random.
    pub fn new(seed: u64) -> Self {
        Self { masks: Rng::new(seed), buffer: Vec::new() }
    }

    /// Adds to the binary frame that [`Self::finish`] makes.
    pub fn push(&mut self, payload: &[u8]) {
        self.begin();
        self.buffer.extend_from_slice(payload);
    }

    /// How many bytes were pushed since the last frame.
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_sub(MAX_HEAD)
    }

    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was pushed, as one binary frame. It is to be written before anything else is asked for;
    /// then [`Self::clear`] makes room for the next one.
    pub fn finish(&mut self) -> &[u8] {
        self.frame(BINARY)
    }

    /// The frame that was finished has been written, or what was pushed is not to be.
    pub fn clear(&mut self) {
        if self.buffer.capacity() > Self::KEPT {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
    }

    /// The answer to a ping, for when nothing is pushed. A payload has at most 125 bytes, as a
    /// ping's has; what is beyond them is left out.
    pub fn pong(&mut self, payload: &[u8]) -> &[u8] {
        self.clear();
        self.push(&payload[..payload.len().min(MAX_CONTROL)]);
        self.frame(PONG)
    }

    fn begin(&mut self) {
        if self.buffer.is_empty() {
            self.buffer.resize(MAX_HEAD, 0);
        }
    }

    fn frame(&mut self, opcode: u8) -> &[u8] {
        self.begin();
        let mask = (self.masks.next() as u32).to_ne_bytes();
        let (head, payload) = self.buffer.split_at_mut(MAX_HEAD);
        apply_mask(payload, mask);
        let (short, long) = match payload.len() {
            len @ 0..=125 => (len as u8, 0),
            0..=0xFFFF => (126, 2),
            _ => (127, 8),
        };
        let start = MAX_HEAD - 6 - long;
        head[start] = 0x80 | opcode;
        head[start + 1] = 0x80 | short;
        // Big endian: a shorter length is the end of the long one.
        let len = (payload.len() as u64).to_be_bytes();
        head[start + 2..MAX_HEAD - 4].copy_from_slice(&len[8 - long..]);
        head[MAX_HEAD - 4..].copy_from_slice(&mask);
        &self.buffer[start..]
    }
}

/// By words: each byte that is published goes through here.
fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().chain(mask)) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server reads: opcode and payload of the frame that `bytes` are.
    fn read(bytes: &[u8]) -> (u8, Vec<u8>) {
        assert_eq!(bytes[0] & 0xF0, 0x80, "whole, and without extensions");
        assert_eq!(bytes[1] & 0x80, 0x80, "masked");
        let (len, head) = match bytes[1] & 0x7F {
            126 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().expect("eight")), 10),
            short => (u64::from(short), 2),
        };
        let (mask, payload) = bytes[head..].split_at(4);
        assert_eq!(payload.len() as u64, len);
        let payload = payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        (bytes[0] & 0x0F, payload)
    }

    #[test]
    fn the_masked_text_of_the_rfc() {
        // RFC 6455, section 5.7: "Hello".
        let mut payload = *b"Hello";
        apply_mask(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn each_length_has_the_shortest_head() {
        let mut writer = FrameWriter::new(1);
        for (len, head) in
            [(0, 6), (1, 6), (125, 6), (126, 8), (127, 8), (65_535, 8), (65_536, 14), (70_001, 14)]
        {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            writer.push(&payload);
            assert_eq!(writer.len(), len);
            let frame = writer.finish();
            assert_eq!(frame.len(), head + len);
            assert_eq!(read(frame), (BINARY, payload));
            writer.clear();
            assert!(writer.is_empty());
        }
    }

    #[test]
    fn each_frame_has_another_mask() {
        let mut writer = FrameWriter::new(7);
        let mut masks: Vec<Vec<u8>> = (0..100)
            .map(|_| {
                writer.clear();
                writer.push(b"x");
                writer.finish()[2..6].to_vec()
            })
            .collect();
        masks.sort_unstable();
        masks.dedup();
        assert_eq!(masks.len(), 100);
    }

    #[test]
    fn a_pong_is_short() {
        let mut writer = FrameWriter::new(3);
        assert_eq!(read(writer.pong(b"abc")), (PONG, b"abc".to_vec()));
        assert_eq!(read(writer.pong(&[1; 300])).1.len(), 125);
    }

    #[test]
    fn a_large_frame_does_not_keep_its_memory() {
        let mut writer = FrameWriter::new(3);
        writer.push(&vec![0; FrameWriter::KEPT + 1]);
        writer.finish();
        writer.clear();
        assert_eq!(writer.buffer.capacity(), 0);
        writer.push(b"small");
        writer.finish();
        writer.clear();
        assert!(writer.buffer.capacity() > 0);
    }

    proptest! {
        #[test]
        fn what_is_pushed_in_parts_is_one_frame(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
            seed in any::<u64>(),
        ) {
            let mut writer = FrameWriter::new(seed);
            for part in &parts {
                writer.push(part);
            }
            prop_assert_eq!(read(writer.finish()), (BINARY, parts.concat()));
        }
    }
}
