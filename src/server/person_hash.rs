//! The hash that stands for a person in the logs, without a gateway that runs.

use super::Sources;
use crate::authn::SubjectHasher;
use crate::config::{Document, Findings, Report, StoreEngine};
use crate::identity::{AppId, InvalidIdentifier, OpenId, Subject, UnionId};
use crate::key_file::OnMissingKey;

/// How an operator names a person: by app and openid, or by unionid.
#[derive(Clone, Copy, Debug)]
pub struct NamedPerson<'a> {
    /// The app's name in the configuration.
    pub app: Option<&'a str>,
    /// The person's id within the app.
    pub openid: Option<&'a str>,
    /// The person's id across apps.
    pub unionid: Option<&'a str>,
}

/// Why a person has no hash.
#[derive(Debug, thiserror::Error)]
pub enum PersonHashError {
    /// No person is named.
    #[error("no person is named")]
    NotNamed,
    /// The configuration has no app of this name.
    #[error("`app`: no app of this name is configured")]
    AppUnknown,
    /// A name is not one that WeChat gives.
    #[error("`{0}`: {1}")]
    Invalid(&'static str, InvalidIdentifier),
    /// The keys cannot be used, or the gateway has not made one yet.
    #[error("{0}")]
    Keys(Report),
}

/// Hashes a person as the access log and the audit log of a gateway with this configuration do:
/// with each key, the one in use first.
///
/// # Errors
/// [`PersonHashError`], by variant.
pub fn hash_person(
    document: &Document,
    name: NamedPerson<'_>,
    sources: &Sources,
) -> Result<Vec<String>, PersonHashError> {
    let config = &document.config;
    let mut findings = Findings::default();
    let hasher = SubjectHasher::build(
        &config.telemetry.user_hash_keys,
        &config.data_dir,
        OnMissingKey::Refuse,
        config.store.engine == StoreEngine::Redis,
        sources.entropy.as_ref(),
        &mut findings,
    );
    let hasher = hasher.ok_or_else(|| PersonHashError::Keys(document.report(findings)))?;
    let invalid = |name: &'static str| move |error| PersonHashError::Invalid(name, error);
    match name {
        NamedPerson { unionid: Some(unionid), .. } => {
            let unionid = UnionId::parse(unionid).map_err(invalid("unionid"))?;
            Ok(hasher.unionid_hashes(&unionid))
        }
        NamedPerson { app: Some(app), openid: Some(openid), .. } => {
            let by_appid = || config.apps.values().find(|known| known.appid == app);
            let app = config.apps.get(app).or_else(by_appid).ok_or(PersonHashError::AppUnknown)?;
            let appid = AppId::parse(&app.appid).map_err(invalid("app"))?;
            let openid = OpenId::parse(openid).map_err(invalid("openid"))?;
            Ok(hasher.hashes(&Subject { appid, openid }))
        }
        _ => Err(PersonHashError::NotNamed),
    }
}
