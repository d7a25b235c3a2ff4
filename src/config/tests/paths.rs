//! Paths of a configuration: relative to its file, in whatever folder a command runs.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::MINIMAL;
use crate::config::paths::{PathBase, is_path};
use crate::config::report::Report;
use crate::config::schema::{self, alternatives};
use crate::config::{Document, Draft, Findings};

/// Every key that holds a path, with a relative one.
const EVERY_PATH: &str = "
data_dir: rel/data
listeners:
  - address: 127.0.0.1:8080
    tls:
      certificates: [{ certificate: rel/a.pem, key: rel/a.key }]
      client_ca_file: rel/clients.pem
internal:
  address: 127.0.0.1:9902
  tls: { certificates: [{ certificate: rel/b.pem, key: rel/b.key }], client_ca_file: rel/programs.pem }
  clients: [{ name: crm, token: { file: rel/token }, may: [bind] }]
apps: { shop: { kind: mini_program, appid: wxe000000000000001, secret: { file: rel/secret } } }
wechat: { ca_file: rel/wechat.pem }
lists: { staff: { file: rel/staff.txt } }
upstreams:
  backend:
    servers: ['127.0.0.1:9000']
    tls:
      server_name: backend
      ca_file: rel/ca.pem
      pinned_certificates: [rel/pinned.pem]
      client_certificate: { certificate: rel/c.pem, key: rel/c.key }
routes: [{ path: /, access: public, upstream: backend }]
tokens: { keys: [{ kid: a, algorithm: ES256, file: rel/key.pem }] }
store: { embedded: { file: rel/s.redb }, redis: { tls: { ca_file: rel/d.pem, certificate: rel/e.pem, key: rel/e.key } } }
login: { page: { logo: rel/logo.svg, templates: rel/templates } }
telemetry: { access_log: { file: rel/access.log }, audit_log: { file: rel/audit.log } }
";

/// The folder of the file, and the working directory.
struct Folders {
    file: TempDir,
    working: TempDir,
}

impl Folders {
    fn new() -> Self {
        Self { file: tempfile::tempdir().unwrap(), working: tempfile::tempdir().unwrap() }
    }

    fn load(&self, state: Option<&Path>, yaml: &str) -> Result<Document, Report> {
        let base = PathBase::new(self.file.path(), self.working.path(), state);
        Draft::read("f", yaml, Some(&base))?.into_document()
    }

    fn data_dir(&self, state: Option<&Path>, yaml: &str) -> String {
        let document = self.load(state, yaml).unwrap_or_else(|report| panic!("{report}"));
        document.config.data_dir.display().to_string()
    }
}

#[test]
fn every_path_of_a_file_is_relative_to_the_folder_of_the_file() {
    let folders = Folders::new();

    let read = folders.load(None, EVERY_PATH).unwrap_or_else(|report| panic!("{report}"));

    let json = serde_json::to_string(&read.config).unwrap();
    let absolute = format!("\"{}/rel/", folders.file.path().display());
    assert_eq!(json.matches(&absolute).count(), EVERY_PATH.matches("rel/").count(), "{json}");
    // Of the values below secrets, and of lists of paths, the schema lists none: there are three.
    let paths = schema::keys()
        .into_iter()
        .filter(|key| alternatives(key.property).iter().any(|schema| is_path(schema)));
    assert_eq!(paths.count() + 3, EVERY_PATH.matches("rel/").count(), "write the new key into EVERY_PATH");
}

#[test]
fn no_section_has_a_path_that_is_read_in_another_way() {
    let folder = super::root().join("src/config");
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with(".rs") || ["value.rs", "paths.rs", "tests.rs"].contains(&name.as_str()) {
            continue;
        }
        seen += 1;
        let code = fs::read_to_string(&file).unwrap();
        assert!(!code.contains("PathBuf"), "{name}: a path of a configuration has the type `FilePath`");
    }
    assert!(seen > 25, "saw {seen} files");
}

#[test]
fn a_path_from_the_root_stays_as_it_is() {
    let folders = Folders::new();
    let yaml = format!("{MINIMAL}wechat: {{ ca_file: /etc/ca.pem }}\n").replace("wechat:\n", "limits:\n");
    let yaml = yaml.replace("  hosts: [http://127.0.0.1:9900]", "  max_header_fields: 10");

    let read = folders.load(None, &yaml).unwrap_or_else(|report| panic!("{report}"));

    assert_eq!(read.config.wechat.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
}

#[test]
fn a_file_that_is_only_where_it_was_looked_for_earlier_is_refused_and_both_are_named() {
    let folders = Folders::new();
    let yaml = MINIMAL.replace("emulator-secret-1", "{ file: shop.secret }");
    let [now, before] = [&folders.file, &folders.working].map(|folder| folder.path().join("shop.secret"));
    assert!(folders.load(None, &yaml).is_ok(), "nothing is at either place");

    fs::write(&before, "secret").unwrap();
    let base = PathBase::new(folders.file.path(), folders.working.path(), None);
    let mut found = Findings::default();
    found.error("apps.shop.secret", "the file cannot be read, which comes from it");
    let refused = Draft::read("f", &yaml, Some(&base)).unwrap().report([found]).to_string();
    fs::write(&now, "secret").unwrap();
    let both = folders.load(None, &yaml);

    assert_eq!(
        refused,
        format!(
            "f:8:21: error: apps.shop.secret.file: a path is relative to the folder of this file: `{}` does not \
             exist, but `{}` does; write the path that you mean from `/` on, or move it",
            now.display(),
            before.display()
        )
    );
    assert!(both.is_ok());
}

#[test]
fn data_dir_is_what_systemd_names_or_data_in_the_working_directory() {
    let folders = Folders::new();
    let state = tempfile::tempdir().unwrap();
    let [file, working] = [&folders.file, &folders.working].map(|folder| folder.path().display().to_string());
    let written = format!("data_dir: keys\n{MINIMAL}");

    assert_eq!(folders.data_dir(None, MINIMAL), format!("{working}/data"));
    assert_eq!(folders.data_dir(Some(state.path()), MINIMAL), state.path().display().to_string());
    for state in [None, Some(state.path())] {
        assert_eq!(folders.data_dir(state, &written), format!("{file}/keys"));
    }
}

#[test]
fn a_data_directory_with_files_is_not_left_behind() {
    let folders = Folders::new();
    let state = folders.working.path();
    let left = state.join("data");
    fs::create_dir(&left).unwrap();
    assert!(folders.load(Some(state), MINIMAL).is_ok(), "an empty folder has nothing to lose");

    fs::write(left.join("signing-key.pem"), "").unwrap();
    let refused = folders.load(Some(state), MINIMAL).unwrap_err().to_string();
    let relative = folders.load(None, &format!("data_dir: data\n{MINIMAL}")).unwrap_err().to_string();
    fs::write(state.join("signing-key.pem"), "").unwrap();
    let moved = folders.load(Some(state), MINIMAL);

    for report in [&refused, &relative] {
        assert!(report.contains(&format!("`{}`", left.display())), "{report}");
    }
    assert!(refused.contains(&format!("write `data_dir: {}`", left.display())), "{refused}");
    assert!(moved.is_ok());
}

#[test]
fn what_is_no_path_on_this_system_is_refused() {
    for (text, reason) in [
        ("''", "is empty"),
        ("C:\\certs\\a.pem", "is a path of Windows"),
        ("'d:/certs/a.pem'", "is a path of Windows"),
        ("\\\\server\\a.pem", "is a path of Windows"),
        ("~/a.pem", "starts with `~`"),
        ("$HOME/a.pem", "has a variable"),
        ("'${DIR}/a.pem'", "has a variable"),
        ("file:///etc/a.pem", "is a URL"),
    ] {
        let yaml = MINIMAL.replace("emulator-secret-1", &format!("x\nlists:\n  staff:\n    file: {text}"));
        let report = Document::parse("f", &yaml).expect_err(text).to_string();
        assert!(report.contains("error: lists.staff.file: `") && report.contains(reason), "{text}: {report}");
    }
}
