//! Cutting text into pieces that can be counted apart.

use thiserror::Error;

use super::{is_letter, push_lower, WordCounts};

/// Cuts texts into chunks that can be counted apart: none has more than `max` bytes, and none
/// begins or ends inside of a word. A word of more than `max` bytes is in no chunk; the splitter
/// counts it itself.
///
/// ```
/// use rust_wasm_lunatic_nats::agent::text::{Splitter, WordCounts};
///
/// let mut splitter = Splitter::new(8);
/// let mut counts = WordCounts::new();
/// for part in ["the qui", "ck brown extraordinary fox"] {
///     splitter.push(part.as_bytes());
///     while let Some(chunk) = splitter.next_chunk()? {
///         assert!(chunk.len() <= 8);
///         counts.count(&chunk);
///     }
/// }
/// counts.merge(splitter.finish()?);
/// assert_eq!(counts, WordCounts::of(b"the quick brown extraordinary fox"));
/// # Ok::<(), rust_wasm_lunatic_nats::agent::text::WordTooLong>(())
/// ```
///
/// It holds what was pushed and not taken, `max` bytes, a word of at most [`Splitter::MAX_WORD`],
/// and the distinct long words.
#[derive(Debug)]
pub struct Splitter {
    max: usize,
    max_word: usize,
    /// What was pushed; what lies before `taken` is done with.
    pushed: Vec<u8>,
    taken: usize,
    /// Whether the text ends with what was pushed.
    ended: bool,
    /// The beginning of a word of more than `max` bytes, in lower case; empty if in none.
    long: String,
    long_words: WordCounts,
}

/// A word of more than [`Splitter::MAX_WORD`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a run of more than {max} letters is too long to be counted as a word")]
pub struct WordTooLong {
    max: usize,
}

impl Splitter {
    /// The longest word that is counted, in bytes: 16 MiB.
    pub const MAX_WORD: usize = 16 << 20;

    /// Cuts into chunks of at most `max` bytes, at least 1.
    pub fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            max_word: Self::MAX_WORD,
            pushed: Vec::new(),
            taken: 0,
            ended: false,
            long: String::new(),
            long_words: WordCounts::new(),
        }
    }

    /// Takes the next bytes of the text. What is not taken out by [`Self::next_chunk`] piles up.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pushed.drain(..self.taken);
        self.taken = 0;
        self.ended = false;
        self.pushed.extend_from_slice(bytes);
    }

    /// Ends the text: the last chunk of it comes out too, and no word goes on in what is pushed
    /// next.
    pub fn end_text(&mut self) {
        self.push(b"\n");
        self.ended = true;
    }

    /// The next chunk; none until more than a chunk's worth was pushed or the text ended. After
    /// an error this text cannot be counted.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, WordTooLong> {
        loop {
            self.take_long()?;
            let rest = &self.pushed[self.taken..];
            let cut = match rest.get(self.max) {
                // One byte more than fits tells whether a word ends where the chunk does.
                Some(&next) => last_cut(&rest[..self.max], next),
                None if self.ended && !rest.is_empty() => Some(rest.len()),
                None => return Ok(None),
            };
            if let Some(cut) = cut {
                let chunk = rest[..cut].to_vec();
                self.taken += cut;
                return Ok(Some(chunk));
            }
            // All of it is one word, which goes on.
            push_lower(&mut self.long, &rest[..self.max]);
            self.taken += self.max;
        }
    }

    /// The words that were in no chunk: those of more than `max` bytes, and what was not taken.
    pub fn finish(mut self) -> Result<WordCounts, WordTooLong> {
        self.end_text();
        while let Some(chunk) = self.next_chunk()? {
            self.long_words.count(&chunk);
        }
        Ok(self.long_words)
    }

    /// Goes on with a long word, if there is one.
    fn take_long(&mut self) -> Result<(), WordTooLong> {
        if self.long.is_empty() {
            return Ok(());
        }
        let rest = &self.pushed[self.taken..];
        let end = rest.iter().position(|&byte| !is_letter(byte));
        let letters = end.unwrap_or(rest.len());
        if letters > self.max_word.saturating_sub(self.long.len()) {
            return Err(WordTooLong { max: self.max_word });
        }
        push_lower(&mut self.long, &rest[..letters]);
        self.taken += letters;
        if end.is_some() {
            self.long_words.add(&self.long, 1);
            self.long.clear();
        }
        Ok(())
    }
}

/// The most of `chunk` that can be cut off before `next` without cutting a word, if any of it.
fn last_cut(chunk: &[u8], next: u8) -> Option<usize> {
    if !is_letter(next) {
        return Some(chunk.len());
    }
    let last = chunk.iter().rposition(|&byte| !is_letter(byte))?;
    Some(last + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::text::tests::texts;

    fn chunks(splitter: &mut Splitter) -> Vec<String> {
        std::iter::from_fn(|| splitter.next_chunk().expect("no word is that long"))
            .map(|chunk| String::from_utf8(chunk).expect("ASCII in, ASCII out"))
            .collect()
    }

    #[test]
    fn where_it_cuts() {
        let mut splitter = Splitter::new(5);
        splitter.push(b"abc de");
        assert_eq!(chunks(&mut splitter), ["abc "], "`de` may go on");
        splitter.push(b"f ghijk lmnopq");
        assert_eq!(chunks(&mut splitter), ["def ", "ghijk", " "], "5 letters fit, 6 do not");
        splitter.push(b"R s");
        assert_eq!(chunks(&mut splitter), [""; 0]);
        splitter.end_text();
        assert_eq!(chunks(&mut splitter), [" s\n"]);
        splitter.push(b"t");
        assert_eq!(chunks(&mut splitter), [""; 0], "a new text");
        let own = splitter.finish().expect("no word is that long");
        assert_eq!(own.top(9), [("lmnopqr", 1), ("t", 1)]);
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        for max in 1..9 {
            let mut splitter = Splitter::new(max);
            let mut counts = WordCounts::new();
            for text in ["abcde", "fgh", "", "i"] {
                splitter.push(text.as_bytes());
                splitter.end_text();
                // Whether or not it is asked for in between.
                if max % 2 == 0 {
                    for chunk in chunks(&mut splitter) {
                        counts.count(chunk.as_bytes());
                    }
                }
            }
            counts.merge(splitter.finish().expect("no word is that long"));
            assert_eq!(counts, WordCounts::of(b"abcde fgh i"), "{max}");
        }
    }

    #[test]
    fn a_word_without_end_is_refused() {
        let splitter = |max_word| {
            let mut splitter = Splitter::new(4);
            splitter.max_word = max_word;
            splitter.push(b"abcd");
            assert_eq!(splitter.next_chunk(), Ok(None));
            splitter.push(b"efgh");
            (splitter.next_chunk(), splitter)
        };
        let (next, fits) = splitter(8);
        assert_eq!(next, Ok(None));
        assert_eq!(fits.finish().expect("8 letters").top(1), [("abcdefgh", 1)]);
        let (next, too_long) = splitter(7);
        let error = next.expect_err("8 letters");
        assert!(error.to_string().contains("more than 7 letters"), "{error}");
        assert_eq!(too_long.finish(), Err(error), "it is not counted in part");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_cutting_gives_the_counts_of_the_whole(
            text in texts(),
            max in 1_usize..20,
            parts in proptest::collection::vec(0_usize..30, 1..9),
            end in any::<bool>(),
        ) {
            let mut splitter = Splitter::new(max);
            let mut all = Vec::new();
            let mut rest = &text[..];
            for part in parts.iter().cycle().take(999) {
                let (now, later) = rest.split_at(rest.len().min(*part));
                rest = later;
                splitter.push(now);
                while let Some(chunk) = splitter.next_chunk().expect("no word is that long") {
                    prop_assert!((1..=max).contains(&chunk.len()));
                    all.push(WordCounts::of(&chunk));
                }
            }
            splitter.push(rest);
            if end {
                splitter.end_text();
            }
            while let Some(chunk) = splitter.next_chunk().expect("no word is that long") {
                prop_assert!((1..=max).contains(&chunk.len()));
                all.push(WordCounts::of(&chunk));
            }
            all.push(splitter.finish().expect("no word is that long"));
            let mut counts = WordCounts::new();
            all.into_iter().rev().for_each(|part| counts.merge(part));
            prop_assert_eq!(counts, WordCounts::of(&text));
        }
    }
}
