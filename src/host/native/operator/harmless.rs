//! What came over the wire, as a terminal may see it. An id or a message is anybody's text: with an
//! escape sequence in it, it could move the cursor, rename the window, or show what is not there.

use std::fmt::Write as _;

use serde_json::Value;

/// The text in one line, with each character that a terminal could obey, or that cannot be seen,
/// written as its escape (`\u{1b}`); cut behind `most` characters, with `…`.
pub(super) fn harmless(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        if at >= most {
            shown.push('…');
            break;
        }
        if is_harmful(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// JSON in one line, for programs and for terminals: what is harmful is escaped as JSON has it, so
/// that whoever parses it reads the same. (serde_json escapes what is below a space, and no more.)
pub(super) fn json_line(value: &Value) -> String {
    let written = value.to_string();
    if !written.chars().any(is_harmful) {
        return written;
    }
    let mut line = String::with_capacity(written.len() + 64);
    for character in written.chars() {
        if is_harmful(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing into a text cannot fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(character);
        }
    }
    line
}

/// Control characters (those above 127 are escape sequences to some terminals, too), what turns the
/// direction of the text around it, what has no width, what ends a line, and invisible tags.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        let cases = [
            ("a1", "a1"),
            ("größer 日本", "größer 日本"),
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("two\nlines\r\t", "two\\nlines\\r\\t"),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
            ("a\u{200b}b\u{2066}c\u{e0041}\u{7f}", "a\\u{200b}b\\u{2066}c\\u{e0041}\\u{7f}"),
        ];
        for (text, shown) in cases {
            assert_eq!(harmless(text, 100), shown);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(harmless("äöü", 3), "äöü");
        assert_eq!(harmless("äöüß", 3), "äöü…");
        assert_eq!(harmless(&"x".repeat(1_000_000), 500).chars().count(), 501);
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left_and_json_says_the_same(text in any::<String>()) {
            prop_assert!(!harmless(&text, 1000).chars().any(is_harmful));
            let value = json!({ text.as_str(): [text.as_str()] });
            let line = json_line(&value);
            prop_assert!(!line.chars().any(is_harmful), "{}", line);
            prop_assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), value);
        }
    }

    #[test]
    fn json_of_every_harmful_character_is_read_back() {
        let all: String = ('\0'..=char::MAX).filter(|&one| is_harmful(one)).collect();
        let value = json!(all);
        let line = json_line(&value);
        assert!(line.is_ascii());
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), value);
    }
}
