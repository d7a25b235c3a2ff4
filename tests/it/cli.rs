//! The command line: answers on standard output, messages on standard error, exit codes that scripts can tell apart.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
