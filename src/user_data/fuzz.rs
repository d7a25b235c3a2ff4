//! Drives the opening of sealed user data.

use std::time::Duration;

use zeroize::Zeroizing;

use super::document::Document;
use super::{EncryptedUserData, Expected, open};
use crate::clock::Timestamp;
use crate::identity::{AppId, OpenId, Subject};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Opens bytes as sealed data, and reads them as the text inside: nothing that is accepted is of
/// another user, and no key that was not used opens anything.
pub(crate) fn sealed(data: &[u8]) {
    let (Ok(appid), Ok(openid)) = (AppId::parse("wx1"), OpenId::parse("oAlice")) else { return };
    let subject = Subject { appid, openid };
    let expected = Expected { subject: &subject, max_age: Duration::from_secs(300), now: NOW };
    let text = String::from_utf8_lossy(data);
    let (iv, rest) = text.split_once('\n').unwrap_or(("", &text));
    if let Some(encrypted) = EncryptedUserData::parse(rest, iv) {
        let keys = [Zeroizing::new([7; 16]), Zeroizing::new([8; 16])];
        if let Ok(opened) = open(&keys, &encrypted, expected) {
            let names = ["openId".to_owned(), "watermark".to_owned()];
            let fields = opened.only(&names);
            assert!(fields.get("openId").is_none_or(|openid| openid == "oAlice"), "of another user");
            assert!(fields.get("watermark").is_some_and(|mark| mark["appid"] == "wx1"), "of another app");
        }
        assert!(open(&[], &encrypted, expected).is_err(), "opened without a key");
    }
    let Some(document) = Document::parse(data) else { return };
    if super::is_expected(&document, expected) {
        let is_other = document.openid().ok().flatten().is_some_and(|openid| openid != "oAlice");
        assert!(!is_other && document.appid() == Some("wx1"), "of another user or app");
        assert!(document.into_opened().unionid().is_none_or(|unionid| !unionid.as_str().is_empty()));
    }
}
