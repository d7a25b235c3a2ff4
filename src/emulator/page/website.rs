//! `/connect/qrconnect`: a website's sign-in, with a QR code and its state.

use super::{
    Emulator, ForeignStyle, PHONE, Page, Reply, Request, SCRIPT, WEBSITE, escape, link, qr_code, redirect,
};
use crate::emulator::authorization::Authorization;
use crate::emulator::config::{AppKind, RefusedSignIn};
use crate::emulator::identifier;
use crate::emulator::qr_code::QrCodeStep;

const TITLE: &str = "微信登录 WeChat sign-in";

impl Emulator {
    pub(super) fn website_page(&self, request: &Request) -> Reply {
        let now = self.now();
        let mut state = self.state.lock();
        let authorization =
            match Authorization::check(&state.apps, AppKind::Website, |name| request.parameter(name)) {
                Ok(authorization) => authorization,
                Err(error) => {
                    let page = Page::message(TITLE, &error.to_string());
                    return Page { is_embeddable: true, ..page }.into_reply();
                }
            };
        // A browser without scripts reloads the page, with the uuid of the code that it showed.
        let shown = request.parameter("uuid").filter(|uuid| {
            state.qr_codes.authorization(uuid) == Some(&authorization)
                && state.qr_codes.step(uuid, now) != QrCodeStep::Expired
        });
        let uuid = match shown {
            Some(uuid) => uuid.to_owned(),
            None => {
                let Ok(uuid) = identifier::uuid(&*self.entropy) else {
                    return Page::message(TITLE, "系统繁忙 (the system is busy)").into_reply();
                };
                state.qr_codes.insert(uuid.clone(), authorization.clone(), now);
                uuid
            }
        };
        let step = state.qr_codes.step(&uuid, now);
        let refused = (state.refused_sign_in == RefusedSignIn::Redirect).then(|| authorization.refused());
        match (&step, &refused) {
            (QrCodeStep::Confirmed { code, .. }, _) => redirect(&authorization.granted(code)),
            (QrCodeStep::Cancelled, Some(location)) => redirect(location),
            _ => {
                let name = state.app_name(&authorization.appid);
                page(request, &uuid, &step, &authorization, &name, refused.as_deref()).into_reply()
            }
        }
    }
}

fn page(
    request: &Request,
    uuid: &str,
    step: &QrCodeStep,
    authorization: &Authorization,
    app_name: &str,
    refused: Option<&str>,
) -> Page {
    let again = request.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let again = again.filter(|(name, _)| *name != "uuid").chain([("uuid", uuid)]);
    let head = format!(
        "<script src=\"{SCRIPT}\" defer></script>\n<noscript><meta http-equiv=\"refresh\" content=\"2;url={}\"></noscript>\n",
        link(WEBSITE, again)
    );
    // The code is inserted between the two halves.
    let (before, after) = split_at_code(authorization);
    let body = format!(
        r#"<main class="card impowerBox" id="sign-in" data-step="{step}" data-uuid="{uuid}" data-before="{before}" data-after="{after}" data-refused="{refused}" data-target="{target}">
<h1 class="title">微信登录 <small>WeChat sign-in</small></h1>
<div class="code qrcode">{svg}</div>
<div class="info"><p class="text when-408">请使用微信扫描二维码登录 <b>{name}</b><br><small>Scan with WeChat to sign in</small></p>
<p class="text when-404">扫描成功，请在手机上确认<br><small>Scanned. Confirm on the phone</small></p>
<p class="text when-403">你已取消此次登录，可再次扫描<br><small>Refused. Scan again to sign in</small></p>
<p class="text when-405">正在登录……<br><small>Signing in</small></p></div>
<p class="aside"><a href="{phone}" target="_blank" rel="noreferrer">没有手机？打开模拟手机 <small>Open the emulated phone</small></a></p>
</main>"#,
        step = step.errcode(),
        uuid = escape(uuid),
        before = escape(&before),
        after = escape(&after),
        refused = escape(refused.unwrap_or_default()),
        target = if request.parameter("self_redirect") == Some("true") { "self" } else { "top" },
        svg = qr_code::svg(request, uuid).unwrap_or_default(),
        name = escape(app_name),
        phone = link(PHONE, [("uuid", uuid)]),
    );
    // The frame alone: the page that a browser opens has WeChat's own look.
    let is_framed = request.parameter("login_type") == Some("jssdk");
    let style = request.parameter("href").filter(|_| is_framed).and_then(ForeignStyle::parse);
    Page { title: TITLE, head, body, is_embeddable: true, style }
}

fn split_at_code(authorization: &Authorization) -> (String, String) {
    const CODE: &str = "\0";
    let whole = authorization.granted(CODE);
    let (before, after) = whole.split_once(CODE).unwrap_or((&whole, ""));
    (before.to_owned(), after.to_owned())
}
