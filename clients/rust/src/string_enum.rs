//! Enumerations of words that later gateways may add to.

/// Defines an enumeration whose values have a text, and that keeps a text which it does not know.
macro_rules! string_enum {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$meaning:meta])* $variant:ident = $text:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$meaning])* $variant,)*
            /// A word that this release of the client does not know. Match it by a wildcard, since the next release may know
            /// it.
            Other(String),
        }

        impl $name {
            /// The words that this release of the client knows.
            pub const KNOWN: &[Self] = &[$(Self::$variant),*];

            /// The word itself.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }

            /// Whether this release of the client knows the word.
            pub const fn is_known(&self) -> bool {
                !matches!(self, Self::Other(_))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::from(text.as_str())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }

        impl $crate::encode::Encode for $name {
            fn encode(&self, to: &mut $crate::encode::Writer) {
                self.as_str().encode(to);
            }
        }
    };
}

pub(crate) use string_enum;
