//! Stores of older and newer layouts, and starts that are cut short (`reliability.md` R22).

use crate::harness::{Calltap, Random, Upstream, chat, chat_body, command, count, free_port, post};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Calls in the store that is brought up.
const CALLS: usize = 40;

/// What the layout was before lanes, made out of the present one.
pub const BACK_TO_1: &str =
    "DROP TABLE exceptions; DROP TABLE lanes; DELETE FROM cursors WHERE name LIKE 'sink:%';
    ALTER TABLE cursors DROP COLUMN until; PRAGMA user_version = 1;";

fn serve(home: &Path) -> Command {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut serve = command(&home.join("calltap.toml"), home, address);
    serve.stdout(Stdio::null()).stderr(Stdio::null());
    serve
}

fn version(file: &Path) -> i64 {
    let conn = rusqlite::Connection::open(file).unwrap();
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// Every row of what calls left, as SQLite quotes it.
fn rows(file: &Path) -> Vec<String> {
    let conn = rusqlite::Connection::open(file).unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let mut all = Vec::new();
    for table in ["calls", "docs", "bodies"] {
        let columns: Vec<String> = conn
            .prepare(&format!("SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"))
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let sql = format!("SELECT {} FROM {table} ORDER BY seq", columns.join(" || ',' || "));
        let mut statement = conn.prepare(&sql).unwrap();
        all.extend(
            statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap),
        );
    }
    all
}

/// What the data directory holds, less the lock, and what SQLite sets up to read.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.path().is_file() && entry.file_name() != "calltap.lock")
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
        })
        .filter(|(name, bytes)| !name.ends_with("-shm") && !bytes.is_empty())
        .collect()
}

/// A store with calls in it, closed.
fn filled(upstream: &Upstream) -> Calltap {
    let mut calltap = Calltap::start(upstream);
    for at in 0..CALLS {
        post(calltap.address, "/v1/chat/completions", "", &chat_body(at % 2 == 0));
    }
    calltap.wait_calls("", CALLS);
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    calltap
}

/// Starts a server and kills it at some moment of the time that a start takes.
fn cut_short(home: &Path, start: Duration, dice: &mut Random) {
    let mut child = serve(home).spawn().unwrap();
    let micros = u64::try_from(start.as_micros()).unwrap();
    std::thread::sleep(Duration::from_micros(dice.below(micros)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// How long a start takes until it is ready, and somewhat more.
fn time_of_a_start(upstream: &Upstream) -> Duration {
    let begun = Instant::now();
    drop(Calltap::start(upstream));
    begun.elapsed() * 5 / 4
}

/// `CALLTAP_TEST_UPGRADES`: how many starts are killed.
#[test]
fn an_older_store_is_brought_up_also_over_kills() {
    let kills = count("CALLTAP_TEST_UPGRADES", 10);
    let upstream = Upstream::start(chat(3, Duration::ZERO));
    let mut calltap = filled(&upstream);
    let home = calltap.data_dir().parent().unwrap().to_owned();
    let file = calltap.data_dir().join("calltap.db");
    let kept = calltap.data_dir().join("calltap.db.v1");
    rusqlite::Connection::open(&file).unwrap().execute_batch(BACK_TO_1).unwrap();
    let before = rows(&file);
    assert_eq!(before.len(), 3 * CALLS);
    let old = std::fs::read(&file).unwrap();
    let (mut not_yet, mut done) = (0, 0);
    let (start, mut dice) = (time_of_a_start(&upstream), Random(11));
    for _ in 0..kills {
        cut_short(&home, start, &mut dice);
        let now = version(&file);
        *(if now == 1 { &mut not_yet } else { &mut done }) += 1;
        assert_eq!(rows(&file), before, "no row changes");
        assert!(now == 1 || kept.exists(), "the copy comes first");
        if now > 1 {
            // Once more from the start.
            for entry in std::fs::read_dir(file.parent().unwrap()).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).ok();
            }
            std::fs::write(&file, &old).unwrap();
        }
    }
    calltap.restart();
    assert_eq!(calltap.wait_calls("", CALLS).len(), CALLS);
    post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    calltap.wait_calls("", CALLS + 1);
    assert_eq!((version(&kept), version(&file)), (1, 2));
    assert_eq!(rows(&kept), before, "what was there before is kept");
    println!(
        "{kills} starts killed on a store of layout 1: {not_yet} before it was brought up, {done} after; all rows unchanged, brought up by the next"
    );
    assert!(kills < 10 || not_yet > 0, "kills came before the end");
}

/// `CALLTAP_TEST_UPGRADES`: how many starts are killed.
#[test]
fn a_store_whose_making_was_cut_short_is_made() {
    let kills = count("CALLTAP_TEST_UPGRADES", 10);
    let upstream = Upstream::start(chat(3, Duration::ZERO));
    let mut found = BTreeMap::<&str, usize>::new();
    let (start, mut dice) = (time_of_a_start(&upstream), Random(13));
    for _ in 0..kills {
        let mut calltap = Calltap::start(&upstream);
        calltap.kill();
        let dir = calltap.data_dir();
        std::fs::remove_dir_all(&dir).unwrap();
        cut_short(dir.parent().unwrap(), start, &mut dice);
        let file = dir.join("calltap.db");
        // Looked at without SQLite, which would put it right.
        let state = match std::fs::metadata(&file).map(|file| file.len()) {
            Err(_) => "nothing",
            Ok(0) => "an empty file",
            Ok(_) => "a file",
        };
        *found.entry(state).or_default() += 1;
        calltap.restart();
        post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
        calltap.wait_calls("", 1);
        assert_eq!(version(&file), 2);
    }
    println!("{kills} first starts killed, which left {found:?}: the next start made the store");
}

#[test]
fn a_store_of_a_newer_layout_is_refused_and_not_touched() {
    let upstream = Upstream::start(chat(3, Duration::ZERO));
    let calltap = filled(&upstream);
    let file = calltap.data_dir().join("calltap.db");
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.execute_batch("CREATE TABLE news (a); PRAGMA user_version = 3;").unwrap();
    drop(conn);
    let before = files(&calltap.data_dir());
    let server = calltap.command().arg("serve").output().unwrap();
    let reader = calltap.command().args(["store", "info"]).output().unwrap();
    for output in [server, reader] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{said}");
        assert!(said.contains("written by a newer calltap (schema 3, this one knows 2)"), "{said}");
    }
    assert_eq!(files(&calltap.data_dir()), before, "no byte is touched");
}
