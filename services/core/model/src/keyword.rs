//! Printing and parsing of a type that has few values, each with a word of its own.

/// `Display` and `FromStr` by the type's `ALL` and `as_str`.
macro_rules! keyword {
    ($type:ident, $what:literal, $why:literal) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::NameError;

            fn from_str(text: &str) -> Result<Self, crate::NameError> {
                let named = Self::ALL.into_iter().find(|value| value.as_str() == text);
                named.ok_or_else(|| crate::NameError::unknown($what, text, $why))
            }
        }
    };
}

pub(crate) use keyword;
