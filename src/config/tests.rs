//! The loader from the operator's side: files in, messages out.

mod paths;
mod reference;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::tree::{self, Scalar, ScalarKind, YamlNode, YamlValue};
use super::{Document, Draft, Findings, SecretSource, schema};

const MINIMAL: &str = include_str!("../../conf/minimal.yaml");
const EVERY_KEY: &str = include_str!("../../conf/menshen.yaml");

#[test]
fn every_valid_file_loads_without_a_message() {
    let files = fixtures("valid");

    for file in &files {
        let document = Document::load(file).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(document.report(Findings::default()).to_string(), "", "{}", file.display());
    }

    assert_eq!(files.len(), VALID, "a fixture was added or lost");
}

const VALID: usize = 9;

#[test]
fn example_files_load_without_a_message() {
    for (name, text) in [
        ("conf/minimal.yaml", MINIMAL),
        ("conf/menshen.yaml", EVERY_KEY),
        ("conf/existing-client.yaml", include_str!("../../conf/existing-client.yaml")),
    ] {
        let document = parse(name, text);
        assert_eq!(document.report(Findings::default()).to_string(), "", "{name}");
    }
}

#[test]
fn full_example_holds_every_key_of_the_schema() {
    let written = tree::parse(&uncommented(EVERY_KEY)).unwrap().unwrap();
    let mut paths = BTreeSet::new();
    collect(&written, String::new(), &mut paths);

    let missing: Vec<String> =
        schema::keys().into_iter().map(|key| key.path).filter(|path| !paths.contains(path)).collect();

    assert_eq!(missing, Vec::<String>::new(), "write these keys into conf/menshen.yaml");
}

#[test]
fn commented_out_keys_of_the_full_example_are_valid_too() {
    let report = Document::parse("", &uncommented(EVERY_KEY)).unwrap_err();

    let others: Vec<String> = report
        .findings()
        .filter(|finding| !finding.reason.starts_with("this key is written twice"))
        .map(ToString::to_string)
        .collect();
    assert_eq!(others, Vec::<String>::new());
}

#[test]
fn full_example_shows_the_defaults() {
    let wechat = MINIMAL.find("wechat:").unwrap()..MINIMAL.find("upstreams:").unwrap();
    let mut least = MINIMAL.to_owned();
    least.replace_range(wechat, "");
    let defaults = serde_json::to_value(parse("least", &least).config).unwrap();
    let example = serde_json::to_value(parse("conf/menshen.yaml", EVERY_KEY).config).unwrap();

    for (section, _) in schema::properties(schema::root()) {
        let (mut example, mut default) = (example[section].clone(), defaults[section].clone());
        if section == "apps" {
            continue;
        }
        for upstreams in [&mut example, &mut default].into_iter().filter(|_| section == "upstreams") {
            upstreams["backend"].as_object_mut().unwrap().remove("servers");
        }
        assert_eq!(example, default, "{section}");
    }
}

#[test]
fn a_template_keeps_its_types_and_its_mistakes_have_a_line() {
    let with = |answer: &str| {
        format!(
            "{MINIMAL}\nlogin:\n  facades:\n    - path: /login\n      code: {{ query: c }}\n      answer: {answer}\n"
        )
    };
    let answer = r#"{ a: "{x}", "1": [1, -2, true, null, "3"], b: { c: "true" } }"#;
    let config = parse("test.yaml", &with(answer)).config;
    let expected = serde_json::json!({ "a": "{x}", "1": [1, -2, true, null, "3"], "b": { "c": "true" } });
    assert_eq!(config.login.facades[0].answer.0, expected);

    for (answer, expected) in [
        ("{ a: 1.5 }", "login.facades[0].answer.a: `1.5` is not a whole number of 64 bits"),
        (
            "[ 99999999999999999999 ]",
            "login.facades[0].answer[0]: `99999999999999999999` is not a whole number",
        ),
        ("{ a: 1, a: 2 }", "login.facades[0].answer.a: this key is written twice, first on line"),
        ("{ ok:true }", "login.facades[0].answer.ok:true: this key has no value; write a space after `ok:`"),
    ] {
        let report = Document::parse("test.yaml", &with(answer)).unwrap_err().to_string();
        assert!(report.contains(expected), "{answer}: {report}");
    }
}

#[test]
fn published_schema_is_current() {
    assert_current(&root().join("conf/menshen.schema.json"), &format!("{:#}\n", schema::root()));
}

#[test]
fn published_reference_is_current() {
    assert_current(&root().join("docs/configuration.md"), &reference::markdown());
}

#[test]
fn every_key_is_described() {
    for key in schema::keys() {
        assert!(!schema::description(key.property).is_empty(), "{}", key.path);
    }
}

#[test]
fn finding_points_to_its_key_or_to_the_nearest_parent() {
    let document = parse("menshen.yaml", MINIMAL);
    for (path, place) in [
        ("listeners", "3:3"),
        ("listeners[0].address", "3:14"),
        ("listeners[0].tls", "3:5"),
        ("listeners[7].address", "3:3"),
        ("apps.shop.secret", "8:13"),
        ("apps.shopping.secret", "5:3"),
        ("upstreams.backend.servers[0]", "13:15"),
        ("routes[0].upstream", "17:15"),
        ("routes[0].upstream.x", "17:15"),
        ("routes[x]", "15:3"),
        ("limits.h2", "2:1"),
    ] {
        let mut findings = Findings::default();
        findings.error(path, "reason");
        let report = document.report(findings).to_string();
        assert_eq!(report, format!("menshen.yaml:{place}: error: {path}: reason"));
    }
}

#[test]
fn key_path_finds_names_with_dots_and_brackets() {
    let text = MINIMAL.replace(
        "  shop:",
        "  shop: &shop\n    kind: mini_program\n    appid: a\n    secret: b\n  shop.x[1]:",
    );
    let document = parse("f", &text.replace("shop: &shop", "shop:"));
    let mut findings = Findings::default();
    findings.warning("apps.shop.x[1].secret", "reason").hint("hint");

    assert_eq!(
        document.report(findings).to_string(),
        "f:12:13: warning: apps.shop.x[1].secret: reason; hint"
    );
}

#[test]
fn findings_are_sorted_by_line_and_each_is_written_once() {
    let document = parse("f", MINIMAL);
    let mut findings = Findings::default();
    findings.error("routes[0].upstream", "third");
    findings.error("", "first");
    findings.warning("apps.shop", "second");
    findings.error("routes[0].upstream", "third");

    let report = document.report(findings);

    assert!(report.has_errors());
    assert_eq!(
        report.to_string(),
        "f: error: first\nf:6:5: warning: apps.shop: second\nf:17:15: error: routes[0].upstream: third"
    );
}

#[test]
fn section_with_an_error_of_its_own_is_not_built() {
    let mut findings = Findings::default();
    findings.error("a", "wrong");

    let sound = findings.scope(|own| {
        own.warning("b", "doubtful");
        (!own.has_errors()).then_some("b")
    });
    let wrong = findings.scope(|own| {
        own.error("c", "wrong");
        Some("c")
    });

    assert_eq!((sound, wrong), (Some("b"), None));
    let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(paths, ["a", "b", "c"]);
}

#[test]
fn a_proxy_is_believed_about_address_and_scheme_unless_more_is_said() {
    let proxies =
        |written: &str| parse("f", &format!("{MINIMAL}trusted_proxies: {written}\n")).config.trusted_proxies;
    let both = ["X-Forwarded-For", "X-Forwarded-Proto"];
    for (written, believe) in [
        ("[10.0.0.0/8]", &both[..]),
        ("[{ from: 10.0.0.0/8 }]", &both),
        ("[{ from: [10.0.0.0/8], believe: [X-Request-Id] }]", &["X-Request-Id"]),
        ("[{ from: 10.0.0.0/8, believe: [] }]", &[]),
        // The list of addresses is not read, so no header says which proxy it came through.
        ("[{ from: 10.0.0.0/8, client_address: X-Real-IP }]", &["X-Forwarded-Proto"]),
        (
            "[{ from: 10.0.0.0/8, client_address: X-Real-IP, believe: [X-Forwarded-For] }]",
            &["X-Forwarded-For"],
        ),
    ] {
        let proxies = proxies(written);
        assert_eq!(proxies[0].believe, believe, "{written}");
        assert_eq!(proxies[0].from, ["10.0.0.0/8".parse().unwrap()], "{written}");
    }
}

#[test]
fn two_entries_that_believe_one_network_differently_are_refused() {
    let said = |written: &str| {
        let text = format!("{MINIMAL}trusted_proxies: {written}\n");
        parse("f", &text).report(Findings::default()).to_string()
    };
    for written in ["[10.0.0.0/8, 10.0.0.0/8]", "[10.0.0.0/8, { from: 10.0.0.1, believe: [] }]"] {
        assert_eq!(said(written), "", "{written}");
    }
    assert_eq!(
        said("[10.0.0.0/8, { from: 10.0.0.0/8, believe: [] }]"),
        "f:18:31: error: trusted_proxies[1]: trusted_proxies[0] already says what is believed from `10.0.0.0/8`; \
         write the network once, with everything to believe from it"
    );
}

#[test]
fn warning_is_not_an_error() {
    let text = format!("{MINIMAL}trusted_proxies: ['::/0']\n");

    let report = parse("f", &text).report(Findings::default());

    assert!(!report.has_errors());
    assert_eq!(
        report.to_string(),
        "f:18:19: warning: trusted_proxies[0]: `::/0` is every address: any client can claim any address, and no \
         limit on logins works; write only the addresses of your proxies"
    );
}

#[test]
fn no_message_shows_the_text_in_the_place_of_a_secret() {
    for secret in [
        "secret: [HUSH]",
        "secret: { HUSH }",
        "secret: { HUSH: 1 }",
        "secret: { value: HUSH }",
        "secret: { env: [HUSH] }",
        "secret: { env: { HUSH: 1 } }",
        "secret: { env: a, env: HUSH, HUSH: 1 }",
        "secret: { <<: HUSH }",
        "secret:HUSH",
        "secret: HUSH: x",
        "secret: \"HUSH\" HUSH",
        "secret: 'HUSH",
        "secret: *HUSH",
        "secret: !HUSH",
        "secret: !HUSH x",
        "secret: @HUSH",
        "secret: { env: HUSH",
        "secret: |-HUSH",
        "secret: \"HUSH\\q\"",
        "secret: &HUSH [*HUSH]",
        "secret: ? HUSH",
        "secret: %HUSH",
        "secret:\n    - HUSH",
        "secret: HUSH\n      HUSH: 1",
        "other: { secret:HUSH }",
        "other: { secret: HUSH }",
        "secret: a\n  two: { secret:HUSH }",
        "secret: a\n  two: HUSH",
        "secret: a\n  { secret:HUSH }",
    ] {
        let text = MINIMAL.replace("secret: emulator-secret-1", secret);
        let report = Document::parse("f", &text).expect_err(secret).to_string();
        assert!(!report.contains("HUSH"), "{secret}\n{report}");
    }
    let number = MINIMAL.replace("secret: emulator-secret-1", "secret: 4711");
    assert!(!Document::parse("f", &number).unwrap_err().to_string().contains("4711"));
}

#[test]
fn plain_text_is_read_as_it_is_written() {
    for text in [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "1_000",
        "0b11",
        "0o9",
        "0xg",
        "1:30",
        "12e",
        "e1",
        "1.2.3",
        "2026-01-02",
        "nan",
        "inf",
        "Infinity",
        ".infx",
        "0x",
        "1e400x",
        "NaN",
        "nUll",
        "--1",
        "+-1",
        "=",
        "1 2",
        "٣",
    ] {
        assert_eq!(scalar(text).kind(), ScalarKind::Text, "{text}");
        let yaml = MINIMAL.replace("secret: emulator-secret-1", &format!("secret: {text}"));
        let document = Document::parse("f", &yaml).unwrap_or_else(|report| panic!("{text}: {report}"));
        let SecretSource::Inline(read) = &document.config.apps["shop"].secret else { panic!("{text}") };
        assert_eq!(read, text);
    }
}

#[test]
fn numbers_booleans_and_null_are_not_text() {
    for (text, kind) in [
        ("true", ScalarKind::Boolean(true)),
        ("TRUE", ScalarKind::Boolean(true)),
        ("false", ScalarKind::Boolean(false)),
        ("False", ScalarKind::Boolean(false)),
        ("", ScalarKind::Null),
        ("~", ScalarKind::Null),
        ("null", ScalarKind::Null),
        ("0", ScalarKind::Integer(0)),
        ("-7", ScalarKind::Integer(-7)),
        ("007", ScalarKind::Number),
        ("+5", ScalarKind::Number),
        ("1.5", ScalarKind::Number),
        (".5", ScalarKind::Number),
        ("1e5", ScalarKind::Number),
        ("0x1F", ScalarKind::Number),
        ("0o17", ScalarKind::Number),
        (".inf", ScalarKind::Number),
        ("-.INF", ScalarKind::Number),
        (".nan", ScalarKind::Number),
    ] {
        assert_eq!(scalar(text).kind(), kind, "{text}");
        assert_eq!(Scalar { text: text.into(), is_plain: false }.kind(), ScalarKind::Text, "quoted {text}");
    }
}

#[test]
fn alias_of_aliases_is_refused_before_it_fills_the_memory() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }

    let report = Document::parse("f", &text).unwrap_err().to_string();

    assert!(report.contains("more than 50000 values"), "{report}");
}

#[test]
fn file_that_cannot_be_used_gets_a_plain_message() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let large = " ".repeat(1024 * 1024 + 1);
    for (path, message) in [
        (
            folder.path().join("absent"),
            ": error: there is no such file; name the file with `--config FILE` or MENSHEN_CONFIG",
        ),
        (folder.path().to_owned(), ": error: this is a directory; name a file"),
        (
            write("large", large.as_bytes()),
            ": error: the file is larger than 1 MiB; is it the configuration file?",
        ),
        (write("empty", b""), ": error: the file is empty; start from conf/minimal.yaml"),
        (write("comment", b"# a: b\n---\n"), ": error: the file is empty; start from conf/minimal.yaml"),
        (
            write("latin1", b"a: 1\nb: caf\xe9\n"),
            ":2:7: error: the file is not UTF-8 from here on; save the file as UTF-8",
        ),
    ] {
        let report = Document::load(&path).unwrap_err();
        assert_eq!(report.to_string(), format!("{}{message}", path.display()));
    }
}

#[test]
fn byte_order_mark_and_carriage_returns_change_nothing() {
    let text = format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"));

    let document = parse("f", &text);

    assert_eq!(format!("{:?}", document.config), format!("{:?}", parse("f", MINIMAL).config));
}

#[test]
fn reload_names_changed_static_keys_and_no_dynamic_ones() {
    let running = parse("f", MINIMAL).config;
    let mut new = running.clone();
    new.routes.clear();
    new.limits.max_header_fields = 1;
    assert_eq!(super::static_changes(&running, &new), Findings::default());
    new.listeners[0].h2c = true;
    new.limits.h2.max_concurrent_streams = 1;
    new.worker_threads = 3;

    let changes = super::static_changes(&running, &new);

    let paths: Vec<&str> = changes.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(paths, ["worker_threads", "listeners", "limits.h2"]);
}

#[test]
fn key_is_static_when_its_section_is() {
    let statics: Vec<String> = schema::keys()
        .into_iter()
        .filter(|key| schema::is_static(key.property))
        .map(|key| key.path)
        .collect();

    for path in [
        "data_dir",
        "listeners",
        "listeners[].tls.certificates[].key",
        "admin.address",
        "telemetry.log.level",
    ] {
        assert!(statics.iter().any(|other| other == path), "{path}");
    }
    for path in ["routes[].path", "apps.<name>.secret", "limits.max_header_fields", "tokens.keys[].kid"] {
        assert!(statics.iter().all(|other| other != path), "{path}");
    }
}

#[test]
fn inline_secret_is_neither_serialized_nor_debugged() {
    let document = parse("f", MINIMAL);

    let shown = format!("{document:?} {}", serde_json::to_string(&document.config).unwrap());

    assert!(!shown.contains("emulator-secret-1"));
    assert_eq!(shown.matches("[redacted]").count(), 2);
}

proptest! {
    #[test]
    fn every_text_is_loaded_or_refused_with_a_message(
        at in 0..MINIMAL.len(), length in 0..40_usize, noise in "[-a-z:{}\\[\\]*&!|>'\"%@`#,. \t\n0-9?~<]{0,6}",
    ) {
        let mut text = MINIMAL.to_owned();
        let start = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let end = (start + length..).find(|at| *at >= text.len() || text.is_char_boundary(*at)).unwrap();
        text.replace_range(start..end.min(MINIMAL.len()), &noise);

        if let Ok(draft) = Draft::read("f", &text, None) {
            prop_assert!(!draft.readings().is_empty(), "nothing of it is checked: {}", draft.report([]));
        }
        match Document::parse("f", &text) {
            Ok(document) => _ = document.report(Findings::default()).to_string(),
            Err(report) => prop_assert!(report.has_errors() && !report.to_string().contains("untagged")),
        }
    }
}

fn parse(name: &str, text: &str) -> Document {
    Document::parse(name, text).unwrap_or_else(|report| panic!("{report}"))
}

fn scalar(text: &str) -> Scalar {
    Scalar { text: text.to_owned(), is_plain: true }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/fixtures/config").join(kind)).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    files.sort();
    files
}

/// Compares a file in the repository with its expected text. With `UPDATE=1` in the environment,
/// writes it.
fn assert_current(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(path, expected).unwrap();
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == expected,
        "{} is out of date: check the change, then run `UPDATE=1 cargo test --lib config`\n--- written\n{written}\n--- now\n{expected}",
        path.display()
    );
}

/// The text, with the comment signs of commented-out keys removed.
fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let (indent, comment) = line.split_once("# ").filter(|(indent, _)| indent.trim().is_empty())?;
        let key = comment.trim_start().trim_start_matches("- ");
        let (name, _) = key.split_once(':')?;
        let is_key = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        is_key.then(|| format!("{indent}{comment}\n"))
    };
    text.lines().map(|text| line(text).unwrap_or_else(|| format!("{text}\n"))).collect()
}

/// Every key path of a file, as the schema writes it. Names of apps and upstreams become `<name>`.
fn collect(node: &YamlNode, path: String, paths: &mut BTreeSet<String>) {
    match &node.value {
        YamlValue::Scalar(_) => {}
        YamlValue::List(items) => items.iter().for_each(|item| collect(item, format!("{path}[]"), paths)),
        YamlValue::Map(entries) => {
            for entry in entries {
                let is_name = matches!(path.as_str(), "apps" | "lists" | "upstreams");
                let below = if is_name { format!("{path}.<name>") } else { schema::join(&path, &entry.key) };
                paths.insert(below.clone());
                collect(&entry.node, below, paths);
            }
        }
    }
}
