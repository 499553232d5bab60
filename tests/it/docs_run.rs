//! The commands of the pages are run as they stand there, in a home of their own that holds a store with a
//! few calls, before a scripted provider and a scripted sink.

use crate::{
    docs::pages,
    harness::{Calltap, Upstream, chat, chat_body, fetch, free_port, json_answer, post},
};
use regex::Regex;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

/// What is not run, and why. `*` at the end stands for the rest of a line; a block with such a line is not
/// run at all.
const NOT_RUN: &[(&str, &str)] = &[
    ("make *", "builds, or runs every test"),
    ("cd ui && *", "never ends: the dashboard while it is edited"),
    ("docker *", "needs a container engine"),
    ("install *", "writes into the system's folders, as root"),
    ("calltap pricing update --from genai-prices", "fetches from the book's repository"),
    ("calltap pricing explain", "named, not called: it needs a model"),
    ("calltap pricing update", "named, not called: it needs a source"),
    ("calltap run", "named, not called: it needs a program"),
    ("calltap show --json", "named, not called: it needs an id"),
    ("calltap store backup", "named, not called: it needs a file"),
];

/// Words of the pages that stand for something of the reader's, and what that is here.
const STAND_INS: &[(&str, &str)] = &[
    (r"http://127\.0\.0\.1:4777", "http://ADDRESS"),
    (r"\b01[0-9a-f]{6}(-[0-9a-f]{4})?\b", "DEAD"),
    (r"\bIDS?\b…?", "DEAD"),
    (r"\bNAME\b", "athina"),
    (r"\b(FILE|SOURCE)\b", "book.json"),
    (r"--provider P --model M\b", "--provider openai --model gpt-4o"),
    (r"=… ", "=sk-test "),
    (r"/backup/", "backup/"),
    // The live feed has no end: to be there for two seconds is to run.
    (r"curl -N ('[^']+')", "curl -N --max-time 2 $1 || test $$? = 28"),
];
/// What ends otherwise than with 0.
const EXITS: &[(&str, i32, &str)] = &[("calltap pricing diff", 1, "something differs")];
/// Longest wait for the end of a command.
const PATIENCE: Duration = Duration::from_mins(1);
/// A call with this in it is refused by the sink for good.
const POISON: &str = "poison";
/// The provider does not have it.
const UNKNOWN_MODEL: &str = "gpt-4o-unknown";
/// What a reader's own program does, as far as it matters here.
const APP: &str = "#!/bin/sh\nexec curl -fsS \"$OPENAI_BASE_URL/chat/completions\" -H 'content-type: application/json' \
    -d '{\"model\": \"gpt-4o-mini\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}'\n";

/// One of the commands of a page; a block of them is one where they build on each other.
struct Said {
    page: PathBuf,
    text: String,
}

/// Spans of code that begin with `calltap `, and blocks of shell; each text once.
fn said() -> Vec<Said> {
    let span = Regex::new(r"`(calltap [^`]+)`").unwrap();
    let fence = Regex::new(r"(?ms)^```(\w*)\n(.*?)^```").unwrap();
    let optional = Regex::new(r" \[[^\]]*\]").unwrap();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let mut add = |text: &str| {
            if seen.insert(text.to_owned()) {
                found.push(Said { page: page.clone(), text: text.to_owned() });
            }
        };
        for block in fence.captures_iter(&text) {
            let lines: Vec<&str> = block[2].lines().collect();
            match &block[1] {
                "console" => lines.iter().filter_map(|l| l.strip_prefix("$ ")).for_each(&mut add),
                "sh" if lines.iter().all(|line| line.starts_with("calltap ")) => {
                    lines.into_iter().for_each(&mut add);
                }
                "sh" => add(&block[2]),
                _ => {}
            }
        }
        for span in span.captures_iter(&fence.replace_all(&text, "")) {
            let text = span[1].split_whitespace().collect::<Vec<_>>().join(" ");
            // Usage of a command is compared with its help elsewhere; what may be left out is.
            if !text.contains('<') && !text.contains("[OPTIONS]") {
                add(optional.replace_all(&text, "").as_ref());
            }
        }
    }
    found
}

/// Where the commands run.
struct Place {
    upstream: Upstream,
    _sink: Upstream,
    calltap: Calltap,
    home: PathBuf,
    count: usize,
}

impl Place {
    fn new() -> Self {
        let words = chat(2, Duration::ZERO);
        let upstream = Upstream::start(move |request| {
            let body = String::from_utf8_lossy(&request.body);
            if body.contains(UNKNOWN_MODEL) {
                let error = r#"{"error":{"message":"no","type":"invalid_request_error","code":"model_not_found"}}"#;
                return json_answer(404, error);
            }
            if request.line.contains("/models") {
                return json_answer(200, r#"{"object":"list","data":[]}"#);
            }
            words(request)
        });
        let sink = Upstream::start(|request| {
            let poisoned = String::from_utf8_lossy(&request.body).contains(POISON);
            json_answer(if poisoned { 400 } else { 200 }, "{}")
        });
        let section = format!(
            "[sinks.athina]\ntype = \"athina\"\napi_key = \"k\"\nbase_url = \"http://{}\"\n",
            sink.address
        );
        let mut calltap = Calltap::with(&upstream, "", &section);
        let home = calltap.config().parent().unwrap().to_owned();
        post(
            calltap.address,
            "/-/prompt=greeting;session=s1/v1/chat/completions",
            "",
            &chat_body(true),
        );
        calltap.wait_calls("", 1);
        // What reads the whole store again needs one that no calltap runs on.
        calltap.signal("TERM");
        assert!(calltap.wait().success());
        copy(&calltap.data_dir(), &home.join("still"));
        calltap.restart();
        let place = Self { upstream, _sink: sink, calltap, home, count: 0 };
        place.furnish();
        place
    }

    /// The home: the binary and the reader's program on the path, the store where it would be.
    fn furnish(&self) {
        let bin = self.home.join(".local/bin");
        let share = self.home.join(".local/share");
        for folder in [
            &bin,
            &share,
            &self.home.join(".config/fish/completions"),
            &self.home.join("functions"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_calltap"), bin.join("calltap")).unwrap();
        symlink(self.calltap.data_dir(), share.join("calltap")).unwrap();
        fs::write(self.home.join(".curlrc"), "fail\nsilent\nshow-error\n").unwrap();
        fs::write(bin.join("python"), APP).unwrap();
        fs::set_permissions(bin.join("python"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Id of a record that the sink refused.
    fn dead(&self) -> String {
        let until = Instant::now() + PATIENCE;
        let uuid = Regex::new(r"[0-9a-f]{8}-[0-9a-f-]{27}").unwrap();
        let mut asked = false;
        loop {
            let output =
                self.calltap.command().args(["sinks", "dead", "athina", "--json"]).output();
            let text = String::from_utf8(output.unwrap().stdout).unwrap();
            if let Some(id) = uuid.find(&text) {
                return id.as_str().to_owned();
            }
            if !std::mem::replace(&mut asked, true) {
                post(
                    self.calltap.address,
                    "/v1/chat/completions",
                    "",
                    &chat_body(false).replace("hi", POISON),
                );
            }
            assert!(Instant::now() < until, "nothing died: {text}\n{}", self.calltap.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The text with what it needs here in place of what stands for it.
    fn fill_in(&self, text: &str) -> String {
        let filled = STAND_INS.iter().fold(text.to_owned(), |text, (word, here)| {
            Regex::new(word).unwrap().replace_all(&text, *here).into_owned()
        });
        let filled = filled.replace("ADDRESS", &self.calltap.address.to_string());
        if filled.contains("DEAD") || filled.contains("redrive") {
            return filled.replace("DEAD", &self.dead());
        }
        filled
    }

    /// Bash with this text, in a folder of its own.
    fn shell(&mut self, text: &str) -> (Command, PathBuf) {
        self.count += 1;
        let folder = self.home.join(format!("work-{}", self.count));
        fs::create_dir_all(folder.join("backup")).unwrap();
        symlink(self.calltap.data_dir().join("calltap.db"), folder.join("calltap.db")).unwrap();
        let book = r#"{"brand-new": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}}"#;
        fs::write(folder.join("book.json"), book).unwrap();
        let log = folder.join("log");
        let file = File::create(&log).unwrap();
        let path = format!(
            "{}:{}",
            self.home.join(".local/bin").display(),
            std::env::var("PATH").unwrap()
        );
        // Zsh's list of folders, for the line that is for zsh.
        let text = format!("set -eu; fpath=(. ~/functions)\n{text}");
        let mut command = Command::new("bash");
        command
            .args(["-c", &text])
            .current_dir(folder)
            .env_clear()
            .envs([("PATH", path), ("HOME", self.home.display().to_string())])
            .env("CALLTAP_CONFIG", self.calltap.config())
            .env("CALLTAP_SERVER__LISTEN", self.calltap.address.to_string())
            .envs(["OPENAI_API_KEY", "ATHINA_API_KEY"].map(|name| (name, "sk-test")))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        (command, log)
    }

    fn run(&mut self, text: &str) -> Result<(), String> {
        let text = self.fill_in(text);
        if is_server(&text) {
            return self.serve(&text);
        }
        let (mut command, log) = self.shell(&text);
        if ["calltap reindex", "calltap recost", "calltap store prune"].contains(&text.as_str()) {
            command.env("CALLTAP_DATA_DIR", self.home.join("still"));
        }
        let tails = text.starts_with("calltap tail");
        if tails {
            command.env("CALLTAP_COUNT", "1");
        }
        let mut child = command.spawn().unwrap();
        let status = ended(&mut child, || {
            if tails {
                let body = chat_body(false).replace("gpt-4o-mini", UNKNOWN_MODEL);
                post(self.calltap.address, "/v1/chat/completions", "", &body);
            }
        });
        let differs = EXITS.iter().find(|(command, ..)| text.starts_with(command));
        judge(status, differs.map_or(0, |(_, exit, _)| *exit), &log)
    }

    /// What runs until it is told to stop, on an empty store: it is ready, and ends in order.
    fn serve(&mut self, text: &str) -> Result<(), String> {
        let (mut command, log) = self.shell(&format!("exec env {text}"));
        let port = free_port();
        let child = command
            .env_remove("CALLTAP_CONFIG")
            .env_remove("CALLTAP_SERVER__LISTEN")
            .env("CALLTAP_LISTEN", format!("127.0.0.1:{port}"))
            .env("CALLTAP_DATA_DIR", self.home.join(format!("served-{port}")))
            .spawn();
        let mut child = child.unwrap();
        let until = Instant::now() + PATIENCE;
        let ready =
            || fetch(([127, 0, 0, 1], port).into(), "/readyz").is_some_and(|a| a.status == 200);
        while !ready() && Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        judge(ended(&mut child, || ()), 0, &log)
    }
}

fn is_server(text: &str) -> bool {
    static SERVES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(\w+=\S+ )*calltap( serve| demo)?( --.*)?\s*$").unwrap());
    SERVES.is_match(text)
}

/// The end of a command; `meanwhile` again and again until then.
fn ended(child: &mut Child, meanwhile: impl Fn()) -> Option<ExitStatus> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        meanwhile();
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn judge(status: Option<ExitStatus>, wanted: i32, log: &Path) -> Result<(), String> {
    let ended = status.map_or("did not end".to_owned(), |status| status.to_string());
    let said = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let right = status.and_then(|status| status.code()) == Some(wanted);
    right.then_some(()).ok_or(format!("{ended}\n{said}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The row of what is not run that a text has.
fn not_run(text: &str) -> Option<&'static str> {
    let has = |row: &str| match row.strip_suffix('*') {
        Some(start) => text.lines().any(|line| line.starts_with(start)),
        None => text == row,
    };
    NOT_RUN.iter().map(|(row, _)| *row).find(|row| has(row))
}

/// Without the lines whose program is not on this machine; how many those are.
fn without_missing(text: &str) -> (String, usize) {
    let there = |name: &str| {
        let path = std::env::var_os("PATH").unwrap();
        std::env::split_paths(&path).any(|folder| folder.join(name).exists())
    };
    let missing = |line: &str| {
        ["curl", "man", "sqlite3"]
            .iter()
            .any(|name| line.starts_with(&format!("{name} ")) && !there(name))
    };
    let joined = text.replace("\\\n", " ");
    let kept: Vec<&str> = joined.lines().filter(|line| !missing(line)).collect();
    (kept.join("\n"), joined.lines().count() - kept.len())
}

#[test]
fn commands_run() {
    let mut place = Place::new();
    let (mut used, mut faults) = (BTreeSet::new(), Vec::new());
    let (mut run, mut missing) = (0, 0);
    for Said { page, text } in said() {
        if let Some(row) = not_run(&text) {
            used.insert(row);
            continue;
        }
        let (text, left_out) = without_missing(&text);
        missing += left_out;
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        run += lines.count();
        if let Err(why) = place.run(&text) {
            faults.push(format!("{}: {}\n{why}", page.display(), text.trim()));
        }
    }
    println!("commands run {run}, without their program {missing}, not run {}", NOT_RUN.len());
    assert!(faults.is_empty(), "{} fail:\n{}", faults.len(), faults.join("\n\n"));
    assert!(run + missing >= 70, "only {run} commands were run");
    let unused: Vec<_> = NOT_RUN.iter().filter(|(row, _)| !used.contains(row)).collect();
    assert!(unused.is_empty(), "no page has {unused:?}");
    assert!(place.upstream.requests().len() > 5, "the calls of the pages went upstream");
}

#[test]
fn queries_run() {
    let place = Place::new();
    let store = rusqlite::Connection::open_with_flags(
        place.calltap.data_dir().join("calltap.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    );
    let (store, mut run) = (store.unwrap(), 0);
    let fence = Regex::new(r"(?ms)^```sql\n(.*?)^```").unwrap();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in fence.captures_iter(&text) {
            for query in block[1].split_inclusive(';').filter(|query| query.contains(';')) {
                let mut query = store.prepare(query).unwrap();
                let mut rows = query.query([]).unwrap();
                while rows.next().unwrap().is_some() {}
                run += 1;
            }
        }
    }
    assert!(run >= 3, "only {run} queries");
}

#[test]
fn configurations_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calltap.toml");
    let fence = Regex::new(r"(?ms)^```toml\n(.*?)^```").unwrap();
    let variable = Regex::new(r"\$\{(\w+)").unwrap();
    let secret = Regex::new(r"\$\{file:[^}]*\}").unwrap();
    let (mut taken, mut faults) = (0, Vec::new());
    for page in pages().into_iter().filter(|page| page.starts_with("docs")) {
        let text = fs::read_to_string(&page).unwrap();
        for block in fence.captures_iter(&text) {
            let block = secret.replace_all(&block[1], "secret").into_owned();
            fs::write(&file, &block).unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_calltap"))
                .args(["config", "check", "--config"])
                .arg(&file)
                .env_clear()
                .env("HOME", folder.path())
                .envs(
                    variable
                        .captures_iter(&block)
                        .map(|of| (of[1].to_owned(), "0123456789abcdef".repeat(4))),
                )
                .output()
                .unwrap();
            taken += 1;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                faults.push(format!("{}:\n{block}\n{said}", page.display()));
            }
        }
    }
    println!("configurations {taken}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(taken >= 8, "only {taken} configurations");
}
