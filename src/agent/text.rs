//! Counting words, and cutting text into pieces that can be counted apart.
//!
//! A word is a maximal run of ASCII letters, lower-cased, so that the counts are those of
//! `tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | sed '/^$/d' | sort | uniq -c`. Every other byte
//! separates words; text need not be UTF-8.

mod splitter;

use std::collections::HashMap;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

pub use splitter::{Splitter, WordTooLong};

/// How often each word was seen. In JSON an object of words and counts, sorted by word.
///
/// Takes at worst about 100 bytes and the word's length for each distinct word. That is bounded
/// by the text: there is no other bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HashMap<String, u64>")]
pub struct WordCounts {
    counts: HashMap<String, u64>,
    total: u64,
}

/// Something in the place of a word that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{word:?} with the count {count} is not a counted word: letters a-z, at least 1 time")]
pub struct InvalidWord {
    word: String,
    count: u64,
}

impl WordCounts {
    /// No words.
    pub fn new() -> Self {
        Self::default()
    }

    /// The words of `text`.
    pub fn of(text: &[u8]) -> Self {
        let mut counts = Self::new();
        counts.count(text);
        counts
    }

    /// Adds the words of `text`. Its ends end words.
    pub fn count(&mut self, text: &[u8]) {
        let mut word = String::new();
        for &byte in text {
            let letter = LOWER[usize::from(byte)];
            if letter != 0 {
                word.push(char::from(letter));
            } else if !word.is_empty() {
                self.add(&word, 1);
                word.clear();
            }
        }
        if !word.is_empty() {
            self.add(&word, 1);
        }
    }

    /// Adds what `other` has counted.
    pub fn merge(&mut self, mut other: Self) {
        if self.counts.len() < other.counts.len() {
            std::mem::swap(self, &mut other);
        }
        for (word, count) in other.counts {
            self.add(&word, count);
        }
    }

    /// How many words there were.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many different words there were.
    pub fn distinct(&self) -> usize {
        self.counts.len()
    }

    /// How often `word`, which has to be in lower case, was seen.
    pub fn times(&self, word: &str) -> u64 {
        self.counts.get(word).copied().unwrap_or(0)
    }

    /// The `n` most frequent words, the most frequent first; of equally frequent ones the
    /// alphabetically first.
    pub fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<_> = self.iter().collect();
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        words.truncate(n);
        words
    }

    /// All words with their counts, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(word, &count)| (&**word, count))
    }

    fn add(&mut self, word: &str, count: u64) {
        self.total = self.total.saturating_add(count);
        match self.counts.get_mut(word) {
            Some(seen) => *seen = seen.saturating_add(count),
            None => {
                self.counts.insert(word.to_owned(), count);
            }
        }
    }
}

impl Serialize for WordCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut words: Vec<_> = self.iter().collect();
        words.sort_unstable();
        serializer.collect_map(words)
    }
}

impl TryFrom<HashMap<String, u64>> for WordCounts {
    type Error = InvalidWord;

    fn try_from(counts: HashMap<String, u64>) -> Result<Self, InvalidWord> {
        let mut total = 0u64;
        for (word, &count) in &counts {
            let lower = |byte: u8| byte.is_ascii_lowercase();
            if word.is_empty() || count == 0 || !word.bytes().all(lower) {
                let word = word.chars().take(40).collect();
                return Err(InvalidWord { word, count });
            }
            total = total.saturating_add(count);
        }
        Ok(Self { counts, total })
    }
}

fn is_letter(byte: u8) -> bool {
    LOWER[usize::from(byte)] != 0
}

fn push_lower(word: &mut String, letters: &[u8]) {
    word.extend(letters.iter().map(|&byte| char::from(LOWER[usize::from(byte)])));
}

/// Each letter in lower case, 0 for what is none.
const LOWER: [u8; 256] = {
    let mut lower = [0; 256];
    let mut letter = b'a';
    while letter <= b'z' {
        lower[letter as usize] = letter;
        lower[letter.to_ascii_uppercase() as usize] = letter;
        letter += 1;
    }
    lower
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(text: &str) -> Vec<(String, u64)> {
        let counts = WordCounts::of(text.as_bytes());
        let top = counts.top(usize::MAX);
        top.into_iter().map(|(word, n)| (word.into(), n)).collect()
    }

    /// The rule once more, in the words of the pipeline.
    fn by_the_pipeline(text: &[u8]) -> HashMap<String, u64> {
        let lines: String = text
            .iter()
            .map(|&byte| if byte.is_ascii_alphabetic() { char::from(byte) } else { '\n' })
            .collect();
        let mut counts = HashMap::new();
        for word in lines.to_ascii_lowercase().lines().filter(|line| !line.is_empty()) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn what_is_a_word() {
        let cases: [(&str, &[(&str, u64)]); 9] = [
            ("", &[]),
            (" \n-42", &[]),
            ("a", &[("a", 1)]),
            ("The the THE", &[("the", 3)]),
            ("don't", &[("don", 1), ("t", 1)]),
            ("naïve", &[("na", 1), ("ve", 1)]),
            ("x86_64", &[("x", 1)]),
            ("b a b", &[("b", 2), ("a", 1)]),
            ("AZaz@[`{", &[("azaz", 1)]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|&(word, n)| (word.to_owned(), n)).collect();
            assert_eq!(counted(text), expected, "{text:?}");
        }
    }

    #[test]
    fn top_is_by_count_then_by_word() {
        let counts = WordCounts::of(b"c b a c b d d d");
        assert_eq!(counts.top(3), [("d", 3), ("b", 2), ("c", 2)]);
        assert_eq!(counts.top(0), []);
        assert_eq!(counts.top(9).len(), 4);
        assert_eq!((counts.total(), counts.distinct()), (8, 4));
        assert_eq!((counts.times("d"), counts.times("D")), (3, 0));
    }

    #[test]
    fn merging_adds_whichever_is_larger() {
        let (few, many) = (WordCounts::of(b"a a"), WordCounts::of(b"a b c"));
        for (mut into, from) in [(few.clone(), many.clone()), (many, few)] {
            into.merge(from);
            assert_eq!(into, WordCounts::of(b"a a a b c"));
            assert_eq!((into.total(), into.distinct()), (5, 3));
        }
    }

    #[test]
    fn as_json_sorted_and_checked() {
        let counts = WordCounts::of(b"b a b");
        let json = serde_json::to_string(&counts).expect("text keys");
        assert_eq!(json, r#"{"a":1,"b":2}"#);
        let back: WordCounts = serde_json::from_str(&json).expect(&json);
        assert_eq!((&back, back.total()), (&counts, 3));
        for bad in [r#"{"A":1}"#, r#"{"":1}"#, r#"{"a":0}"#, r#"{"a b":1}"#] {
            let error = serde_json::from_str::<WordCounts>(bad).expect_err(bad);
            assert!(error.to_string().contains("is not a counted word"), "{error}");
        }
        let largest = format!(r#"{{"a":{0},"b":{0}}}"#, u64::MAX);
        let mut counts: WordCounts = serde_json::from_str(&largest).expect(&largest);
        counts.merge(counts.clone());
        assert_eq!((counts.total(), counts.times("a")), (u64::MAX, u64::MAX));
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_pipeline(text in texts()) {
            let counts = WordCounts::of(&text);
            prop_assert_eq!(&counts.counts, &by_the_pipeline(&text));
            prop_assert_eq!(counts.total, counts.counts.values().sum::<u64>());
        }
    }

    /// Mostly short words and separators, some long words, some other bytes.
    pub(super) fn texts() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            "[a-cA-C]{1,4}[ \n.]".prop_map(String::into_bytes),
            "[abZ]{5,50}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 1..4),
        ];
        proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }
}
