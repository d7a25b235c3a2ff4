//! The steps of the demo: one table, which is printed as shell lines and run by the self-test.
//!
//! Texts are written as in double quotes in a shell: `$token` is a value that an earlier step
//! saved.

use http::Method;

use super::language::DemoLanguage;

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoStep {
    pub(super) english: Heading,
    pub(super) chinese: Heading,
    pub(super) call: StepCall,
    pub(super) show: Show,
    pub(super) expect: Expect,
}

/// The words of a step, in one language. They are pasted into shells with the line below them: they
/// have no character that a shell reads as more than itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heading {
    pub(super) name: &'static str,
    /// What happens, and why it matters, in one line.
    pub(super) about: &'static str,
}

impl DemoStep {
    pub(super) const fn heading(&self, language: DemoLanguage) -> Heading {
        language.choose(self.english, self.chinese)
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepCall {
    pub(super) server: DemoServer,
    pub(super) path: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// Sent with POST. Without a body the request is a GET.
    pub(super) json: Option<&'static str>,
}

/// The server of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DemoServer {
    WeChat,
    Gateway,
    Admin,
}

/// The shown part of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Show {
    /// The body.
    Body,
    /// Status, headers and body.
    Everything,
    /// The lines of the body that begin with one of these.
    Lines(&'static [&'static str]),
    /// The body. Members of it are saved, each in a variable for later steps.
    Save(&'static [(&'static str, &'static str)]),
    /// Status and headers. Parts of their lines are saved in variables: letters, digits, `-` and
    /// `_`.
    SaveFromHeaders(&'static [Between]),
    /// The same request several times. The status and these header lines of each answer are shown.
    Repeated { times: u32, headers: &'static [&'static str] },
}

/// A part of a header line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between {
    /// The text of the line before the part.
    pub(super) before: &'static str,
    /// The variable for later steps.
    pub(super) variable: &'static str,
}

/// The expected answer. Of a repeated request, at least one answer must be so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expect {
    pub(super) status: u16,
    pub(super) contains: &'static [&'static str],
    pub(super) lacks: &'static [&'static str],
}

impl StepCall {
    pub(super) const fn method(&self) -> Method {
        if self.json.is_some() { Method::POST } else { Method::GET }
    }

    /// Whether a browser sends it.
    pub(super) fn is_of_browser(&self) -> bool {
        self.headers.iter().any(|header| *header == AS_BROWSER || *header == SESSION)
    }

    const fn get(server: DemoServer, path: &'static str) -> Self {
        Self { server, path, headers: &[], json: None }
    }

    const fn post(server: DemoServer, path: &'static str, json: &'static str) -> Self {
        Self { server, path, headers: &[], json: Some(json) }
    }

    const fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }
}

impl Between {
    /// Finds the part in header lines.
    pub(super) fn read(&self, headers: &str) -> Option<String> {
        let (_, rest) = headers.split_once(self.before)?;
        let is_part = |character: &char| character.is_ascii_alphanumeric() || "-_".contains(*character);
        Some(rest.chars().take_while(is_part).collect())
    }
}

const fn expect(status: u16, contains: &'static [&'static str], lacks: &'static [&'static str]) -> Expect {
    Expect { status, contains, lacks }
}

const LOGIN: StepCall = StepCall::post(DemoServer::Gateway, "/auth/login", r#"{"code":"$code"}"#);
const ORDERS: StepCall = StepCall::get(DemoServer::Gateway, "/orders/7");
const TOKENS: &[(&str, &str)] = &[("access_token", "token"), ("refresh_token", "refresh")];
const AS_BROWSER: (&str, &str) = ("Accept", "text/html");
const SESSION: (&str, &str) = ("Cookie", "__Host-menshen=$session");
const BEARER: (&str, &str) = ("Authorization", "Bearer $token");

/// The demo, in order.
pub(super) const STEPS: &[DemoStep] = &[
    DemoStep {
        english: Heading {
            name: "open the mini program",
            about: "wx.login returns a code that works once, and the emulator also plays the phone",
        },
        chinese: Heading {
            name: "打开小程序",
            about: "wx.login 返回一个只能用一次的 code，模拟器同时扮演手机",
        },
        call: StepCall::post(
            DemoServer::WeChat,
            "/__emu/wx.login",
            r#"{"appid":"wxe000000000000001","wxid":"alice"}"#,
        ),
        show: Show::Save(&[("code", "code")]),
        expect: expect(200, &[], &[]),
    },
    DemoStep {
        english: Heading {
            name: "sign in",
            about: "the gateway exchanges the code with WeChat and answers with its own tokens",
        },
        chinese: Heading {
            name: "登录", about: "网关用 code 向微信换取身份，再发出自己的令牌"
        },
        call: LOGIN,
        show: Show::Save(TOKENS),
        expect: expect(
            200,
            &[
                "cache-control: no-store",
                r#""token_type":"Bearer""#,
                r#""refresh_token":""#,
                r#""openid":"$openid""#,
            ],
            &["session_key"],
        ),
    },
    DemoStep {
        english: Heading {
            name: "call the backend",
            about: "it answers with what it received: the caller in plain headers, and no token",
        },
        chinese: Heading {
            name: "调用后端",
            about: "后端收到什么就回什么：请求头里直接写着用户是谁，没有令牌",
        },
        call: ORDERS.with(&[BEARER]),
        show: Show::Body,
        expect: expect(
            200,
            &[
                "X-WX-OPENID: $openid",
                "X-WX-UNIONID: $unionid",
                "X-WX-APPID: $appid",
                "X-WX-SOURCE: wx_client",
            ],
            &["authorization", "$token"],
        ),
    },
    DemoStep {
        english: Heading {
            name: "pretend to be another user",
            about: "the gateway removes what a client claims about its identity",
        },
        chinese: Heading { name: "冒充别的用户", about: "客户端自称的身份会被网关删掉" },
        call: ORDERS.with(&[BEARER, ("X-WX-OPENID", "mallory")]),
        show: Show::Lines(&["X-WX-"]),
        expect: expect(200, &["X-WX-OPENID: $openid"], &["mallory"]),
    },
    DemoStep {
        english: Heading {
            name: "pretend on a public route",
            about: "a public route removes it too: for the backend, no user is signed in",
        },
        chinese: Heading {
            name: "在公开路由上冒充", about: "公开路由也一样删掉，后端看到的是没有用户登录"
        },
        call: StepCall::get(DemoServer::Gateway, "/public/menu").with(&[("X-WX-OPENID", "mallory")]),
        show: Show::Body,
        expect: expect(200, &["no user is signed in"], &["mallory"]),
    },
    DemoStep {
        english: Heading {
            name: "pretend in another spelling",
            about: "PHP and WSGI read this name as X-WX-OPENID, so the gateway refuses the request",
        },
        chinese: Heading {
            name: "换一种写法冒充",
            about: "PHP 和 WSGI 会把这个名字读成 X-WX-OPENID，所以网关拒绝这个请求",
        },
        call: ORDERS.with(&[BEARER, ("X_WX_OPENID", "mallory")]),
        show: Show::Everything,
        expect: expect(400, &["header_name_refused"], &["mallory"]),
    },
    DemoStep {
        english: Heading {
            name: "call without a token",
            about: "401, and the backend does not get the request",
        },
        chinese: Heading { name: "不带令牌调用", about: "401，后端收不到这个请求" },
        call: ORDERS,
        show: Show::Everything,
        expect: expect(401, &["www-authenticate: Bearer", "no_token"], &["/orders/7"]),
    },
    DemoStep {
        english: Heading {
            name: "call with a wrong token",
            about: "401 again: only an unchanged token of this gateway is valid",
        },
        chinese: Heading {
            name: "带错误的令牌调用",
            about: "还是 401，只有本网关发出且没有改动过的令牌才有效",
        },
        call: ORDERS.with(&[("Authorization", "Bearer $token-")]),
        show: Show::Everything,
        expect: expect(401, &["www-authenticate: Bearer", "invalid_token"], &["/orders/7"]),
    },
    DemoStep {
        english: Heading {
            name: "send the code again",
            about: "a phone that lost the answer gets the same answer again, and WeChat is asked only once",
        },
        chinese: Heading {
            name: "再发一次同一个 code",
            about: "手机丢了应答可以重发，得到同一个应答，微信只被问一次",
        },
        call: LOGIN,
        show: Show::Body,
        expect: expect(200, &["$token"], &[]),
    },
    DemoStep {
        english: Heading {
            name: "send the code of another client",
            about: "the same code does not work for another client",
        },
        chinese: Heading {
            name: "用别的客户端的 code", about: "同一个 code 换一个客户端就不能用"
        },
        call: LOGIN.with(&[("User-Agent", "mallory")]),
        show: Show::Everything,
        expect: expect(401, &["invalid_grant", "code_already_used"], &["access_token"]),
    },
    DemoStep {
        english: Heading {
            name: "make up a code",
            about: "WeChat refuses it, and the client gets a code word that never changes",
        },
        chinese: Heading {
            name: "编造一个 code", about: "微信不认，客户端得到一个固定不变的错误代码"
        },
        call: StepCall::post(DemoServer::Gateway, "/auth/login", r#"{"code":"made-up"}"#),
        show: Show::Everything,
        expect: expect(401, &["invalid_grant", "code_invalid"], &["access_token"]),
    },
    DemoStep {
        english: Heading {
            name: "open a page in a browser",
            about: "303, no user is signed in, so the browser goes to the sign-in page, and programs get 401 as above",
        },
        chinese: Heading {
            name: "用浏览器打开页面",
            about: "303，还没有登录，浏览器转到登录页，程序则像上面那样得到 401",
        },
        call: ORDERS.with(&[AS_BROWSER]),
        show: Show::Everything,
        expect: expect(303, &["location: /auth/login?return_to=%2Forders%2F7"], &["GET /orders/7"]),
    },
    DemoStep {
        english: Heading {
            name: "leave for WeChat",
            about: "its page shows a QR code, and state and cookie identify the browser that returns",
        },
        chinese: Heading {
            name: "去微信",
            about: "微信的页面显示二维码，state 和 Cookie 用来认出回来的浏览器",
        },
        call: StepCall::get(DemoServer::Gateway, "/auth/web/site/start?return_to=%2Forders%2F7")
            .with(&[AS_BROWSER]),
        show: Show::SaveFromHeaders(&[
            Between { before: "&state=", variable: "state" },
            Between { before: "__Host-menshen-browser=", variable: "browser" },
        ]),
        expect: expect(303, &["/connect/qrconnect?appid=wxe000000000000004&", "HttpOnly; SameSite=Lax"], &[]),
    },
    DemoStep {
        english: Heading {
            name: "scan and confirm",
            about: "the emulator plays phone and page: the user agrees, and WeChat gives the browser a code",
        },
        chinese: Heading {
            name: "扫码并确认",
            about: "模拟器扮演手机和页面，用户同意后微信给浏览器一个 code",
        },
        call: StepCall::post(
            DemoServer::WeChat,
            "/__emu/authorize",
            r#"{"appid":"wxe000000000000004","wxid":"alice","redirect_uri":"$origin/auth/web/site/callback","scope":"snsapi_login","state":"$state"}"#,
        ),
        show: Show::Save(&[("code", "web_code")]),
        expect: expect(200, &["&state=$state"], &[]),
    },
    DemoStep {
        english: Heading {
            name: "come back from WeChat",
            about: "303 to the requested page, with the session in a cookie that no script can read",
        },
        chinese: Heading {
            name: "从微信回来",
            about: "303 回到原来要看的页面，会话放在脚本读不到的 Cookie 里",
        },
        call: StepCall::get(DemoServer::Gateway, "/auth/web/site/callback?code=$web_code&state=$state")
            .with(&[AS_BROWSER, ("Cookie", "__Host-menshen-browser=$browser")]),
        show: Show::SaveFromHeaders(&[Between { before: "__Host-menshen=", variable: "session" }]),
        expect: expect(
            303,
            &["location: /orders/7", "Secure; HttpOnly; SameSite=Lax"],
            &["$web_code", "$state"],
        ),
    },
    DemoStep {
        english: Heading {
            name: "open the page again",
            about: "the backend gets the identity as before: the same unionid as in the mini program, and no cookie",
        },
        chinese: Heading {
            name: "再打开页面",
            about: "后端照样得到身份，unionid 和小程序里的相同，没有 Cookie",
        },
        call: ORDERS.with(&[AS_BROWSER, SESSION]),
        show: Show::Body,
        expect: expect(
            200,
            &["X-WX-OPENID: $web_openid", "X-WX-UNIONID: $unionid", "X-WX-SOURCE: wx_http"],
            &["cookie", "$session"],
        ),
    },
    DemoStep {
        english: Heading {
            name: "let another site use the cookie",
            about: "403: the browser says which site sent the form",
        },
        chinese: Heading {
            name: "让别的网站冒用 Cookie", about: "403，浏览器会说明表单来自哪个网站"
        },
        call: StepCall::post(DemoServer::Gateway, "/orders/7", "{}")
            .with(&[SESSION, ("Sec-Fetch-Site", "cross-site")]),
        show: Show::Everything,
        expect: expect(403, &["cross_site"], &["POST /orders/7"]),
    },
    DemoStep {
        english: Heading {
            name: "guess codes",
            about: "429 with the time to wait, without a call to WeChat, and logins that succeed give back what they took",
        },
        chinese: Heading {
            name: "猜 code",
            about: "429 并说明要等多久，不会再去问微信，登录成功则会归还占用的次数",
        },
        call: StepCall::post(DemoServer::Gateway, "/auth/login", r#"{"code":"made-up"}"#),
        show: Show::Repeated { times: 12, headers: &["retry-after"] },
        expect: expect(429, &["retry-after: ", "throttled"], &["access_token"]),
    },
    DemoStep {
        english: Heading {
            name: "stay signed in",
            about: "a refresh token works once: it gets a new access token and the next refresh token",
        },
        chinese: Heading {
            name: "保持登录", about: "刷新令牌只能用一次，换来新的访问令牌和下一个刷新令牌"
        },
        call: StepCall::post(DemoServer::Gateway, "/auth/refresh", r#"{"refresh_token":"$refresh"}"#),
        show: Show::Save(TOKENS),
        expect: expect(
            200,
            &["cache-control: no-store", r#""refresh_token":""#, r#""openid":"$openid""#],
            &["$token", "$refresh", "session_key"],
        ),
    },
    DemoStep {
        english: Heading {
            name: "look at the session",
            about: "the user, the start and the end of the session",
        },
        chinese: Heading {
            name: "查看会话", about: "用户是谁，会话从何时开始，到何时结束"
        },
        call: StepCall::get(DemoServer::Gateway, "/auth/session").with(&[BEARER]),
        show: Show::Body,
        expect: expect(200, &[r#""openid":"$openid""#, r#""created_at":""#], &["$token", "session_key"]),
    },
    DemoStep {
        english: Heading { name: "sign out", about: "204: the session has ended, on every node" },
        chinese: Heading { name: "退出登录", about: "204，会话在每个节点上都结束了" },
        call: StepCall::post(DemoServer::Gateway, "/auth/logout", "{}").with(&[BEARER]),
        show: Show::Everything,
        expect: expect(204, &["cache-control: no-store"], &[]),
    },
    DemoStep {
        english: Heading {
            name: "call with the old token",
            about: "401: the token has not expired, but its session has ended",
        },
        chinese: Heading {
            name: "用旧令牌调用", about: "401，令牌还没过期，但会话已经结束"
        },
        call: ORDERS.with(&[BEARER]),
        show: Show::Everything,
        expect: expect(401, &["www-authenticate: Bearer", "invalid_token"], &["/orders/7"]),
    },
    DemoStep {
        english: Heading {
            name: "look at the metrics",
            about: "for Prometheus, on the admin listener, where all these logins needed two calls to WeChat",
        },
        chinese: Heading {
            name: "查看监控指标",
            about: "给 Prometheus 用，在管理端口上，以上所有登录只调用了微信两次",
        },
        call: StepCall::get(DemoServer::Admin, "/metrics"),
        show: Show::Lines(&[
            "menshen_logins_total",
            "menshen_refused_requests_total",
            "menshen_identity_headers_stripped_total",
            "menshen_wechat_request_duration_seconds_count",
        ]),
        expect: expect(
            200,
            &[
                r#"menshen_logins_total{flow="mini_program",outcome="ok",provider="wechat"}"#,
                r#"menshen_logins_total{flow="website",outcome="ok",provider="wechat"} 1"#,
                r#"menshen_refused_requests_total{reason="no_token"} 2"#,
                r#"menshen_refused_requests_total{reason="throttled"}"#,
                // One for the code that was sent several times, one for the made-up code.
                r#"menshen_wechat_request_duration_seconds_count{api="jscode2session",app="shop"} 2"#,
            ],
            &["$openid"],
        ),
    },
    DemoStep {
        english: Heading {
            name: "fetch the public keys",
            about: "a backend that does not trust the network can verify the token itself, with any JWT library",
        },
        chinese: Heading {
            name: "取公钥", about: "不信任网络的后端可以用任何 JWT 库自己验签"
        },
        call: StepCall::get(DemoServer::Gateway, "/.well-known/jwks.json"),
        show: Show::Body,
        expect: expect(200, &[r#""kty":"EC""#, r#""alg":"ES256""#], &[r#""d":"#]),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_has_no_character_that_a_shell_reads_as_more_than_itself() {
        for step in STEPS {
            for Heading { name, about } in [step.english, step.chinese] {
                for character in name.chars().chain(about.chars()).filter(char::is_ascii) {
                    let is_plain = character.is_ascii_alphanumeric() || " ,.:-".contains(character);
                    assert!(is_plain, "`{character}` in {name}: {about}");
                }
            }
        }
    }
}
