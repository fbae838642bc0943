//! A number of things, as a sentence has it.

/// So many of what is called this when it is one: `1 session`, `2 sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u64, pub &'static str);

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(n, one) = self;
        let s = if *n == 1 { "" } else { "s" };
        write!(f, "{n} {one}{s}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_none_are_many() {
        let said = [0, 1, 2].map(|n| Count(n, "session").to_string());
        assert_eq!(said, ["0 sessions", "1 session", "2 sessions"]);
    }
}
