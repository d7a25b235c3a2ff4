//! The newcomer's first command: what it shows works, and it leaves nothing behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::browser::use_phone;
use crate::common::browser::Browser;

/// Every step of the demo, with what a newcomer sees when pasting its line.
const STEPS: [(&str, &[&str]); 24] = [
    ("open the mini program", &[r#"{"code":""#]),
    ("sign in", &[r#"{"access_token":"ey"#, r#""openid":"o"#, r#""unionid":"o"#]),
    ("call the backend", &["GET /orders/7 HTTP/1.1", "X-WX-OPENID: o", "X-WX-SOURCE: wx_client"]),
    ("pretend to be another user", &["X-WX-OPENID: o", "X-WX-APPID: wxe000000000000001"]),
    ("pretend on a public route", &["GET /public/menu HTTP/1.1", "no user is signed in"]),
    ("pretend in another spelling", &["HTTP/1.1 400 ", "header_name_refused"]),
    ("call without a token", &["HTTP/1.1 401 ", "no_token"]),
    ("call with a wrong token", &["HTTP/1.1 401 ", "invalid_token"]),
    ("send the code again", &[r#"{"access_token":"ey"#]),
    ("send the code of another client", &["HTTP/1.1 401 ", "code_already_used"]),
    ("make up a code", &["HTTP/1.1 401 ", "code_invalid"]),
    ("open a page in a browser", &["HTTP/1.1 303 ", "location: /auth/login?return_to=%2Forders%2F7"]),
    ("leave for WeChat", &["HTTP/1.1 303 ", "/connect/qrconnect?", "__Host-menshen-browser="]),
    ("scan and confirm", &[r#"{"code":""#]),
    ("come back from WeChat", &["HTTP/1.1 303 ", "location: /orders/7", "__Host-menshen="]),
    ("open the page again", &["GET /orders/7 HTTP/1.1", "X-WX-OPENID: o", "X-WX-SOURCE: wx_http"]),
    ("let another site use the cookie", &["HTTP/1.1 403 ", "cross_site"]),
    ("guess codes", &["HTTP/1.1 401 ", "HTTP/1.1 429 ", "retry-after: "]),
    ("stay signed in", &[r#"{"access_token":"ey"#, r#""refresh_token":""#]),
    ("look at the session", &[r#"{"app":"shop","openid":"o"#, r#""session":{"created_at":"20"#]),
    ("sign out", &["HTTP/1.1 204 "]),
    ("call with the old token", &["HTTP/1.1 401 ", "invalid_token"]),
    ("look at the metrics", &["menshen_logins_total{", "menshen_refused_requests_total{"]),
    ("fetch the public keys", &[r#"{"keys":[{"#, r#""alg":"ES256""#]),
];

#[test]
fn the_self_test_runs_every_step_and_succeeds() {
    let temporary = tempfile::tempdir().unwrap();

    let output = demo(temporary.path()).arg("--self-test").output().unwrap();

    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), STEPS.len() + 1, "{stdout}");
    for ((name, _), line) in STEPS.iter().zip(&lines) {
        assert!(line.starts_with(&format!("ok   {name}: ")), "{name}: {line}");
    }
    assert_eq!(lines[STEPS.len()], "24 of 24 steps passed");
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warned.lines().count() == 1 && warned.contains("127.0.0.1 is throttled"), "{warned}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(entries(temporary.path()), 0, "something was left behind");
}

#[test]
fn the_lines_shown_work_when_pasted_into_bash_as_they_stand() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(temporary.path());

    let output = paste(BASH, &demo.shown, temporary.path());

    assert_steps_work(&output);
    demo.end();
}

/// Shells that people have: macOS starts zsh, which reads no comments there, and Debian's `sh` is
/// dash.
#[test]
fn the_lines_shown_work_when_pasted_into_any_shell_with_what_stands_between_them() {
    const ZSH: &[&str] = &["zsh", "-f", "-i", "-o", "no_prompt_sp", "-o", "no_prompt_cr", "-s"];
    const SHELLS: [&[&str]; 3] = [ZSH, &["dash", "-s"], BASH];
    for shell in SHELLS {
        for language in ["en", "zh"] {
            let temporary = tempfile::tempdir().unwrap();
            let mut demo = Demo::start_with(temporary.path(), &["--lang", language]);

            let output = paste(shell, &demo.shown, temporary.path());

            assert_steps_work(&output);
            for complaint in ["not found", "no matches", "parse error", "syntax error", "bad pattern"] {
                assert!(!output.contains(complaint), "{shell:?} {language}: {output}");
            }
            demo.end();
        }
    }
}

#[test]
fn the_demo_speaks_the_language_of_its_terminal_or_of_its_option() {
    for (arguments, variable, is_chinese) in [
        (&[][..], "C.UTF-8", false),
        (&[][..], "zh_CN.UTF-8", true),
        (&["--lang", "zh"], "C.UTF-8", true),
        (&["--lang", "en"], "zh_CN.UTF-8", false),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = demo(temporary.path());
        command.env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", variable);
        let mut demo = Demo::of(command.args(arguments));

        // Every line of prose; commands are the same in both.
        for line in demo.shown.lines().filter(|line| line.starts_with(": ")) {
            assert_eq!(line.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), is_chinese, "{line}");
        }
        assert_eq!(demo.shown.contains("In a browser") || demo.shown.contains("in a browser"), !is_chinese);
        demo.end();
    }
}

/// The address that others reach it at is one of this machine, and the lines name it.
#[test]
fn a_demo_that_listens_elsewhere_shows_lines_that_work_there() {
    for host in ["127.0.0.2", "0.0.0.0", "[::1]"] {
        let temporary = tempfile::tempdir().unwrap();
        let address = format!("{host}:0");
        let mut demo = Demo::start_with(temporary.path(), &["--listen", &address]);
        let shown = if host == "0.0.0.0" { "127.0.0.1" } else { host };
        let begins = format!("http://{shown}:");
        assert_eq!(
            demo.shown.matches("http://").count(),
            demo.shown.matches(&begins).count() + others(&demo.shown, shown),
            "{}",
            demo.shown
        );

        let output = paste(BASH, &demo.shown, temporary.path());

        assert_steps_work(&output);
        demo.end();
    }
}

/// URLs of parts that no other machine needs: the admin listener and the backend are on loopback.
fn others(shown: &str, host: &str) -> usize {
    let urls = shown.split("http://").skip(1);
    urls.filter(|url| url.starts_with("127.0.0.1:") && host != "127.0.0.1").count()
}

#[test]
fn pages_of_the_demo_show_names_and_a_logo_and_no_appid() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Demo::start_with(temporary.path(), &["--lang", "zh"]);
    let address = demo.address();
    let browser = Browser::start();

    let tab = browser.open(&address);
    tab.wait("the frame is there", |tab| tab.evaluate("frames.length") == serde_json::json!(1));
    assert!(tab.has("img[src^='data:image/svg+xml']") && tab.text().contains("门神演示"), "{}", tab.text());
    tab.screenshot(&crate::common::browser::screenshots().join("demo-sign-in.png"));
    tab.click("a[href*='/auth/web/site/start']");
    tab.wait_for("a[href*='/connect/confirm']");
    assert!(tab.text().contains("门神演示") && !tab.text().contains("wxe0000"), "{}", tab.text());
    tab.screenshot(&crate::common::browser::screenshots().join("demo-qr-code.png"));
    let phone = browser.open(&tab.href("a[href*='/connect/confirm']"));
    assert!(phone.text().contains("普通用户") && phone.text().contains("unionid"), "{}", phone.text());
    phone.screenshot(&crate::common::browser::screenshots().join("demo-phone.png"));
    demo.end();
}

const BASH: &[&str] = &["bash", "--norc"];

/// Asserts that each step printed what a newcomer expects.
fn assert_steps_work(output: &str) {
    let shown_by_step: Vec<&str> = output.split("=== ").skip(1).collect();
    assert_eq!(shown_by_step.len(), STEPS.len(), "{output}");
    for ((name, expected), shown) in STEPS.iter().zip(shown_by_step) {
        for text in *expected {
            assert!(shown.contains(text), "{name}: expected `{text}` in:\n{shown}");
        }
        assert!(!shown.contains("curl: "), "{name}: curl failed:\n{shown}");
        assert!(!shown.contains(": mallory"), "{name}: a forged header went through:\n{shown}");
    }
}

#[test]
fn the_address_shown_signs_a_person_in_when_opened_in_a_browser() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(temporary.path());
    let address = &demo.address();
    let browser = Browser::start();

    let tab = browser.open(address);
    tab.click("a[href*='/auth/web/site/start']");
    use_phone(&browser, &tab.href("a[href*='/connect/confirm']"), "alice", "confirm");

    tab.wait_for_text("X-WX-SOURCE: wx_http");
    assert_eq!(tab.url(), *address);
    assert!(!tab.text().contains("__Host-"), "{}", tab.text());
    demo.end();
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(temporary.path());
    assert_eq!(entries(temporary.path()), 1, "the demo's folder");

    demo.end();

    assert_eq!(entries(temporary.path()), 0, "something was left behind");
}

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_menshen"));
    command.arg("demo").env("TMPDIR", temporary).env("LC_ALL", "C.UTF-8");
    for name in ["http_proxy", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}

/// A demo that was shown and waits to be ended.
struct Demo {
    child: Child,
    /// What it printed.
    shown: String,
}

impl Demo {
    fn start(temporary: &Path) -> Self {
        Self::start_with(temporary, &[])
    }

    fn start_with(temporary: &Path, arguments: &[&str]) -> Self {
        Self::of(demo(temporary).args(arguments))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut shown = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
            shown.push_str(&line);
            shown.push('\n');
            if line.contains("Ctrl-C") {
                break;
            }
        }
        Self { child, shown }
    }

    /// The address to open in a browser.
    fn address(&self) -> String {
        let mut words = self.shown.split_whitespace();
        words.find(|word| word.ends_with("/orders/7")).unwrap().to_owned()
    }

    /// Ends it as Ctrl-C does.
    fn end(&mut self) {
        assert!(
            Command::new("sh")
                .args(["-c", &format!("kill -INT {}", self.child.id())])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Ended already, where the test came so far.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Pastes what was shown into a shell, with `=== ` before what each step prints.
fn paste(shell: &[&str], shown: &str, home: &Path) -> String {
    let mut script = String::from("exec 2>&1\n");
    let pasted =
        shown.lines().skip_while(|line| !line.starts_with(": ")).filter(|line| !line.contains("Ctrl-C"));
    for line in pasted {
        if line.starts_with(": ") && line.as_bytes()[2].is_ascii_digit() {
            script.push_str("echo '=== '\n");
        }
        script.push_str(&format!("{line}\n"));
    }
    let mut process = Command::new(shell[0])
        .args(&shell[1..])
        .env("HOME", home)
        .env("PS1", "")
        .env_remove("http_proxy")
        .env_remove("all_proxy")
        .env_remove("ALL_PROXY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    drop(stdin);
    String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap()
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}
