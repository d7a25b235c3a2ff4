use http::{HeaderMap, HeaderValue};

use crate::page::Language::{self, Chinese, English};

fn of(lines: &[&[u8]]) -> Language {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append("accept-language", HeaderValue::from_bytes(line).unwrap());
    }
    Language::of(&headers)
}

#[test]
fn accept_language_selects_the_language_of_a_page() {
    let table: [(&str, Language); 37] = [
        ("zh-CN,zh;q=0.9,en;q=0.8", Chinese),
        ("en-US,en;q=0.9,zh-CN;q=0.8,zh;q=0.7", English),
        ("en", English),
        ("EN-gb", English),
        ("zh", Chinese),
        ("zh-TW", Chinese),
        ("ZH-Hant-HK", Chinese),
        ("fr-FR,fr;q=0.9,en;q=0.8", English),
        ("fr", Chinese),
        ("", Chinese),
        ("*", Chinese),
        ("fr, *;q=0.5", Chinese),
        ("en;q=0.5, *;q=0.8", Chinese),
        ("en, *;q=0.8", English),
        ("zh;q=0.3, *", English),
        ("en;q=0.5,zh;q=0.5", English),
        ("zh;q=0.5,en;q=0.5", Chinese),
        ("zh;q=0.5,en;q=0.501", English),
        ("zh;q=0.001, en;q=0", Chinese),
        ("zh;q=0", English),
        ("zh;q=0, en;q=0", Chinese),
        ("zh;q=0, *", English),
        ("en;q=0, *", Chinese),
        ("en;q=0", Chinese),
        ("zh;q=0, zh-TW;q=0.4, en;q=0.3", Chinese),
        ("en ; q = 0.9 , zh ; q=0.1", English),
        ("en;Q=0.9,zh;Q=0.1", English),
        ("en;q=1.000,zh;q=0.9", English),
        ("en;q=1.001,zh;q=0.1", Chinese),
        ("en;q=2", Chinese),
        ("en;q=-1", Chinese),
        ("en;q=0.9999", Chinese),
        ("en;q=", Chinese),
        ("en;level=1", Chinese),
        (";q=1,,,en", English),
        ("english", Chinese),
        ("zhx, en;q=0.1", English),
    ];
    for (header, language) in table {
        assert_eq!(of(&[header.as_bytes()]), language, "{header}");
    }
}

#[test]
fn several_accept_language_headers_are_one_list() {
    assert_eq!(of(&[b"en;q=0.4", b"zh;q=0.3"]), English);
    assert_eq!(of(&[b"en;q=0.4", b"zh;q=0.5"]), Chinese);
    assert_eq!(of(&[]), Chinese);
}

#[test]
fn oversized_accept_language_header_is_ignored() {
    let many = "fr,".repeat(40) + "en";
    let long = "en,".repeat(400);

    assert_eq!(of(&[many.as_bytes()]), Chinese);
    assert_eq!(of(&[long.as_bytes()]), Chinese);
    assert_eq!(of(&[b"en\xff\xfe"]), Chinese);
}
