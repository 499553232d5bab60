//! Lists of bad input: each row an input and what has to come of it.
//!
//! A list runs all of its rows against one calltap and tells every row that failed. `docs/reliability.md`
//! holds a line a list with what is counted here; the list fails where that line says otherwise.

mod config;
mod events;
mod frames;
mod headers;
pub mod http;
mod json;
mod sinks;
mod surface;

use crate::harness::{Calltap, Connection, Request, chat_body, post};
use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

/// What became of the rows of a list. The name of a row begins with its entry: `H4 a signed length`.
pub struct List {
    letter: char,
    entries: usize,
    seen: BTreeSet<usize>,
    passed: usize,
    elsewhere: usize,
    otherwise: usize,
    untried: usize,
    failed: Vec<String>,
}

impl List {
    /// A list of so many entries.
    pub fn new(letter: char, entries: usize) -> Self {
        Self {
            letter,
            entries,
            seen: BTreeSet::new(),
            passed: 0,
            elsewhere: 0,
            otherwise: 0,
            untried: 0,
            failed: Vec::new(),
        }
    }

    /// A row passes where `run` does not panic.
    pub fn row(&mut self, name: &str, run: impl FnOnce()) {
        if self.holds(name, run) {
            self.passed += 1;
        }
    }

    /// A row of which calltap makes something else than the list asks for; `run` holds it to that.
    pub fn otherwise(&mut self, name: &str, run: impl FnOnce()) {
        if self.holds(name, run) {
            self.otherwise += 1;
        }
    }

    fn holds(&mut self, name: &str, run: impl FnOnce()) -> bool {
        self.mark(name);
        let fault = catch_unwind(AssertUnwindSafe(run)).err();
        if let Some(fault) = &fault {
            let text = fault.downcast_ref::<String>().map(String::as_str);
            let text = text.or(fault.downcast_ref::<&str>().copied()).unwrap_or("panicked");
            self.failed.push(format!("{name}: {}", &text[..text.floor_char_boundary(600)]));
        }
        fault.is_none()
    }

    /// Rows that another test has, which must be there.
    pub fn elsewhere(&mut self, rows: &[(&str, &str)]) {
        for (name, test) in rows {
            self.mark(name);
            self.elsewhere += 1;
            if !exists(test) {
                self.failed.push(format!("{name}: there is no {test}"));
            }
        }
    }

    /// Rows that nothing tries yet.
    pub fn untried(&mut self, names: &[&str]) {
        for name in names {
            self.mark(name);
            self.untried += 1;
        }
    }

    fn mark(&mut self, name: &str) {
        let number: String =
            name.trim_start_matches(self.letter).chars().take_while(char::is_ascii_digit).collect();
        self.seen.insert(number.parse().unwrap_or_else(|_| panic!("{name}: which entry?")));
    }

    /// Tells what failed.
    pub fn end(mut self) {
        let all: BTreeSet<usize> = (1..=self.entries).collect();
        if self.seen != all {
            let missing: Vec<_> = all.symmetric_difference(&self.seen).collect();
            self.failed.push(format!("entries without a row, or too many: {missing:?}"));
        }
        let passed = self.passed + self.elsewhere;
        let total = passed + self.otherwise + self.untried + self.failed.len();
        println!(
            "{}: {passed} of {total} rows pass, {} of them in other tests",
            self.letter, self.elsewhere
        );
        let line = format!("| {} | {} | {passed} / {total} |", self.letter, self.entries);
        if self.failed.is_empty() && !page().contains(&line) {
            self.failed.push(format!("docs/reliability.md has no line `{line}`"));
        }
        assert!(
            self.failed.is_empty(),
            "{} failed:\n{}",
            self.failed.len(),
            self.failed.join("\n")
        );
    }
}

fn page() -> String {
    fs::read_to_string("docs/reliability.md").unwrap()
}

/// Whether there is a test file of this path, or a test function of this name.
pub fn exists(test: &str) -> bool {
    fn anywhere(folder: &Path, function: &str) -> bool {
        fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                return anywhere(&path, function);
            }
            path.extension().is_some_and(|extension| extension == "rs")
                && fs::read_to_string(&path).unwrap().contains(function)
        })
    }
    let name = test.rsplit("::").next().unwrap();
    let function = format!("fn {name}(");
    Path::new(test).is_file()
        || ["tests/it", "src"].iter().any(|folder| anywhere(Path::new(folder), &function))
}

/// A usual call works, nothing panicked, and there are as many records as there were calls before.
pub fn sound(list: &mut List, calltap: &Calltap, calls: usize) {
    let name = format!("{}1 afterwards", list.letter);
    list.row(&name, || {
        let answer = post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
        assert_eq!(answer.status, 200, "a usual call");
        calltap.wait_calls("", calls + 1);
        let (stored, dropped) = calltap.counts();
        assert_eq!((stored, dropped), (calls + 1, 0), "calls stored and dropped");
        assert!(!calltap.log().contains("panicked"), "{}", calltap.log());
    });
}

/// A connection whose reads end after a while.
pub fn connect(calltap: &Calltap) -> Connection {
    let connection = Connection::open(calltap.address);
    connection.stream().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    connection
}

/// Number of a row, from a header of its request.
pub fn row_of(request: &Request) -> Option<usize> {
    request.header("x-row")?.parse().ok()
}

/// The record of an answered call, once it is stored.
pub fn record_of(calltap: &Calltap, answer: &crate::harness::Answer) -> serde_json::Value {
    let id = answer.header("x-calltap-id").expect("an id");
    for _ in 0..500 {
        let found = crate::harness::fetch(calltap.address, &format!("/api/v1/calls/{id}"));
        if let Some(found) = found.filter(|found| found.status == 200) {
            return found.json();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no record of {id}")
}
