//! Names, tokens, labels and the form of rows.
#![expect(clippy::string_slice, reason = "ids and tokens are ASCII")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;
use crate::session::device;
use crate::session::row::invalidation::Invalidation;
use crate::session::row::limits::SessionLimits;
use crate::session::row::refresh_token::DecodedRefreshToken;
use crate::session::row::revocations::Revocations;
use crate::session::row::session_key::SealedSessionKey;
use crate::session::row::subject::{SessionEntry, SubjectRow};
use crate::session::row::{envelope, name};

#[test]
fn a_session_id_says_where_its_row_is() {
    let locator = name::locator(&person("alice").subject);
    let id = name::session_id(&locator, &[9; 16]).unwrap();

    assert_eq!(id.as_str().len(), 43);
    assert_eq!(name::parse_session_id(&id), Some((locator, [9; 16])));
}

#[test]
fn one_session_has_one_id() {
    let id = name::session_id(&[1; 16], &[2; 16]).unwrap();
    let text = id.as_str();
    let cut = &text[..42];
    let same_bytes_other_text = format!("{cut}{}", if text.ends_with('I') { 'J' } else { 'D' });
    for wrong in [cut.to_owned(), format!("{text}A"), same_bytes_other_text, "a".to_owned(), "A".repeat(128)]
    {
        assert_eq!(name::parse_session_id(&SessionId::parse(&wrong).unwrap()), None, "{wrong}");
    }
}

#[test]
fn subjects_with_the_same_text_in_other_parts_have_different_locators() {
    let cut = |appid: &str, openid: &str| name::locator(&in_app(appid, openid).subject);

    assert_ne!(cut("ab", "c"), cut("a", "bc"));
}

#[test]
fn only_what_a_gateway_wrote_is_a_refresh_token() {
    let token = DecodedRefreshToken::generate([3; 16], &SystemEntropy).unwrap().encode();
    let text = token.expose();
    assert_eq!(text.len(), 86);
    assert!(RefreshToken::parse(text).is_ok());
    let with_bits = (0_u8..128).map(char::from).filter(|last| !text.ends_with(*last));
    let refused = with_bits
        .map(|last| format!("{}{last}", &text[..85]))
        .filter(|other| RefreshToken::parse(other).is_err() || !decodes_alike(other, text));
    assert_eq!(refused.count(), 127, "two texts are one token");

    for wrong in [
        "",
        &text[..85],
        &format!("{text}A"),
        &format!("{text}=="),
        &format!(" {}", &text[1..]),
        &text.replace(&text[5..6], "+"),
        &"é".repeat(43),
    ] {
        assert!(RefreshToken::parse(wrong).is_err(), "{wrong}");
    }
    assert!(!format!("{token:?}").contains(&text[..8]));
}

fn decodes_alike(one: &str, other: &str) -> bool {
    URL_SAFE_NO_PAD.decode(one).unwrap() == URL_SAFE_NO_PAD.decode(other).unwrap()
}

#[test]
fn a_device_label_is_a_few_printable_words() {
    let wechat = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                  Mobile/15E148 MicroMessenger/8.0.50(0x18003230) NetType/WIFI Language/zh_CN";
    let android = "Mozilla/5.0 (Linux; Android 14; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 \
                   Chrome/116.0.0.0 Mobile Safari/537.36 XWEB/1160065 MMWEBSDK/20231202 MicroMessenger/";
    let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                  Chrome/120.0.0.0 Safari/537.36";
    let cases = [
        (wechat, Some("WeChat 8.0.50 on iPhone")),
        (android, Some("WeChat on Android")),
        (chrome, Some("Chrome on Windows")),
        ("curl/8.5.0", Some("curl")),
        ("okhttp/4.9.0", Some("okhttp/4.9.0")),
        ("  Some Thing/1 else", Some("Some")),
        ("\u{202e}evil\u{7}\r\nX: y", Some("evilX:")),
        ("\u{0}\u{1b}", None),
        ("", None),
        ("微信", None),
    ];
    for (user_agent, label) in cases {
        assert_eq!(device::label(user_agent).as_deref(), label, "{user_agent}");
    }
}

proptest! {
    #[test]
    fn no_user_agent_makes_a_long_or_unprintable_label(text in any::<String>(), prefix in "[ -~]{0,600}") {
        for text in [text.clone(), format!("{prefix}{text}"), format!("MicroMessenger/{text}")] {
            if let Some(label) = device::label(&text) {
                prop_assert!((1..=64).contains(&label.len()));
                prop_assert!(label.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }

    #[test]
    fn no_bytes_are_read_as_a_row(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let key = name::subject_key([1; 16]);
        prop_assert!(envelope::decode::<SubjectRow>(&key, &bytes).is_err());
        prop_assert!(envelope::decode::<Revocations>(&name::REVOCATIONS_KEY, &bytes).is_err());
        let _ = minicbor::decode::<SubjectRow>(&bytes);
        let _ = minicbor::decode::<SealedSessionKey>(&bytes);
        let _ = minicbor::decode::<Invalidation>(&bytes);
    }

    #[test]
    fn a_row_with_a_flipped_bit_is_damage(position in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let alice = person("alice");
        let key = name::subject_key(name::locator(&alice.subject));
        let mut bytes = envelope::encode(&key, &record(&alice)).unwrap().to_vec();
        prop_assert!(envelope::decode::<SubjectRow>(&key, &bytes).unwrap() == record(&alice));
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;

        prop_assert!(envelope::decode::<SubjectRow>(&key, &bytes).is_err());
    }

    #[test]
    fn a_row_cut_short_or_lengthened_is_damage(length in any::<prop::sample::Index>(), more in any::<u8>()) {
        let alice = person("alice");
        let key = name::subject_key(name::locator(&alice.subject));
        let bytes = envelope::encode(&key, &record(&alice)).unwrap().to_vec();

        prop_assert!(envelope::decode::<SubjectRow>(&key, &bytes[..length.index(bytes.len())]).is_err());
        prop_assert!(envelope::decode::<SubjectRow>(&key, &[&bytes[..], &[more]].concat()).is_err());
    }
}

#[test]
fn a_row_of_most_sessions_takes_less_than_the_longest_value() {
    let config = config::Sessions { max_per_subject: 64, ..config::Sessions::default() };
    let limits = SessionLimits::new(&config);
    let alice = with_unionid(&in_app(&"a".repeat(128), &"o".repeat(128)), &"u".repeat(128));
    let mut full = record(&alice);
    full.set_unionid(alice.unionid.as_ref());
    full.set_profile(Some(&Profile::new(&"👩".repeat(64), &format!("https://{}", "a".repeat(504)))));
    let now = ManualClock::start_now().now();
    for index in 0..200_u8 {
        let mut entry = entry(index);
        let token = DecodedRefreshToken::generate([1; 16], &SystemEntropy).unwrap();
        entry.family = token.new_family();
        entry.family.rotate(&token, token.shown_by(&client()), &entry.id, &SystemEntropy, now).unwrap();
        entry.device = Some("x".repeat(64));
        entry.cookie = Some([index; 32].into());
        full.add(entry, &limits, now);
    }
    let bytes = envelope::encode(&name::subject_key(name::locator(&alice.subject)), &full).unwrap();

    assert_eq!(full.entries.len(), 136);
    assert!(bytes.len() < crate::store::MAX_VALUE_BYTES, "{}", bytes.len());
}

fn record(identity: &Identity) -> SubjectRow {
    let mut record = SubjectRow::new(&identity.subject);
    record.entries = vec![entry(1), entry(2)];
    record
}

fn entry(byte: u8) -> SessionEntry {
    let at = Timestamp::from_seconds(1_700_000_000);
    // Fixed: the same row each time.
    let token = URL_SAFE_NO_PAD.encode([byte; 64]);
    SessionEntry {
        id: [byte; 16],
        created_at: at,
        last_seen_at: at,
        expires_at: at.plus(DAY),
        is_evicted: false,
        revocation_number: 3,
        family: RefreshToken::parse(&token).unwrap().decode().unwrap().new_family(),
        device: Some("curl".into()),
        cookie: None,
        handed_over: None,
    }
}
