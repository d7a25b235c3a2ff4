//! `/connect/confirm`: replaces the phone that scans a QR code, without a script.

use http::{HeaderValue, Method, StatusCode, header};

use super::{Emulator, PHONE, Page, Reply, Request, escape, person};
use crate::emulator::qr_code::QrCodeStep;
use crate::emulator::state::EmulatorState;

const TITLE: &str = "手机 Phone";

impl Emulator {
    pub(super) fn phone_page(&self, request: &Request) -> Reply {
        if request.method == Method::POST {
            return self.phone_action(request);
        }
        let uuid = request.parameter("uuid").unwrap_or_default();
        let state = self.state.lock();
        let step = state.qr_codes.step(uuid, self.now());
        let asked = state.qr_codes.authorization(uuid);
        let app = asked.map(|asked| state.app_name(&asked.appid));
        let is_bound = asked.is_some_and(|asked| state.unionid(&asked.appid, "").is_some());
        let body = match &step {
            QrCodeStep::Waiting | QrCodeStep::Cancelled => {
                let people = people(&state);
                let unionid = if is_bound {
                    "此应用绑定了开放平台，每个人都有 unionid <small>Everyone has a unionid in this app</small>"
                } else {
                    "此应用没有绑定开放平台，没有 unionid <small>Nobody has a unionid in this app</small>"
                };
                format!(
                    r#"<h1>扫一扫 <small>Scan</small></h1>
{people}
<p class="aside">{unionid}</p>
<p class="actions"><button class="button" name="action" value="scan">扫描 <small>Scan</small></button>
<button class="button quiet" name="action" value="expire">等到过期 <small>Wait until it expires</small></button></p>"#
                )
            }
            QrCodeStep::Scanned { wxid } => format!(
                r#"<h1>{app} <small>网站登录 website sign-in</small></h1>
<p class="text">将获得你的昵称、头像<br><small>will learn your nickname and picture</small></p>
<p class="person">{person}</p>
<p class="actions"><button class="button" name="action" value="confirm">确认登录 <small>Confirm</small></button>
<button class="button quiet" name="action" value="cancel">取消 <small>Refuse</small></button>
<button class="button quiet" name="action" value="expire">等到过期 <small>Wait until it expires</small></button></p>"#,
                app = escape(&app.unwrap_or_default()),
                person = person(&state.nickname(wxid), state.caption(wxid)),
            ),
            QrCodeStep::Confirmed { .. } => {
                r#"<p class="mark good" aria-hidden="true">✓</p><h1>已确认 <small>Confirmed</small></h1>
<p class="text">浏览器正在登录<br><small>The browser goes on; close this page</small></p>"#
                    .to_owned()
            }
            QrCodeStep::Expired => {
                r#"<p class="mark" aria-hidden="true">!</p><h1>二维码已过期 <small>Expired</small></h1>
<p class="text">请重新扫描<br><small>Scan the new code in the browser</small></p>"#
                    .to_owned()
            }
        };
        let body = format!(
            r#"<form class="card phone" method="post" action="{PHONE}"><input type="hidden" name="uuid" value="{}">
{body}
</form>"#,
            escape(uuid)
        );
        Page { title: TITLE, body, ..Page::default() }.into_reply()
    }

    fn phone_action(&self, request: &Request) -> Reply {
        let form = request.form();
        let field = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let uuid = field("uuid").unwrap_or_default();
        let wxid = field("other").or_else(|| field("wxid")).unwrap_or_default();
        // The next page shows a refusal, such as that of a second press of the button.
        let _ = match field("action") {
            Some("scan") => self.scan(uuid, wxid),
            Some("confirm") => self.confirm(uuid),
            Some("cancel") => self.cancel(uuid),
            Some("expire") => self.expire(uuid),
            _ => Ok(()),
        };
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("uuid", uuid).finish();
        let reply = Reply::new(StatusCode::SEE_OTHER, "text/html; charset=utf-8", "").uncached();
        match HeaderValue::from_str(&format!("{PHONE}?{query}")) {
            Ok(location) => reply.with(header::LOCATION, location),
            Err(_) => reply,
        }
    }
}

fn people(state: &EmulatorState) -> String {
    let choice = |(at, wxid): (usize, &String)| {
        format!(
            r#"<label class="person"><input type="radio" name="wxid" value="{wxid}"{checked}>{person}</label>
"#,
            wxid = escape(wxid),
            checked = if at == 0 { " checked" } else { "" },
            person = person(&state.nickname(wxid), state.caption(wxid)),
        )
    };
    let listed: String = state.people.iter().enumerate().map(choice).collect();
    format!(
        r#"{listed}<label class="person other">另一位 <small>Another wxid</small> <input name="other" autocomplete="off"></label>"#
    )
}
