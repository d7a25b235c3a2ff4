//! The errors of calls to WeChat, and the one table of what each errcode means.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

/// Why an exchange gave no identity. No variant holds a code, a secret or WeChat's own text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeChatError {
    /// The code is unknown, has expired, belongs to another app, or was used long ago.
    #[error("the code is not valid")]
    CodeInvalid,
    /// The code was exchanged a short while ago.
    #[error("the code was already used")]
    CodeAlreadyUsed,
    /// WeChat blocks the user as high-risk, or banned the account.
    #[error("the user is blocked by wechat")]
    UserBlocked,
    /// The user is on a snapshot page: WeChat invents the ids and gives the same ones to other
    /// users.
    #[error("the user is on a snapshot page")]
    SnapshotVisitor,
    /// Too many calls this minute, for the user or for the app.
    #[error("too many calls this minute")]
    RateLimited,
    /// The app's calls of this day are used up.
    #[error("the app's daily quota is used up")]
    QuotaExhausted,
    /// WeChat was still busy after all retries.
    #[error("wechat is busy")]
    Busy,
    /// WeChat does not accept the appid or its secret, or the app has no permission to sign users
    /// in.
    #[error("the app is misconfigured: errcode {errcode}")]
    AppMisconfigured {
        /// WeChat's errcode.
        errcode: i64,
    },
    /// WeChat gives no access token to the address that the call came from.
    #[error("the address {} is not admitted for the app: errcode {errcode}", shown(*address))]
    AddressRefused {
        /// WeChat's errcode.
        errcode: i64,
        /// The address that WeChat saw, if it names one.
        address: Option<IpAddr>,
    },
    /// WeChat finds a mistake in our request.
    #[error("wechat rejected the request as wrong: errcode {errcode}")]
    RequestRejected {
        /// WeChat's errcode.
        errcode: i64,
    },
    /// The host's address is no longer one of WeChat's.
    #[error("the called address is retired")]
    HostRetired,
    /// An errcode that is not in the table.
    #[error("unknown errcode {errcode}")]
    Unknown {
        /// WeChat's errcode.
        errcode: i64,
    },
    /// The reply is not one that WeChat documents.
    #[error("unexpected reply: {0}")]
    UnexpectedReply(ReplyFault),
    /// No host accepted a connection; nothing was sent.
    #[error("no connection")]
    Unreachable,
    /// The connection broke before the whole reply arrived; the code may be spent.
    #[error("the connection broke before the reply")]
    ConnectionLost,
    /// The time for the exchange ran out; the code may be spent.
    #[error("no reply in time")]
    TimedOut,
    /// Calls failed in a row, so the breaker is open.
    #[error("not called: earlier calls failed")]
    BreakerOpen {
        /// How long until one call may pass.
        retry_after: Duration,
    },
    /// The limit on simultaneous exchanges is reached.
    #[error("not called: too many calls under way")]
    TooManyInFlight,
}

/// What is wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// An HTTP status other than 200.
    #[error("http status {0}")]
    Status(u16),
    /// More bytes than `wechat.max_reply` allows.
    #[error("too large")]
    TooLarge,
    /// A body that is compressed, though that was not asked for.
    #[error("compressed")]
    Encoded,
    /// Not a JSON object of the documented types.
    #[error("not the documented json")]
    NotJson,
    /// A success without an openid, or one that is not an identifier.
    #[error("openid missing or malformed")]
    OpenId,
    /// A unionid that is not an identifier.
    #[error("unionid malformed")]
    UnionId,
    /// A success without a session key, or one that is not 16 bytes of base64.
    #[error("session_key missing or malformed")]
    SessionKey,
    /// A success without an access token or its lifetime, or with ones that cannot be right.
    #[error("access_token missing or malformed")]
    AccessToken,
    /// Two replies of one sign-in name different users.
    #[error("the reply names another user than the code's")]
    OtherPerson,
}

/// What an errcode other than 0 means. Only an address is read from the errmsg.
pub(super) fn from_errcode(errcode: i64, errmsg: &str) -> WeChatError {
    match find(errcode).map(|row| row.error.clone()) {
        Some(WeChatError::AddressRefused { errcode, .. }) => {
            WeChatError::AddressRefused { errcode, address: seen_address(errmsg) }
        }
        Some(error) => error,
        None => WeChatError::Unknown { errcode },
    }
}

/// The address that WeChat saw a call come from:
/// `invalid ip 192.0.2.1 ipv6 ::ffff:192.0.2.1, not in whitelist`.
fn seen_address(errmsg: &str) -> Option<IpAddr> {
    let after = |word| {
        let (_, rest) = errmsg.split_once(word)?;
        let text = rest.split([' ', ',']).next()?;
        text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
    };
    let found = after("invalid ip ").or_else(|| after("ipv6 "));
    found.filter(|address| !address.is_unspecified()).or_else(|| after("ipv6 "))
}

fn shown(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "of this gateway".to_owned(), |address| address.to_string())
}

/// The document that explains an errcode.
pub(super) fn document(errcode: i64) -> &'static str {
    find(errcode).map_or(GLOBAL, |row| row.document)
}

/// A failed call's label in metrics: the errcode if it is in the table, otherwise how the call
/// failed.
pub(super) fn label(errcode: i64, error: &WeChatError) -> Cow<'static, str> {
    match error {
        _ if find(errcode).is_some() => errcode.to_string().into(),
        WeChatError::UnexpectedReply(_) => "garbage".into(),
        WeChatError::SnapshotVisitor => "snapshot".into(),
        WeChatError::TimedOut => "timeout".into(),
        WeChatError::Unreachable | WeChatError::ConnectionLost => "unreachable".into(),
        _ => "other".into(),
    }
}

/// Whether a call was refused because its access token has expired or was replaced; a call with a
/// refreshed token may succeed.
pub(super) const fn is_stale_token(error: &WeChatError) -> bool {
    matches!(error, WeChatError::RequestRejected { errcode } if says_stale_token(*errcode))
}

/// Whether an errcode says that the access token has expired or was replaced.
pub(super) const fn says_stale_token(errcode: i64) -> bool {
    matches!(errcode, 40001 | 40014 | 42001)
}

/// Converts a failure to send or to receive. The cause is dropped, since its text holds the URL and
/// thus the secret.
pub(super) fn from_transport(error: &reqwest::Error) -> WeChatError {
    // A connection that was not made in time counts as no connection: nothing was sent, so the next
    // host may be tried.
    if error.is_connect() {
        WeChatError::Unreachable
    } else if error.is_timeout() {
        WeChatError::TimedOut
    } else {
        WeChatError::ConnectionLost
    }
}

/// One errcode: its meaning, and the document that states it.
struct ErrcodeRow {
    errcode: i64,
    error: WeChatError,
    document: &'static str,
}

const fn row(errcode: i64, error: WeChatError, document: &'static str) -> ErrcodeRow {
    ErrcodeRow { errcode, error, document }
}

const fn address_row(errcode: i64) -> ErrcodeRow {
    row(errcode, WeChatError::AddressRefused { errcode, address: None }, TOKEN)
}

fn find(errcode: i64) -> Option<&'static ErrcodeRow> {
    TABLE.iter().find(|row| row.errcode == errcode)
}

const ENDPOINT: &str =
    "https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html";
const GLOBAL: &str =
    "https://developers.weixin.qq.com/doc/offiaccount/Getting_Started/Global_Return_Code.html";
const TOKEN: &str =
    "https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-access-token/getStableAccessToken.html";

const PAGES: &str =
    "https://developers.weixin.qq.com/doc/offiaccount/OA_Web_Apps/Wechat_webpage_authorization.html";

/// Every errcode that the code exchanges, and the calls for a profile and for an app's token, are
/// known to answer.
static TABLE: &[ErrcodeRow] = &[
    row(-1, WeChatError::Busy, ENDPOINT),
    row(40029, WeChatError::CodeInvalid, ENDPOINT),
    row(42003, WeChatError::CodeInvalid, GLOBAL),
    // The endpoint's own table does not list it, but it is the usual answer to a code sent twice.
    row(40163, WeChatError::CodeAlreadyUsed, GLOBAL),
    row(40226, WeChatError::UserBlocked, ENDPOINT),
    // Not documented for this endpoint.
    row(50002, WeChatError::UserBlocked, GLOBAL),
    row(45011, WeChatError::RateLimited, ENDPOINT),
    row(45009, WeChatError::QuotaExhausted, GLOBAL),
    row(40013, WeChatError::AppMisconfigured { errcode: 40013 }, GLOBAL),
    row(40125, WeChatError::AppMisconfigured { errcode: 40125 }, GLOBAL),
    row(40243, WeChatError::AppMisconfigured { errcode: 40243 }, TOKEN),
    row(48001, WeChatError::AppMisconfigured { errcode: 48001 }, GLOBAL),
    // Not in the list of addresses that may ask for a token.
    address_row(40164),
    // The administrator must confirm the address, is asked to, or has declined it.
    address_row(89503),
    address_row(89501),
    address_row(89506),
    address_row(89507),
    row(40001, WeChatError::RequestRejected { errcode: 40001 }, GLOBAL),
    row(40002, WeChatError::RequestRejected { errcode: 40002 }, GLOBAL),
    row(40003, WeChatError::RequestRejected { errcode: 40003 }, PAGES),
    row(40014, WeChatError::RequestRejected { errcode: 40014 }, GLOBAL),
    row(40030, WeChatError::RequestRejected { errcode: 40030 }, GLOBAL),
    row(41001, WeChatError::RequestRejected { errcode: 41001 }, GLOBAL),
    row(41002, WeChatError::RequestRejected { errcode: 41002 }, GLOBAL),
    row(41003, WeChatError::RequestRejected { errcode: 41003 }, GLOBAL),
    row(41004, WeChatError::RequestRejected { errcode: 41004 }, GLOBAL),
    row(41008, WeChatError::RequestRejected { errcode: 41008 }, GLOBAL),
    row(41009, WeChatError::RequestRejected { errcode: 41009 }, GLOBAL),
    row(42001, WeChatError::RequestRejected { errcode: 42001 }, GLOBAL),
    row(42002, WeChatError::RequestRejected { errcode: 42002 }, GLOBAL),
    row(43002, WeChatError::RequestRejected { errcode: 43002 }, GLOBAL),
    row(44002, WeChatError::RequestRejected { errcode: 44002 }, GLOBAL),
    row(47001, WeChatError::RequestRejected { errcode: 47001 }, GLOBAL),
    row(48017, WeChatError::HostRetired, GLOBAL),
];
