//! When certificates expire: in the metrics, and in the log once a day.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use menshen::clock::{Clock as _, SystemClock};
use rcgen::{CertificateParams, KeyPair};

use crate::common::{NO_THROTTLE, ROUTES, World, eventually, leaks};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock.now().millis())
}

/// Writes a certificate with its key to `<name>.pem` and `<name>.key`; when it expires.
fn issue(folder: &Path, name: &str, until: SystemTime) -> f64 {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["backend.test".to_owned()]).unwrap();
    (params.not_before, params.not_after) = ((today() - 90 * DAY).into(), until.into());
    fs::write(folder.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as f64
}

/// The lines of the log at this level that contain this text.
fn lines_of(level: &str, text: &str) -> Vec<String> {
    let log = String::from_utf8(leaks::logged_since(0)).unwrap();
    log.lines().filter(|line| line.contains(level) && line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn every_certificate_tells_when_it_expires_and_the_log_says_it_once_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let pair = |name: &str| {
        format!(
            "{{ certificate: '{}', key: '{}' }}",
            file(&format!("{name}.pem")),
            file(&format!("{name}.key"))
        )
    };
    let expiries = [
        ("listener", issue(folder.path(), "listener", today() + 90 * DAY)),
        ("shown", issue(folder.path(), "shown", today() + 15 * DAY)),
        ("pinned", issue(folder.path(), "pinned", today() - DAY)),
        ("ca", issue(folder.path(), "ca", today() + 3 * DAY)),
    ];
    let world = World::with(&format!(
        "{ROUTES}{NO_THROTTLE}
listeners: [{{ address: '127.0.0.1:0', tls: {{ certificates: [{}], client_ca_file: '{}' }} }}]
upstreams:
  backend: {{ servers: ['127.0.0.1:1'], tls: {{ server_name: a.test, pinned_certificates: ['{}'], client_certificate: {} }} }}
",
        pair("listener"),
        file("ca.pem"),
        file("pinned.pem"),
        pair("shown"),
    ));

    let metric = |name: &str| {
        let label = file(&format!("{name}.pem"));
        world.metric(&format!(r#"menshen_certificate_expiry_timestamp_seconds{{certificate="{label}"}}"#))
    };
    for (name, expected) in expiries {
        assert_eq!(metric(name), expected, "{name}");
    }
    let said = |level: &str, name: &str| lines_of(level, &format!("certificate `{}`", file(name))).len();
    let counts = || {
        ["pinned.pem", "ca.pem", "shown.pem", "listener.pem"]
            .map(|name| (said("ERROR ", name), said(" WARN ", name)))
    };
    assert_eq!(counts(), [(1, 0), (0, 1), (0, 0), (0, 0)]);

    world.gateway().reload().unwrap();
    assert_eq!(counts(), [(1, 0), (0, 1), (0, 0), (0, 0)], "a reload says nothing again");

    world.clock.advance(2 * DAY);
    eventually("the log says it the next day", || counts() == [(2, 0), (0, 2), (0, 1), (0, 0)]);

    let renewed = issue(folder.path(), "pinned", today() + 60 * DAY);
    world.gateway().reload().unwrap();
    assert_eq!(metric("pinned"), renewed);
    let configuration = world.data.path().join("menshen.yaml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace(&format!(", client_certificate: {}", pair("shown")), "")).unwrap();
    world.gateway().reload().unwrap();
    assert_eq!(metric("shown"), 0.0, "it is no longer used");
}
