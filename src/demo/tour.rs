//! Prints the steps as lines to paste, or runs them.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};

use super::client::{self, TextAnswer};
use super::curl;
use super::stage::{APPID, SITE_APPID, Stage, USER};
use super::step::{DemoServer, DemoStep, STEPS, Show};

/// Prints the addresses of all parts and the lines to paste.
pub(super) fn show(stage: &Stage, out: &mut impl Write) -> io::Result<()> {
    let folder = stage.folder();
    writeln!(
        out,
        "menshen {}: a gateway, an emulated WeChat, and a backend that knows neither of them.\n",
        env!("CARGO_PKG_VERSION")
    )?;
    writeln!(out, "  gateway     http://{}", stage.address(DemoServer::Gateway))?;
    writeln!(out, "  its admin   http://{}", stage.address(DemoServer::Admin))?;
    writeln!(out, "  WeChat      http://{} (emulated)", stage.address(DemoServer::WeChat))?;
    writeln!(out, "  backend     http://{}", stage.backend())?;
    writeln!(out, "  config      {}", folder.configuration().display())?;
    writeln!(out, "  access log  {}\n", folder.access_log().display())?;
    writeln!(
        out,
        "Open http://{}/orders/7 in a browser on this machine. It asks you to sign in. The link below the QR code opens",
        stage.address(DemoServer::Gateway)
    )?;
    writeln!(out, "the phone: scan, confirm. Then you see what the backend receives about you.\n")?;
    writeln!(out, "Or paste these lines into another terminal, one by one.\n")?;
    if has_proxy() {
        writeln!(out, "# a proxy is set in this environment: these requests must not use it")?;
        writeln!(out, "export no_proxy=127.0.0.1\n")?;
    }
    for (step, number) in STEPS.iter().zip(1..) {
        writeln!(out, "# {number}. {}: {}", step.name, step.about)?;
        let line = curl::shell_line(step, &url(stage, step));
        writeln!(out, "{}\n", line.replace("$gateway", &stage.address(DemoServer::Gateway).to_string()))?;
    }
    writeln!(out, "Ctrl-C ends the demo and removes what it wrote.")?;
    out.flush()
}

/// Runs the steps and prints a line for each. Returns whether all of them passed.
pub(super) fn run(stage: &Stage, out: &mut impl Write) -> io::Result<bool> {
    let mut variables = Variables::new(stage);
    let mut passed = 0;
    for step in STEPS {
        match stage.block_on(run_step(step, stage, &mut variables)) {
            Ok(()) => {
                passed += 1;
                writeln!(out, "ok   {}: {}", step.name, step.about)?;
            }
            Err(reason) => writeln!(out, "FAIL {}: {reason}", step.name)?,
        }
        out.flush()?;
    }
    writeln!(out, "{passed} of {} steps passed", STEPS.len())?;
    out.flush()?;
    Ok(passed == STEPS.len())
}

/// Runs one step; `Err` is the reason why it failed.
async fn run_step(step: &DemoStep, stage: &Stage, variables: &mut Variables) -> Result<(), String> {
    let times = if let Show::Repeated { times, .. } = step.show { times } else { 1 };
    let server = stage.address(step.call.server);
    let mut answer = None;
    for _ in 0..times {
        let sent = client::send(&step.call, server, |text| variables.fill_in(text)).await;
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
            ("gateway", stage.address(DemoServer::Gateway).to_string()),
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
        let orders = STEPS.iter().find(|step| step.name == "call the backend").unwrap();
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
