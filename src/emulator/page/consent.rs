//! `/connect/oauth2/authorize`: an official account's sign-in, inside WeChat.

use super::{Emulator, OFFICIAL_ACCOUNT, Page, Reply, Request, escape, link, person, redirect};
use crate::emulator::authorization::{Authorization, AuthorizationError, Scope};
use crate::emulator::config::{AppKind, RefusedSignIn};
use crate::emulator::state::EmulatorState;

const TITLE: &str = "微信授权 WeChat authorization";
/// WeChat matches the link against a pattern, so these parameters come first and in this order.
const ORDER: [&str; 5] = ["appid", "redirect_uri", "response_type", "scope", "state"];

impl Emulator {
    pub(super) fn official_account_page(&self, request: &Request) -> Reply {
        if !request.user_agent.contains("MicroMessenger") {
            let text = "请在微信客户端打开链接 (please open this link in the WeChat client)";
            return Page::message(TITLE, text).into_reply();
        }
        let now = self.now();
        let mut state = self.state.lock();
        let authorization = match authorization(&state, request) {
            Ok(authorization) => authorization,
            Err(error) => return Page::message(TITLE, &error.to_string()).into_reply(),
        };
        let wxid = owner_of_phone(&state, request);
        match (authorization.scope, request.parameter("answer")) {
            (Scope::Base, _) | (_, Some("allow")) => {
                match state.issue_page_code(&authorization, &wxid, now, &*self.entropy) {
                    Ok(code) => redirect(&authorization.granted(&code)),
                    Err(_) => Page::message(TITLE, "系统繁忙 (the system is busy)").into_reply(),
                }
            }
            (_, Some("refuse")) => match state.refused_sign_in {
                RefusedSignIn::Stay => Page::message(TITLE, "你已拒绝授权 (you refused)").into_reply(),
                RefusedSignIn::Redirect => redirect(&authorization.refused()),
            },
            _ => consent(&state, request, &authorization, &wxid).into_reply(),
        }
    }
}

fn authorization(state: &EmulatorState, request: &Request) -> Result<Authorization, AuthorizationError> {
    let authorization =
        Authorization::check(&state.apps, AppKind::OfficialAccount, |name| request.parameter(name))?;
    let ordered = request.names.iter().map(String::as_str).take(ORDER.len()).eq(ORDER);
    if !ordered || request.parameter("response_type") != Some("code") {
        return Err(AuthorizationError::ParameterOrder);
    }
    Ok(authorization)
}

/// The owner of the phone: the person chosen on the page, the one that `wxid/bob` in the User-Agent
/// names, or the first of the configuration.
fn owner_of_phone(state: &EmulatorState, request: &Request) -> String {
    let of_browser = || request.user_agent.split(' ').find_map(|product| product.strip_prefix("wxid/"));
    let first = || state.people.first().map(String::as_str);
    request.parameter("wxid").or_else(of_browser).or_else(first).unwrap_or("alice").to_owned()
}

fn consent(state: &EmulatorState, request: &Request, authorization: &Authorization, wxid: &str) -> Page {
    let go = |wxid: &str, answer: &str| {
        let asked = ORDER.into_iter().map(|name| (name, request.parameter(name).unwrap_or_default()));
        link(OFFICIAL_ACCOUNT, asked.chain([("wxid", wxid), ("answer", answer)]))
    };
    let others = state.people.iter().filter(|other| *other != wxid);
    // The page uses links instead of a form: the policy of a page with a form must name every host
    // that the response redirects to.
    let others: String = others
        .map(|other| {
            format!(r#"<a href="{}"><bdi>{}</bdi></a> "#, go(other, ""), escape(&state.nickname(other)))
        })
        .collect();
    let body = format!(
        r#"<main class="card">
<h1>{app}</h1>
<p class="text">申请获取以下信息 <small>asks for</small></p>
<p class="text">你的昵称、头像 <small>your nickname and picture</small></p>
<p class="person">{person}</p>
<p class="actions"><a class="button" id="allow" href="{allow}">允许 <small>Allow</small></a>
<a class="button quiet" id="refuse" href="{refuse}">拒绝 <small>Refuse</small></a></p>
<p class="aside">换个人 <small>Someone else</small>: {others}</p>
</main>"#,
        app = escape(&state.app_name(&authorization.appid)),
        person = person(&state.nickname(wxid), state.caption(wxid)),
        allow = go(wxid, "allow"),
        refuse = go(wxid, "refuse"),
    );
    Page { title: TITLE, body, ..Page::default() }
}
