//! `/connect/confirm`: replaces the phone that scans a QR code, without a script.

use http::{HeaderValue, Method, StatusCode, header};

use super::{Emulator, PHONE, Page, Reply, Request, escape, portrait};
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
        let app = state.qr_codes.authorization(uuid).map(|asked| state.app_name(&asked.appid));
        let body = match &step {
            QrCodeStep::Waiting | QrCodeStep::Cancelled => {
                let people = people(&state);
                format!(
                    r#"<h1>扫一扫 <small>Scan</small></h1>
{people}
<p class="actions"><button class="button" name="action" value="scan">扫描 <small>Scan</small></button>
<button class="button quiet" name="action" value="expire">等到过期 <small>Wait until it expires</small></button></p>"#
                )
            }
            QrCodeStep::Scanned { wxid } => format!(
                r#"<h1>{app} <small>网站登录 website sign-in</small></h1>
<p class="text">将获得你的昵称、头像<br><small>will learn your nickname and picture</small></p>
<p class="person">{portrait}<bdi>{name}</bdi></p>
<p class="actions"><button class="button" name="action" value="confirm">确认登录 <small>Confirm</small></button>
<button class="button quiet" name="action" value="cancel">取消 <small>Refuse</small></button>
<button class="button quiet" name="action" value="expire">等到过期 <small>Wait until it expires</small></button></p>"#,
                app = escape(&app.unwrap_or_default()),
                portrait = portrait(&state.nickname(wxid)),
                name = escape(&state.nickname(wxid)),
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
    let person = |(at, wxid): (usize, &String)| {
        let nickname = state.nickname(wxid);
        format!(
            r#"<label class="person"><input type="radio" name="wxid" value="{wxid}"{checked}>{portrait}<bdi>{name}</bdi></label>
"#,
            wxid = escape(wxid),
            checked = if at == 0 { " checked" } else { "" },
            portrait = portrait(&nickname),
            name = escape(&nickname),
        )
    };
    let listed: String = state.people.iter().enumerate().map(person).collect();
    format!(
        r#"{listed}<label class="person other">另一位 <small>Another wxid</small> <input name="other" autocomplete="off"></label>"#
    )
}
