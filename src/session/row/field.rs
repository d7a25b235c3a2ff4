//! Fields of rows that CBOR does not know: identifiers, profiles and instants. Identifiers and
//! profiles are parsed again when they are read.

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::identity::{AppId, ClaimName, ClaimValue, OpenId, Profile, UnionId, UserId};

/// An identifier or a claim, written as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::session) struct TextField<T>(pub(in crate::session) T);

macro_rules! text_field {
    ($name:ident) => {
        impl<C> Encode<C> for TextField<$name> {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                e.str(self.0.as_str())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for TextField<$name> {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                $name::parse(d.str()?).map(Self).map_err(|_| decode::Error::message("not an identifier"))
            }
        }
    };
}

text_field!(AppId);
text_field!(OpenId);
text_field!(UnionId);
text_field!(UserId);
text_field!(ClaimName);
text_field!(ClaimValue);

/// A profile: a nickname and an avatar. An absent one is the empty text.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::session) struct ProfileField(pub(in crate::session) Profile);

impl<C> Encode<C> for ProfileField {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let Self(profile) = self;
        e.array(2)?
            .str(profile.nickname().unwrap_or_default())?
            .str(profile.avatar().unwrap_or_default())?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for ProfileField {
    /// Reads a profile. [`Profile::new`] keeps it within its bounds, whatever the store holds.
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        if d.array()? != Some(2) {
            return Err(decode::Error::message("not a profile"));
        }
        Ok(Self(Profile::new(d.str()?, d.str()?)))
    }
}

/// For `#[cbor(with = "millis")]`: an instant as milliseconds since 1970.
pub(in crate::session) mod millis {
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
