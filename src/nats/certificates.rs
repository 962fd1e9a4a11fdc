//! The certificates of the CAs that one trusts.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The certificates of the CAs that a `wss://` server's own may come from, as PEM, one each.
///
/// They are looked at for what would make a later failure hard to understand: that there is one,
/// that each is whole, and that it is no key. Whether one is a CA's is for the TLS to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates(Vec<String>);

/// Text that has no certificates for [`Certificates`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// Nothing in it begins as a certificate.
    #[error("there is no certificate in it: one begins with a line -----BEGIN CERTIFICATE-----, in a file that is often called ca.pem or ca.crt")]
    None,
    /// A certificate without an end, or with something else than base64 in it.
    #[error("certificate {number} is damaged: its base64 is not that of a certificate, or has no line -----END CERTIFICATE-----")]
    Damaged {
        /// Which one, from 1.
        number: usize,
    },
    /// Too many, or too long.
    #[error(
        "there are more than {} certificates or {} bytes",
        Certificates::MAX,
        Certificates::MAX_LEN
    )]
    TooLarge,
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

impl Certificates {
    /// The most that are taken: what operating systems bring are about 150.
    pub const MAX: usize = 512;
    /// The longest text that is taken, in bytes, which is the worst case in memory.
    pub const MAX_LEN: usize = 1 << 20;

    /// Takes the certificates out of a PEM text, which may have other things between them.
    pub fn parse(pem: &str) -> Result<Self, CertificateError> {
        if pem.len() > Self::MAX_LEN {
            return Err(CertificateError::TooLarge);
        }
        let mut certificates = Vec::new();
        let mut rest = pem;
        while let Some((_, after)) = rest.split_once(BEGIN) {
            let number = certificates.len() + 1;
            let damaged = || CertificateError::Damaged { number };
            let (body, after) = after.split_once(END).ok_or_else(damaged)?;
            let body: String = body.split_ascii_whitespace().collect();
            if !is_der_in_base64(body.as_bytes()) {
                return Err(damaged());
            }
            if number > Self::MAX {
                return Err(CertificateError::TooLarge);
            }
            certificates.push(format!("{BEGIN}\n{body}\n{END}\n"));
            rest = after;
        }
        match certificates.is_empty() {
            true => Err(CertificateError::None),
            false => Ok(Self(certificates)),
        }
    }

    /// Each by itself, as PEM.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Whether this is base64 of a `SEQUENCE` in DER that is as long as it says: a certificate that was
/// cut is not, nor one that lost a line.
fn is_der_in_base64(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let digits = &text[..text.len() - padding];
    let is_base64 = digits.iter().all(|byte| value(*byte).is_some());
    if !is_base64 || padding > 2 || !text.len().is_multiple_of(4) {
        return false;
    }
    let len = text.len() / 4 * 3 - padding;
    // The first six bytes, which are enough for the length of anything that is taken here.
    let bits = digits
        .iter()
        .take(8)
        .fold(0_u64, |bits, byte| (bits << 6) | u64::from(value(*byte).unwrap_or_default()));
    let [_, _, first, second, third, fourth, ..] = bits.to_be_bytes();
    if digits.len() < 8 || first != 0x30 {
        return false;
    }
    match second {
        short @ ..=0x7F => len == usize::from(short) + 2,
        0x81 => len == usize::from(third) + 3,
        0x82 => len == usize::from(u16::from_be_bytes([third, fourth])) + 4,
        _ => false,
    }
}

fn value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SEQUENCE` of 5 bytes, and of 300.
    const SHORT: &str = "MAUAAAAAAA==";

    fn long() -> String {
        let body = "A".repeat(400);
        // 0x30 0x82 0x01 0x2C, and 300 zeros: 304 bytes, 408 digits with padding.
        format!("MIIBLA{}==", &body[..400])
    }

    fn pem(body: &str) -> String {
        format!("{BEGIN}\n{body}\n{END}\n")
    }

    #[test]
    fn each_certificate_is_by_itself_whatever_stands_between() {
        let lines: Vec<String> =
            long().as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        let text = format!(
            "# Our CA\r\n{BEGIN}\r\n{}\r\n{END}\r\nsubject=x\n{}-----BEGIN X509 CRL-----\nAA==\n",
            lines.join("\r\n"),
            pem(SHORT)
        );
        let certificates = Certificates::parse(&text).expect("two");
        let each: Vec<&str> = certificates.iter().collect();
        assert_eq!(each, [pem(&long()), pem(SHORT)]);
    }

    #[test]
    fn what_is_none_says_so() {
        assert_eq!(Certificates::parse(""), Err(CertificateError::None));
        let key = "-----BEGIN PRIVATE KEY-----\nMAUAAAAAAA==\n-----END PRIVATE KEY-----\n";
        assert_eq!(Certificates::parse(key), Err(CertificateError::None));
        let cut = &long()[..long().len() - 8];
        for body in
            ["", "AAAA", "MAUAAAAA", "MAUAAAA*AA==", "MAUAAAAAAA=", "MA==", cut, "MYUAAAAAAA=="]
        {
            let error = Certificates::parse(&[pem(SHORT), pem(body)].concat());
            assert_eq!(error, Err(CertificateError::Damaged { number: 2 }), "{body}");
        }
        let without_end = format!("{BEGIN}\n{SHORT}\n");
        assert_eq!(Certificates::parse(&without_end), Err(CertificateError::Damaged { number: 1 }));
    }

    #[test]
    fn there_are_bounds() {
        let most = pem(SHORT).repeat(Certificates::MAX);
        assert!(Certificates::parse(&most).is_ok());
        let more = pem(SHORT).repeat(Certificates::MAX + 1);
        assert_eq!(Certificates::parse(&more), Err(CertificateError::TooLarge));
        let long = " ".repeat(Certificates::MAX_LEN + 1);
        assert_eq!(Certificates::parse(&long), Err(CertificateError::TooLarge));
    }
}
