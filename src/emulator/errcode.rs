//! WeChat's errors: a number, and a text that a client must not match on.

use std::borrow::Cow;

/// An error as WeChat answers it, without the request id that ends its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WeChatRefusal {
    pub(super) errcode: i64,
    pub(super) errmsg: Cow<'static, str>,
}

impl WeChatRefusal {
    const fn new(errcode: i64, errmsg: &'static str) -> Self {
        Self { errcode, errmsg: Cow::Borrowed(errmsg) }
    }

    /// The error with this number; an unlisted one has the text `error`.
    pub(super) fn of(errcode: i64) -> Self {
        let known = ALL.iter().find(|refusal| refusal.errcode == errcode);
        known.cloned().unwrap_or(Self::new(errcode, "error"))
    }

    /// 40164: WeChat names the address it saw.
    pub(super) fn invalid_ip(address: std::net::IpAddr) -> Self {
        let mapped = match address {
            std::net::IpAddr::V4(v4) => format!("::ffff:{v4}"),
            std::net::IpAddr::V6(v6) => v6.to_string(),
        };
        let errmsg = format!("invalid ip {address} ipv6 {mapped}, not in whitelist");
        Self { errcode: 40164, errmsg: errmsg.into() }
    }
}

macro_rules! errors {
    ($($name:ident = $errcode:literal $errmsg:literal;)*) => {
        $(pub(super) const $name: WeChatRefusal = WeChatRefusal::new($errcode, $errmsg);)*
        const ALL: &[WeChatRefusal] = &[$($name),*];
    };
}

errors! {
    SYSTEM_ERROR = -1 "system error";
    NOT_LATEST = 40001 "invalid credential, access_token is invalid or not latest";
    INVALID_GRANT_TYPE = 40002 "invalid grant_type";
    INVALID_OPENID = 40003 "invalid openid";
    INVALID_MEDIA_ID = 40007 "invalid media_id";
    INVALID_APPID = 40013 "invalid appid";
    INVALID_ACCESS_TOKEN = 40014 "invalid access_token";
    INVALID_CODE = 40029 "invalid code";
    INVALID_REFRESH_TOKEN = 40030 "invalid refresh_token";
    INVALID_APPSECRET = 40125 "invalid appsecret";
    CODE_BEEN_USED = 40163 "code been used";
    CODE_BLOCKED = 40226 "code blocked";
    APPSECRET_FROZEN = 40243 "appsecret is frozen";
    ACCESS_TOKEN_MISSING = 41001 "access_token missing";
    APPID_MISSING = 41002 "appid missing";
    REFRESH_TOKEN_MISSING = 41003 "refresh_token missing";
    APPSECRET_MISSING = 41004 "appsecret missing";
    MEDIA_MISSING = 41005 "media data missing";
    MISSING_CODE = 41008 "missing code";
    ACCESS_TOKEN_EXPIRED = 42001 "access_token expired";
    REFRESH_TOKEN_EXPIRED = 42002 "refresh_token expired";
    REQUIRE_POST = 43002 "require POST method";
    EMPTY_POST = 44002 "empty post data";
    DAILY_QUOTA = 45009 "reach max api daily quota limit";
    MINUTE_QUOTA = 45011 "api minute-quota reach limit, must slower, retry next minute";
    DATA_FORMAT_ERROR = 47001 "data format error";
    API_UNAUTHORIZED = 48001 "api unauthorized";
    USER_LIMITED = 50002 "user limited";
    INVALID_SIG_METHOD = 87008 "invalid sig_method";
    INVALID_SIGNATURE = 87009 "invalid signature";
}
