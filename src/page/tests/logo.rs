use super::{SHOP, build, complaints, folder, html, in_browser, sign_in, values};
use crate::config::LoginPage;
use crate::page::Language;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

fn with_logo(content: &[u8]) -> (tempfile::TempDir, LoginPage) {
    let (guard, path) = folder(&[("logo", content)]);
    (guard, LoginPage { logo: Some(path.join("logo").into()), ..LoginPage::default() })
}

#[test]
fn logo_is_embedded_in_the_page() {
    let table: [(&[u8], &str); 8] = [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "image/svg+xml"),
        (b"<svg\n/>", "image/svg+xml"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a --><!-- b -->\n<svg >", "image/svg+xml"),
        (b"<!DOCTYPE svg PUBLIC 'x' 'y'><!-- a --><svg>", "image/svg+xml"),
        (b"<svg><script>alert(1)</script></svg>", "image/svg+xml"),
    ];
    for (content, media_type) in table {
        let (_guard, config) = with_logo(content);

        let page = sign_in(&build(&config), &in_browser(&[SHOP]), Language::Chinese);

        let sources = values(html(&page), "src");
        assert_eq!(sources.len(), 1, "{media_type}");
        assert!(sources[0].starts_with(&format!("data:{media_type};base64,")), "{}", sources[0]);
    }
}

#[test]
fn logo_file_that_is_not_an_image_is_refused() {
    let table: [&[u8]; 8] = [
        b"",
        b"GIF89a",
        b"<html><svg></svg></html>",
        b"<svgx>",
        b"<!-- <svg> ",
        b"<?xml version='1.0'?>",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"<svg \xff>",
    ];
    for content in table {
        let (_guard, config) = with_logo(content);

        let complaints = complaints(&config);

        assert_eq!(complaints.len(), 1, "{content:?}");
        assert!(complaints[0].starts_with("login.page.logo: file `/"), "{}", complaints[0]);
        assert!(
            complaints[0].contains("/logo` is neither PNG, JPEG, WebP nor SVG; save"),
            "{}",
            complaints[0]
        );
    }
}

#[test]
fn logo_is_at_most_64_kib() {
    let mut content = PNG.to_vec();
    content.resize(64 * 1024, 0);
    let (_largest, config) = with_logo(&content);
    build(&config);
    content.push(0);
    let (_guard, config) = with_logo(&content);

    assert!(complaints(&config)[0].contains("/logo` is larger than 64 KiB; "));
}

#[test]
fn logo_that_cannot_be_read_is_refused() {
    let (_guard, path) = folder(&[]);
    let missing = LoginPage { logo: Some(path.join("missing.png").into()), ..LoginPage::default() };
    let not_a_file = LoginPage { logo: Some(path.into()), ..LoginPage::default() };

    assert!(complaints(&missing)[0].contains("missing.png` cannot be read: No such file"));
    assert!(complaints(&not_a_file)[0].contains("` is not a file; "));
}
