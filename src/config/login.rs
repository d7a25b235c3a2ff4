//! The login endpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Duration, FilePath, Template};

/// `login`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// Path of the gateway's own endpoints. The gateway answers every path below it itself, on
    /// every host.
    pub path_prefix: String,
    /// Largest body of a login request.
    pub max_body: ByteSize,
    /// Longest wait for the whole body of a login request.
    pub body_timeout: Duration,
    /// How long the same client can send the same code again and get the same answer. At most 5
    /// minutes: a code of WeChat lives that long.
    pub replay_window: Duration,
    /// Maximum number of codes that the gateway remembers for `replay_window`.
    pub replay_capacity: u64,
    /// Origins where browsers reach the gateway, such as `https://shop.example.com`. Users can sign
    /// in there with a browser. Write scheme, host and port exactly as in the address bar.
    /// `http://` is for loopback only. Empty: users cannot sign in with a browser.
    pub origins: Vec<String>,
    /// Origins of other sites where the browser may go after a sign-in. Empty: only the origin
    /// where the sign-in began.
    pub return_to: Vec<String>,
    /// Façades: more endpoints that sign in, in the protocol of clients that exist already. At most
    /// 32. See docs/existing-clients.md.
    pub facades: Vec<Facade>,
    /// The pages that users see.
    pub page: LoginPage,
}

/// `login.facades[]`: an endpoint that signs in as `POST /auth/login` does, for clients that send
/// the code in another way and expect another answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Facade {
    /// Path of the façade, such as `/login` or `/api/login.php`. The gateway answers this one path
    /// itself, on every host, with every method. No route may have the same path.
    pub path: String,
    /// Methods that sign in: `GET`, `POST` or both. Other methods are answered 405; `HEAD` never
    /// signs in.
    #[serde(default = "default_methods")]
    #[schemars(length(min = 1))]
    pub methods: Vec<String>,
    /// App whose users sign in: a name under `apps`, of a mini program, a mobile app, or an
    /// official account with `code_login`. Default: the only such app, as for `POST /auth/login`.
    #[serde(default)]
    pub app: Option<String>,
    /// Where the client sends the code of `wx.login`. Write one of the keys below.
    pub code: CodePlace,
    /// The JSON that a client gets after a sign-in. In a text, `{access_token}`, `{refresh_token}`,
    /// `{expires_in}`, `{openid}`, `{unionid}`, `{user}` and `{request_id}` stand for values. A
    /// text that is only `{expires_in}` becomes a number. `{unionid}` and `{user}` become null if
    /// they are not known. Write `{{` for a brace.
    pub answer: Template,
    /// The JSON that a client gets if it is not signed in. In a text, `{code}`, `{message}`,
    /// `{status}` and `{request_id}` stand for values.
    #[serde(default = "default_error")]
    pub error: Template,
    /// HTTP status of errors: 200, or 400 to 599. A method that is not listed is always answered
    /// 405. Default: the status of the error, as for `POST /auth/login`.
    #[serde(default)]
    pub status: Option<u16>,
}

fn default_methods() -> Vec<String> {
    vec!["POST".into()]
}

fn default_error() -> Template {
    Template(serde_json::json!({ "code": "{code}", "message": "{message}" }))
}

/// `login.facades[].code`: where a client sends the code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CodePlace {
    /// Query parameter that has the code, such as `code`.
    pub query: Option<String>,
    /// Header that has the code, such as `X-WX-Code`.
    pub header: Option<String>,
    /// Field of the body that has the code, such as `js_code`. The body is JSON or a form.
    pub field: Option<String>,
}

/// `login.page`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoginPage {
    /// Name on the pages: what users sign in to. Not set: no name.
    pub title: Option<String>,
    /// Picture above the name: a PNG, JPEG, WebP or SVG file of at most 64 KiB.
    pub logo: Option<FilePath>,
    /// Folder with your own templates, `sign_in.html` and `message.html`. If a file is not there,
    /// the built-in template is used.
    pub templates: Option<FilePath>,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            path_prefix: "/auth".into(),
            max_body: ByteSize::kib(4),
            body_timeout: Duration::from_secs(10),
            replay_window: Duration::from_secs(60),
            replay_capacity: 100_000,
            origins: Vec::new(),
            return_to: Vec::new(),
            facades: Vec::new(),
            page: LoginPage::default(),
        }
    }
}
