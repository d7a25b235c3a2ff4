//! The graph of modules and files in `src/`, as a specification.
//!
//! Each line of [`MAY_IMPORT`] names a top-level module and the modules that it may import. A
//! module may import only modules listed above it, so the graph of modules has no cycle.
//! `src/lib.rs` and `docs/architecture.md` list the modules in the same order. `circle` looks
//! inside the modules, at their files.

mod circle;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use source::{imports, names_crate, tokens};

const MAY_IMPORT: &[(&str, &str)] = &[
    ("address", ""),
    ("clock", ""),
    ("config", ""),
    ("cookie", ""),
    ("digest", ""),
    ("entropy", ""),
    ("host", ""),
    ("identity", ""),
    ("path", ""),
    ("places", ""),
    ("problem", ""),
    ("single_flight", ""),
    ("cors", "config host"),
    ("emulator", "clock config digest entropy"),
    ("hazard", "config host"),
    ("json_template", "config"),
    ("key_file", "config digest entropy"),
    ("page", "config digest entropy"),
    ("route", "config host identity path cors json_template"),
    ("telemetry", "address clock config"),
    ("token", "clock config digest entropy identity key_file"),
    ("upstream", "clock config digest host telemetry"),
    ("user_data", "clock config identity"),
    ("store", "clock config telemetry"),
    ("wechat", "clock config entropy host identity telemetry"),
    ("session", "address clock config digest entropy identity key_file telemetry store"),
    ("throttle", "address clock config digest entropy identity telemetry store"),
    ("app_token", "clock config digest entropy identity single_flight telemetry store wechat session"),
    (
        "authn",
        "clock config cookie digest entropy host identity single_flight key_file telemetry token store wechat session",
    ),
    ("identity_headers", "address config cookie identity telemetry authn"),
    (
        "sign_in",
        "clock config cookie digest entropy host identity path problem single_flight json_template key_file page telemetry token user_data store wechat session throttle authn",
    ),
    (
        "runtime",
        "clock config entropy cors hazard identity key_file page route telemetry token upstream user_data store wechat session throttle app_token authn identity_headers sign_in",
    ),
    ("management", "clock config identity problem telemetry session runtime"),
    ("admin", "clock telemetry runtime management"),
    ("control", "config entropy places telemetry store throttle management"),
    ("internal", "address clock config places telemetry wechat app_token authn management"),
    (
        "proxy",
        "address clock config cookie entropy host identity page path places problem cors route telemetry token upstream session throttle authn identity_headers sign_in runtime",
    ),
    ("reload", "config key_file runtime proxy"),
    (
        "server",
        "clock config entropy identity key_file telemetry store authn runtime management admin control internal proxy reload",
    ),
    ("demo", "clock config entropy emulator telemetry control server"),
    (
        "fuzz",
        "clock config entropy identity key_file page route token user_data wechat session identity_headers sign_in management proxy",
    ),
    ("cli", "clock config entropy emulator telemetry token store control server demo"),
];

/// External crates, by name and the prefix of names such as `pingora_core`, and the only modules
/// that may name them.
const CONFINED: &[(&str, &str)] = &[
    ("pingora", "upstream internal proxy admin server"),
    ("reqwest", "wechat"),
    ("redb", "store"),
    ("redis", "store"),
    ("minijinja", "page"),
    ("qrcode", "emulator"),
    ("hyper", "emulator demo management control internal"),
    ("clap", "cli"),
    ("h2", "proxy"),
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
fn every_allowance_of_the_table_is_used() {
    let mut used = BTreeSet::new();
    for file in sources() {
        let Some(module) = top_module(&file) else { continue };
        let code = fs::read_to_string(&file).unwrap();
        used.extend(imports(&tokens(&code), depth(&file)).into_iter().map(|import| (module.clone(), import)));
    }

    let mut unused = Vec::new();
    for (module, allowed) in MAY_IMPORT {
        for import in allowed.split(' ').filter(|import| !import.is_empty()) {
            if !used.contains(&((*module).to_owned(), import.to_owned())) {
                unused.push(format!("{module} does not import {import}: remove the allowance"));
            }
        }
    }

    assert!(unused.is_empty(), "\n{}", unused.join("\n"));
}

#[test]
fn the_table_names_every_module_and_no_other() {
    let modules: BTreeSet<String> = sources().iter().filter_map(|file| top_module(file)).collect();
    let listed: BTreeSet<String> = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();

    assert_eq!(modules, listed);
}

#[test]
fn the_crate_root_and_the_architecture_list_modules_in_the_order_of_the_table() {
    let table = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned());
    let root = fs::read_to_string("src/lib.rs").unwrap();
    let declared =
        root.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned));
    let architecture = fs::read_to_string("docs/architecture.md").unwrap();
    let (_, modules) = architecture.split_once("## Modules").unwrap();
    let (_, rows) = modules.split_once("| --- |").unwrap();
    let described = rows.lines().skip(1).take_while(|line| line.starts_with('|')).flat_map(|line| {
        let names = line.split('|').nth(1).unwrap().split(',');
        names.map(|name| name.trim().trim_matches('`').to_owned())
    });

    let table = Vec::from_iter(table);
    assert_eq!(Vec::from_iter(declared), table, "src/lib.rs");
    assert_eq!(Vec::from_iter(described), table, "docs/architecture.md");
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

/// How many modules below the crate a file's own module is: `src/a.rs` and `src/a/mod.rs` 1,
/// `src/a/b.rs` 2.
fn depth(file: &Path) -> usize {
    file.components().count() - 1 - usize::from(file.ends_with("mod.rs"))
}
