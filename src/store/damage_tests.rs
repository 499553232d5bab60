//! Damaged files: the store starts all the same, and what it still tells is true.

use super::tests::{entry, open, put, record};
use super::*;
use crate::query::Query;
use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

type Options = crate::config::Store;

/// Files that a usual run damages; `CALLTAP_TEST_CORRUPTIONS` sets another number.
const ROUNDS: usize = 60;

#[test]
fn a_damaged_file_is_set_aside() {
    for damage in [
        (|file| {
            fs::write(file, "no database at all, but long enough to be looked at").unwrap();
        }) as fn(&Path),
        |file| {
            let mut bytes = fs::read(file).unwrap();
            let end = bytes.len();
            bytes[4096..end].fill(0xa5);
            fs::write(file, bytes).unwrap();
        },
        |file| fs::write(file, "").unwrap(),
        |file| {
            fs::remove_file(file).unwrap();
            rusqlite::Connection::open(file)
                .unwrap()
                .execute_batch("CREATE TABLE other (a)")
                .unwrap();
        },
    ] {
        let (dir, store) = open();
        put(&store, entry(0)).unwrap();
        store.close();
        damage(&dir.path().join("calltap.db"));
        let store = Store::open(dir.path(), &Options::default()).unwrap();
        put(&store, entry(0)).unwrap();
        assert_eq!(store.reader().unwrap().info().unwrap().calls, 1);
    }
}

/// Records of a store, by id.
type Known = BTreeMap<String, Value>;

/// A store as a kill leaves it, and what it held: the first calls in its file, the others in its log.
fn killed(calls: i64) -> (tempfile::TempDir, Known) {
    let (dir, store) = open();
    let put = |store: &Store, at| assert!(put(store, entry(at)).is_ok());
    (0..calls / 2).for_each(|at| put(&store, at));
    store.close();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    (calls / 2..calls).for_each(|at| put(&store, at));
    store.journal(vec![Started { record: record(0), request: Some("{}".into()) }]);
    let copy = tempfile::tempdir().unwrap();
    for name in ["calltap.db", "calltap.db-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let reader = store.reader().unwrap();
    let rows = reader.list(&Query::default(), 1000, None).unwrap().items;
    let known = rows.iter().map(|row| {
        let id = row["id"].as_str().unwrap();
        (id.to_owned(), serde_json::to_value(reader.get(id).unwrap().unwrap().record).unwrap())
    });
    (copy, known.collect())
}

/// A small generator with a seed: what fails once fails again.
fn next(seed: &mut usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 20
}

/// Damages the files in `dir`; says how.
fn damage(dir: &Path, round: usize, random: usize, other: &Path) -> String {
    let (file, log) = (dir.join("calltap.db"), dir.join("calltap.db-wal"));
    // The header's version fields are left alone: they may rightly refuse the start.
    let change = |path: &Path, from: usize, how: &dyn Fn(&mut Vec<u8>, usize)| {
        let mut bytes = fs::read(path).unwrap();
        let at = from + random % (bytes.len() - from);
        how(&mut bytes, at);
        fs::write(path, bytes).unwrap();
        at
    };
    let flip = |bytes: &mut Vec<u8>, at: usize| bytes[at] ^= 1 << (random % 8);
    let zero = |bytes: &mut Vec<u8>, at: usize| {
        let (from, end) = ((at / 4096 * 4096).max(100), (at / 4096 * 4096 + 4096).min(bytes.len()));
        bytes[from..end].fill(0);
    };
    match round % 10 {
        0 | 1 => format!("a bit at {}", change(&file, 100, &flip)),
        2 => format!("a page at {}", change(&file, 100, &zero)),
        3 => format!("cut at {}", change(&file, 100, &|bytes, at| bytes.truncate(at))),
        4 => format!("a bit of the log at {}", change(&log, 0, &flip)),
        5 => format!("the log cut at {}", change(&log, 0, &|bytes, at| bytes.truncate(at))),
        6 => {
            fs::copy(other.join("calltap.db-wal"), &log).unwrap();
            "another's log".to_owned()
        }
        7 => {
            fs::remove_file(&log).unwrap();
            "no log".to_owned()
        }
        8 => {
            fs::write(&file, "").unwrap();
            "an empty file".to_owned()
        }
        _ => format!(
            "noise at {}",
            change(&file, 100, &|bytes, at| {
                let mut seed = random;
                bytes[at..].iter_mut().for_each(|byte| *byte = next(&mut seed).to_le_bytes()[0]);
            })
        ),
    }
}

/// The store starts whatever was done to its files, takes calls, and every record that it gives is one
/// that was stored, or has a note.
#[test]
fn no_damage_keeps_the_store_from_starting() {
    let rounds = std::env::var("CALLTAP_TEST_CORRUPTIONS").ok().and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let ((sound, mut known), (other, theirs)) = (killed(40), killed(12));
    let all = known.len();
    known.extend(theirs);
    let (mut seed, mut aside, mut whole, mut kept, mut torn) = (7, 0, 0, 0, 0);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        for name in ["calltap.db", "calltap.db-wal"] {
            fs::copy(sound.path().join(name), dir.path().join(name)).unwrap();
        }
        let how = damage(dir.path(), round, next(&mut seed), other.path());
        let started = Instant::now();
        let store = Store::open(dir.path(), &Options::default())
            .unwrap_or_else(|error| panic!("round {round}, {how}: {error}"));
        slowest = slowest.max(started.elapsed());
        put(&store, entry(0)).unwrap_or_else(|error| panic!("round {round}, {how}: {error}"));
        let reader = store.reader().unwrap();
        let mut held = 0;
        for row in reader.list(&Query::default(), 1000, None).unwrap().items {
            let id = row["id"].as_str().unwrap();
            let Some(found) = reader.get(id).unwrap() else {
                // A log with sound sums that belongs to another file can tear a table from its index.
                assert_eq!(how, "another's log", "round {round}: {id}");
                torn += 1;
                continue;
            };
            let Some(stored) = known.get(id) else { continue };
            held += 1;
            let noted = !found.record.notes.is_empty();
            let found = serde_json::to_value(found.record).unwrap();
            assert!(noted || found == *stored, "round {round}, {how}: {found} was {stored}");
        }
        kept += held;
        whole += usize::from(held >= all);
        let names = fs::read_dir(dir.path()).unwrap().flatten();
        aside += usize::from(
            names.map(|f| f.file_name()).any(|name| name.to_string_lossy().contains(".damaged-")),
        );
    }
    println!(
        "{rounds} damaged files: all opened, the slowest in {slowest:?}; {aside} set aside, {whole} whole, {kept} of {} records read, {torn} listed and not found",
        rounds * all
    );
    assert!(aside > 0 && whole < rounds, "the damage was done");
}
