//! Drives what is read of credentials and of the store's rows.

use http::HeaderValue;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::binding::Binding;
use super::custody::{SealKey, SealKeys};
use super::follow::Heard;
use super::limits::Limits;
use super::listing::Listing;
use super::marks::Marks;
use super::name::{self, Locator, SessionKey};
use super::record::Record;
use super::refresh_token::Parts;
use super::row;
use super::{RefreshToken, SessionCookie, UserBinding};
use crate::clock::Timestamp;
use crate::config;
use crate::entropy::NotRandom;
use crate::identity::{AppId, MOST_CLAIMS, SessionId, UnionId};
use crate::store::Key;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const LOCATOR: Locator = [1; 16];
const SESSION: SessionKey = [2; 16];

pub(crate) fn credential(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(token) = RefreshToken::parse(text) {
        let written = token.parts().map(|parts| parts.token());
        assert!(written.is_some_and(|written| written.expose() == text), "a refresh token has two texts");
    }
    if let Ok(cookie) = SessionCookie::parse(text) {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        assert!(text.len() == 64 && is_plain && cookie.parts().is_some(), "{text:?} is no cookie");
    }
    if let Some((id, (locator, key))) =
        SessionId::parse(text).ok().and_then(|id| Some((id.clone(), name::parse(&id)?)))
    {
        assert!(name::session_id(&locator, &key).is_ok_and(|written| written == id), "a session has two ids");
    }
}

/// The first byte says which kind of row it is.
pub(crate) fn row(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 5 {
        0 => {
            let read = read::<Record>(&name::row(LOCATOR), bytes);
            read.into_iter().for_each(use_record);
        }
        1 => {
            let read = read::<Marks>(&name::REVOCATION, bytes);
            read.into_iter().for_each(use_marks);
        }
        2 => {
            let Ok(unionid) = UnionId::parse("u-Alice") else { return };
            let _ = read::<Listing>(&name::unionid_row(&unionid), bytes);
        }
        // Entries of the log have no checksum: they say at most that somebody has to be looked up again.
        3 => _ = minicbor::decode::<Heard>(bytes),
        _ => {
            let read = read::<Binding>(&name::binding_of_subject(LOCATOR), bytes);
            read.into_iter().for_each(use_binding);
        }
    }
}

/// Reads bytes as they stand, and as if their checksum were right; what is read is written, and read the same.
fn read<T>(key: &Key, bytes: &[u8]) -> Option<T>
where
    T: PartialEq + Encode<()> + for<'b> Decode<'b, ()>,
{
    let stored = row::decode::<T>(key, bytes).ok();
    if stored.is_some() {
        for (place, bit) in [(0, 1), (bytes.len() / 2, 16), (bytes.len() - 1, 128)] {
            let mut flipped = bytes.to_vec();
            flipped.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= bit);
            assert!(row::decode::<T>(key, &flipped).is_err(), "a row with a flipped bit is read");
        }
        let other = Key { name: [0xff; 16], ..key.clone() };
        assert!(row::decode::<T>(&other, bytes).is_err(), "a row is read in another's place");
    }
    let body = bytes.split_last_chunk::<8>().filter(|_| stored.is_some()).map_or(bytes, |(body, _)| body);
    let value = row::decode::<T>(key, &row::with_checksum(key, body)).ok()?;
    let written = row::encode(key, &value);
    let is_same =
        written.is_ok_and(|written| row::decode::<T>(key, &written).is_ok_and(|again| again == value));
    assert!(is_same, "a row is not read as it was written");
    Some(value)
}

/// A row may say anything that is well formed; nothing it says may stop a node.
fn use_record(mut record: Record) {
    let limits = Limits::new(&config::Sessions::default());
    let marks = Marks::default();
    for at in [Timestamp::default(), NOW, Timestamp::from_millis(u64::MAX)] {
        let live = record.all_live(&limits, &marks, at).count();
        let infos = record.infos(&LOCATOR, &limits, &marks, at).map(|infos| infos.len());
        assert!(infos.is_ok_and(|infos| infos == live), "not every session is listed");
        assert!(
            record.all_live(&limits, &marks, at).all(|entry| at < entry.ends_at),
            "an ended session goes on"
        );
    }
    let _ = (record.end(&limits), record.identity(), record.profile(), record.number(&SESSION));
    let keys: Vec<SessionKey> = record.entries.iter().map(|entry| entry.key).collect();
    // Of the same family, yet never issued.
    if let Ok(stranger) = Parts::draw([8; 16], &NotRandom) {
        for entry in &record.entries {
            let judged = entry.family.judge(&stranger, &entry.key, limits.refresh_grace, NOW);
            assert!(!matches!(judged, Ok(super::refresh_token::Use::Current)), "a stranger's token counts");
        }
    }
    assert!(record.of_cookie(&[0x5a; 32]).is_none_or(|key| keys.contains(&key)), "a session out of nowhere");
    for key in keys.iter().take(2) {
        record.evict(key, &limits, NOW);
        record.remove(key);
    }
    let seals = seal_keys();
    let _ = seals.keep(&mut record, &LOCATOR, SESSION, &[9; 16], &NotRandom);
    record.tidy(&limits, &marks, NOW);
    assert!(
        record.all_live(&limits, &marks, NOW).count() == record.entries.len(),
        "an ended session is kept"
    );
}

fn use_marks(mut marks: Marks) {
    let Ok(app) = AppId::parse("wx1") else { return };
    marks.found(NOW);
    let before = marks.number;
    marks.revoke_app(&app, NOW);
    assert!(
        marks.number >= before && marks.end(&app, before.saturating_sub(1), NOW),
        "revoking revokes nothing"
    );
    marks.revoke_opened_before(NOW, NOW);
    assert!(marks.end(&app, before.saturating_sub(1), NOW), "revoking revokes nothing");
}

/// Whoever is bound is bound to a user whom a header can carry, and a route ask for.
fn use_binding(binding: Binding) {
    let Ok(UserBinding { user, .. }) = UserBinding::try_from(binding) else { return };
    assert!(HeaderValue::from_str(user.id().as_str()).is_ok(), "a user is no header's value");
    assert!(user.claims().count() <= MOST_CLAIMS, "a user has too many claims");
    assert!(user.claims().all(|(name, value)| user.claim(name) == Some(value)), "a claim is not found");
}

fn seal_keys() -> SealKeys {
    let first = SealKey { kid: "one".into(), secret: Zeroizing::new([3; 32]) };
    SealKeys { first, others: Vec::new() }
}

/// Rows as this version writes them, to begin from: `data` of [`row`].
#[cfg(test)]
pub(crate) fn written_rows() -> Vec<(&'static str, Vec<u8>)> {
    use super::block::Who;
    use super::record::Entry;
    use crate::identity::{ClaimName, ClaimValue, OpenId, Profile, Subject, User, UserId};

    let subject = Subject { appid: AppId::parse("wx1").unwrap(), openid: OpenId::parse("o-Alice").unwrap() };
    let unionid = UnionId::parse("u-Alice").unwrap();
    let mut full = Record::new(&subject);
    full.learn(Some(&unionid));
    full.call(Some(&Profile::new("爱丽丝", "https://thirdwx.qlogo.cn/mmopen/x/132")));
    let mut token = Parts::draw(LOCATOR, &NotRandom).unwrap();
    let mut entry = Entry {
        key: SESSION,
        created_at: NOW,
        last_seen_at: NOW,
        ends_at: NOW.plus(std::time::Duration::from_secs(86400)),
        is_evicted: false,
        number: 1,
        family: token.found(),
        device: Some("WeChat 8.0.50 on iPhone".into()),
        cookie: Some([4; 32].into()),
    };
    token = entry.family.rotate(&token, &SESSION, &NotRandom, NOW).unwrap();
    entry.family.rotate(&token, &SESSION, &NotRandom, NOW).unwrap();
    full.entries.push(entry);
    seal_keys().keep(&mut full, &LOCATOR, SESSION, &[9; 16], &NotRandom).unwrap();
    let mut marks = Marks::default();
    marks.revoke_app(&subject.appid, NOW);
    marks.revoke_opened_before(NOW, NOW);
    let listing = Listing::of(&unionid, &subject, NOW);
    let claims = [("role", "editor"), ("level", "3")]
        .map(|(name, value)| (ClaimName::parse(name).unwrap(), ClaimValue::parse(value).unwrap()));
    let user = User::new(UserId::parse("42").unwrap(), claims).unwrap();
    let binding_key = name::binding_of_subject(LOCATOR);
    let binding = Binding::new(Who::from(&subject), &user, NOW);
    let binding = row::encode(&binding_key, &binding).unwrap();

    let record_key = name::row(LOCATOR);
    let whole = |kind: u8, row: bytes::Bytes| [&[kind], &row[..]].concat();
    // Without the checksum, mutants get further.
    let bare = |kind: u8, row: bytes::Bytes| [&[kind], row.split_last_chunk::<8>().unwrap().0].concat();
    let encoded = |record: &Record| row::encode(&record_key, record).unwrap();
    let marks = row::encode(&name::REVOCATION, &marks).unwrap();
    let listing = row::encode(&name::unionid_row(&unionid), &listing).unwrap();
    vec![
        ("record-full", whole(0, encoded(&full))),
        ("record-full-body", bare(0, encoded(&full))),
        ("record-empty", whole(0, encoded(&Record::new(&subject)))),
        ("record-empty-body", bare(0, encoded(&Record::new(&subject)))),
        ("marks", whole(1, marks.clone())),
        ("marks-body", bare(1, marks)),
        ("listing", whole(2, listing.clone())),
        ("listing-body", bare(2, listing)),
        ("binding", whole(4, binding.clone())),
        ("binding-body", bare(4, binding)),
        ("heard-subject", [&[3], &minicbor::to_vec(Heard::Subject(LOCATOR)).unwrap()[..]].concat()),
        ("heard-everything", [&[3], &minicbor::to_vec(Heard::Everything).unwrap()[..]].concat()),
    ]
}
