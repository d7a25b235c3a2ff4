//! A step as a shell line, for bash, zsh and dash. It needs curl, grep and sed.

use std::fmt::Write as _;

use super::step::{Between, DemoStep, Show, StepCall};

/// The line of a step; `url` is the whole URL of the request, `host` the `Host` of a browser, if it
/// is another than that of the URL.
pub(super) fn shell_line(step: &DemoStep, url: &str, host: Option<&str>) -> String {
    let curl = |options, call, url| curl(options, call, url, host);
    match step.show {
        Show::Body => format!("{}; echo", curl("-sS", &step.call, url)),
        Show::Everything => format!("{}; echo", curl("-sSi", &step.call, url)),
        Show::Lines(beginnings) => {
            format!("{} | grep -E '^({})'", curl("-sS", &step.call, url), beginnings.join("|"))
        }
        Show::Save(members) => {
            let curl = curl("-sS", &step.call, url);
            let mut line = format!(r#"answer=$({curl}); {PRINT}"#);
            for (member, variable) in members {
                let sed = format!(r#"sed 's/.*"{member}":"\([^"]*\)".*/\1/'"#);
                // Writing to a string cannot fail.
                _ = write!(line, r#"; {variable}=$({PRINT} | {sed})"#);
            }
            line
        }
        Show::SaveFromHeaders(parts) => {
            let curl = curl("-sSi", &step.call, url);
            let mut line = format!(r#"answer=$({curl}); {PRINT}"#);
            for Between { before, variable } in parts {
                let sed = format!(r"sed -n 's/.*{before}\([A-Za-z0-9_-]*\).*/\1/p'");
                // Writing to a string cannot fail.
                _ = write!(line, r#"; {variable}=$({PRINT} | {sed})"#);
            }
            line
        }
        Show::Repeated { times, headers } => {
            let times = (1..=times).map(|time| time.to_string()).collect::<Vec<_>>().join(" ");
            let curl = curl("-sSi", &step.call, url);
            format!("for i in {times}; do {curl}; echo; done | grep -iE '^(HTTP|{})'", headers.join("|"))
        }
    }
}

/// Prints the last answer: `echo` of some shells would read its backslashes.
const PRINT: &str = r#"printf '%s\n' "$answer""#;

fn curl(options: &str, call: &StepCall, url: &str, host: Option<&str>) -> String {
    let mut line = format!("curl {options}");
    if let Some(host) = host.filter(|_| call.is_of_browser()) {
        // Writing to a string cannot fail.
        _ = write!(line, " -H {}", quote(&format!("Host: {host}")));
    }
    for (name, value) in call.headers {
        // Writing to a string cannot fail.
        _ = write!(line, " -H {}", quote(&format!("{name}: {value}")));
    }
    if let Some(json) = call.json {
        _ = write!(line, " -H 'Content-Type: application/json' -d {}", quote(json));
    }
    let url = if url.contains(['?', '&', '$', '[']) { format!("\"{url}\"") } else { url.to_owned() };
    format!("{line} {url}")
}

/// A quoted word. The shell fills in its `$variables`, if it has any.
fn quote(text: &str) -> String {
    if text.contains('$') {
        format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#).replace('`', r"\`"))
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::step::STEPS;

    fn named(name: &str) -> String {
        let step = STEPS.iter().find(|step| step.english.name == name).unwrap();
        shell_line(step, "http://127.0.0.1:8080/x", None)
    }

    #[test]
    fn shell_fills_in_the_variable_of_a_body() {
        assert_eq!(
            named("send the code again"),
            r#"curl -sS -H 'Content-Type: application/json' -d "{\"code\":\"$code\"}" http://127.0.0.1:8080/x; echo"#
        );
    }

    #[test]
    fn saved_member_becomes_a_shell_variable() {
        assert_eq!(
            named("open the mini program"),
            concat!(
                r#"answer=$(curl -sS -H 'Content-Type: application/json' "#,
                r#"-d '{"appid":"wxe000000000000001","wxid":"alice"}' http://127.0.0.1:8080/x); "#,
                r#"printf '%s\n' "$answer"; "#,
                r#"code=$(printf '%s\n' "$answer" | sed 's/.*"code":"\([^"]*\)".*/\1/')"#,
            )
        );
    }

    #[test]
    fn no_line_has_characters_that_an_interactive_shell_expands() {
        for step in STEPS {
            let line = shell_line(step, "http://127.0.0.1:8080/x", None);

            assert!(!line.contains(['!', '`', '\n', '\t']), "{line}");
            assert!(!line.contains("<<<"), "dash has no here-strings: {line}");
        }
    }
}
