//! How the answers name a person.

use serde::Serialize;

use crate::runtime::Runtime;
use crate::session::PersonId;

/// How a person is named.
#[derive(Serialize)]
pub(super) struct PersonName<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unionid: Option<&'a str>,
    /// The app's name; left out if the app is no longer configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) appid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) openid: Option<&'a str>,
}

/// The name of a person, with the app's name if it is configured.
pub(super) fn person_name<'a>(person: &'a PersonId, runtime: &'a Runtime) -> PersonName<'a> {
    match person {
        PersonId::UnionId(unionid) => {
            PersonName { unionid: Some(unionid.as_str()), app: None, appid: None, openid: None }
        }
        PersonId::Subject(subject) => PersonName {
            unionid: None,
            app: runtime.app_name(&subject.appid),
            appid: Some(subject.appid.as_str()),
            openid: Some(subject.openid.as_str()),
        },
    }
}
