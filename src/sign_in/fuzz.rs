//! Drives what clients, browsers and other nodes send a login.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

#[cfg(test)]
pub(crate) use super::browser::fuzz::written_sign_in;
pub(crate) use super::browser::fuzz::{callback_query, cookies, return_to, sign_in_row};
use super::once::{CodeClaim, SignedIn};
use super::program::body::{BodyFormat, LogoutTarget};
use crate::clock::Timestamp;
use crate::entropy::NotRandom;
use crate::identity::{AppId, Identity, OpenId, SessionId, Subject};
use crate::session::{OpenedSession, RefreshToken};
use crate::wechat::Code;

pub(crate) fn login_body(data: &[u8]) {
    let json: Option<Value> = serde_json::from_slice(data).ok();
    for format in [BodyFormat::Json, BodyFormat::Form] {
        let form: Vec<(String, String)> = form_urlencoded::parse(data).into_owned().collect();
        let says = |name: &str| match format {
            BodyFormat::Json => json.as_ref()?.get(name)?.as_str().map(str::to_owned),
            BodyFormat::Form => form.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()),
        };
        let login = format.read_login(data);
        let refresh = format.read_refresh(data);
        let logout = format.read_logout(data);
        let is_accepted = login.is_ok() || refresh.is_ok() || (logout.is_ok() && !data.is_empty());
        let names: BTreeSet<&String> = form.iter().map(|(name, _)| name).collect();
        let is_clear = match format {
            BodyFormat::Json => json.as_ref().is_some_and(Value::is_object),
            BodyFormat::Form => names.len() == form.len(),
        };
        assert!(is_clear || !is_accepted, "{format:?} with two meanings is accepted");
        if let Ok(login) = login {
            let code = login.code.expose();
            let is_code = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            assert!((1..=128).contains(&code.len()) && code.bytes().all(is_code), "{code:?} is no code");
            assert!(
                says("code").as_deref() == Some(code) && says("app") == login.app,
                "another code is read"
            );
        }
        if let Ok(logout) = logout {
            let everywhere = matches!(logout.target, LogoutTarget::Caller { everywhere: true });
            let is_said = match format {
                BodyFormat::Json => {
                    json.as_ref().is_some_and(|json| json.get("everywhere") == Some(&Value::Bool(true)))
                }
                BodyFormat::Form => says("everywhere").as_deref() == Some("true"),
            };
            assert!(everywhere == is_said, "it ends more or less than was asked");
        }
    }
}

/// A claim, and the row of a login that another node settled.
static SETTLED: LazyLock<Option<(CodeClaim, Vec<u8>)>> = LazyLock::new(|| {
    let appid = AppId::parse("wx1").ok()?;
    let claim = CodeClaim::new(&appid, &Code::parse("code-1").ok()?, &[b"192.0.2.1"]).ok()?;
    let identity =
        Identity { subject: Subject { appid, openid: OpenId::parse("o-Alice").ok()? }, unionid: None };
    let opened = OpenedSession {
        id: SessionId::parse("s1").ok()?,
        refresh_token: RefreshToken::parse(&"A".repeat(86)).ok()?,
        expires_at: Timestamp::from_seconds(1_800_000_000),
    };
    let row = claim.outcome_row(Ok(&SignedIn { identity, session: opened }), &NotRandom).ok()?;
    Some((claim, row.to_vec()))
});

pub(crate) fn claim_row(data: &[u8]) {
    let settled = SETTLED.as_ref();
    assert!(settled.is_some(), "no login was settled");
    let Some((claim, row)) = settled else { return };
    assert!(
        data == row || claim.open_row::<OpenedSession>(data).is_none(),
        "a row without a valid seal is accepted"
    );
    // The kind and the caller are readable, but the seal protects them from changes.
    let mut changed = row.clone();
    changed.iter_mut().zip(data).for_each(|(byte, change)| *byte ^= change);
    assert!(
        (changed == *row) == claim.open_row::<OpenedSession>(&changed).is_some(),
        "a changed row is believed"
    );
}
