//! The corpus of wrong configurations: what `menshen check` says of each stands beside it.

use std::fs;
use std::path::{Path, PathBuf};

use menshen::config::Draft;
use menshen::server::{self, Sources};

/// How many files the corpus has.
const FILES: usize = 67;

#[test]
fn check_says_of_every_wrong_configuration_what_stands_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/invalid");
    let files = files_of(&folder);
    let mut wrong = Vec::new();

    for file in &files {
        let report = match Draft::load(file) {
            Ok(draft) => {
                assert!(!draft.readings().is_empty(), "{}: nothing of it is checked", file.display());
                server::check_draft(&draft, &Sources::default()).unwrap()
            }
            Err(report) => report,
        };
        assert!(report.has_errors(), "{}", file.display());
        let said = format!("{report}\n").replace(&format!("{}/", folder.display()), "");
        if !is_current(&file.with_extension("expected"), &said) {
            wrong.push(format!("{}:\n{said}", file.display()));
        }
    }

    assert!(wrong.is_empty(), "check the change, then run with UPDATE=1\n{}", wrong.join("\n"));
    assert_eq!(files.len(), FILES, "a fixture was added or lost");
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    files.sort();
    files
}

/// Compares a text with its file. With `UPDATE=1` in the environment, writes it.
fn is_current(file: &Path, text: &str) -> bool {
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(file, text).unwrap();
    }
    fs::read_to_string(file).unwrap_or_default() == text
}
