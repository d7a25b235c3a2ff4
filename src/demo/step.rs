//! The steps of the demo: one table, which is printed as shell lines and run by the self-test.
//!
//! Texts are written as in double quotes in a shell: `$token` is a value that an earlier step
//! saved.

use http::Method;

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoStep {
    pub(super) name: &'static str,
    /// What happens, and why it matters, in one line.
    pub(super) about: &'static str,
    pub(super) call: StepCall,
    pub(super) show: Show,
    pub(super) expect: Expect,
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
        name: "open the mini program",
        about: "wx.login() returns a code that works once; the emulator also plays the phone",
        call: StepCall::post(
            DemoServer::WeChat,
            "/__emu/wx.login",
            r#"{"appid":"wxe000000000000001","wxid":"alice"}"#,
        ),
        show: Show::Save(&[("code", "code")]),
        expect: expect(200, &[], &[]),
    },
    DemoStep {
        name: "sign in",
        about: "the gateway exchanges the code with WeChat and answers with its own tokens",
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
        name: "call the backend",
        about: "it answers with what it received: the caller in plain headers, and no token",
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
        name: "pretend to be another user",
        about: "the gateway removes what a client claims about its identity",
        call: ORDERS.with(&[BEARER, ("X-WX-OPENID", "mallory")]),
        show: Show::Lines(&["X-WX-"]),
        expect: expect(200, &["X-WX-OPENID: $openid"], &["mallory"]),
    },
    DemoStep {
        name: "pretend on a public route",
        about: "a public route removes it too: for the backend, no user is signed in",
        call: StepCall::get(DemoServer::Gateway, "/public/menu").with(&[("X-WX-OPENID", "mallory")]),
        show: Show::Body,
        expect: expect(200, &["no user is signed in"], &["mallory"]),
    },
    DemoStep {
        name: "pretend in another spelling",
        about: "PHP and WSGI read this name as X-WX-OPENID, so the gateway refuses the request",
        call: ORDERS.with(&[BEARER, ("X_WX_OPENID", "mallory")]),
        show: Show::Everything,
        expect: expect(400, &["header_name_refused"], &["mallory"]),
    },
    DemoStep {
        name: "call without a token",
        about: "401, and the backend does not get the request",
        call: ORDERS,
        show: Show::Everything,
        expect: expect(401, &["www-authenticate: Bearer", "no_token"], &["/orders/7"]),
    },
    DemoStep {
        name: "call with a wrong token",
        about: "401 again: only an unchanged token of this gateway is valid",
        call: ORDERS.with(&[("Authorization", "Bearer $token-")]),
        show: Show::Everything,
        expect: expect(401, &["www-authenticate: Bearer", "invalid_token"], &["/orders/7"]),
    },
    DemoStep {
        name: "send the code again",
        about: "a phone that lost the answer gets the same answer again, and WeChat is asked only once",
        call: LOGIN,
        show: Show::Body,
        expect: expect(200, &["$token"], &[]),
    },
    DemoStep {
        name: "send another client's code",
        about: "the same code does not work for another client",
        call: LOGIN.with(&[("User-Agent", "mallory")]),
        show: Show::Everything,
        expect: expect(401, &["invalid_grant", "code_already_used"], &["access_token"]),
    },
    DemoStep {
        name: "make up a code",
        about: "WeChat refuses it, and the client gets a code word that never changes",
        call: StepCall::post(DemoServer::Gateway, "/auth/login", r#"{"code":"made-up"}"#),
        show: Show::Everything,
        expect: expect(401, &["invalid_grant", "code_invalid"], &["access_token"]),
    },
    DemoStep {
        name: "open a page in a browser",
        about: "303: no user is signed in, so the browser goes to the sign-in page; programs get 401 as above",
        call: ORDERS.with(&[AS_BROWSER]),
        show: Show::Everything,
        expect: expect(303, &["location: /auth/login?return_to=%2Forders%2F7"], &["GET /orders/7"]),
    },
    DemoStep {
        name: "leave for WeChat",
        about: "its page shows a QR code; state and cookie identify the browser that returns",
        call: StepCall::get(DemoServer::Gateway, "/auth/web/site/start?return_to=%2Forders%2F7")
            .with(&[AS_BROWSER]),
        show: Show::SaveFromHeaders(&[
            Between { before: "&state=", variable: "state" },
            Between { before: "__Host-menshen-browser=", variable: "browser" },
        ]),
        expect: expect(303, &["/connect/qrconnect?appid=wxe000000000000004&", "HttpOnly; SameSite=Lax"], &[]),
    },
    DemoStep {
        name: "scan and confirm",
        about: "the emulator plays phone and page: the user agrees, and WeChat gives the browser a code",
        call: StepCall::post(
            DemoServer::WeChat,
            "/__emu/authorize",
            r#"{"appid":"wxe000000000000004","wxid":"alice","redirect_uri":"http://$gateway/auth/web/site/callback","scope":"snsapi_login","state":"$state"}"#,
        ),
        show: Show::Save(&[("code", "web_code")]),
        expect: expect(200, &["&state=$state"], &[]),
    },
    DemoStep {
        name: "come back from WeChat",
        about: "303 to the requested page, with the session in a cookie that no script can read",
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
        name: "open the page again",
        about: "the backend gets the identity as before: the same unionid as in the mini program, and no cookie",
        call: ORDERS.with(&[AS_BROWSER, SESSION]),
        show: Show::Body,
        expect: expect(
            200,
            &["X-WX-OPENID: $web_openid", "X-WX-UNIONID: $unionid", "X-WX-SOURCE: wx_http"],
            &["cookie", "$session"],
        ),
    },
    DemoStep {
        name: "let another site use the cookie",
        about: "403: the browser says which site sent the form",
        call: StepCall::post(DemoServer::Gateway, "/orders/7", "{}")
            .with(&[SESSION, ("Sec-Fetch-Site", "cross-site")]),
        show: Show::Everything,
        expect: expect(403, &["cross_site"], &["POST /orders/7"]),
    },
    DemoStep {
        name: "guess codes",
        about: "429 with the time to wait, without a call to WeChat; logins that succeed give back what they took",
        call: StepCall::post(DemoServer::Gateway, "/auth/login", r#"{"code":"made-up"}"#),
        show: Show::Repeated { times: 12, headers: &["retry-after"] },
        expect: expect(429, &["retry-after: ", "throttled"], &["access_token"]),
    },
    DemoStep {
        name: "stay signed in",
        about: "a refresh token works once: it gets a new access token and the next refresh token",
        call: StepCall::post(DemoServer::Gateway, "/auth/refresh", r#"{"refresh_token":"$refresh"}"#),
        show: Show::Save(TOKENS),
        expect: expect(
            200,
            &["cache-control: no-store", r#""refresh_token":""#, r#""openid":"$openid""#],
            &["$token", "$refresh", "session_key"],
        ),
    },
    DemoStep {
        name: "look at the session",
        about: "the user, the start and the end of the session",
        call: StepCall::get(DemoServer::Gateway, "/auth/session").with(&[BEARER]),
        show: Show::Body,
        expect: expect(200, &[r#""openid":"$openid""#, r#""created_at":""#], &["$token", "session_key"]),
    },
    DemoStep {
        name: "sign out",
        about: "204: the session has ended, on every node",
        call: StepCall::post(DemoServer::Gateway, "/auth/logout", "{}").with(&[BEARER]),
        show: Show::Everything,
        expect: expect(204, &["cache-control: no-store"], &[]),
    },
    DemoStep {
        name: "call with the old token",
        about: "401: the token has not expired, but its session has ended",
        call: ORDERS.with(&[BEARER]),
        show: Show::Everything,
        expect: expect(401, &["www-authenticate: Bearer", "invalid_token"], &["/orders/7"]),
    },
    DemoStep {
        name: "look at the metrics",
        about: "for Prometheus, on the admin listener; all these logins needed two calls to WeChat",
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
        name: "fetch the public keys",
        about: "a backend that does not trust the network can verify the token itself, with any JWT library",
        call: StepCall::get(DemoServer::Gateway, "/.well-known/jwks.json"),
        show: Show::Body,
        expect: expect(200, &[r#""kty":"EC""#, r#""alg":"ES256""#], &[r#""d":"#]),
    },
];
