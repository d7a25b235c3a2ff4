//! The command line: answers on standard output, messages on standard error, exit codes that
//! scripts can tell apart.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use menshen::clock::{Clock as _, SystemClock};
use rcgen::{CertificateParams, KeyPair};

/// What a run of the program left behind.
struct Ran {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

fn menshen(arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_menshen"))
        .args(arguments)
        .env_remove("MENSHEN_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

fn write(folder: &Path, yaml: &str) -> PathBuf {
    let path = folder.join("menshen.yaml");
    fs::write(&path, yaml).unwrap();
    path
}

fn configuration(folder: &Path, address: &str) -> PathBuf {
    let yaml = fs::read_to_string("conf/minimal.yaml").unwrap();
    let yaml = yaml.replace("127.0.0.1:8080", address);
    let data = folder.join("data");
    write(folder, &format!("data_dir: {}\nadmin: {{ address: 127.0.0.1:0 }}\n{yaml}", data.display()))
}

#[test]
fn wrong_usage_is_said_on_standard_error_with_code_2() {
    let cases: [(&[&str], &str); 6] = [
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["--frobnicate"], "unexpected argument '--frobnicate'"),
        (&["check", "extra"], "unexpected argument 'extra'"),
        (&["key"], "generate"),
        (&["key", "generate", "--algorithm", "none"], "write ES256, EdDSA or RS256"),
        (&["emulator", "--listen", "nowhere"], "invalid value 'nowhere'"),
    ];
    for (arguments, expected) in cases {
        let ran = menshen(arguments);

        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_answers() {
    for (argument, expected) in [("--help", "menshen demo"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let ran = menshen(&[argument]);

        assert_eq!(ran.code, Some(0), "{argument}");
        assert!(ran.stdout.contains(expected), "{argument}: {}", ran.stdout);
        assert_eq!(ran.stderr, "", "{argument}");
    }
}

#[test]
fn check_calls_a_sound_configuration_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = configuration(folder.path(), "127.0.0.1:8080");

    let ran = menshen(&["check", "--config", path.to_str().unwrap()]);

    assert_eq!(ran.stdout, "configuration is valid\n", "{}", ran.stderr);
    assert_eq!(ran.code, Some(0));
    assert!(!folder.path().join("data").exists(), "a check writes nothing");
}

#[test]
fn a_wrong_configuration_is_refused_by_check_and_serve_with_code_2_and_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = fs::read_to_string("conf/minimal.yaml").unwrap();
    let yaml = yaml.replace("authenticated", "authentificated").replace("secret:", "secert:");
    let path = write(folder.path(), &yaml);

    for command in ["check", "serve"] {
        let ran = menshen(&[command, "--config", path.to_str().unwrap()]);

        assert_eq!(ran.code, Some(2), "{command}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{command}");
        for expected in ["menshen.yaml:8:", "secert", "menshen.yaml:16:", "authentificated"] {
            assert!(ran.stderr.contains(expected), "{command}: expected `{expected}` in:\n{}", ran.stderr);
        }
    }
}

#[test]
fn a_route_path_that_looks_like_a_pattern_is_refused_with_the_prefix_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = fs::read_to_string(configuration(folder.path(), "127.0.0.1:0")).unwrap();
    for (pattern, prefix) in [
        ("/admin/*", "/admin"),
        ("/vip/**", "/vip"),
        ("/:user", "/"),
        ("/x?", "/x"),
        ("/users/{id}", "/users"),
        ("^/admin/.*$", "/admin"),
    ] {
        let route = format!("  - {{ path: '{pattern}', access: authenticated, upstream: backend }}\n");
        let path = write(folder.path(), &format!("{yaml}{route}"));

        for command in ["check", "serve"] {
            let ran = menshen(&[command, "--config", path.to_str().unwrap()]);

            assert_eq!(ran.code, Some(2), "{pattern}: {}", ran.stderr);
            assert_eq!(ran.stdout, "", "{pattern}");
            let expected = format!(
                "error: routes[1].path: `{pattern}` looks like a pattern; paths are prefixes: write `{prefix}`"
            );
            assert!(ran.stderr.contains(&expected), "{pattern}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named_with_code_2() {
    for command in ["check", "serve"] {
        let ran = menshen(&[command, "--config", "no/such/file.yaml"]);

        assert_eq!(ran.code, Some(2), "{command}");
        assert!(ran.stderr.contains("no/such/file.yaml"), "{command}: {}", ran.stderr);
    }
}

#[test]
fn an_address_in_use_is_named_with_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let path = configuration(folder.path(), &address);

    let served = menshen(&["serve", "--config", path.to_str().unwrap()]);
    let emulated = menshen(&["emulator", "--listen", &address]);

    for ran in [served, emulated] {
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("cannot listen on {address}: ")), "{}", ran.stderr);
    }
}

#[test]
fn a_generated_key_goes_to_standard_output_and_its_id_to_standard_error() {
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let ran = menshen(&["key", "generate", "--algorithm", algorithm]);

        assert_eq!(ran.code, Some(0), "{algorithm}: {}", ran.stderr);
        assert!(ran.stdout.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{algorithm}");
        assert!(ran.stdout.ends_with("\n-----END PRIVATE KEY-----\n"), "{algorithm}");
        let kid = ran.stderr.strip_prefix("kid: ").unwrap().trim_end();
        assert_eq!(kid.len(), 43, "{algorithm}: a SHA-256 thumbprint in base64url: {kid}");
    }
}

#[test]
fn the_schema_is_json_and_knows_every_section() {
    let ran = menshen(&["config", "schema"]);

    let schema: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    for section in ["listeners", "apps", "upstreams", "routes", "tokens", "login"] {
        assert!(schema["properties"].get(section).is_some(), "{section}");
    }
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.code, Some(0));
}

#[test]
fn check_warns_of_what_is_dangerous_by_its_key_and_still_exits_0() {
    let folder = tempfile::tempdir().unwrap();
    let minimal = fs::read_to_string("conf/minimal.yaml").unwrap();
    let sections = "
  - { path: /shared, access: public, upstream: backend }
  - { path: /shared/admin, access: authenticated, upstream: backend }
admin: { address: 0.0.0.0:9901 }
telemetry: { user_hash_keys: [{ kid: k, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= }] }
store: { engine: redis, redis: { addresses: ['redis.example.com:6379'] } }
";
    let yaml = minimal.trim_end().replace("path: /", "path: /\n    allow_cross_site: true");
    let path = write(folder.path(), &format!("data_dir: {}/data\n{yaml}{sections}", folder.path().display()));

    let ran = menshen(&["check", "--config", path.to_str().unwrap()]);

    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, "configuration is valid\n");
    for key in [
        "admin.address",
        "wechat.hosts[0]",
        "store.redis.tls",
        "store.redis.password",
        "routes[0].allow_cross_site",
        "routes[2].path",
    ] {
        assert!(ran.stderr.contains(&format!("warning: {key}: ")), "{key}: {}", ran.stderr);
    }
}

/// A configuration with a secret or key file of each kind, all of them in `folder`, and the warned
/// keys.
fn configuration_with_files(folder: &Path) -> (PathBuf, Vec<(PathBuf, &'static str)>) {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let pair = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    let certificate = file("certificate.pem", &pair.cert.pem());
    let key = pair.signing_key.serialize_pem();
    let signing = menshen(&["key", "generate"]).stdout;
    let files = vec![
        (file("app-secret", "0123456789abcdef"), "apps.shop.secret"),
        (file("seal", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"), "sessions.seal_keys[0].secret"),
        (file("signing.pem", &signing), "tokens.keys[0].file"),
        (file("listener.pem", &key), "listeners[0].tls.certificates[0].key"),
        (file("client.pem", &key), "upstreams.backend.tls.client_certificate.key"),
        (file("redis-password", "secret"), "store.redis.password"),
        (file("redis.pem", &key), "store.redis.tls.key"),
        (
            file("user-hash", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"),
            "telemetry.user_hash_keys[0].secret",
        ),
        (file("crm-token", "0123456789abcdef"), "internal.clients[0].token"),
    ];
    let [secret, seal, signing, listener, client, password, redis, user_hash, token] =
        [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|n| files[n].0.display());
    let certificate = certificate.display();
    let yaml = format!(
        "
data_dir: {folder}/data
listeners:
  - address: 127.0.0.1:0
    tls: {{ certificates: [{{ certificate: {certificate}, key: {listener} }}], client_ca_file: {certificate} }}
apps: {{ shop: {{ kind: mini_program, appid: wx0123456789abcdef, secret: {{ file: {secret} }} }} }}
upstreams:
  backend:
    servers: ['127.0.0.1:1']
    tls:
      server_name: b.test
      ca_file: {certificate}
      client_certificate: {{ certificate: {certificate}, key: {client} }}
routes: [{{ path: /, access: authenticated, upstream: backend }}]
sessions: {{ seal_keys: [{{ kid: k, secret: {{ file: {seal} }} }}] }}
telemetry: {{ user_hash_keys: [{{ kid: k, secret: {{ file: {user_hash} }} }}] }}
internal: {{ address: 127.0.0.1:0, clients: [{{ name: crm, token: {{ file: {token} }}, may: [bind] }}] }}
tokens: {{ keys: [{{ kid: k, algorithm: ES256, file: {signing} }}] }}
store:
  engine: redis
  redis:
    password: {{ file: {password} }}
    tls: {{ ca_file: {certificate}, certificate: {certificate}, key: {redis} }}
wechat: {{ ca_file: {certificate} }}
",
        folder = folder.display()
    );
    (write(folder, &yaml), files)
}

#[test]
fn check_warns_of_every_secret_file_that_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let (path, files) = configuration_with_files(folder.path());
    for mode in [0o600, 0o440, 0o644, 0o602] {
        for (file, _) in &files {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }

        let ran = menshen(&["check", "--config", path.to_str().unwrap()]);

        assert_eq!((ran.stdout.as_str(), ran.code), ("configuration is valid\n", Some(0)), "{}", ran.stderr);
        for (file, key) in &files {
            let warning = format!(
                "warning: {key}: file `{}` may be read or written by other users (mode {mode:04o})",
                file.display()
            );
            assert_eq!(ran.stderr.contains(&warning), mode & 0o037 != 0, "{warning}\n{}", ran.stderr);
        }
    }
}

#[test]
fn a_data_directory_that_everybody_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = configuration(folder.path(), "127.0.0.1:0");
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    for mode in [0o777, 0o1777, 0o703] {
        fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();

        for command in ["check", "serve"] {
            let ran = menshen(&[command, "--config", path.to_str().unwrap()]);

            assert_eq!(ran.code, Some(2), "{command}: {}", ran.stderr);
            let expected = format!("data_dir: folder `{}` may be written by every user", data.display());
            assert!(ran.stderr.contains(&expected), "{command}: {}", ran.stderr);
        }
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing is made there");
    }

    fs::set_permissions(&data, fs::Permissions::from_mode(0o770)).unwrap();
    let ran = menshen(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: data_dir: folder `"), "{}", ran.stderr);
}

#[test]
fn a_data_directory_or_key_of_another_user_is_refused_at_start_and_warned_of_by_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = configuration(folder.path(), "127.0.0.1:0");
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let key = data.join("signing-key.pem");
    fs::write(&key, menshen(&["key", "generate"]).stdout).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let other = 4242;
    for file in [&data, &key] {
        let owner = fs::metadata(file).unwrap().uid();
        if chown(file, Some(other), None).is_err() {
            // Only root may give a file away.
            return;
        }

        let checked = menshen(&["check", "--config", path.to_str().unwrap()]);
        let served = menshen(&["serve", "--config", path.to_str().unwrap()]);

        chown(file, Some(owner), None).unwrap();
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        assert!(checked.stderr.contains("warning: data_dir: "), "{}", checked.stderr);
        assert_eq!(served.code, Some(2), "{}", served.stderr);
        for ran in [checked, served] {
            assert!(
                ran.stderr.contains(&format!("`{}` belongs to user {other}", file.display())),
                "{}",
                ran.stderr
            );
        }
    }
}

#[test]
fn a_key_in_the_data_directory_that_everybody_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = configuration(folder.path(), "127.0.0.1:0");
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n";
    let signing = menshen(&["key", "generate"]).stdout;
    let keys = [("signing-key.pem", &*signing), ("seal-key", secret), ("user-hash-key", secret)];
    for (name, text) in keys {
        fs::write(data.join(name), text).unwrap();
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (name, _) in keys {
        let key = data.join(name);
        for (mode, is_refused) in [(0o666, true), (0o602, true), (0o644, false), (0o600, false)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();

            let checked = menshen(&["check", "--config", path.to_str().unwrap()]);

            let code = if is_refused { 2 } else { 0 };
            assert_eq!(checked.code, Some(code), "{name} {mode:o}: {}", checked.stderr);
            let refusal = format!("error: data_dir: file `{}` may be written by every user", key.display());
            assert_eq!(checked.stderr.contains(&refusal), is_refused, "{name} {mode:o}: {}", checked.stderr);
            let warning = format!("warning: data_dir: file `{}` may be read", key.display());
            assert_eq!(checked.stderr.contains(&warning), mode == 0o644, "{name} {mode:o}");
            if is_refused {
                let served = menshen(&["serve", "--config", path.to_str().unwrap()]);
                assert_eq!(served.code, Some(2), "{name} {mode:o}: {}", served.stderr);
                assert!(served.stderr.contains(&refusal), "{name} {mode:o}: {}", served.stderr);
            }
        }
    }
}

#[test]
fn check_warns_of_certificates_that_clients_refuse_or_soon_will() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
    let yaml = fs::read_to_string(configuration(folder.path(), "127.0.0.1:0")).unwrap();
    let tls = format!(
        "  - address: 127.0.0.1:0\n    tls: {{ certificates: [{{ certificate: {}, key: {} }}] }}\n",
        certificate.display(),
        key.display()
    );
    let path = write(folder.path(), &yaml.replace("listeners:\n", &format!("listeners:\n{tls}")));
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock.now().millis());
    for (from, until, expected) in [
        (now - 90 * day, now + 30 * day, None),
        (now - 90 * day, now + 13 * day, Some("within 14 days")),
        (now - 90 * day, now - day, Some("expired at ")),
        (now + day, now + 90 * day, Some("is not valid before ")),
    ] {
        let signing_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (from.into(), until.into());
        fs::write(&certificate, params.self_signed(&signing_key).unwrap().pem()).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();

        let ran = menshen(&["check", "--config", path.to_str().unwrap()]);

        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let warning =
            ran.stderr.lines().find(|line| line.contains("listeners[0].tls.certificates[0].certificate: "));
        assert_eq!(warning.is_some(), expected.is_some(), "{}", ran.stderr);
        assert!(warning.unwrap_or_default().contains(expected.unwrap_or_default()), "{}", ran.stderr);
    }
}

#[test]
fn check_warns_of_certificates_that_the_gateway_shows_and_servers_refuse_or_soon_will() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = configuration_with_files(folder.path());
    let certificate = folder.path().join("certificate.pem");
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock.now().millis());
    for (until, expected) in
        [(now + 30 * day, None), (now + 13 * day, Some("within 14 days")), (now - day, Some("expired at "))]
    {
        let signing_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = ((now - 90 * day).into(), until.into());
        fs::write(&certificate, params.self_signed(&signing_key).unwrap().pem()).unwrap();
        for key in ["listener.pem", "client.pem", "redis.pem"] {
            fs::write(folder.path().join(key), signing_key.serialize_pem()).unwrap();
        }

        let ran = menshen(&["check", "--config", path.to_str().unwrap()]);

        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        for key in [
            "upstreams.backend.tls.client_certificate.certificate",
            "store.redis.tls.certificate",
            "listeners[0].tls.client_ca_file",
            "upstreams.backend.tls.ca_file",
            "store.redis.tls.ca_file",
            "wechat.ca_file",
        ] {
            let warning = ran.stderr.lines().find(|line| line.contains(&format!("warning: {key}: ")));
            assert_eq!(warning.is_some(), expected.is_some(), "{key}: {}", ran.stderr);
            assert!(warning.unwrap_or_default().contains(expected.unwrap_or_default()), "{}", ran.stderr);
        }
    }
}

#[test]
fn an_emulator_that_accepts_any_code_says_so() {
    let mut emulator = Command::new(env!("CARGO_BIN_EXE_menshen"))
        .args(["emulator", "--listen", "127.0.0.1:0", "--accept-any-code"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(emulator.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut before: Vec<String> = said.by_ref().take_while(|line| !line.contains("listening on")).collect();
    let ended = Command::new("kill").arg(emulator.id().to_string()).status().unwrap();
    assert!(ended.success() && emulator.wait().unwrap().success());

    before.extend(said);

    let warned = before.iter().any(|line| line.contains("WARN") && line.contains("`accept_any_code` is on"));
    assert!(warned, "{before:?}");
}
