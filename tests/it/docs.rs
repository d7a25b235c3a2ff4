//! What the documents say is whole and leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text files of the repository that people write, below these folders and beside them.
fn written(folder: &Path, files: &mut Vec<PathBuf>) {
    const ELSEWHERE: [&str; 4] = ["target", "vendor", "corpus", ".git"];
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            if !ELSEWHERE.iter().any(|elsewhere| name == *elsewhere) {
                written(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

fn texts() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    written(root(), &mut files);
    let mut texts: Vec<(PathBuf, String)> =
        files.into_iter().filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?))).collect();
    texts.sort();
    assert!(texts.len() > 300, "{} files", texts.len());
    texts
}

fn documents() -> BTreeMap<PathBuf, String> {
    texts().into_iter().filter(|(path, _)| path.extension().is_some_and(|kind| kind == "md")).collect()
}

#[test]
fn no_file_holds_both_sides_of_a_merge() {
    let marks = ["<".repeat(7) + " ", ">".repeat(7) + " ", "|".repeat(7) + " "];
    let torn: Vec<String> = texts()
        .iter()
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(at, line)| (path, at + 1, line)))
        .filter(|(_, _, line)| marks.iter().any(|mark| line.starts_with(mark)))
        .map(|(path, line, _)| format!("{}:{line}", path.display()))
        .collect();
    assert_eq!(torn, Vec::<String>::new());
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let documents = documents();
    let anchors: BTreeMap<&Path, BTreeSet<String>> =
        documents.iter().map(|(path, text)| (path.as_path(), anchors(text))).collect();
    let mut broken = Vec::new();
    let mut count = 0;
    for (path, text) in &documents {
        for link in links(text).filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            count += 1;
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, at)| (file, Some(at)));
            let target =
                if file.is_empty() { Ok(path.clone()) } else { path.with_file_name(file).canonicalize() };
            let is_there = target.is_ok_and(|target| match anchor {
                Some(anchor) => anchors.get(target.as_path()).is_some_and(|known| known.contains(anchor)),
                None => true,
            });
            if !is_there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    assert!(count > 50, "{count} links");
}

/// The targets of `[text](target)`, outside of code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|part| part.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link)
}

/// What headings are called in links: lower case, without punctuation, with `-` for spaces.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2);
    let headings = prose.flat_map(str::lines).filter(|line| line.starts_with('#'));
    let slug = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}
