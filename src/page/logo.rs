//! The operator's logo, which travels inside the page.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::Findings;

const MAX_BYTES: u64 = 64 * 1024;
/// The two leaves of a door.
const ICON: &str = include_str!("templates/icon.svg");
const KEY: &str = "login.page.logo";

#[derive(Debug, thiserror::Error)]
enum LogoError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("is not a file")]
    NotAFile,
    #[error("is larger than 64 KiB")]
    TooLarge,
    #[error("is neither PNG, JPEG, WebP nor SVG")]
    UnknownFormat,
}

impl LogoError {
    const fn hint(&self) -> &'static str {
        match self {
            Self::Read(_) | Self::NotAFile => "give the path of a picture that the gateway may read",
            Self::TooLarge => "it is shown 56 pixels high: scale it down to twice that",
            Self::UnknownFormat => "save the picture as one of these; the name of the file does not matter",
        }
    }
}

/// Reads the picture as a `data:` URI, whose characters need no escaping.
pub(super) fn read(path: &Path, findings: &mut Findings) -> Option<String> {
    match data_uri(path) {
        Ok(uri) => Some(uri),
        Err(error) => {
            let finding = findings.error(KEY, format!("file `{}` {error}", path.display()));
            finding.hint(error.hint()).is_of_surroundings = matches!(error, LogoError::Read(_));
            None
        }
    }
}

/// The icon of a site without a logo, as a `data:` URI: without one, a browser asks for
/// `/favicon.ico`.
pub(super) fn built_in_icon() -> String {
    format!("data:image/svg+xml;base64,{}", STANDARD.encode(ICON))
}

fn data_uri(path: &Path) -> Result<String, LogoError> {
    // Asked before it is opened: to open a pipe is to wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(LogoError::NotAFile);
    }
    let mut picture = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut picture)?;
    if picture.len() as u64 > MAX_BYTES {
        return Err(LogoError::TooLarge);
    }
    let media_type = media_type(&picture).ok_or(LogoError::UnknownFormat)?;
    Ok(format!("data:{media_type};base64,{}", STANDARD.encode(&picture)))
}

/// What a picture is, by its first bytes.
fn media_type(picture: &[u8]) -> Option<&'static str> {
    match picture {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => is_svg(picture).then_some("image/svg+xml"),
    }
}

/// Whether the first element is an `svg`. The page shows it in an `img`, in which its scripts and
/// links do not work.
fn is_svg(picture: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(picture) else { return false };
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // The XML declaration, comments and the document type come before it.
    for (open, close) in [("<?", "?>"), ("<!--", "-->"), ("<!", ">"), ("<!--", "-->")] {
        while rest.starts_with(open) {
            let Some((_, after)) = rest.split_once(close) else { return false };
            rest = after.trim_start();
        }
    }
    rest.strip_prefix("<svg").is_some_and(|after| after.starts_with([' ', '\t', '\r', '\n', '>', '/']))
}
