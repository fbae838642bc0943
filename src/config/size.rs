//! Sizes as people write them: `"10 GiB"`, `"1.5GB"`, `1048576`.
//!
//! 1 MB is 1000², 1 MiB is 1024², a bare number is bytes. A unit without its B (`10G`) is
//! refused, because people mean both by it. No floating point: what is written is what counts.

use crate::model::bytes::Bytes;

/// The size that `text` says, zero included, or a sentence that says why it is none.
pub fn parse(text: &str) -> Result<Bytes, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative, a size is not"));
    }
    if number.is_empty() {
        return Err(format!("`{text}` is no size; write one like \"10 GiB\""));
    }
    let factor = factor(unit).map_err(|why| match why {
        BadUnit::Ambiguous(letter) => format!(
            "`{text}` is ambiguous: write {number}{letter}iB (powers of 1024) or {number}{letter}B (powers of 1000)"
        ),
        BadUnit::Unknown => format!("`{text}` has no unit of size; write one like \"10 GiB\""),
    })?;
    multiply(number, factor).map_err(|why| format!("`{text}` {why}"))
}

/// Like [`parse`], zero refused: a limit of nothing would empty a root.
pub fn parse_limit(text: &str) -> Result<Bytes, String> {
    above_zero(parse(text)?)
}

/// Refuses zero.
pub(super) fn above_zero(size: Bytes) -> Result<Bytes, String> {
    if size == Bytes::ZERO {
        return Err("0 is no limit; leave the key away for no limit".to_owned());
    }
    Ok(size)
}

enum BadUnit {
    Ambiguous(char),
    Unknown,
}

/// Bytes of one unit.
fn factor(unit: &str) -> Result<u128, BadUnit> {
    let unit = unit.to_ascii_uppercase();
    let (letter, rest) = match unit.as_bytes() {
        [] | [b'B'] => return Ok(1),
        [letter, rest @ ..] => (*letter, rest),
    };
    let power = match letter {
        b'K' => 1,
        b'M' => 2,
        b'G' => 3,
        b'T' => 4,
        b'P' => 5,
        b'E' => 6,
        _ => return Err(BadUnit::Unknown),
    };
    match rest {
        b"B" => Ok(1000_u128.pow(power)),
        b"IB" => Ok(1024_u128.pow(power)),
        b"" | b"I" => Err(BadUnit::Ambiguous(char::from(letter))),
        _ => Err(BadUnit::Unknown),
    }
}

/// `number` has digits and dots only. What is less than a byte is cut off.
fn multiply(number: &str, factor: u128) -> Result<Bytes, &'static str> {
    const TOO_BIG: &str = "is more than any disk holds";
    // 18 digits times the largest factor (1024⁶) stay far below 2¹²⁸.
    const MAX_DIGITS: usize = 18;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err("is no number; write one like 1.5");
    }
    if factor == 1 && !fraction.is_empty() {
        return Err("has a fraction of a byte; give it a unit like GiB");
    }
    if fraction.len() > MAX_DIGITS {
        return Err("has too many digits after the point");
    }
    let whole: u64 = whole.parse().map_err(|_| TOO_BIG)?;
    let part: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().map_err(|_| TOO_BIG)?
    };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| TOO_BIG)?);
    let bytes = u128::from(whole)
        .checked_mul(factor)
        .and_then(|bytes| bytes.checked_add(part * factor / scale))
        .ok_or(TOO_BIG)?;
    u64::try_from(bytes).map(Bytes).map_err(|_| TOO_BIG)
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_limit};

    #[test]
    fn sizes_mean_what_they_say() {
        for (text, bytes) in [
            ("10 GiB", 10 << 30),
            ("10GiB", 10 << 30),
            ("10gib", 10 << 30),
            ("1.5GB", 1_500_000_000),
            ("500 MiB", 500 << 20),
            ("1048576", 1_048_576),
            ("7b", 7),
            ("0", 0),
            ("0.5 KiB", 512),
            ("0.0001 kB", 0),
            ("0.1 GiB", 107_374_182),
            (" 1 TB ", 1_000_000_000_000),
            ("18446744073709551615", u64::MAX),
            ("15.999 EiB", 18_445_591_152_204_944_769),
        ] {
            assert_eq!(parse(text).map(|size| size.0), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for (text, part) in [
            ("10G", "write 10GiB"),
            ("10 k", "ambiguous"),
            ("10Gi", "ambiguous"),
            ("NaN", "no size"),
            ("inf", "no size"),
            ("1e9", "no unit"),
            ("-1 GiB", "negative"),
            ("", "no size"),
            ("GiB", "no size"),
            ("1.2.3 GiB", "no number"),
            ("1. GiB", "no number"),
            (".5 GiB", "no number"),
            ("1.5", "fraction of a byte"),
            ("16 EiB", "more than any disk"),
            ("18446744073709551616", "more than any disk"),
            (
                "99999999999999999999999999999999999999999 GiB",
                "more than any disk",
            ),
            ("0.0000000000000000001 GiB", "too many digits"),
            ("10 GiB/s", "no unit"),
            ("10 apples", "no unit"),
            ("٣ GiB", "no size"),
            ("1_000", "no unit"),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
        assert!(parse_limit("0").is_err());
        assert!(parse_limit("0.0001 kB").is_err());
        assert!(parse_limit("1").is_ok());
    }
}
