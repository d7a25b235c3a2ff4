//! Runs every target on its seeds and on mutants of them. Fuzzing guided by coverage needs a
//! nightly compiler.

mod mutant;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use self::mutant::Mutants;
use super::{FuzzTarget, TARGETS, token};
use crate::clock::{Clock as _, SystemClock};

/// Mutants of each target in every run.
const MUTANTS: usize = 2000;
/// How long each target runs in the long test.
const LONG: Duration = Duration::from_secs(10);

const MOST_SEEDS: usize = 1500;
const LONGEST_SEED: usize = 4096;

#[test]
fn every_target_has_seeds_and_a_program() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let manifest = fs::read_to_string("fuzz/Cargo.toml").unwrap();
    let programs = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""));

    assert_eq!(names_in("fuzz/corpus"), targets);
    assert_eq!(names_in("fuzz/fuzz_targets"), targets.iter().map(|name| format!("{name}.rs")).collect());
    assert_eq!(programs.map(str::to_owned).collect::<BTreeSet<_>>(), targets);
    for name in &targets {
        let program = fs::read_to_string(format!("fuzz/fuzz_targets/{name}.rs")).unwrap();
        assert!(program.contains(&format!("menshen::fuzz::{name}(data)")), "{name}");
    }

    let seeds: Vec<Vec<u8>> = targets.iter().flat_map(|name| seeds(name)).collect();
    assert!((200..MOST_SEEDS).contains(&seeds.len()), "{} seeds", seeds.len());
    assert!(seeds.iter().all(|seed| seed.len() <= LONGEST_SEED));
}

#[test]
fn no_seed_breaks_its_target() {
    let (mut broken, mut tried) = (Vec::new(), 0);
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        broken.extend(seeds.iter().find_map(|seed| run(name, *target, seed).err()));
        println!("fuzz {name}: {} seeds", seeds.len());
        tried += seeds.len();
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    report("seeds", tried);
}

#[test]
fn no_mutant_of_a_seed_breaks_its_target() {
    let mut broken = Vec::new();
    for (name, target) in TARGETS {
        let mut mutants = Mutants::new(seeds(name), 1);
        broken.extend((0..MUTANTS).find_map(|_| run(name, *target, mutants.next()).err()));
        println!("fuzz {name}: {MUTANTS} mutants");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    report("mutants", MUTANTS * TARGETS.len());
}

#[test]
#[ignore = "ten seconds for each target"]
fn no_mutant_breaks_its_target_in_ten_seconds() {
    let (next, all) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some((name, target)) = TARGETS.get(next.fetch_add(1, Ordering::SeqCst)) {
            // Another seed in each run, or the one in the environment.
            let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
            let seed = seed.unwrap_or_else(|| SystemClock.now().millis());
            let mut mutants = Mutants::new(seeds(name), seed);
            let (end, mut tried) = (SystemClock.instant() + LONG, 0);
            while SystemClock.instant() < end {
                run(name, *target, mutants.next()).unwrap();
                tried += 1;
            }
            println!("fuzz {name}: {tried} mutants, SEED={seed}");
            all.fetch_add(tried, Ordering::SeqCst);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    report("mutants for a while", all.into_inner());
}

#[test]
#[ignore = "runs the file that INPUT names"]
fn one_input() {
    let Some(file) = std::env::var_os("INPUT").map(PathBuf::from) else { return };
    let input = fs::read(&file).unwrap();
    for (name, target) in TARGETS {
        let is_its = file.components().any(|part| part.as_os_str() == *name);
        if is_its {
            run(name, *target, &input).unwrap();
        }
    }
}

/// Rows of a store outlive an update, and tokens outlive a restart.
#[test]
fn rows_and_tokens_are_written_as_before() {
    let rows = crate::session::fuzz::written_rows().into_iter().map(|(name, row)| ("session_row", name, row));
    let sign_in = ("sign_in_row", "whole", crate::sign_in::fuzz::written_sign_in());
    let token = ("token", "good", token::fixed_token());
    for (target, name, bytes) in rows.chain([sign_in, token]) {
        let file = Path::new("fuzz/corpus").join(target).join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        let stored = fs::read(&file).unwrap_or_default();
        assert!(
            stored == bytes,
            "{} is written in another way now: can old rows still be read?",
            file.display()
        );
    }
}

/// Writes a count for `scripts/test`, as the suites of `tests/it` do.
fn report(what: &str, inputs: usize) {
    if let Some(folder) = std::env::var_os("MENSHEN_TEST_COUNTS") {
        let suite = format!("fuzz: {what} of {} targets", TARGETS.len());
        let line = format!("{suite}\t{inputs}\t-\tno target broke\n");
        fs::write(Path::new(&folder).join(suite), line).unwrap();
    }
}

fn run(name: &str, target: FuzzTarget, input: &[u8]) -> Result<(), String> {
    catch_unwind(|| target(input)).map_err(|_| format!("{name} is broken by b\"{}\"", input.escape_ascii()))
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new("fuzz/corpus").join(name);
    let files = names_in(&folder).into_iter().map(|file| fs::read(folder.join(file)).unwrap());
    let seeds: Vec<Vec<u8>> = files.collect();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds
}

fn names_in(folder: impl AsRef<Path>) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
