//! `docs/lexicon.md`, held against the code: a word means one thing, and a public type bears a word
//! that is explained.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules whose public types must be in the lexicon.
const MODULES: &[&str] = &["session", "sign_in", "authn", "proxy", "store", "throttle"];

#[test]
fn every_public_type_is_a_word_of_the_lexicon_or_the_noun_of_its_module() {
    let words: BTreeSet<String> = rows().iter().flat_map(|row| names(&row[3])).collect();
    let mut seen = 0;
    let mut unknown = Vec::new();
    for module in MODULES {
        for file in files_of(module) {
            for name in public_types(&fs::read_to_string(&file).unwrap()) {
                seen += 1;
                // An error is named for what failed.
                let stem = name.strip_suffix("Error").filter(|stem| !stem.is_empty()).unwrap_or(&name);
                let is_word =
                    words.contains(&name) || words.contains(stem) || words.contains(&format!("{stem}s"));
                if !is_word && !is_noun_of_its_module(stem, &file) {
                    unknown.push(format!("{}: {name}", file.display()));
                }
            }
        }
    }

    assert!(seen > 40, "saw {seen} types");
    assert!(unknown.is_empty(), "not in docs/lexicon.md:\n{}", unknown.join("\n"));
}

#[test]
fn every_type_that_the_lexicon_names_is_in_the_code() {
    let mut defined = BTreeSet::new();
    for file in files_of("") {
        let code = fs::read_to_string(&file).unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            defined.extend(line.split(|sign: char| !sign.is_alphanumeric()).map(str::to_owned));
        }
    }

    let mut missing = Vec::new();
    for row in rows() {
        missing.extend(names(&row[3]).into_iter().filter(|name| !defined.contains(name)));
    }

    assert!(missing.is_empty(), "no type of src/ is called so: {}", missing.join(", "));
}

#[test]
fn words_are_sorted_and_stand_once() {
    let words = Vec::from_iter(rows().into_iter().map(|row| row[0].to_lowercase()));

    let sorted = Vec::from_iter(BTreeSet::from_iter(words.clone()));
    assert_eq!(words, sorted);
    assert!(words.len() > 60, "saw {} words", words.len());
}

#[test]
fn every_word_has_a_meaning_a_source_and_what_it_is_not() {
    for row in rows() {
        assert_eq!(row.len(), 5, "{row:?}");
        for cell in [&row[1], &row[2], &row[4]] {
            assert!(!cell.is_empty(), "{row:?}");
        }
    }
}

/// The cells of each row of the table.
fn rows() -> Vec<Vec<String>> {
    let text = fs::read_to_string("docs/lexicon.md").unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("| --- |")).skip(1);
    Vec::from_iter(lines.filter_map(|line| {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(Vec::from_iter(cells.split('|').map(|cell| cell.trim().to_owned())))
    }))
}

/// The type names of a cell: words between backticks.
fn names(cell: &str) -> Vec<String> {
    Vec::from_iter(cell.split('`').skip(1).step_by(2).map(str::to_owned))
}

/// Whether a type is called as its file or folder, in the singular or the plural: `Lease` of
/// `lease.rs`.
fn is_noun_of_its_module(name: &str, file: &Path) -> bool {
    let name = name.to_lowercase();
    let file = file.with_extension("");
    let mut modules = file.iter().skip(1).map(|part| part.to_str().unwrap().replace('_', ""));
    modules.any(|module| module == name || format!("{module}s") == name || module == format!("{name}s"))
}

/// The types that begin a line of code with `pub`.
fn public_types(code: &str) -> Vec<String> {
    let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
    let public = code.lines().filter_map(|line| line.strip_prefix("pub "));
    Vec::from_iter(public.filter_map(|line| {
        let name = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
        let end = name.find(|sign: char| !sign.is_alphanumeric()).unwrap_or(name.len());
        Some(name[..end].to_owned())
    }))
}

/// The files of a module in `src/` that are no tests.
fn files_of(module: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new("src").join(module)];
    let beside = Path::new("src").join(format!("{module}.rs"));
    files.extend(beside.exists().then_some(beside));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
