//! The binary, started for one test.

use super::Upstream;
use serde_json::Value;
use std::{
    fs::File,
    io::Read,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running calltap.
pub struct Calltap {
    /// Where it takes calls.
    pub address: SocketAddr,
    child: Child,
    home: TempDir,
    config: PathBuf,
    environment: Vec<(String, String)>,
}

/// A port that nobody used a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Calltap {
    /// Starts one before `upstream`.
    pub fn start(upstream: &Upstream) -> Self {
        Self::with(upstream, "", "")
    }

    /// Starts one with more keys for `[upstreams.openai]`, and more sections.
    pub fn with(upstream: &Upstream, upstream_keys: &str, sections: &str) -> Self {
        Self::prepared(upstream, upstream_keys, sections, |_| ())
    }

    /// The same, once `prepare` has seen the folder that will hold the data directory.
    pub fn prepared(
        upstream: &Upstream,
        upstream_keys: &str,
        sections: &str,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let prepare = |home: &Path| {
            prepare(home);
            Vec::new()
        };
        Self::in_environment(upstream, upstream_keys, sections, prepare)
    }

    /// The same; `prepare` gives variables for the server's environment.
    pub fn in_environment(
        upstream: &Upstream,
        upstream_keys: &str,
        sections: &str,
        prepare: impl FnOnce(&Path) -> Vec<(String, String)>,
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let environment = prepare(home.path());
        let config = home.path().join("calltap.toml");
        let port = free_port();
        let text = format!(
            "[upstreams.openai]\nbase_url = \"{}\"\n{upstream_keys}\n{sections}\n",
            upstream.url()
        );
        std::fs::write(&config, text).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let child = spawn(&config, home.path(), address, &environment);
        let mut calltap = Self { address, child, home, config, environment };
        calltap.wait_ready();
        calltap
    }

    /// A command of the binary over this one's store and configuration.
    pub fn command(&self) -> Command {
        command(&self.config, self.home.path(), self.address)
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_ready(&mut self) {
        let until = Instant::now() + PATIENCE;
        while super::fetch(self.address, "/readyz").is_none_or(|answer| answer.status != 200) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("calltap ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name (`TERM`, `HUP`).
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still running:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on the same store.
    pub fn restart(&mut self) {
        self.child = spawn(&self.config, self.home.path(), self.address, &self.environment);
        self.wait_ready();
    }

    /// Rows of the API that match, newest first.
    pub fn calls(&self, query: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let query = query.replace(' ', "+");
            let path = format!("/api/v1/calls?limit=1000&q={query}{after}");
            let mut answer = super::fetch(self.address, &path).expect("the API answers");
            let until = Instant::now() + PATIENCE;
            while answer.status == 503 && Instant::now() < until {
                // A read has its deadline; a busy machine may need another try.
                answer = super::fetch(self.address, &path).expect("the API answers");
            }
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            let page: Value = serde_json::from_slice(&answer.body).unwrap();
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return items,
            }
        }
    }

    /// Rows that match, once there are `count` of them.
    pub fn wait_calls(&self, query: &str, count: usize) -> Vec<Value> {
        let (mut until, mut seen) = (Instant::now() + PATIENCE, 0);
        loop {
            let calls = self.calls(query);
            if calls.len() > seen {
                // It goes on, however slowly.
                (until, seen) = (Instant::now() + PATIENCE, calls.len());
            }
            if calls.len() >= count {
                assert_eq!(calls.len(), count, "more records than calls: {calls:#?}");
                return calls;
            }
            assert!(Instant::now() < until, "{} of {count} records:\n{}", calls.len(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The only call, in full.
    pub fn only_record(&self) -> Value {
        let row = self.wait_calls("", 1).remove(0);
        self.record(row["id"].as_str().unwrap())
    }

    /// One call in full.
    pub fn record(&self, id: &str) -> Value {
        let answer = super::fetch(self.address, &format!("/api/v1/calls/{id}")).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Calls that are stored, and calls that are counted as dropped.
    pub fn counts(&self) -> (usize, usize) {
        let output = self.command().args(["store", "info", "--json"]).output().unwrap();
        let info: Value = serde_json::from_slice(&output.stdout).unwrap();
        let dropped = info["dropped"].as_array().unwrap().iter();
        let dropped = dropped.map(|pair| pair[1].as_u64().unwrap()).sum::<u64>();
        let size = |count: u64| usize::try_from(count).unwrap();
        (size(info["calls"].as_u64().unwrap()), size(dropped))
    }

    /// Open descriptors, less those of the store: its few readers are opened as reads overlap, and kept.
    pub fn descriptors(&self) -> usize {
        let is_store = |link: &std::fs::DirEntry| {
            std::fs::read_link(link.path()).is_ok_and(|file| {
                file.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("calltap.db"))
            })
        };
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        open.flatten().filter(|link| !is_store(link)).count()
    }

    /// Tasks of its runtime, the one that answers this included.
    pub fn tasks(&self) -> u64 {
        let page = super::fetch(self.address, "/metrics").unwrap().body;
        let page = String::from_utf8(page).unwrap();
        let line = page.lines().find(|line| line.starts_with("calltap_runtime_tasks "));
        line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Waits until no more descriptors and tasks are left than these; gives how many there are.
    pub fn wait_left(&self, descriptors: usize, tasks: u64) -> (usize, u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = (self.descriptors(), self.tasks());
            if left.0 <= descriptors && left.1 <= tasks {
                return left;
            }
            assert!(Instant::now() < until, "{left:?} left, {:?} before", (descriptors, tasks));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Resident memory, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Most resident memory since its start, or since `clear_refs` was told to forget it, in KiB.
    pub fn highest_memory_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Processor time so far, in seconds (proc(5); a tick is 10 ms).
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// Threads of the process.
    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Every byte below the data directory and in the log.
    pub fn every_byte(&self) -> Vec<u8> {
        let mut all = self.log().into_bytes();
        let mut folders = vec![self.data_dir()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(mut file) = File::open(&path) {
                    file.read_to_end(&mut all).unwrap();
                }
            }
        }
        all
    }
}

impl Drop for Calltap {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            println!("calltap's log:\n{}", self.log());
        }
    }
}

/// The binary, over the store below `home`. `CALLTAP_BIN`: another binary than the one that was built with the tests.
pub fn command(config: &Path, home: &Path, address: SocketAddr) -> Command {
    let binary = std::env::var_os("CALLTAP_BIN");
    let mut command = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_calltap").into()));
    command
        .env_clear()
        .env("HOME", home)
        .env("CALLTAP_CONFIG", config)
        .env("CALLTAP_DATA_DIR", home.join("data"))
        .env("CALLTAP_SERVER__LISTEN", address.to_string())
        .stdin(Stdio::null());
    command
}

fn spawn(
    config: &Path,
    home: &Path,
    address: SocketAddr,
    environment: &[(String, String)],
) -> Child {
    let log = File::options().create(true).append(true).open(home.join("log")).unwrap();
    let mut command = command(config, home, address);
    command.envs(environment.iter().cloned());
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}
