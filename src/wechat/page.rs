//! Sign-in with a browser: the page that the user is sent to, and the exchange of the code that the
//! browser returns with.

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod reply;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant as Deadline;
use tracing::warn;

use self::reply::{PageGrant, UserInfo};
use super::error::{self, ReplyFault, WeChatError};
use super::{App, Code, WeChat};
use crate::config::{AppKind, OAuthScope};
use crate::identity::{OpenId, Profile, UnionId};

/// The characters that are encoded in a parameter: all except the unreserved ones of RFC 3986 §2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The user who returned from a page of WeChat's. It is never a visitor of a snapshot page, whose
/// ids do not belong to one user.
#[derive(Clone, Debug)]
pub struct PageExchange {
    /// The user's id within the app.
    pub openid: OpenId,
    /// The user's id across apps; present only if the app is bound to an open platform account and
    /// the scope includes it.
    pub unionid: Option<UnionId>,
    /// The user's name and picture, if the scope includes them and WeChat sent them.
    pub profile: Option<Profile>,
}

/// The parameters of a visit to WeChat's page.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Where WeChat sends the browser back to, with `code` and `state`.
    pub redirect_uri: &'a str,
    /// The value that WeChat returns unchanged: 1 to 128 letters and digits.
    pub state: &'a str,
    /// Whether the page is in English rather than Chinese, if WeChat offers both.
    pub is_english: bool,
}

/// WeChat's own script that shows a QR code inside a page.
#[derive(Clone, Copy, Debug)]
pub struct QrCodeWidget<'a> {
    /// URL of the script.
    pub script: &'a str,
    /// Origin of WeChat's pages, which the script shows in a frame.
    pub frame_origin: &'a str,
}

impl WeChat {
    /// Exchanges the code of a website, an official account or a mobile app for the user's
    /// identity, and asks for the user's profile if the scope that WeChat granted allows it. If
    /// that fails, the user signs in without a profile.
    ///
    /// # Errors
    /// As [`WeChat::exchange_code`], and [`WeChatError::SnapshotVisitor`].
    pub async fn exchange_page_code(&self, app: &App, code: &Code) -> Result<PageExchange, WeChatError> {
        let leave = self.acquire(app)?;
        let result = self.exchange_page_code_until(leave.deadline, app, code).await;
        leave.record(result.as_ref().err(), self.clock.instant());
        result
    }

    /// The URL of WeChat's page that the browser is sent to, with its parameters in the order that
    /// WeChat requires. Mini programs and mobile apps have no such page.
    pub fn page_url(&self, app: &App, visit: &Visit<'_>) -> Option<String> {
        let (path, scope, language) = match (app.kind, app.scope) {
            (AppKind::MiniProgram | AppKind::Mobile, _) => return None,
            (AppKind::Website, _) => {
                let language = if visit.is_english { "en" } else { "cn" };
                ("/connect/qrconnect", "snsapi_login", Some(("lang", language)))
            }
            (AppKind::OfficialAccount, OAuthScope::Base) => {
                ("/connect/oauth2/authorize", "snsapi_base", None)
            }
            (AppKind::OfficialAccount, OAuthScope::UserInfo) => {
                ("/connect/oauth2/authorize", "snsapi_userinfo", None)
            }
        };
        let parameters = [
            ("appid", app.appid.as_str()),
            ("redirect_uri", visit.redirect_uri),
            ("response_type", "code"),
            ("scope", scope),
            ("state", visit.state),
        ];
        let mut url = [&*self.pages, path].concat();
        for (index, (name, value)) in parameters.into_iter().chain(language).enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, RESERVED));
        }
        // The page of an official account does not open without this fragment.
        url.push_str("#wechat_redirect");
        Some(url)
    }

    /// The script that shows WeChat's QR code inside a page, if it is configured.
    pub fn widget(&self) -> Option<QrCodeWidget<'_>> {
        self.widget.as_deref().map(|script| QrCodeWidget { script, frame_origin: &self.pages })
    }

    async fn exchange_page_code_until(
        &self,
        deadline: Deadline,
        app: &App,
        code: &Code,
    ) -> Result<PageExchange, WeChatError> {
        let grant = self.ask_until_not_busy(app, &reply::code_exchange(app, code), deadline).await?;
        // WeChat's SDK asks for this scope alone. A code of another one was not given to the app's
        // user by the SDK.
        if app.kind == AppKind::Mobile && !grant.is_of_sdk {
            warn!(
                app.name = &*app.name,
                "a code of app {} has another scope than WeChat's SDK asks for", app.name
            );
            return Err(WeChatError::CodeInvalid);
        }
        if !grant.has_profile {
            // WeChat documents a unionid only for the other scopes.
            return Ok(PageExchange { openid: grant.openid, unionid: None, profile: None });
        }
        let info = match self.ask_for_profile(app, &grant, deadline).await {
            Ok(info) => info,
            Err(
                error
                @ (WeChatError::SnapshotVisitor | WeChatError::UnexpectedReply(ReplyFault::OtherPerson)),
            ) => {
                return Err(error);
            }
            // The call that failed has logged this already.
            Err(_) => {
                return Ok(PageExchange { openid: grant.openid, unionid: grant.unionid, profile: None });
            }
        };
        Ok(PageExchange {
            openid: grant.openid,
            unionid: grant.unionid.or(info.unionid),
            profile: Some(info.profile).filter(|profile| !profile.is_empty()),
        })
    }

    /// Asks for the user's profile; if WeChat no longer accepts the token, asks once more with a
    /// refreshed one.
    async fn ask_for_profile(
        &self,
        app: &App,
        grant: &PageGrant,
        deadline: Deadline,
    ) -> Result<UserInfo, WeChatError> {
        let first = self.ask(app, &reply::user_info(&grant.access_token, &grant.openid), deadline).await;
        let info = match (first, &grant.refresh_token) {
            (Err(error), Some(refresh_token)) if error::is_stale_token(&error) => {
                let call = reply::token_refresh(app, refresh_token);
                let refreshed = self.ask(app, &call, deadline).await?;
                self.expect_same_person(app, grant, &refreshed.openid, refreshed.unionid.as_ref())?;
                self.ask(app, &reply::user_info(&refreshed.access_token, &grant.openid), deadline).await?
            }
            (first, _) => first?,
        };
        self.expect_same_person(app, grant, &info.openid, info.unionid.as_ref())?;
        Ok(info)
    }

    /// Refuses a later reply that names another user than the code did, since one of the two
    /// replies is wrong.
    fn expect_same_person(
        &self,
        app: &App,
        grant: &PageGrant,
        openid: &OpenId,
        unionid: Option<&UnionId>,
    ) -> Result<(), WeChatError> {
        let has_other_unionid = grant.unionid.as_ref().zip(unionid).is_some_and(|(one, other)| one != other);
        if *openid == grant.openid && !has_other_unionid {
            return Ok(());
        }
        let error = WeChatError::UnexpectedReply(ReplyFault::OtherPerson);
        self.errors.with_label_values(&[&*app.name, &error::label(0, &error)]).inc();
        let app = &*app.name;
        warn!(app.name = app, "wechat named two users in one sign-in to app {app}");
        Err(error)
    }
}
