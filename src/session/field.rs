//! Fields of rows that CBOR does not know: identifiers and profiles, which are parsed again when read, and instants.

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::identity::{AppId, ClaimName, ClaimValue, OpenId, Profile, UnionId, UserId};

/// An identifier, as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word<T>(pub(super) T);

macro_rules! word {
    ($name:ident) => {
        impl<C> Encode<C> for Word<$name> {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                e.str(self.0.as_str())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for Word<$name> {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                $name::parse(d.str()?).map(Self).map_err(|_| decode::Error::message("not an identifier"))
            }
        }
    };
}

word!(AppId);
word!(OpenId);
word!(UnionId);
word!(UserId);
word!(ClaimName);
word!(ClaimValue);

/// A profile: a nickname and an avatar, each empty where there is none.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Called(pub(super) Profile);

impl<C> Encode<C> for Called {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let Self(profile) = self;
        e.array(2)?
            .str(profile.nickname().unwrap_or_default())?
            .str(profile.avatar().unwrap_or_default())?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for Called {
    /// Within bounds whatever stands in the store.
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        if d.array()? != Some(2) {
            return Err(decode::Error::message("not a profile"));
        }
        Ok(Self(Profile::new(d.str()?, d.str()?)))
    }
}

/// For `#[cbor(with = "millis")]`.
pub(super) mod millis {
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder, decode::Error as DecodeError};

    use crate::clock::Timestamp;

    pub(in crate::session) fn encode<C, W: Write>(
        at: &Timestamp,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u64(at.millis())?.ok()
    }

    pub(in crate::session) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Timestamp, DecodeError> {
        d.u64().map(Timestamp::from_millis)
    }
}
