//! Paths that cannot leave their root.
//!
//! A [`RelPath`] is bytes, relative to a root, without `.`, `..`, empty components or NUL.
//! Only such a path ever reaches the disk, so no name, id or pattern can point outside.

use std::fmt;
use std::sync::Arc;

/// A path below a root. The empty path is the root itself. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Arc<[u8]>);

/// Why bytes are no [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("a name is empty, `.` or `..`")]
    Component,
    #[error("a name contains a NUL byte or a slash")]
    Byte,
}

/// Whether `name` is one ordinary file name: not empty, not `.` or `..`, no slash, no NUL.
pub fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

impl RelPath {
    /// The root itself.
    pub fn root() -> Self {
        Self(Arc::from(&b""[..]))
    }

    /// Checks every component.
    pub fn new(path: &[u8]) -> Result<Self, BadPath> {
        if path.is_empty() {
            return Ok(Self::root());
        }
        for name in path.split(|b| *b == b'/') {
            if matches!(name, b"" | b"." | b"..") {
                return Err(BadPath::Component);
            }
            if name.contains(&0) {
                return Err(BadPath::Byte);
            }
        }
        Ok(Self(Arc::from(path)))
    }

    /// This path and one more name.
    pub fn join(&self, name: &[u8]) -> Result<Self, BadPath> {
        if !is_name(name) {
            return Err(if name.iter().any(|b| matches!(b, 0 | b'/')) {
                BadPath::Byte
            } else {
                BadPath::Component
            });
        }
        if self.is_root() {
            return Ok(Self(Arc::from(name)));
        }
        let mut joined = Vec::with_capacity(self.0.len() + 1 + name.len());
        joined.extend_from_slice(&self.0);
        joined.push(b'/');
        joined.extend_from_slice(name);
        Ok(Self(Arc::from(joined)))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory this path lies in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => Self(Arc::from(&self.0[..at])),
            None => Self::root(),
        })
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        if self.is_root() {
            return None;
        }
        self.0.rsplit(|b| *b == b'/').next()
    }

    /// The names from the root down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// Whether this path is `other` or lies below it.
    pub fn is_within(&self, other: &RelPath) -> bool {
        other.is_root()
            || (self.0.starts_with(&other.0)
                && (self.0.len() == other.0.len() || self.0[other.0.len()] == b'/'))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", escape(&self.0))
    }
}

/// Bytes as text for people and JSON: UTF-8 stays, each other byte and each backslash
/// becomes `\xNN`, so that [`unescape`] gives the same bytes back.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push_str("\\x5C");
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

/// Text that may hold names from a disk, for a terminal or a log that people read: control
/// characters, those that end a line, and those that turn the direction of writing become
/// `\xNN` for each of their bytes, so that no name forges a line or drives a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_control() && !is_steering(c) {
            out.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            out.push_str(&format!("\\x{byte:02X}"));
        }
    }
    out
}

/// Ends a line, or turns the direction of writing.
fn is_steering(c: char) -> bool {
    matches!(
        c,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// The bytes that [`escape`] wrote. A backslash that starts no `\xNN` stands for itself.
pub fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes
            .get(at..at + 4)
            .filter(|code| code.starts_with(b"\\x"))
            .and_then(|code| std::str::from_utf8(&code[2..]).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_root() {
        for bad in [&b".."[..], b"a/..", b"/a", b"a//b", b"a/", b"./a", b"a\0b"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        let root = RelPath::root();
        for bad in [&b"a/b"[..], b"..", b".", b"", b"a\0"] {
            assert!(root.join(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn within_compares_names_not_letters() {
        let a = RelPath::new(b"a").expect("a name");
        assert!(RelPath::new(b"a/b").expect("a path").is_within(&a));
        assert!(!RelPath::new(b"ab").expect("a name").is_within(&a));
        assert!(a.is_within(&RelPath::root()));
    }

    #[test]
    fn what_is_printable_steers_nothing() {
        for (text, shown) in [
            ("plain ü \\ ~", "plain ü \\ ~"),
            ("x\n2026", "x\\x0A2026"),
            ("\u{1b}[31m\r\t\0\u{7f}", "\\x1B[31m\\x0D\\x09\\x00\\x7F"),
            ("\u{9b}\u{85}", "\\xC2\\x9B\\xC2\\x85"),
            ("\u{202e}\u{2028}", "\\xE2\\x80\\xAE\\xE2\\x80\\xA8"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn escaped_bytes_come_back() {
        for bytes in [
            &b"plain"[..],
            b"a\xFFb",
            b"back\\slash",
            b"\\x41",
            "ü\n".as_bytes(),
        ] {
            assert_eq!(unescape(&escape(bytes)), bytes);
        }
    }
}
