//! Prints the steps as lines to paste, or runs them.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};

use super::client::{self, TextAnswer};
use super::curl;
use super::language::DemoLanguage;
use super::stage::{APPID, SITE_APPID, Stage, USER};
use super::step::{DemoServer, DemoStep, Heading, STEPS, Show};

/// Prints the addresses of all parts and the lines to paste.
pub(super) fn show(stage: &Stage, language: DemoLanguage, out: &mut impl Write) -> io::Result<()> {
    show_parts(stage, language, out)?;
    show_browser(stage, language, out)?;
    writeln!(
        out,
        "{}\n",
        language.choose(
            "Or paste these lines into another terminal, one by one or all at once. A line that begins with a colon does\n\
             nothing: it says what comes.",
            "或者把下面的命令贴到另一个终端里，可以一行行贴，也可以全部一起贴。冒号开头的行什么也不做，只说明下一行。",
        )
    )?;
    let host = browser_host(stage);
    if has_proxy() {
        let about = language.choose(
            "a proxy is set in this environment, and these requests must not use it",
            "这个环境设置了代理，下面的请求不能经过代理",
        );
        writeln!(out, ": {about}\nexport no_proxy={}\n", stage.address(DemoServer::Gateway).ip())?;
    }
    for (step, number) in STEPS.iter().zip(1..) {
        let Heading { name, about } = step.heading(language);
        writeln!(out, ": {number}. {name}: {about}")?;
        let line = curl::shell_line(step, &url(stage, step), host);
        writeln!(out, "{}\n", line.replace("$origin", stage.browser_origin()))?;
    }
    let end = language
        .choose("Ctrl-C ends the demo and removes what it wrote.", "按 Ctrl-C 结束演示，并删除它写的文件。");
    writeln!(out, "{end}")?;
    out.flush()
}

/// Prints what runs, and where.
fn show_parts(stage: &Stage, language: DemoLanguage, out: &mut impl Write) -> io::Result<()> {
    let folder = stage.folder();
    let title = language.choose(
        "a gateway, an emulated WeChat, and a backend that knows neither of them.",
        "一个网关、一个模拟的微信，还有一个对两者一无所知的后端。",
    );
    writeln!(out, "menshen {}: {title}\n", env!("CARGO_PKG_VERSION"))?;
    let words = language.choose(
        ["gateway   ", "its admin ", "WeChat    ", "backend   ", "config    ", "access log", "emulated"],
        ["网关    ", "管理端口", "微信    ", "后端    ", "配置    ", "访问日志", "模拟"],
    );
    let [gateway, admin, wechat, backend, config, access_log, emulated] = words;
    writeln!(out, "  {gateway}  http://{}", stage.address(DemoServer::Gateway))?;
    writeln!(out, "  {admin}  http://{}", stage.address(DemoServer::Admin))?;
    writeln!(out, "  {wechat}  http://{} ({emulated})", stage.address(DemoServer::WeChat))?;
    writeln!(out, "  {backend}  http://{}", stage.backend())?;
    writeln!(out, "  {config}  {}", folder.configuration().display())?;
    writeln!(out, "  {access_log}  {}\n", folder.access_log().display())
}

/// Prints where a browser signs in.
fn show_browser(stage: &Stage, language: DemoLanguage, out: &mut impl Write) -> io::Result<()> {
    let address = format!("{}/orders/7", stage.browser_origin());
    match language {
        DemoLanguage::English => writeln!(
            out,
            "Open {address} in a browser on this machine. It asks you to sign in. The link below the QR code opens\n\
             the phone: scan, confirm. Then you see what the backend receives about you.\n"
        )?,
        DemoLanguage::Chinese => writeln!(
            out,
            "请在本机的浏览器里打开 {address} 。页面会要求登录：点二维码下面的链接打开模拟的手机，扫码、确认，\n\
             就能看到后端收到的身份。\n"
        )?,
    }
    if !stage.is_reached_from_elsewhere() {
        return Ok(());
    }
    let (gateway, wechat) = (stage.address(DemoServer::Gateway).port(), stage.wechat_pages().port());
    let forward = format!("ssh -L {gateway}:127.0.0.1:{gateway} -L {wechat}:127.0.0.1:{wechat}");
    match language {
        DemoLanguage::English => writeln!(
            out,
            "Without TLS, a browser keeps a session only of its own machine. In a browser on another machine, open the same\n\
             address after `{forward} HOST`. The\n\
             admin listener stays on this machine, so the step with the metrics works here alone.\n"
        ),
        DemoLanguage::Chinese => writeln!(
            out,
            "没有 TLS 时，浏览器只为本机保存会话。要在另一台机器的浏览器里试，先在那里运行\n\
             `{forward} 主机`，再打开同一个网址。\n\
             管理端口只在本机，所以看监控指标的那一步只能在本机运行。\n"
        ),
    }
}

/// Runs the steps and prints a line for each. Returns whether all of them passed.
pub(super) fn run(stage: &Stage, language: DemoLanguage, out: &mut impl Write) -> io::Result<bool> {
    let mut variables = Variables::new(stage);
    let mut passed = 0;
    for step in STEPS {
        let Heading { name, about } = step.heading(language);
        match stage.block_on(run_step(step, stage, &mut variables)) {
            Ok(()) => {
                passed += 1;
                writeln!(out, "ok   {name}: {about}")?;
            }
            Err(reason) => writeln!(out, "FAIL {name}: {reason}")?,
        }
        out.flush()?;
    }
    match language {
        DemoLanguage::English => writeln!(out, "{passed} of {} steps passed", STEPS.len())?,
        DemoLanguage::Chinese => writeln!(out, "{} 步中有 {passed} 步通过", STEPS.len())?,
    }
    out.flush()?;
    Ok(passed == STEPS.len())
}

/// Runs one step; `Err` is the reason why it failed.
async fn run_step(step: &DemoStep, stage: &Stage, variables: &mut Variables) -> Result<(), String> {
    let times = if let Show::Repeated { times, .. } = step.show { times } else { 1 };
    let server = stage.address(step.call.server);
    let mut answer = None;
    for _ in 0..times {
        let sent =
            client::send(&step.call, server, browser_host(stage), |text| variables.fill_in(text)).await;
        let sent = sent.map_err(|error| format!("no answer from {}: {error}", url(stage, step)))?;
        if answer.insert(sent).status == step.expect.status {
            break;
        }
    }
    let answer = answer.ok_or("nothing was sent")?;
    check(step, &answer, variables)?;
    match step.show {
        Show::Save(members) => {
            for &(member, variable) in members {
                let value = serde_json::from_str::<serde_json::Value>(&answer.body)
                    .ok()
                    .and_then(|body| Some(body.get(member)?.as_str()?.to_owned()))
                    .ok_or_else(|| format!("no `{member}` in {}", answer.body))?;
                variables.set(variable, value);
            }
        }
        Show::SaveFromHeaders(parts) => {
            for part in parts {
                let value = part
                    .read(&answer.headers)
                    .ok_or_else(|| format!("no `{}` in:\n{}", part.before, answer.headers))?;
                variables.set(part.variable, value);
            }
        }
        Show::Body | Show::Everything | Show::Lines(_) | Show::Repeated { .. } => {}
    }
    Ok(())
}

fn check(step: &DemoStep, answer: &TextAnswer, variables: &Variables) -> Result<(), String> {
    let wrong =
        |what: String| Err(format!("{what} in:\n{}\n{}{}", answer.status, answer.headers, answer.body));
    if answer.status != step.expect.status {
        return wrong(format!("expected status {}", step.expect.status));
    }
    let holds = |text: &str| answer.headers.contains(text) || answer.body.contains(text);
    for text in step.expect.contains.iter().map(|text| variables.fill_in(text)) {
        if !holds(&text) {
            return wrong(format!("expected `{text}`"));
        }
    }
    for text in step.expect.lacks.iter().map(|text| variables.fill_in(text)) {
        if holds(&text) {
            return wrong(format!("expected no `{text}`"));
        }
    }
    Ok(())
}

/// The `Host` of a browser, if the gateway is reached at another address.
fn browser_host(stage: &Stage) -> Option<&str> {
    let host = stage.browser_origin().strip_prefix("http://")?;
    (host != stage.address(DemoServer::Gateway).to_string()).then_some(host)
}

fn url(stage: &Stage, step: &DemoStep) -> String {
    format!("http://{}{}", stage.address(step.call.server), step.call.path)
}

/// Whether curl uses a proxy in this environment.
fn has_proxy() -> bool {
    ["http_proxy", "all_proxy", "ALL_PROXY"].iter().any(|name| env::var_os(name).is_some())
}

/// The values that earlier steps saved, and those that every step can use.
struct Variables(BTreeMap<&'static str, String>);

impl Variables {
    fn new(stage: &Stage) -> Self {
        let openid = stage.emulator.openid(APPID, USER);
        let unionid = stage.emulator.unionid(APPID, USER).unwrap_or_default();
        let web_openid = stage.emulator.openid(SITE_APPID, USER);
        Self(BTreeMap::from([
            ("appid", APPID.to_owned()),
            ("origin", stage.browser_origin().to_owned()),
            ("openid", openid),
            ("unionid", unionid),
            ("web_openid", web_openid),
        ]))
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.0.insert(name, value);
    }

    fn fill_in(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str) -> Result<(), String> {
        let orders = STEPS.iter().find(|step| step.english.name == "call the backend").unwrap();
        let answer = TextAnswer { status, headers: "content-type: text/plain\n".into(), body: body.into() };
        let variables = [("openid", "o1"), ("unionid", "u1"), ("appid", "wx1"), ("token", "ey.J.x")];
        check(orders, &answer, &Variables(variables.map(|(name, value)| (name, value.to_owned())).into()))
    }

    #[test]
    fn an_answer_as_expected_passes() {
        let body = "X-WX-OPENID: o1\nX-WX-UNIONID: u1\nX-WX-APPID: wx1\nX-WX-SOURCE: wx_client\n";

        assert_eq!(verdict(200, body), Ok(()));
    }

    #[test]
    fn an_answer_that_differs_fails_and_is_shown() {
        let sound = "X-WX-OPENID: o1\nX-WX-UNIONID: u1\nX-WX-APPID: wx1\nX-WX-SOURCE: wx_client\n";
        for (status, body, expected) in [
            (502, sound.to_owned(), "expected status 200 in:\n502\ncontent-type: text/plain\nX-WX-OPENID"),
            (200, sound.replace("o1", "mallory"), "expected `X-WX-OPENID: o1` in:\n200\n"),
            (200, format!("{sound}cookie: ey.J.x\n"), "expected no `ey.J.x` in:\n200\n"),
        ] {
            let reason = verdict(status, &body).unwrap_err();

            assert!(reason.starts_with(expected), "{reason}");
        }
    }
}
