use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::clock::Timestamp;
use crate::config::ByteSize;
use crate::telemetry::line_log::{MAX_TEXT_BYTES, MIN_BUFFER, Sink};

const FULL: AccessLogEntry<'static> = AccessLogEntry {
    timestamp: Timestamp::from_millis(1_763_710_711_042),
    request_id: "3cee1fc1a4cebd9a143d608990761bc8",
    client_address: std::net::IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
    method: "GET",
    scheme: "https",
    version: http::Version::HTTP_2,
    server_address: Some("shop.example.com"),
    path: "/api/orders/7",
    route: Some("orders"),
    decision: "forwarded",
    reason: "authenticated",
    status: 200,
    app: Some("shop"),
    subject: Some("2026:5bb7a9d5ee13ddaf1c4f0e6a7d9b2c38"),
    upstream: Some("backend"),
    upstream_address: Some(std::net::SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 8080)),
    duration: Duration::from_micros(12_345),
    upstream_duration: Some(Duration::from_micros(11_007)),
    upstream_error: None,
    request_bytes: 0,
    response_bytes: 5120,
};

fn render(entry: &AccessLogEntry<'_>) -> String {
    let mut buffer = Vec::new();
    entry.render(&mut buffer);
    assert!(buffer.len() <= entry.longest(), "{} bytes, {} foretold", buffer.len(), entry.longest());
    String::from_utf8(buffer).unwrap()
}

fn counter() -> IntCounter {
    IntCounter::new("dropped", "dropped").unwrap()
}

#[test]
fn line_has_every_field_of_the_request() {
    assert_eq!(
        render(&FULL),
        concat!(
            r#"{"timestamp":"2025-11-21T07:38:31.042Z","request_id":"3cee1fc1a4cebd9a143d608990761bc8","#,
            r#""client.address":"203.0.113.7","http.request.method":"GET","url.scheme":"https","#,
            r#""network.protocol.version":"2","server.address":"shop.example.com","url.path":"/api/orders/7","#,
            r#""http.route":"orders","decision":"forwarded","reason":"authenticated","#,
            r#""http.response.status_code":200,"app":"shop","user.hash":"2026:5bb7a9d5ee13ddaf1c4f0e6a7d9b2c38","upstream.name":"backend","#,
            r#""upstream.address":"[::1]:8080","duration_ms":12.345,"upstream.duration_ms":11.007,"#,
            r#""http.request.body.size":0,"http.response.body.size":5120}"#,
            "\n"
        )
    );
}

#[test]
fn fields_that_do_not_apply_are_left_out() {
    let bare = AccessLogEntry {
        server_address: None,
        route: None,
        status: 0,
        app: None,
        subject: None,
        upstream: None,
        upstream_address: None,
        upstream_duration: None,
        upstream_error: None,
        ..FULL
    };

    assert_eq!(
        render(&bare),
        concat!(
            r#"{"timestamp":"2025-11-21T07:38:31.042Z","request_id":"3cee1fc1a4cebd9a143d608990761bc8","#,
            r#""client.address":"203.0.113.7","http.request.method":"GET","url.scheme":"https","#,
            r#""network.protocol.version":"2","url.path":"/api/orders/7","decision":"forwarded","#,
            r#""reason":"authenticated","duration_ms":12.345,"#,
            r#""http.request.body.size":0,"http.response.body.size":5120}"#,
            "\n"
        )
    );
}

#[test]
fn documentation_explains_every_field_and_no_other() {
    let document = fs::read_to_string("docs/request-log.md").unwrap();
    let (_, fields) = document.split_once("## Fields").unwrap();
    let (fields, _) = fields.split_once("\n## ").unwrap();
    let documented: Vec<&str> =
        fields.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let example = document.lines().find(|line| line.starts_with("{\"timestamp\"")).unwrap();

    // Also the one that only a request that failed has.
    let failed = AccessLogEntry { upstream_error: Some("certificate expired"), ..FULL };
    let written: Vec<String> = keys(&render(&failed));

    assert_eq!(documented, written);
    assert_eq!(example, render(&FULL).trim_end(), "the example line");
}

/// The keys of an object in the order they are written.
fn keys(line: &str) -> Vec<String> {
    let parts = line.trim_matches(['{', '}', '\n']).split(",\"");
    parts.map(|part| part.trim_start_matches('"').split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn timestamp_is_rfc_3339_in_utc() {
    for (millis, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
        (1_798_761_599_000, "2026-12-31T23:59:59.000Z"),
        (1_798_761_600_000, "2027-01-01T00:00:00.000Z"),
        (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ] {
        let line = render(&AccessLogEntry { timestamp: Timestamp::from_millis(millis), ..FULL });
        assert!(line.starts_with(&format!(r#"{{"timestamp":"{expected}","#)), "{millis}: {line}");
    }
}

#[test]
fn every_day_of_four_centuries_has_its_date() {
    let mut expected = (1970, 1, 1);
    for day in 0..146_097 {
        let line = render(&AccessLogEntry { timestamp: Timestamp::from_seconds(day * 86_400), ..FULL });
        let (year, month, day) = expected;
        assert_eq!(line.get(14..24).unwrap(), format!("{year:04}-{month:02}-{day:02}"));
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u32::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        expected = match (month, day) {
            (12, 31) => (year + 1, 1, 1),
            (_, day) if day == days => (year, month + 1, 1),
            _ => (year, month, day + 1),
        };
    }
    assert_eq!(expected, (2370, 1, 1));
}

#[test]
fn extreme_numbers_fit() {
    let line = render(&AccessLogEntry {
        timestamp: Timestamp::from_millis(u64::MAX),
        client_address: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
        upstream_address: Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".parse().unwrap()),
        duration: Duration::MAX,
        upstream_duration: Some(Duration::MAX),
        status: u16::MAX,
        request_bytes: u64::MAX,
        response_bytes: u64::MAX,
        request_id: "",
        method: "",
        path: "",
        ..FULL
    });

    assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
}

#[test]
fn query_string_never_reaches_the_log() {
    for path in ["/a?code=secret", "/a?", "/a?b?c=secret"] {
        let line = render(&AccessLogEntry { path, ..FULL });
        assert!(line.contains(r#""url.path":"/a""#) && !line.contains("secret"), "{line}");
    }
}

#[test]
fn long_text_is_cut_at_a_character() {
    for (text, kept) in [
        ("x".repeat(MAX_TEXT_BYTES), "x".repeat(MAX_TEXT_BYTES)),
        ("x".repeat(MAX_TEXT_BYTES + 1), "x".repeat(MAX_TEXT_BYTES) + "…"),
        ("门".repeat(MAX_TEXT_BYTES), "门".repeat(MAX_TEXT_BYTES / 3) + "…"),
        ("\u{1}".repeat(MAX_TEXT_BYTES * 2), "\u{1}".repeat(MAX_TEXT_BYTES) + "…"),
    ] {
        let line: Value = serde_json::from_str(&render(&AccessLogEntry { path: &text, ..FULL })).unwrap();
        assert!(line["url.path"] == kept.as_str(), "{} bytes", text.len());
    }
}

#[test]
fn characters_that_act_on_a_reader_are_escaped() {
    for (text, written) in [
        ("a\"b\\c", r#""a\"b\\c""#),
        ("a\nb\r\t\0", r#""a\u000ab\u000d\u0009\u0000""#),
        ("\u{1b}[2J\u{7f}\u{9b}2J\u{85}", r#""\u001b[2J\u007f\u009b2J\u0085""#),
        ("\u{2028}\u{2029}\u{202e}\u{2066}", r#""\u2028\u2029\u202e\u2066""#),
        ("门神 é 🛡", r#""门神 é 🛡""#),
    ] {
        let line = render(&AccessLogEntry { server_address: Some(text), ..FULL });
        assert!(line.contains(&format!("\"server.address\":{written},")), "{line}");
    }
}

/// Hostile text: any characters, many of them dangerous.
fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r#"[\x00-\x20"\\/{}:,\x7f-\u{a0}\u{2028}\u{2029}]{0,64}"#,
        Just("\",\"reason\":\"forged\"}\n{\"a\":\"".to_owned()),
    ]
}

proptest! {
    #[test]
    fn line_is_one_line_of_json_whatever_the_request_holds(
        request_id in hostile_text(),
        method in hostile_text(),
        host in prop::option::of(hostile_text()),
        path in hostile_text(),
        millis in any::<u64>(),
        micros in any::<u64>(),
    ) {
        let line = render(&AccessLogEntry {
            timestamp: Timestamp::from_millis(millis),
            request_id: &request_id,
            method: &method,
            server_address: host.as_deref(),
            path: &path,
            duration: Duration::from_micros(micros),
            ..FULL
        });

        let body = line.strip_suffix('\n').unwrap();
        prop_assert!(!body.chars().any(char::is_control), "{body:?}");
        let object: Value = serde_json::from_str(body).unwrap();
        prop_assert_eq!(object["request_id"].as_str(), Some(request_id.as_str()));
        prop_assert_eq!(object["http.request.method"].as_str(), Some(method.as_str()));
        prop_assert_eq!(object["server.address"].as_str(), host.as_deref());
        prop_assert_eq!(object["url.path"].as_str(), path.split('?').next());
        prop_assert_eq!(object["reason"].as_str(), Some("authenticated"));
        let expected = if host.is_some() { 20 } else { 19 };
        prop_assert_eq!(object.as_object().unwrap().len(), expected);
    }
}

/// A target that shows what was written to it, and that can block, fail, or accept only a few bytes
/// at a time.
#[derive(Clone, Default)]
struct Target(Arc<(Mutex<TargetState>, Condvar)>);

#[derive(Default)]
struct TargetState {
    bytes: Vec<u8>,
    writes: usize,
    is_held: bool,
    /// What the next writes do; without a step, a write accepts all bytes.
    script: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Step {
    Take(usize),
    Fail(io::ErrorKind),
}

impl Target {
    fn hold(&self, held: bool) {
        self.0.0.lock().is_held = held;
        self.0.1.notify_all();
    }

    fn script(&self, steps: &[Step]) {
        self.0.0.lock().script = steps.iter().rev().copied().collect();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().bytes.clone()).unwrap()
    }

    fn writes(&self) -> usize {
        self.0.0.lock().writes
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock();
        self.0.1.wait_while(&mut state, |state| state.is_held);
        state.writes += 1;
        let taken = match state.script.pop() {
            None => bytes,
            Some(Step::Take(most)) => &bytes[..most.min(bytes.len())],
            Some(Step::Fail(kind)) => return Err(kind.into()),
        };
        state.bytes.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_to(target: impl Write + Send + 'static, dropped: &IntCounter) -> AccessLog {
    log_with_buffer(MIN_BUFFER, target, dropped)
}

fn log_with_buffer(buffer: ByteSize, target: impl Write + Send + 'static, dropped: &IntCounter) -> AccessLog {
    let writer = LineLog::start(TRAITS, Box::new(target), None, buffer.as_usize(), dropped.clone());
    AccessLog { writer: Some(writer.unwrap()) }
}

fn paths(text: &str) -> Vec<String> {
    let path =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["url.path"].as_str().unwrap().to_owned();
    text.lines().map(path).collect()
}

fn write_path(log: &AccessLog, path: &str) {
    log.write(&AccessLogEntry { path, ..FULL });
}

#[test]
fn flush_waits_until_the_lines_are_written() {
    let (target, dropped) = (Target::default(), counter());
    let log = log_to(target.clone(), &dropped);

    for round in 1..=3 {
        write_path(&log, "/a");
        log.flush();
        assert_eq!(target.text().lines().count(), round);
    }
    log.flush();

    assert_eq!(dropped.get(), 0);
}

#[test]
fn dropping_the_log_writes_what_is_left() {
    let (target, dropped) = (Target::default(), counter());
    let log = log_to(target.clone(), &dropped);

    (0..100).for_each(|n| write_path(&log, &format!("/{n}")));
    drop(log);

    assert_eq!(paths(&target.text()), Vec::from_iter((0..100).map(|n| format!("/{n}"))));
}

#[test]
fn end_does_not_wait_longer_than_the_lines_take() {
    let log = log_to(Target::default(), &counter());

    write_path(&log, "/a");
    let is_done = log.writer.as_ref().unwrap().queue.close(Duration::from_secs(60));

    assert!(is_done);
}

#[test]
fn lines_are_written_without_a_flush() {
    let (sender, receiver) = mpsc::channel();
    struct Channel(mpsc::Sender<Vec<u8>>);
    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = log_to(Channel(sender), &counter());

    for _ in 0..3 {
        write_path(&log, "/a");
        let batch = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(paths(&String::from_utf8(batch).unwrap()), ["/a"]);
    }
}

#[test]
fn many_lines_are_one_write() {
    let (target, dropped) = (Target::default(), counter());
    let log = log_to(target.clone(), &dropped);

    target.hold(true);
    (0..500).for_each(|_| write_path(&log, "/a"));
    target.hold(false);
    log.flush();

    assert_eq!(target.text().lines().count(), 500);
    assert!(target.writes() <= 3, "{} writes", target.writes());
}

#[test]
fn lines_of_many_threads_stay_whole() {
    let (target, dropped) = (Target::default(), counter());
    let log = log_with_buffer(ByteSize::mib(8), target.clone(), &dropped);

    thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || (0..200).for_each(|n| write_path(log, &format!("/{thread}/{n}"))));
        }
    });
    drop(log);

    let mut written = paths(&target.text());
    written.sort();
    let mut expected: Vec<_> =
        (0..8).flat_map(|thread| (0..200).map(move |n| format!("/{thread}/{n}"))).collect();
    expected.sort();
    assert_eq!(written, expected);
}

#[test]
fn lines_beyond_the_buffer_are_dropped_whole_and_counted() {
    let (target, dropped) = (Target::default(), counter());
    let log = log_to(target.clone(), &dropped);
    let long_path = format!("/{}", "x".repeat(1000));

    target.hold(true);
    (0..5000).for_each(|_| write_path(&log, &long_path));
    let dropped_while_held = dropped.get();
    target.hold(false);
    drop(log);

    let text = target.text();
    assert!(text.len() <= MIN_BUFFER.as_usize(), "{} bytes were held", text.len());
    assert!(dropped_while_held > 4000, "{dropped_while_held}");
    assert_eq!(paths(&text).len() as u64, 5000 - dropped_while_held);
    assert_eq!(dropped.get(), dropped_while_held);
}

#[test]
fn longest_line_fits_an_empty_buffer() {
    let (target, dropped) = (Target::default(), counter());
    let log = log_to(target.clone(), &dropped);
    let worst = "\u{1}".repeat(MAX_TEXT_BYTES * 2);

    log.write(&AccessLogEntry {
        request_id: &worst,
        method: &worst,
        scheme: &worst,
        server_address: Some(&worst),
        path: &worst,
        route: Some(&worst),
        decision: &worst,
        reason: &worst,
        app: Some(&worst),
        subject: Some(&worst),
        upstream: Some(&worst),
        ..FULL
    });
    drop(log);

    assert_eq!((target.text().lines().count(), dropped.get()), (1, 0));
}

#[test]
fn stuck_target_delays_no_request_and_the_end_only_for_a_time() {
    let (target, dropped) = (Target::default(), counter());
    let log = log_to(target.clone(), &dropped);
    target.hold(true);

    write_path(&log, "/a");
    let queue = &log.writer.as_ref().unwrap().queue;
    queue.flush(Duration::from_millis(10));
    let is_done = queue.close(Duration::from_millis(10));

    assert!(!is_done);
    target.hold(false);
}

#[test]
fn closed_pipe_loses_lines_not_the_process() {
    let (reader, writer) = io::pipe().unwrap();
    let dropped = counter();
    let log = log_to(writer, &dropped);
    drop(reader);

    for _ in 0..3 {
        write_path(&log, "/a");
        log.flush();
    }

    assert_eq!(dropped.get(), 3);
}

#[test]
fn pipe_gets_lines_as_they_are() {
    let (mut reader, writer) = io::pipe().unwrap();
    let log = log_to(writer, &counter());

    write_path(&log, "/a");
    drop(log);

    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(paths(&text), ["/a"]);
}

#[test]
fn part_of_a_line_left_by_a_failure_spoils_no_other() {
    use Step::{Fail, Take};
    let full = io::ErrorKind::StorageFull;
    let line = render(&AccessLogEntry { path: "/1", ..FULL }).len();
    for (script, whole, lost) in [
        (vec![Take(10), Fail(full)], vec!["/3"], 2),
        (vec![Take(line + 10), Fail(full)], vec!["/1", "/3"], 1),
        (vec![Take(line), Fail(full)], vec!["/1", "/3"], 1),
        (vec![Fail(full)], vec!["/3"], 2),
        (vec![Take(10), Fail(full), Fail(full)], vec![], 3),
        (vec![Take(0)], vec!["/3"], 2),
        (vec![Take(10), Fail(io::ErrorKind::Interrupted), Take(5)], vec!["/1", "/2", "/3"], 0),
        (vec![Take(10), Fail(io::ErrorKind::WouldBlock), Take(5)], vec!["/1", "/2", "/3"], 0),
    ] {
        let (target, dropped) = (Target::default(), counter());
        let mut sink = Sink::new(TRAITS.log, Box::new(target.clone()), None, dropped.clone());
        target.script(&script);
        let [one, two, three] = ["/1", "/2", "/3"].map(|path| render(&AccessLogEntry { path, ..FULL }));

        sink.write(format!("{one}{two}").as_bytes());
        sink.write(three.as_bytes());
        let text = target.text();
        let parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());

        let read: Vec<_> = parsed.map(|line| line["url.path"].as_str().unwrap().to_owned()).collect();
        assert_eq!((read, dropped.get()), (whole.into_iter().map(str::to_owned).collect(), lost), "{text}");
    }
}

fn file_config(path: &Path) -> config::AccessLog {
    config::AccessLog {
        target: AccessLogTarget::File,
        file: Some(path.into()),
        ..config::AccessLog::default()
    }
}

#[test]
fn file_is_appended_to_and_opened_again_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let mut findings = Findings::default();
    fs::write(&path, render(&AccessLogEntry { path: "/0", ..FULL })).unwrap();
    let log = AccessLog::open(&file_config(&path), counter(), &mut findings).unwrap();

    write_path(&log, "/1");
    log.flush();
    fs::rename(&path, &moved).unwrap();
    write_path(&log, "/2");
    log.flush();
    log.reopen();
    write_path(&log, "/3");
    log.flush();

    assert_eq!(paths(&fs::read_to_string(&moved).unwrap()), ["/0", "/1", "/2"]);
    assert_eq!(paths(&fs::read_to_string(&path).unwrap()), ["/3"]);
    assert_eq!(findings, Findings::default());
}

#[test]
fn file_that_cannot_be_opened_again_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("logs/access.log"), folder.path().join("moved"));
    fs::create_dir(path.parent().unwrap()).unwrap();
    let log = AccessLog::open(&file_config(&path), counter(), &mut Findings::default()).unwrap();

    fs::rename(path.parent().unwrap(), &moved).unwrap();
    log.reopen();
    write_path(&log, "/1");
    drop(log);

    assert_eq!(paths(&fs::read_to_string(moved.join("access.log")).unwrap()), ["/1"]);
}

#[test]
fn log_that_is_off_takes_lines_and_forgets_them() {
    let config = config::AccessLog { target: AccessLogTarget::Off, ..config::AccessLog::default() };
    let dropped = counter();

    let log = AccessLog::open(&config, dropped.clone(), &mut Findings::default()).unwrap();
    write_path(&log, "/a");
    log.reopen();
    log.flush();

    assert_eq!(dropped.get(), 0);
}

#[test]
fn problems_are_reported_before_a_file_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let stdout = config::AccessLog::default();
    let table = [
        (stdout.clone(), true, vec![]),
        (file_config(&path), true, vec![]),
        (
            config::AccessLog { target: AccessLogTarget::File, ..stdout.clone() },
            false,
            vec![
                "telemetry.access_log.file: `target` is `file`, but no file is named; write `file: access.log`, or `target: stdout`",
            ],
        ),
        (
            config::AccessLog { file: Some("a.log".into()), ..stdout.clone() },
            true,
            vec![
                "telemetry.access_log.file: nothing is written to `a.log`; write `target: file` to use it, or leave `file` out",
            ],
        ),
        (config::AccessLog { buffer: ByteSize::mib(1024), ..stdout.clone() }, true, vec![]),
        (
            config::AccessLog { buffer: ByteSize(u64::MAX), ..stdout.clone() },
            false,
            vec![
                "telemetry.access_log.buffer: 18446744073709551615B is not a size for the buffer; write `1MiB` to `1GiB`",
            ],
        ),
        (
            config::AccessLog { target: AccessLogTarget::File, buffer: ByteSize(1), ..stdout },
            false,
            vec![
                "telemetry.access_log.buffer: 1B is not a size for the buffer; write `1MiB` to `1GiB`",
                "telemetry.access_log.file: `target` is `file`, but no file is named; write `file: access.log`, or `target: stdout`",
            ],
        ),
    ];
    for (config, sound, expected) in table {
        let mut findings = Findings::default();
        assert_eq!(AccessLog::check(&config, &mut findings), sound, "{config:?}");
        assert_eq!(Vec::from_iter(findings.iter().map(ToString::to_string)), expected, "{config:?}");
    }
    assert!(!path.exists(), "a check creates no file");
}

#[test]
fn target_that_cannot_be_opened_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let mut findings = Findings::default();

    assert!(AccessLog::open(&file_config(folder.path()), counter(), &mut findings).is_none());

    let found: Vec<_> = findings.iter().map(ToString::to_string).collect();
    let name = folder.path().display();
    assert_eq!(
        found,
        [format!("telemetry.access_log.file: `{name}` cannot be written: Is a directory (os error 21)")]
    );
}
