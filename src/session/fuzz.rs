//! Drives the parsers of credentials and of the store's rows.

use http::HeaderValue;
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::client::Client;
use super::list::session_infos;
use super::row::cookie::SessionCookie;
use super::row::envelope;
use super::row::invalidation::Invalidation;
use super::row::limits::SessionLimits;
use super::row::name::{self, EntryId, Locator};
use super::row::person::PersonField;
use super::row::person_row::{PersonRow, UserBinding};
use super::row::refresh_token::{DecodedRefreshToken, RefreshToken, TokenUse};
use super::row::revocations::Revocations;
use super::row::session_key::{SealKey, SealKeys};
use super::row::subject::SubjectRow;
use super::row::unionid::UnionIdRow;
use crate::clock::Timestamp;
use crate::config;
use crate::entropy::NotRandom;
use crate::identity::{AppId, MOST_CLAIMS, SessionId, UnionId};
use crate::store::Key;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const LOCATOR: Locator = [1; 16];
const SESSION: EntryId = [2; 16];

pub(crate) fn credential(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(token) = RefreshToken::parse(text) {
        let written = token.decode().map(|parts| parts.encode());
        assert!(written.is_some_and(|written| written.expose() == text), "a refresh token has two texts");
    }
    if let Ok(cookie) = SessionCookie::parse(text) {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        assert!(text.len() == 64 && is_plain && cookie.decode().is_some(), "{text:?} is no cookie");
    }
    if let Some((id, (locator, key))) =
        SessionId::parse(text).ok().and_then(|id| Some((id.clone(), name::parse_session_id(&id)?)))
    {
        assert!(name::session_id(&locator, &key).is_ok_and(|written| written == id), "a session has two ids");
    }
}

/// Reads a row. The first byte says which kind it is.
pub(crate) fn row(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 5 {
        0 => {
            let read = read::<SubjectRow>(&name::subject_key(LOCATOR), bytes);
            read.into_iter().for_each(use_subject);
        }
        1 => {
            let read = read::<Revocations>(&name::REVOCATIONS_KEY, bytes);
            read.into_iter().for_each(use_revocations);
        }
        2 => {
            let Ok(unionid) = UnionId::parse("u-Alice") else { return };
            let _ = read::<UnionIdRow>(&name::unionid_key(&unionid), bytes);
        }
        // Entries of the log have no checksum: at worst a session is looked up again.
        3 => _ = Invalidation::decode(bytes),
        _ => {
            let read = read::<PersonRow>(&name::subject_person_key(LOCATOR), bytes);
            read.into_iter().for_each(use_person);
        }
    }
}

/// Reads bytes as they are, and with a correct checksum. A value that is read must be written and
/// read as the same.
fn read<T>(key: &Key, bytes: &[u8]) -> Option<T>
where
    T: PartialEq + Encode<()> + for<'b> Decode<'b, ()>,
{
    let stored = envelope::decode::<T>(key, bytes).ok();
    if stored.is_some() {
        for (place, bit) in [(0, 1), (bytes.len() / 2, 16), (bytes.len() - 1, 128)] {
            let mut flipped = bytes.to_vec();
            flipped.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= bit);
            assert!(envelope::decode::<T>(key, &flipped).is_err(), "a row with a flipped bit is read");
        }
        let other = Key { name: [0xff; 16], ..key.clone() };
        assert!(envelope::decode::<T>(&other, bytes).is_err(), "a row is read in another's place");
    }
    let body = bytes.split_last_chunk::<8>().filter(|_| stored.is_some()).map_or(bytes, |(body, _)| body);
    let value = envelope::decode::<T>(key, &envelope::with_checksum(key, body)).ok()?;
    let written = envelope::encode(key, &value);
    let is_same =
        written.is_ok_and(|written| envelope::decode::<T>(key, &written).is_ok_and(|again| again == value));
    assert!(is_same, "a row is not read as it was written");
    Some(value)
}

/// Uses a row that is well formed: whatever it says must not stop a node.
fn use_subject(mut row: SubjectRow) {
    let limits = SessionLimits::new(&config::Sessions::default());
    let revocations = Revocations::default();
    for at in [Timestamp::default(), NOW, Timestamp::from_millis(u64::MAX)] {
        let live = row.live_entries(&limits, &revocations, at).count();
        let infos = session_infos(&row, &LOCATOR, &limits, &revocations, at).map(|infos| infos.len());
        assert!(infos.is_ok_and(|infos| infos == live), "not every session is listed");
        assert!(
            row.live_entries(&limits, &revocations, at).all(|entry| at < entry.expires_at),
            "an ended session goes on"
        );
    }
    let _ = (row.ends_at(&limits), row.identity(), row.profile(), row.revocation_number(&SESSION));
    let keys: Vec<EntryId> = row.entries.iter().map(|entry| entry.id).collect();
    // A token that was never issued.
    if let Ok(stranger) = DecodedRefreshToken::generate([8; 16], &NotRandom) {
        let client = stranger.shown_by(&Client::for_test([192, 0, 2, 1], "curl/8.0"));
        for entry in &row.entries {
            let judged = entry.family.classify(&stranger, &client, &entry.id, limits.refresh_grace, NOW);
            assert!(!matches!(judged, Ok(TokenUse::Current)), "a stranger's token counts");
        }
    }
    assert!(
        row.find_by_cookie(&[0x5a; 32]).is_none_or(|key| keys.contains(&key)),
        "a session out of nowhere"
    );
    for key in keys.iter().take(2) {
        row.evict(key, &limits, NOW);
        row.remove(key);
    }
    let seals = seal_keys();
    let _ = row.set_session_key(&seals, &LOCATOR, &SESSION, &[9; 16], &NotRandom);
    row.remove_ended(&limits, &revocations, NOW);
    assert!(
        row.live_entries(&limits, &revocations, NOW).count() == row.entries.len(),
        "an ended session is kept"
    );
}

fn use_revocations(mut revocations: Revocations) {
    let Ok(app) = AppId::parse("wx1") else { return };
    revocations.initialize(NOW);
    let before = revocations.number;
    revocations.revoke_app(&app, NOW);
    assert!(
        revocations.number >= before && revocations.has_revoked(&app, before.saturating_sub(1), NOW),
        "revoking revokes nothing"
    );
    revocations.revoke_opened_before(NOW, NOW);
    assert!(revocations.has_revoked(&app, before.saturating_sub(1), NOW), "revoking revokes nothing");
}

/// Uses a person's row: a header must be able to carry its user, and a route to ask for the claims.
fn use_person(row: PersonRow) {
    let field = row.person().clone();
    let Ok(row) = row.require_person(&field) else { return };
    assert!(!row.is_empty(), "a row says nothing");
    let Ok(Some(UserBinding { user, .. })) = row.binding() else { return };
    assert!(HeaderValue::from_str(user.id().as_str()).is_ok(), "a user is no header's value");
    assert!(user.claims().count() <= MOST_CLAIMS, "a user has too many claims");
    assert!(user.claims().all(|(name, value)| user.claim(name) == Some(value)), "a claim is not found");
}

fn seal_keys() -> SealKeys {
    let first = SealKey { kid: "one".into(), secret: Zeroizing::new([3; 32]) };
    SealKeys { first, others: Vec::new(), are_configured: true }
}

/// Rows as this version writes them, as seeds: `data` of [`row`].
#[cfg(test)]
pub(crate) fn written_rows() -> Vec<(&'static str, Vec<u8>)> {
    use super::row::subject::SessionEntry;
    use crate::identity::{ClaimName, ClaimValue, OpenId, Profile, Subject, User, UserId};

    let subject = Subject { appid: AppId::parse("wx1").unwrap(), openid: OpenId::parse("o-Alice").unwrap() };
    let unionid = UnionId::parse("u-Alice").unwrap();
    let mut full = SubjectRow::new(&subject);
    full.set_unionid(Some(&unionid));
    full.set_profile(Some(&Profile::new("爱丽丝", "https://thirdwx.qlogo.cn/mmopen/x/132")));
    let mut token = DecodedRefreshToken::generate(LOCATOR, &NotRandom).unwrap();
    let mut entry = SessionEntry {
        id: SESSION,
        created_at: NOW,
        last_seen_at: NOW,
        expires_at: NOW.plus(std::time::Duration::from_secs(86400)),
        is_evicted: false,
        revocation_number: 1,
        family: token.new_family(),
        device: Some("WeChat 8.0.50 on iPhone".into()),
        cookie: Some([4; 32].into()),
        handed_over: None,
    };
    let client = Client::for_test([192, 0, 2, 1], "curl/8.0");
    let shown = token.shown_by(&client);
    token = entry.family.rotate(&token, shown, &SESSION, &NotRandom, NOW).unwrap();
    entry.family.rotate(&token, token.shown_by(&client), &SESSION, &NotRandom, NOW).unwrap();
    full.entries.push(entry);
    full.set_session_key(&seal_keys(), &LOCATOR, &SESSION, &[9; 16], &NotRandom).unwrap();
    let mut revocations = Revocations::default();
    revocations.revoke_app(&subject.appid, NOW);
    revocations.revoke_opened_before(NOW, NOW);
    let mut listing = UnionIdRow::new(&unionid);
    listing.add(&subject, NOW, Timestamp::default());
    let claims = [("role", "editor"), ("level", "3")]
        .map(|(name, value)| (ClaimName::parse(name).unwrap(), ClaimValue::parse(value).unwrap()));
    let user = User::new(UserId::parse("42").unwrap(), claims).unwrap();
    let binding_key = name::subject_person_key(LOCATOR);
    let person = PersonRow::new(PersonField::from(&subject));
    let binding = person.with_user(&user, NOW);
    let binding = envelope::encode(&binding_key, &binding).unwrap();

    let record_key = name::subject_key(LOCATOR);
    let whole = |kind: u8, row: bytes::Bytes| [&[kind], &row[..]].concat();
    // Without the checksum, so that mutated rows get past it.
    let bare = |kind: u8, row: bytes::Bytes| [&[kind], row.split_last_chunk::<8>().unwrap().0].concat();
    let encoded = |row: &SubjectRow| envelope::encode(&record_key, row).unwrap();
    let revocations = envelope::encode(&name::REVOCATIONS_KEY, &revocations).unwrap();
    let listing = envelope::encode(&name::unionid_key(&unionid), &listing).unwrap();
    vec![
        ("subject-full", whole(0, encoded(&full))),
        ("subject-full-body", bare(0, encoded(&full))),
        ("subject-empty", whole(0, encoded(&SubjectRow::new(&subject)))),
        ("subject-empty-body", bare(0, encoded(&SubjectRow::new(&subject)))),
        ("revocations", whole(1, revocations.clone())),
        ("revocations-body", bare(1, revocations)),
        ("unionid", whole(2, listing.clone())),
        ("unionid-body", bare(2, listing)),
        ("binding", whole(4, binding.clone())),
        ("binding-body", bare(4, binding)),
        (
            "invalidation-subject",
            [&[3], &minicbor::to_vec(Invalidation::Subject(LOCATOR)).unwrap()[..]].concat(),
        ),
        (
            "invalidation-everything",
            [&[3], &minicbor::to_vec(Invalidation::Everything).unwrap()[..]].concat(),
        ),
    ]
}
