//! The protocol's numbers that the adapter uses (KMIP 1.4 and 2.0, section 9.1.3 and 11).

use crate::ttlv::Tag;

macro_rules! tags {
    ($($name:ident = $number:literal;)*) => {
        $(pub(crate) const $name: Tag = Tag($number);)*
    };
}

tags! {
    ATTRIBUTE = 0x42_0008;
    ATTRIBUTE_NAME = 0x42_000A;
    ATTRIBUTE_VALUE = 0x42_000B;
    BATCH_COUNT = 0x42_000D;
    BATCH_ITEM = 0x42_000F;
    BLOCK_CIPHER_MODE = 0x42_0011;
    CRYPTOGRAPHIC_ALGORITHM = 0x42_0028;
    CRYPTOGRAPHIC_LENGTH = 0x42_002A;
    CRYPTOGRAPHIC_PARAMETERS = 0x42_002B;
    CRYPTOGRAPHIC_USAGE_MASK = 0x42_002C;
    INITIAL_DATE = 0x42_0039;
    IV_COUNTER_NONCE = 0x42_003D;
    MAXIMUM_ITEMS = 0x42_004F;
    MAXIMUM_RESPONSE_SIZE = 0x42_0050;
    NAME = 0x42_0053;
    NAME_TYPE = 0x42_0054;
    NAME_VALUE = 0x42_0055;
    OBJECT_TYPE = 0x42_0057;
    OPERATION = 0x42_005C;
    PROTOCOL_VERSION = 0x42_0069;
    PROTOCOL_VERSION_MAJOR = 0x42_006A;
    PROTOCOL_VERSION_MINOR = 0x42_006B;
    QUERY_FUNCTION = 0x42_0074;
    REQUEST_HEADER = 0x42_0077;
    REQUEST_MESSAGE = 0x42_0078;
    REQUEST_PAYLOAD = 0x42_0079;
    RESPONSE_HEADER = 0x42_007A;
    RESPONSE_MESSAGE = 0x42_007B;
    RESPONSE_PAYLOAD = 0x42_007C;
    RESULT_MESSAGE = 0x42_007D;
    RESULT_REASON = 0x42_007E;
    RESULT_STATUS = 0x42_007F;
    STATE = 0x42_008D;
    TEMPLATE_ATTRIBUTE = 0x42_0091;
    UNIQUE_BATCH_ITEM_ID = 0x42_0093;
    UNIQUE_IDENTIFIER = 0x42_0094;
    VENDOR_IDENTIFICATION = 0x42_009D;
    DATA = 0x42_00C2;
    RANDOM_IV = 0x42_00C5;
    IV_LENGTH = 0x42_00CD;
    TAG_LENGTH = 0x42_00CE;
    AUTHENTICATED_ENCRYPTION_ADDITIONAL_DATA = 0x42_00FE;
    AUTHENTICATED_ENCRYPTION_TAG = 0x42_00FF;
    CLIENT_CORRELATION_VALUE = 0x42_0105;
    SERVER_CORRELATION_VALUE = 0x42_0106;
    SENSITIVE = 0x42_0120;
    EXTRACTABLE = 0x42_0122;
    ATTRIBUTES = 0x42_0125;
}

/// The enumeration Block Cipher Mode: GCM.
pub(crate) const GCM: u32 = 9;
/// The enumeration Cryptographic Algorithm: AES.
pub(crate) const AES: u32 = 3;
/// The enumeration Object Type: a symmetric key.
pub(crate) const SYMMETRIC_KEY: u32 = 2;
/// The enumeration Name Type: an uninterpreted text.
pub(crate) const UNINTERPRETED_TEXT: u32 = 1;
/// Two bits of the Cryptographic Usage Mask.
pub(crate) const MAY_ENCRYPT: i32 = 4;
pub(crate) const MAY_DECRYPT: i32 = 8;
/// The enumeration Query Function: the operations, and the server's description of itself.
pub(crate) const QUERY_OPERATIONS: u32 = 1;
pub(crate) const QUERY_SERVER_INFORMATION: u32 = 3;

/// An operation of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Operation {
    Create = 0x01,
    ReKey = 0x04,
    Locate = 0x08,
    GetAttributes = 0x0B,
    Activate = 0x12,
    Query = 0x18,
    DiscoverVersions = 0x1E,
    Encrypt = 0x1F,
    Decrypt = 0x20,
}

impl Operation {
    pub(crate) const fn code(self) -> u32 {
        self as u32
    }

    /// The name, for the record of the call.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::ReKey => "Re-key",
            Self::Locate => "Locate",
            Self::GetAttributes => "Get Attributes",
            Self::Activate => "Activate",
            Self::Query => "Query",
            Self::DiscoverVersions => "Discover Versions",
            Self::Encrypt => "Encrypt",
            Self::Decrypt => "Decrypt",
        }
    }

    /// Whether it changes something at the server.
    pub(crate) const fn changes(self) -> bool {
        match self {
            Self::Create | Self::ReKey | Self::Activate => true,
            Self::Locate | Self::GetAttributes | Self::Query | Self::DiscoverVersions | Self::Encrypt | Self::Decrypt => false,
        }
    }
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) enum Version {
    #[serde(rename = "1.4")]
    V1_4,
    #[serde(rename = "2.0")]
    V2_0,
}

impl Version {
    /// All that the adapter speaks, in the order of preference.
    pub(crate) const ALL: [Self; 2] = [Self::V2_0, Self::V1_4];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::V1_4 => "1.4",
            Self::V2_0 => "2.0",
        }
    }

    /// Major and minor number.
    pub(crate) const fn numbers(self) -> (i32, i32) {
        match self {
            Self::V1_4 => (1, 4),
            Self::V2_0 => (2, 0),
        }
    }
}
