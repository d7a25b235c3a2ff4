//! Values with a unit: durations, sizes, rates, secrets. Each parses from the text an operator
//! writes.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::finding::escape;
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that does not parse. The message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {hint}")]
pub struct InvalidValue {
    /// What is wrong, with the value.
    pub reason: String,
    /// What to write instead.
    pub hint: Cow<'static, str>,
}

impl InvalidValue {
    pub(super) fn new(text: &str, reason: &str, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: format!("`{}` {reason}", escape(text)), hint: hint.into() }
    }
}

/// A duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// A duration of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }
}

impl Deref for Duration {
    type Target = std::time::Duration;

    fn deref(&self) -> &std::time::Duration {
        &self.0
    }
}

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Duration {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        number_with_unit(text, DURATION_UNITS).map(Self::from_millis).ok_or_else(|| {
            let hint = "write a whole number and a unit, such as `500ms`, `30s`, `5m`, `2h`, `7d`";
            InvalidValue::new(text, "is not a duration", write_this(meant_duration(text), hint))
        })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_unit(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS, "s")
    }
}

/// A number of bytes: a whole number and one of `B`, `KiB`, `MiB`, `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// A size of `kib` times 1024 bytes.
    pub const fn kib(kib: u64) -> Self {
        Self(kib * 1024)
    }

    /// A size of `mib` times 1048576 bytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib * 1024 * 1024)
    }

    /// The size as a length in memory, saturating on a 32-bit machine.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl FromStr for ByteSize {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        number_with_unit(text, SIZE_UNITS).map(Self).ok_or_else(|| {
            let hint = "write a whole number and a unit, such as `512B`, `64KiB`, `1MiB`";
            InvalidValue::new(text, "is not a size", write_this(meant_size(text), hint))
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_unit(f, self.0, SIZE_UNITS, "B")
    }
}

/// A number of events in a time: `10/min`, `100/s`, `1000/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    /// Number of events, at least one.
    pub count: u32,
    /// The time they are counted in.
    pub per: std::time::Duration,
}

impl Rate {
    /// A rate of `count` in a minute.
    pub const fn per_minute(count: u32) -> Self {
        Self { count, per: std::time::Duration::from_secs(60) }
    }
}

const RATE_UNITS: &[(&str, u64)] = &[("s", 1), ("min", 60), ("h", 3600)];

impl FromStr for Rate {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        parse_rate(text).ok_or_else(|| {
            let hint = "write a number from 1 and a unit of time, such as `10/min`, `100/s`, `1000/h`";
            InvalidValue::new(text, "is not a rate", write_this(meant_rate(text), hint))
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = RATE_UNITS.iter().find(|(_, seconds)| *seconds == self.per.as_secs());
        write!(f, "{}/{}", self.count, unit.map_or("s", |(name, _)| name))
    }
}

macro_rules! text_value {
    ($name:ident, $format:literal, $pattern:literal, $description:literal) => {
        impl TryFrom<String> for $name {
            type Error = InvalidValue;

            fn try_from(text: String) -> Result<Self, InvalidValue> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "format": $format,
                    "pattern": $pattern,
                    "description": $description,
                })
            }
        }
    };
}

text_value!(
    Duration,
    "time-span",
    r"^[0-9]+(ms|s|m|h|d)$",
    "A duration, such as `500ms`, `30s`, `5m`, `2h`, `7d`."
);
text_value!(
    ByteSize,
    "byte-size",
    r"^[0-9]+(B|KiB|MiB|GiB)$",
    "A number of bytes, such as `512B`, `64KiB`, `1MiB`."
);
text_value!(Rate, "rate", r"^[1-9][0-9]*/(s|min|h)$", "A rate, such as `10/min`, `100/s`, `1000/h`.");

/// A path of a file or folder. The loader makes it absolute: see `paths`.
///
/// Every path in a configuration has this type, so that none is read in another way.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilePath(PathBuf);

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl<T: Into<PathBuf>> From<T> for FilePath {
    fn from(path: T) -> Self {
        Self(path.into())
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for FilePath {
    fn schema_name() -> Cow<'static, str> {
        "FilePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "path",
            "description": "A path, absolute or relative to the folder of the configuration file.",
        })
    }
}

/// Where a secret comes from: `{ env: NAME }`, `{ file: path }`, or the text itself in development.
///
/// `writeOnly` in the schema keeps the value out of all messages.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("writeOnly" = true))]
pub enum SecretSource {
    /// An environment variable has the secret.
    Env(EnvSecret),
    /// A file has the secret. One newline at its end is removed.
    File(FileSecret),
    /// The secret itself, for development. The gateway warns about it at start.
    Inline(String),
}

/// `{ env: NAME }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvSecret {
    /// Name of the environment variable.
    pub env: String,
}

/// `{ file: path }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSecret {
    /// Path of the file.
    pub file: FilePath,
}

impl SecretSource {
    /// Whether the configuration has the secret itself.
    pub const fn is_inline(&self) -> bool {
        matches!(self, Self::Inline(_))
    }
}

impl Serialize for SecretSource {
    /// Writes where the secret comes from, but not the secret.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Env(source) => source.serialize(serializer),
            Self::File(source) => source.serialize(serializer),
            Self::Inline(_) => serializer.serialize_str("[redacted]"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(EnvSecret { env }) => write!(f, "{{ env: {env} }}"),
            Self::File(FileSecret { file }) => write!(f, "{{ file: {} }}", file.display()),
            Self::Inline(_) => f.write_str("[redacted]"),
        }
    }
}

/// Reads a list of addresses and CIDR blocks. An address is a block of one address.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| network(text).map_err(D::Error::custom)).collect()
}

pub(super) fn networks_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string", "format": "ip-network" } })
}

/// Reads one address or CIDR block.
pub(super) fn one_network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    network(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads one address or CIDR block, or a list of them.
pub(super) fn one_or_more_networks<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpNet>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(String),
        Several(Vec<String>),
    }

    let texts = match Written::deserialize(deserializer)? {
        Written::One(text) => vec![text],
        Written::Several(texts) => texts,
    };
    texts.iter().map(|text| network(text).map_err(D::Error::custom)).collect()
}

pub(super) fn one_or_more_networks_schema(_: &mut SchemaGenerator) -> Schema {
    let network = json_schema!({ "type": "string", "format": "ip-network" });
    json_schema!({ "anyOf": [network, { "type": "array", "minItems": 1, "items": network }] })
}

/// Reads one text, or a list of them. Null is an empty list.
pub(super) fn one_or_more_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        None(()),
        One(String),
        Several(Vec<String>),
    }

    Ok(match Written::deserialize(deserializer)? {
        Written::None(()) => Vec::new(),
        Written::One(text) => vec![text],
        Written::Several(texts) => texts,
    })
}

pub(super) fn one_or_more_texts_schema(_: &mut SchemaGenerator) -> Schema {
    let text = json_schema!({ "type": "string" });
    json_schema!({ "anyOf": [text, { "type": "array", "maxItems": 8, "items": text }, { "type": "null" }] })
}

pub(super) fn network(text: &str) -> Result<IpNet, InvalidValue> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
        let hint = "write an address or a block, such as `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`";
        InvalidValue::new(text, "is neither an IP address nor a CIDR block", hint)
    })
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let count = count.parse::<u32>().ok().filter(|count| *count > 0)?;
    let (_, seconds) = RATE_UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Rate { count, per: std::time::Duration::from_secs(*seconds) })
}

/// The duration that a text was meant to be, as it is written: `30` is `30s`.
pub(super) fn meant_duration(text: &str) -> Option<String> {
    meant_number(text, |unit| match unit {
        "" | "sec" | "secs" | "second" | "seconds" | "秒" => Some("s"),
        "msec" | "millis" | "milliseconds" | "毫秒" => Some("ms"),
        "min" | "mins" | "minute" | "minutes" | "分" | "分钟" => Some("m"),
        "hr" | "hrs" | "hour" | "hours" | "小时" => Some("h"),
        "day" | "days" | "天" => Some("d"),
        _ => DURATION_UNITS.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(unit)),
    })
    .filter(|text| number_with_unit(text, DURATION_UNITS).is_some())
}

/// The size that a text was meant to be, as it is written: `32KB` is `32KiB`.
pub(super) fn meant_size(text: &str) -> Option<String> {
    meant_number(text, |unit| match unit {
        "" | "b" | "byte" | "bytes" => Some("B"),
        "k" | "kb" | "kib" => Some("KiB"),
        "m" | "mb" | "mib" => Some("MiB"),
        "g" | "gb" | "gib" => Some("GiB"),
        _ => None,
    })
    .filter(|text| number_with_unit(text, SIZE_UNITS).is_some())
}

/// The rate that a text was meant to be, as it is written: `10/minute` is `10/min`.
pub(super) fn meant_rate(text: &str) -> Option<String> {
    let (count, unit) = text.split_once('/')?;
    let unit = match unit.trim().to_lowercase().as_str() {
        "s" | "sec" | "second" | "1s" | "秒" => "s",
        "m" | "min" | "minute" | "1m" | "分钟" => "min",
        "h" | "hour" | "1h" | "小时" => "h",
        _ => return None,
    };
    Some(format!("{}/{unit}", count.trim())).filter(|text| parse_rate(text).is_some())
}

/// A number and the unit that its unit was meant to be.
fn meant_number(text: &str, unit: impl FnOnce(&str) -> Option<&'static str>) -> Option<String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, written) = text.split_at_checked(digits)?;
    Some(format!("{number}{}", unit(&written.trim().to_lowercase())?))
}

fn write_this(meant: Option<String>, otherwise: &'static str) -> Cow<'static, str> {
    meant.map_or(Cow::Borrowed(otherwise), |meant| format!("write `{meant}`").into())
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn write_with_unit(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)], zero: &str) -> fmt::Result {
    if value == 0 {
        return write!(f, "0{zero}");
    }
    let largest = units.iter().rev().find(|(_, factor)| value.is_multiple_of(*factor));
    let (name, factor) = largest.copied().unwrap_or((zero, 1));
    write!(f, "{}{name}", value / factor)
}
