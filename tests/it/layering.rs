//! The module graph of `src/`, as a specification.
//!
//! Each line of [`MAY_IMPORT`] names a top-level module and the modules it may name. The order of lines is the order of
//! layers: a module may import only modules listed above it, so the graph cannot have a cycle.

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{imports, names_crate, tokens};

const MAY_IMPORT: &[(&str, &str)] = &[
    ("address", ""),
    ("clock", ""),
    ("entropy", ""),
    ("identity", ""),
    ("problem", ""),
    ("cookie", ""),
    ("path", ""),
    ("host", ""),
    ("config", ""),
    ("key_file", "entropy config"),
    ("emulator", "clock entropy config"),
    ("telemetry", "clock config"),
    ("store", "clock config telemetry"),
    ("token", "clock entropy identity config key_file telemetry"),
    ("session", "clock entropy identity config key_file telemetry store token"),
    ("throttle", "address clock entropy config telemetry store"),
    ("wechat", "clock entropy identity host config telemetry token"),
    ("route", "identity path host config"),
    ("upstream", "clock config telemetry"),
    ("authn", "clock entropy identity cookie config key_file telemetry store token session"),
    ("identity_headers", "identity cookie config telemetry authn"),
    ("page", "entropy config"),
    (
        "sign_in",
        "address clock entropy identity problem cookie path host config key_file telemetry store token session throttle wechat route authn page",
    ),
    (
        "runtime",
        "clock entropy identity config key_file telemetry store token session throttle wechat route upstream authn identity_headers page sign_in",
    ),
    (
        "proxy",
        "address clock entropy identity problem cookie path host config telemetry token session throttle wechat route upstream authn identity_headers sign_in runtime",
    ),
    ("admin", "clock identity problem config telemetry session runtime"),
    ("reload", "clock entropy config key_file telemetry runtime proxy"),
    ("server", "clock entropy config key_file telemetry store session runtime proxy admin reload"),
    ("demo", "clock entropy config emulator telemetry runtime admin server"),
    (
        "fuzz",
        "clock entropy identity config key_file token session wechat route identity_headers page sign_in proxy admin",
    ),
    ("cli", "clock entropy config emulator telemetry store token runtime admin server demo"),
];

/// External crates, by name and the prefix of names such as `pingora_core`, and the only modules that may name them.
const CONFINED: &[(&str, &str)] = &[
    ("pingora", "upstream proxy admin server"),
    ("reqwest", "wechat"),
    ("redb", "store"),
    ("redis", "store"),
    ("minijinja", "page"),
    ("qrcode", "emulator"),
    ("hyper", "emulator demo admin"),
    ("clap", "cli"),
];

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut violations = BTreeSet::new();
    for file in sources() {
        let Some(module) = top_module(&file) else { continue };
        let Some(allowed) = allowed(&module) else {
            violations.insert(format!("{module}: not in MAY_IMPORT"));
            continue;
        };
        let code = fs::read_to_string(&file).unwrap();
        for import in imports(&tokens(&code), depth(&file)) {
            if import != module && !allowed.split(' ').any(|name| name == import) {
                violations.insert(format!("{} imports crate::{import}", file.display()));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}", Vec::from_iter(violations).join("\n"));
}

#[test]
fn confined_crates_stay_in_their_modules() {
    let mut violations = BTreeSet::new();
    for file in sources() {
        let code = fs::read_to_string(&file).unwrap();
        let module = top_module(&file).unwrap_or_default();
        for (name, modules) in CONFINED {
            if names_crate(&tokens(&code), name) && !modules.split(' ').any(|allowed| allowed == module) {
                violations.insert(format!("{} names {name}", file.display()));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}", Vec::from_iter(violations).join("\n"));
}

#[test]
fn the_table_is_acyclic() {
    for (position, (name, allowed)) in MAY_IMPORT.iter().enumerate() {
        for import in allowed.split(' ').filter(|import| !import.is_empty()) {
            let is_above = MAY_IMPORT[..position].iter().any(|(other, _)| *other == import);
            assert!(is_above, "{name} may import {import}, which is not listed above it");
        }
    }
}

#[test]
fn the_table_names_every_module_and_no_other() {
    let modules: BTreeSet<String> = sources().iter().filter_map(|file| top_module(file)).collect();
    let listed: BTreeSet<String> = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();

    assert_eq!(modules, listed);
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    assert!(files.len() > 20, "scanned {} files: is this the crate root?", files.len());
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn allowed(module: &str) -> Option<&'static str> {
    MAY_IMPORT.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed)
}

/// The module right below the crate that a file belongs to; none for `main.rs` and `lib.rs`.
fn top_module(file: &Path) -> Option<String> {
    let first = file.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    let name = first.trim_end_matches(".rs");
    (!["main", "lib"].contains(&name)).then(|| name.to_owned())
}

/// How many modules below the crate a file's own module is: `src/a.rs` and `src/a/mod.rs` 1, `src/a/b.rs` 2.
fn depth(file: &Path) -> usize {
    file.components().count() - 1 - usize::from(file.ends_with("mod.rs"))
}
