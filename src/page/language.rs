//! Which language a browser wants.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

/// A language the pages speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// 简体中文
    Chinese,
    /// English
    English,
}

/// Longest line, in bytes, and most ranges that are read; a browser sends a few ranges.
const MAX_BYTES: usize = 1024;
const MAX_RANGES: usize = 32;

impl Language {
    /// Every language, the default first.
    pub(super) const ALL: [Self; 2] = [Self::Chinese, Self::English];

    /// The language that `Accept-Language` prefers; Chinese if it names neither. See RFC 9110
    /// §12.5.4.
    pub fn of(headers: &HeaderMap) -> Self {
        let ranges: Vec<Range<'_>> = headers
            .get_all(ACCEPT_LANGUAGE)
            .iter()
            .filter(|value| value.len() <= MAX_BYTES)
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .take(MAX_RANGES)
            .filter_map(Range::parse)
            .collect();
        let chinese = Wish::of("zh", &ranges);
        let english = Wish::of("en", &ranges);
        if english.is_stronger_than(chinese) { Self::English } else { Self::Chinese }
    }

    /// Its BCP 47 tag.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }
}

/// One item of the header.
#[derive(Clone, Copy)]
struct Range<'a> {
    tag: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    /// `None` for an item that is malformed.
    fn parse(item: &'a str) -> Option<Self> {
        let mut parts = item.split(';').map(str::trim);
        let tag = parts.next().filter(|tag| !tag.is_empty())?;
        let quality = match parts.next() {
            None => 1000,
            Some(weight) => {
                let (name, value) = weight.split_once('=')?;
                if !name.trim_end().eq_ignore_ascii_case("q") {
                    return None;
                }
                thousandths(value.trim_start())?
            }
        };
        Some(Self { tag, quality })
    }

    fn is_of(&self, language: &str) -> bool {
        self.tag.split('-').next().is_some_and(|primary| primary.eq_ignore_ascii_case(language))
    }
}

/// A `qvalue`: `0` to `1` with at most three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let decimals = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(decimals),
        "1" if decimals == 0 => Some(1000),
        _ => None,
    }
}

/// How much a language is wanted.
#[derive(Clone, Copy)]
enum Wish {
    /// The header excludes it.
    Refused,
    /// The header does not name it.
    Unsaid,
    /// How much, in thousandths, and how far ahead in the header.
    Wanted { quality: u16, position: usize },
}

impl Wish {
    /// The best range of the language counts, or `*` if there is none.
    fn of(language: &str, ranges: &[Range<'_>]) -> Self {
        let strongest = |is_meant: &dyn Fn(&Range<'_>) -> bool| {
            let meant = ranges.iter().enumerate().filter(|(_, range)| is_meant(range));
            // `max_by_key` returns the last of equal elements, so the order is reversed.
            meant.rev().max_by_key(|(_, range)| range.quality)
        };
        let named = strongest(&|range| range.is_of(language));
        match named.or_else(|| strongest(&|range| range.tag == "*")) {
            None => Self::Unsaid,
            Some((_, range)) if range.quality == 0 => Self::Refused,
            Some((position, range)) => Self::Wanted { quality: range.quality, position },
        }
    }

    fn is_stronger_than(self, other: Self) -> bool {
        match (self, other) {
            (
                Self::Wanted { quality: mine, position: at },
                Self::Wanted { quality: theirs, position: other },
            ) => mine > theirs || (mine == theirs && at < other),
            (Self::Wanted { .. }, Self::Unsaid | Self::Refused) | (Self::Unsaid, Self::Refused) => true,
            (Self::Unsaid | Self::Refused, _) => false,
        }
    }
}
