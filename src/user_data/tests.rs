//! The official vector, negative ones, and whatever an attacker can do to sealed data.

use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::identity::{AppId, OpenId};

const KEY: [u8; 16] = [9; 16];
const IV: [u8; 16] = [3; 16];
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// WeChat's published demonstration: the app, the session key, and what it seals.
const OFFICIAL_KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
const OFFICIAL_IV: &str = "r7BXXKkLb8qrSNn05n0qiA==";
const OFFICIAL_DATA: &str = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==";
/// Another one, as some libraries have it. It decrypts to no padding.
const NEGATIVE: [&str; 3] = [
    "7MG7jbTToVVRWRXVA885rg==",
    "TarMFjnzHVxy8pdS93wQbw==",
    "BY6VOgcWbwGcyrunK0ECWI8rnDsT69DucZ+M78tc1aL9aM/3bEAHFYd4fu7kRjWhD4YfjObw44T9vUqKyHIjbKs6hvtEasZZEIW35x4a91xVgN48ZqZ7MTQqUlP13kDUlkuwYh+/8g8yceu4kNbjowYrhihx+SV7CfjKCveJ7TSepr5Z7aLv1o+rfeelfOwn++WN/YoQsuZ6S3L4fWlWe5DAAUnFUI6cJvxxCohVzbrVXhyH2AqQdSjH2WnMYFeaGFIbcoxMznlk7oEwFn+hBj63dyT/swdYQfEdzuyCBmKXy8d6l1RKVX6Y65coTD8kIlbr+FKsqYrXVUIUBSwehqYuOdhYWZ9Bntl5DWU1oqzAPCnMn2cAIoQpQPKP7IGSxMOvCNAMhVXbE7BvnWuVuGF+AM5tXAa9IVUhcMImGwLQqm4iV5uBd+5OcFObh3A4VJk9iBCBWSkBHa/rV9CVoY0bFv2F9/2Hv82++Ybl274=",
];

fn subject(appid: &str, openid: &str) -> Subject {
    Subject { appid: AppId::parse(appid).unwrap(), openid: OpenId::parse(openid).unwrap() }
}

fn key(text: &str) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(STANDARD.decode(text).unwrap().try_into().unwrap())
}

/// Seals a text as WeChat does.
pub(crate) fn seal(key: [u8; 16], text: &str) -> Vec<u8> {
    let mut data = text.as_bytes().to_vec();
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, &key).unwrap()).unwrap();
    key.less_safe_encrypt(&mut data, EncryptionContext::Iv128(IV.into())).unwrap();
    data
}

fn open_bytes(keys: &[[u8; 16]], data: &[u8], iv: &[u8]) -> Result<OpenedUserData, StaleKey> {
    let keys: Vec<_> = keys.iter().copied().map(Zeroizing::new).collect();
    let encrypted = EncryptedUserData::parse(&STANDARD.encode(data), &STANDARD.encode(iv)).ok_or(StaleKey)?;
    let alice = subject("wx1", "oAlice");
    open(&keys, &encrypted, Expected { subject: &alice, max_age: Duration::from_secs(300), now: NOW })
}

fn open_text(text: &str) -> Result<OpenedUserData, StaleKey> {
    open_bytes(&[KEY], &seal(KEY, text), &IV)
}

fn all_of(opened: &OpenedUserData) -> Value {
    Value::Object(opened.fields.clone())
}

fn watermark() -> Value {
    json!({ "timestamp": NOW.seconds(), "appid": "wx1" })
}

fn profile() -> String {
    json!({
        "openId": "oAlice", "nickName": "爱丽丝", "gender": 0, "avatarUrl": "https://thirdwx.qlogo.cn/x/132",
        "unionId": "uAlice", "watermark": watermark(),
    })
    .to_string()
}

/// In the order and the spelling of WeChat's documents.
fn phone() -> String {
    let seconds = NOW.seconds();
    format!(
        r#"{{"phoneNumber":"13580006666","purePhoneNumber":"13580006666","countryCode":"86","watermark":{{"appid":"wx1","timestamp":{seconds}}}}}"#
    )
}

#[test]
fn the_official_vector_opens_for_its_app_and_user_alone() {
    let encrypted = EncryptedUserData::parse(OFFICIAL_DATA, OFFICIAL_IV).unwrap();
    let sealed_at = Timestamp::from_seconds(1_477_314_187);
    let open_for = |appid: &str, openid: &str, now: Timestamp, key_text: &str| {
        let subject = subject(appid, openid);
        let expected = Expected { subject: &subject, max_age: Duration::from_secs(300), now };
        open(&[key(key_text)], &encrypted, expected)
    };
    let (appid, openid) = ("wx4f4bc4dec97d474b", "oGZUI0egBJY1zhBYw2KhdUfwVJJE");

    let opened = open_for(appid, openid, sealed_at, OFFICIAL_KEY).unwrap();

    assert_eq!(
        all_of(&opened),
        json!({
            "openId": openid, "nickName": "Band", "gender": 1, "language": "zh_CN", "city": "Guangzhou",
            "province": "Guangdong", "country": "CN",
            "avatarUrl": "http://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0",
            "unionId": "ocMvos6NjeKLIBqg5Mr9QjxrP1FA",
            "watermark": { "timestamp": 1_477_314_187, "appid": appid },
        })
    );
    assert_eq!(opened.unionid().unwrap().as_str(), "ocMvos6NjeKLIBqg5Mr9QjxrP1FA");
    assert_eq!(
        Value::Object(opened.only(&["nickName".into(), "none".into()])),
        json!({ "nickName": "Band" })
    );
    for (appid, openid, now, key_text) in [
        ("wx4f4bc4dec97d474c", openid, sealed_at, OFFICIAL_KEY),
        (appid, "oGZUI0egBJY1zhBYw2KhdUfwVJJF", sealed_at, OFFICIAL_KEY),
        (appid, openid, sealed_at.plus(Duration::from_secs(301)), OFFICIAL_KEY),
        (appid, openid, Timestamp::from_seconds(1_477_314_187 - 61), OFFICIAL_KEY),
        (appid, openid, sealed_at, "HyVFkGl5F5OQWJZZaNzBBg=="),
    ] {
        assert_eq!(open_for(appid, openid, now, key_text), Err(StaleKey), "{appid} {openid} {now}");
    }
}

#[test]
fn a_form_that_mangles_plus_signs_is_repaired() {
    let mangled = OFFICIAL_DATA.replace('+', " ");
    assert_ne!(mangled, OFFICIAL_DATA);

    assert_eq!(
        EncryptedUserData::parse(&mangled, OFFICIAL_IV),
        EncryptedUserData::parse(OFFICIAL_DATA, OFFICIAL_IV)
    );
}

#[test]
fn the_negative_vector_does_not_open() {
    let [session_key, iv, data] = NEGATIVE;
    let encrypted = EncryptedUserData::parse(data, iv).unwrap();
    let bytes = key(session_key);
    let (_, is_padded) = encrypted.decrypt(&bytes).unwrap();
    let anyone = subject("wx1", "oAlice");
    let expected = Expected { subject: &anyone, max_age: Duration::MAX, now: NOW };

    assert!(!is_padded);
    assert_eq!(open(&[bytes], &encrypted, expected), Err(StaleKey));
}

#[test]
fn either_of_the_two_newest_keys_opens() {
    let data = seal(KEY, &profile());
    let other = [1; 16];
    for (keys, opens) in [
        (vec![KEY], true),
        (vec![KEY, other], true),
        (vec![other, KEY], true),
        (vec![KEY, KEY], true),
        (vec![other], false),
        (vec![other, other, KEY], false),
        (vec![], false),
    ] {
        assert_eq!(open_bytes(&keys, &data, &IV).is_ok(), opens, "{keys:?}");
    }
    // The key that stands in for one that is not there opens nothing.
    assert_eq!(open_bytes(&[], &seal([0; 16], &profile()), &IV), Err(StaleKey));
    assert_eq!(open_bytes(&[other], &seal([0; 16], &profile()), &IV), Err(StaleKey));
}

#[test]
fn only_fresh_data_of_one_kind_and_of_this_user_are_accepted() {
    let mark = watermark().to_string();
    let with = |fields: &str| format!(r#"{{{fields},"watermark":{mark}}}"#);
    let seconds = NOW.seconds();
    let accepted = [
        profile(),
        phone(),
        with(r#""openGId":"tG1""#),
        with(r#""openId":"oAlice","openGId":"tG1""#),
        with(r#""stepInfoList":[{"timestamp":1445866601,"step":100}]"#),
        with(r#""phoneNumber":"+85251234567","purePhoneNumber":"51234567","countryCode":"852""#),
        with(r#""openId":"oAlice","unionId":"u","phoneNumber":"1","purePhoneNumber":"1","countryCode":"86""#),
        format!(r#"{{"openGId":"t","watermark":{{"appid":"wx1","timestamp":{}}}}}"#, seconds + 60),
        format!(r#"{{"openGId":"t","watermark":{{"appid":"wx1","timestamp":{}}}}}"#, seconds - 300),
    ];
    for text in accepted {
        assert!(open_text(&text).is_ok(), "{text}");
    }
    let refused = [
        String::new(),
        "null".into(),
        "[]".into(),
        "{".into(),
        "{}".into(),
        with(r#""openId":"oAlice""#) + "x",
        with(r#""nickName":"x""#),
        with(r#""openId":"oBob""#),
        with(r#""openId":null"#),
        with(r#""openId":["oAlice"]"#),
        with(r#""openId":"oAlice","openId":"oAlice""#),
        with(r#""openGId":"t","openGId":"t""#),
        with(r#""openId":"oAlice","unionId":7"#),
        with(r#""openId":"oAlice","nickName":"x","phoneNumber":"1","purePhoneNumber":"1""#),
        with(r#""phoneNumber":"1","purePhoneNumber":"1","countryCode":"86","x":1"#),
        with(r#""phoneNumber":"13800000000","purePhoneNumber":"13580006666","countryCode":"86""#),
        with(r#""phoneNumber":"13800000000","purePhoneNumber":"","countryCode":"86""#),
        with(r#""phoneNumber":"13800000000","countryCode":"86""#),
        with(r#""phoneNumber":13800000000,"purePhoneNumber":13800000000"#),
        with(&format!(r#""openGId":"t","watermark":{mark}"#)),
        r#"{"openGId":"t"}"#.into(),
        r#"{"openGId":"t","watermark":"wx1"}"#.into(),
        format!(r#"{{"openGId":"t","watermark":{{"appid":"wx2","timestamp":{seconds}}}}}"#),
        format!(r#"{{"openGId":"t","watermark":{{"timestamp":{seconds}}}}}"#),
        r#"{"openGId":"t","watermark":{"appid":"wx1"}}"#.into(),
        r#"{"openGId":"t","watermark":{"appid":"wx1","timestamp":"1800000000"}}"#.into(),
        r#"{"openGId":"t","watermark":{"appid":"wx1","timestamp":-1}}"#.into(),
        format!(r#"{{"openGId":"t","watermark":{{"appid":"wx1","timestamp":{}}}}}"#, u64::MAX),
        format!(r#"{{"openGId":"t","watermark":{{"appid":"wx1","timestamp":{}}}}}"#, seconds + 61),
        format!(r#"{{"openGId":"t","watermark":{{"appid":"wx1","timestamp":{}}}}}"#, seconds - 301),
    ];
    for text in refused {
        assert_eq!(open_text(&text), Err(StaleKey), "{text}");
    }
}

#[test]
fn a_unionid_counts_only_beside_the_users_openid() {
    let mark = watermark().to_string();
    let alone = open_text(&format!(r#"{{"unionId":"uBob","watermark":{mark}}}"#)).unwrap();
    let beside = open_text(&profile()).unwrap();

    assert_eq!(alone.unionid(), None);
    assert_eq!(beside.unionid().unwrap().as_str(), "uAlice");
}

/// Every bit of the sealed text and of its vector, one at a time: CBC lets an attacker flip the
/// bits of a block, at the price of the block before.
#[test]
fn no_flipped_bit_changes_who_it_is_or_the_phone_number() {
    for (name, text) in [("profile", profile()), ("phone", phone())] {
        let data = seal(KEY, &text);
        let original = all_of(&open_bytes(&[KEY], &data, &IV).unwrap());
        let mut accepted = 0;
        for place in 0..(data.len() + IV.len()) * 8 {
            let (mut data, mut iv) = (data.clone(), IV);
            let (byte, bit) = (place / 8, place % 8);
            match byte.checked_sub(data.len()) {
                Some(byte) => iv[byte] ^= 1 << bit,
                None => data[byte] ^= 1 << bit,
            }
            let Ok(opened) = open_bytes(&[KEY], &data, &iv) else { continue };
            accepted += 1;
            let opened = all_of(&opened);
            for field in ["openId", "phoneNumber", "purePhoneNumber", "watermark"] {
                assert_eq!(opened.get(field), original.get(field), "{name} bit {place}");
            }
        }
        // A flip in a nickname can pass: nothing seals it. None of a phone number does.
        assert!(name == "profile" || accepted == 0, "{name}: {accepted}");
    }
}

proptest! {
    #[test]
    fn no_change_makes_another_person_or_number_or_a_panic(
        which in 0..2_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in 0..6_usize,
        iv in prop::array::uniform16(any::<u8>()),
        has_own_iv in any::<bool>(),
    ) {
        let text = [profile(), phone()][which].clone();
        let mut data = seal(KEY, &text);
        for (place, change) in changes {
            let place = place.index(data.len());
            data[place] ^= change;
        }
        data.drain(..(cut * 16).min(data.len()));
        let iv = if has_own_iv { iv } else { IV };

        if let Ok(opened) = open_bytes(&[KEY], &data, &iv) {
            let opened = all_of(&opened);
            prop_assert!(opened.get("openId").is_none_or(|openid| openid == "oAlice"));
            prop_assert_eq!(&opened["watermark"]["appid"], "wx1");
            prop_assert!(opened.get("phoneNumber").is_none_or(|number| number == "13580006666"));
        }
    }

    #[test]
    fn random_bytes_do_not_open(data in prop::collection::vec(any::<u8>(), 0..200), iv in prop::collection::vec(any::<u8>(), 0..20)) {
        prop_assert_eq!(open_bytes(&[KEY], &data, &iv), Err(StaleKey));
    }
}

/// Blanks after the JSON would be read as nothing, if only the JSON were looked at. A space is the
/// length of no padding.
#[test]
fn a_text_that_ends_in_blanks_instead_of_a_padding_does_not_open() {
    for text in [profile(), phone()] {
        let blanks = " ".repeat(16 - text.len() % 16);
        let text = text + &blanks;
        let sealed = seal(KEY, &text);
        let (unpadded, _) = sealed.split_at(text.len());

        assert!(open_bytes(&[KEY], &sealed, &IV).is_ok());
        assert_eq!(open_bytes(&[KEY], unpadded, &IV), Err(StaleKey));
    }
}

/// What the documentation admits: a text that is put together from another kind of data. This one
/// is refused, because it has fields of two kinds.
#[test]
fn a_profile_whose_nickname_is_a_number_does_not_become_a_phone_number() {
    let mark = watermark().to_string();
    let start = r#"{"openId":"oAlice","nickName":""#;
    let fill = "x".repeat((16 - start.len() % 16) % 16);
    let text = format!(r#"{start}{fill}13800000000","gender":0,"watermark":{mark}}}"#);
    let data = seal(KEY, &text);
    let at = start.len() + fill.len();
    let wanted = br#"{"phoneNumber":""#;
    // The block before is known, so its vector can be chosen for any text.
    let known = &text.as_bytes()[at - 16..at];
    let before = &data[at - 32..at - 16];
    let iv: Vec<u8> = (0..16).map(|byte| before[byte] ^ known[byte] ^ wanted[byte]).collect();
    let encrypted =
        EncryptedUserData::parse(&STANDARD.encode(&data[at - 16..]), &STANDARD.encode(&iv)).unwrap();
    let (forged, is_padded) = encrypted.decrypt(&KEY).unwrap();
    assert!(is_padded && forged.starts_with(br#"{"phoneNumber":"13800000000","gender":0,"#));

    assert_eq!(open_bytes(&[KEY], &data[at - 16..], &iv), Err(StaleKey));
}

#[test]
fn opened_data_are_not_shown_in_debug_output() {
    let opened = open_text(&profile()).unwrap();

    assert_eq!(format!("{opened:?}"), "OpenedUserData([redacted])");
}
