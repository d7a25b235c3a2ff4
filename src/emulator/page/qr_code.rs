//! The picture of a QR code.

use std::fmt::Write as _;

use http::StatusCode;
use qrcode::{Color, EcLevel};

use super::{PHONE, Reply, Request};

/// Modules of light around the code, per ISO/IEC 18004.
const QUIET: usize = 4;

/// `/connect/qrcode/{uuid}`: the picture by itself.
pub(super) fn image(request: &Request, uuid: &str) -> Reply {
    match svg(request, uuid) {
        Some(svg) => Reply::new(StatusCode::OK, "image/svg+xml", svg).uncached(),
        None => Reply::page(StatusCode::NOT_FOUND, "404 Not Found"),
    }
}

/// The picture as markup. It encodes the page that replaces the phone, on the host of the request.
pub(super) fn svg(request: &Request, uuid: &str) -> Option<String> {
    if !uuid.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let address = format!("http://{}{PHONE}?uuid={uuid}", request.host);
    let code = qrcode::QrCode::with_error_correction_level(address, EcLevel::M).ok()?;
    let side = code.width();
    let mut path = String::new();
    for (y, row) in code.to_colors().chunks(side).enumerate() {
        for (x, _) in row.iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
            let _ = write!(path, "M{} {}h1v1h-1z", x + QUIET, y + QUIET);
        }
    }
    let side = side + 2 * QUIET;
    Some(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" role="img" aria-label="QR code" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{side}v{side}h-{side}z"/><path d="{path}"/></svg>"##
    ))
}
