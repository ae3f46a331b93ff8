//! The reasons why stored bytes gave no value.

use std::fmt;

use crate::{Error, ErrorKind};

/// The reasons why stored bytes gave no value. A cache tier's undecodable bytes are a counted miss, and
/// a store's are a typed error.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// The bytes do not begin with the magic number, so this library did not write them.
    Foreign,
    /// The format of the envelope has another version.
    Format {
        /// The version of the format in the envelope.
        found: u8,
    },
    /// The bytes are shorter or longer than their header says.
    Truncated,
    /// The checksum does not match, so some bits have changed.
    Checksum,
    /// The envelope has a flag that this version does not know and must not ignore.
    Flags {
        /// The flags in the envelope.
        found: u8,
    },
    /// The codec is unknown, or the codec's feature is switched off.
    Codec {
        /// The id that the envelope names.
        found: u8,
    },
    /// The compression is unknown.
    Compression {
        /// The id that the envelope names.
        found: u8,
    },
    /// The value belongs to another key.
    WrongKey,
    /// The value was written with another schema number.
    Schema {
        /// The schema number in the envelope.
        found: u32,
        /// The schema number of this program.
        known: u32,
    },
    /// The value's type had another shape when it was written.
    Shape {
        /// The fingerprint in the envelope.
        found: u64,
    },
    /// The value is larger than the limit, or its header says so.
    TooLarge,
    /// The value nests too deep or has too many elements.
    Limit,
    /// The payload is not a value of the type.
    Payload,
}

impl DecodeError {
    /// Whether the bytes are intact and of another value type, which another version of the program may read.
    pub(crate) fn is_of_another_type(self) -> bool {
        matches!(self, Self::Schema { .. } | Self::Shape { .. })
    }

    /// Whether the bytes are intact, but their writer used a codec, compression, flag or format that
    /// this program does not know. A cache should not overwrite the bytes of a newer program.
    pub fn is_unknown_here(self) -> bool {
        matches!(
            self,
            Self::Format { .. } | Self::Flags { .. } | Self::Codec { .. } | Self::Compression { .. }
        )
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("this library did not write it"),
            Self::Format { found } => {
                write!(f, "it has the envelope format {found}, which this version does not know")
            }
            Self::Truncated => f.write_str("it is shorter or longer than it says"),
            Self::Checksum => f.write_str("the checksum does not match"),
            Self::Flags { found } => {
                write!(f, "it has the flags {found:#04x}, which this version does not know")
            }
            Self::Codec { found } => {
                write!(f, "it has the codec {found}, which is unknown here or switched off")
            }
            Self::Compression { found } => write!(f, "it has the compression {found}, which is unknown here"),
            Self::WrongKey => f.write_str("it belongs to another key"),
            Self::Schema { found, known } if found > known => write!(
                f,
                "a newer program wrote it, with schema {found}, and this program reads schema {known}"
            ),
            Self::Schema { found, known } => write!(
                f,
                "it was written with schema {found}, and this program reads schema {known} and has no upgrade \
                 from {found}"
            ),
            Self::Shape { .. } => f.write_str("it was written when the type of the value had another shape"),
            Self::TooLarge => f.write_str("it is larger than the limit"),
            Self::Limit => f.write_str("it nests too deep or has too many elements"),
            Self::Payload => f.write_str("the payload is not a value of this type"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for Error {
    fn from(reason: DecodeError) -> Self {
        Self::new(ErrorKind::Undecodable, format!("the stored value cannot be read: {reason}"))
    }
}
