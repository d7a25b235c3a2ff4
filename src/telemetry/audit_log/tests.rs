use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::config::ByteSize;

const FULL: AuditLogEntry<'static> = AuditLogEntry {
    timestamp: Timestamp::from_millis(1_763_710_711_042),
    event: AuditEvent::Refusal,
    outcome: "denied_by_list",
    request_id: Some("3cee1fc1a4cebd9a143d608990761bc8"),
    client_address: Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7))),
    route: Some("orders"),
    app: Some("shop"),
    subject: Some("5bb7a9d5ee13ddaf"),
    bound_user: Some("made-1:83c1"),
    door: Some("internal"),
    requester: Some("crm"),
    scope: Some("subject"),
    session: Some("q83vEjRWeJA"),
    count: Some(2),
    api_path: Some("/wxa/msg"),
    errcode: Some("40001"),
};

fn render(entry: &AuditLogEntry<'_>) -> String {
    let mut buffer = Vec::new();
    entry.render(&mut buffer);
    assert!(buffer.len() <= entry.longest(), "{} bytes, {} foretold", buffer.len(), entry.longest());
    String::from_utf8(buffer).unwrap()
}

fn counter() -> IntCounter {
    IntCounter::new("dropped", "dropped").unwrap()
}

fn open(path: &Path, findings: &mut Findings) -> Option<AuditLog> {
    let config = config::AuditLog { file: Some(path.into()), ..config::AuditLog::default() };
    AuditLog::open(&config, counter(), findings)
}

#[test]
fn line_has_the_fields_that_are_set_and_no_other() {
    assert_eq!(
        render(&FULL),
        concat!(
            r#"{"timestamp":"2025-11-21T07:38:31.042Z","event":"refusal","outcome":"denied_by_list","#,
            r#""request_id":"3cee1fc1a4cebd9a143d608990761bc8","client.address":"203.0.113.7","http.route":"orders","#,
            r#""app":"shop","user.hash":"5bb7a9d5ee13ddaf","bound_user.hash":"made-1:83c1","door":"internal","caller":"crm","scope":"subject","#,
            r#""session.id":"q83vEjRWeJA","session.count":2,"wechat.path":"/wxa/msg","wechat.errcode":"40001"}"#,
            "\n"
        )
    );
    assert_eq!(
        render(&AuditLogEntry::new(FULL.timestamp, AuditEvent::Listing, "ok")),
        "{\"timestamp\":\"2025-11-21T07:38:31.042Z\",\"event\":\"listing\",\"outcome\":\"ok\"}\n"
    );
}

#[test]
fn text_of_any_length_and_kind_stays_one_line() {
    let text = "\u{85}\n\"".repeat(10_000);

    let line = render(&AuditLogEntry { app: Some(&text), ..FULL });

    assert_eq!(line.matches('\n').count(), 1);
    assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
}

#[test]
fn documentation_explains_every_field_and_event_and_no_other() {
    let document = fs::read_to_string("docs/request-log.md").unwrap();
    let (_, section) = document.split_once("## The audit log").unwrap();
    let named = |title: &str| -> Vec<String> {
        let (_, table) = section.split_once(title).unwrap();
        let (table, _) = table.split_once("\n##").unwrap_or((table, ""));
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        rows.map(str::to_owned).collect()
    };
    let line = render(&FULL);
    let parts = line.trim_matches(['{', '}', '\n']).split(",\"");
    let fields: Vec<&str> =
        parts.map(|part| part.trim_start_matches('"').split('"').next().unwrap()).collect();

    assert_eq!(named("### Fields of an event"), fields);
    assert_eq!(named("### Events"), AuditEvent::ALL.map(AuditEvent::as_str));
}

#[test]
fn file_is_for_its_owner_and_group_and_is_opened_again_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let log = open(&path, &mut Findings::default()).unwrap();
    assert!(log.is_on());

    log.write(&AuditLogEntry { outcome: "one", ..FULL });
    log.flush();
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    log.write(&AuditLogEntry { outcome: "two", ..FULL });
    drop(log);

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o037, 0);
    assert_eq!(fs::read_to_string(&moved).unwrap(), render(&AuditLogEntry { outcome: "one", ..FULL }));
    assert_eq!(fs::read_to_string(&path).unwrap(), render(&AuditLogEntry { outcome: "two", ..FULL }));
}

#[test]
fn log_without_a_file_takes_lines_and_forgets_them() {
    let dropped = counter();

    let log =
        AuditLog::open(&config::AuditLog::default(), dropped.clone(), &mut Findings::default()).unwrap();
    log.write(&FULL);
    log.reopen();
    log.flush();

    assert!(!log.is_on());
    assert_eq!(dropped.get(), 0);
}

#[test]
fn problems_are_findings() {
    let folder = tempfile::tempdir().unwrap();
    let mut findings = Findings::default();
    let small = config::AuditLog { buffer: ByteSize(1), ..config::AuditLog::default() };

    assert!(open(folder.path(), &mut findings).is_none());
    assert!(AuditLog::open(&small, counter(), &mut findings).is_none());

    let found: Vec<_> = findings.iter().map(ToString::to_string).collect();
    let name = folder.path().display();
    assert_eq!(
        found,
        [
            format!("telemetry.audit_log.file: `{name}` cannot be written: Is a directory (os error 21)"),
            "telemetry.audit_log.buffer: 1B is not a size for the buffer; write `1MiB` to `1GiB`".to_owned(),
        ]
    );
}
