//! Circles of files: `scripts/house` finds them, for an engineer and for this test alike.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn no_circle_holds_more_than_two_files() {
    let circles = Vec::from_iter(circles(Path::new(".")).into_iter().filter(|circle| circle.len() > 2));

    assert!(circles.is_empty(), "{circles:?}");
}

#[test]
fn a_circle_is_found_in_every_spelling_of_an_import() {
    for (case, first, second, third) in [
        ("crate", "use crate::b::B;", "use crate::c::C;", "use crate::a::A;"),
        ("super", "use super::b::B;", "use super::c::{self, C};", "use super::a::A;"),
        ("path", "fn f() { crate::b::f() }", "fn f(_: super::c::C) {}", "fn f() { super::a::f() }"),
        (
            "module",
            "use crate::b; fn f() { b::f() }",
            "use crate::{c as d}; fn f() { d::f() }",
            "use crate::a::A;",
        ),
        (
            "re-export",
            "use crate::B;",
            "use crate::prelude::*; fn f(_: C) {} use crate::c::C;",
            "use crate::A;",
        ),
    ] {
        let folder = tree(&[("a.rs", first, "A"), ("b.rs", second, "B"), ("c.rs", third, "C")]);

        assert_eq!(circles(folder.path()), [["src/a.rs", "src/b.rs", "src/c.rs"]], "{case}");
    }
}

#[test]
fn what_is_no_import_closes_no_circle() {
    for (case, first, name, second) in [
        ("tests", "use crate::b::B;", "b.rs", "#[cfg(test)] mod tests { use crate::a::A; }"),
        (
            "a comment and a text",
            "use crate::b::B;",
            "b.rs",
            "// crate::a::A\nconst S: &str = \"crate::a::A\";",
        ),
        ("a re-export", "use crate::b::B;", "b.rs", "pub use crate::a::A;"),
        ("another crate", "use crate::b::B;", "b.rs", "use a::A;"),
        ("what is above", "mod b; use self::b::B;", "a/b.rs", "use super::A;"),
    ] {
        let folder = tree(&[("a.rs", first, "A"), (name, second, "B")]);

        let circles = circles(folder.path());

        assert!(circles.is_empty(), "{case}: {circles:?}");
    }
}

/// A source tree of these files, each with a type and a function of its own.
fn tree(files: &[(&str, &str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("src/a")).unwrap();
    let root =
        "pub mod a; pub mod b; pub mod c; pub mod prelude {} pub use a::A; pub use b::B; pub use c::C;";
    fs::write(folder.path().join("src/lib.rs"), root).unwrap();
    for (name, code, own_type) in files {
        fs::write(folder.path().join("src").join(name), format!("{code} pub struct {own_type};")).unwrap();
    }
    folder
}

/// The files of each circle.
fn circles(checkout: &Path) -> Vec<Vec<String>> {
    let output = Command::new("python3").arg("scripts/house").arg("--circles").arg(checkout).output();
    let output = output.expect("python3 is installed: scripts/house needs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut circles: Vec<Vec<String>> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.strip_prefix("  ") {
            None => circles.push(Vec::new()),
            Some(line) => {
                circles.last_mut().unwrap().push(line.split_once(" imports ").unwrap().0.to_owned());
            }
        }
    }
    circles
}

#[test]
fn no_comment_is_wider_than_100_columns() {
    let output = Command::new("python3").arg("scripts/house").arg("--comments").output();
    let output = output.expect("python3 is installed: scripts/house needs it");

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
}
