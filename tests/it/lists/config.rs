//! C: configuration, files, environment.

use super::{List, sound};
use crate::harness::{Calltap, Upstream, chat, chat_body, fetch, free_port, post};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Texts of `calltap.toml`, and what is said of them; nothing where they are in order.
const TEXTS: &[(&str, &str, &str)] = &[
    ("C1 an unknown key", "[server]\nlisten_on = \"x\"\n", ":2:1"),
    ("C1 an unknown section", "[servers]\n", "did you mean `server`?"),
    ("C1 a wrong type", "[server]\nlisten = 7\n", ":2:"),
    ("C1 a key twice", "[log]\nlevel = \"info\"\nlevel = \"warn\"\n", "duplicate key"),
    ("C1 a section twice", "[log]\n[log]\n", ":2:"),
    ("C1 CR LF", "[log]\r\nlevel = \"info\"\r\n", ""),
    ("C1 a mark before", "\u{feff}[log]\nlevel = \"info\"\n", ""),
    ("C1 tabs", "[log]\n\tlevel\t=\t\"info\"\n", ""),
    ("C1 NUL", "[log]\nlevel = \"in\0fo\"\n", ":2:"),
    ("C1 no end of a text", "[log]\nlevel = \"info\n", ":2:"),
    ("C1 another language", "server:\n  listen: &a [*a, *a]\n", ":1:"),
    ("C1 an unknown variable", "[log]\nlevel = \"${NOBODY_SETS_THIS}\"\n", "NOBODY_SETS_THIS"),
    ("C1 no such file", "[log]\nlevel = \"${file:/no/such/file}\"\n", "/no/such/file"),
    ("C1 a size", "[server]\nmax_body = \"lots\"\n", ":2:"),
    ("C1 a period", "[server]\nheader_timeout = \"soon\"\n", ":2:"),
    ("C1 a negative period", "[server]\nheader_timeout = \"-1s\"\n", ":2:"),
    ("C1 a level", "[log]\nlevel = \"shouting==\"\n", "log.level"),
    ("C1 a pattern", "[capture]\nredact = [{ name = \"x\", regex = \"(\" }]\n", "redact"),
    ("C2 a file", "[upstreams.a]\nbase_url = \"file:///etc/passwd\"\n", "upstreams.a"),
    ("C2 ftp", "[upstreams.a]\nbase_url = \"ftp://x/v1\"\n", "upstreams.a"),
    ("C2 no scheme", "[upstreams.a]\nbase_url = \"example.org/v1\"\n", "upstreams.a"),
    ("C2 nothing", "[upstreams.a]\nbase_url = \"\"\n", "upstreams.a"),
    ("C2 no host", "[upstreams.a]\nbase_url = \"http:///v1\"\n", "upstreams.a"),
    ("C2 userinfo", "[upstreams.a]\nbase_url = \"http://me:pass@127.0.0.1/v1\"\n", "upstreams.a"),
    ("C2 port 65536", "[upstreams.a]\nbase_url = \"http://127.0.0.1:65536/v1\"\n", "upstreams.a"),
    ("C2 port 0", "[upstreams.a]\nbase_url = \"http://127.0.0.1:0/v1\"\n", "upstreams.a"),
    ("C2 dots", "[upstreams.a]\nbase_url = \"http://127.0.0.1/../v1\"\n", "upstreams.a"),
    ("C2 a query", "[upstreams.a]\nbase_url = \"http://127.0.0.1/v1?a=b\"\n", "upstreams.a"),
    (
        "C2 a letter of another script",
        "[upstreams.a]\nbase_url = \"https://\u{430}pi.openai.com/v1\"\n",
        "upstreams.a",
    ),
    ("C2 a slash behind", "[upstreams.a]\nbase_url = \"http://127.0.0.1:1/v1/\"\n", ""),
    (
        "C2 a name of calltap's own",
        "[upstreams.calls]\nbase_url = \"http://127.0.0.1:1/v1\"\n",
        "no use for an upstream",
    ),
    ("C3 an empty key of a sink", "[sinks.a]\ntype = \"athina\"\napi_key = \"\"\n", "is empty"),
    ("C3 a blank key of a sink", "[sinks.a]\ntype = \"athina\"\napi_key = \" \\n\"\n", "is empty"),
    (
        "C3 an empty secret",
        "[sinks.a]\ntype = \"webhook\"\nbase_url = \"http://127.0.0.1:1\"\nsecret = \"\"\n",
        "not empty",
    ),
    ("C3 an empty token", "[auth]\nadmin_token = \"\"\n", "is empty"),
    ("C4 all interfaces", "[server]\nlisten = \"0.0.0.0:4777\"\n", "auth.keys"),
    ("C4 all of IPv6", "[server]\nlisten = \"[::]:4777\"\n", "auth.keys"),
    ("C4 the dashboard", "[server]\nadmin_listen = \"0.0.0.0:4778\"\n", "auth.admin_token"),
];

/// A `calltap serve` of its own.
struct Served {
    child: Child,
    address: SocketAddr,
    said: std::path::PathBuf,
}

impl Served {
    fn start(home: &Path, data: &Path, wrap: &[&str], environment: &[(&str, &str)]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let said = home.join(format!("said-{}", address.port()));
        let log = fs::File::create(&said).unwrap();
        let program = env!("CARGO_BIN_EXE_calltap");
        let mut command = match wrap {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.arg("serve").env_clear().env("HOME", home).env("CALLTAP_DATA_DIR", data);
        command.env("PATH", "/usr/bin:/bin").env("CALLTAP_SERVER__LISTEN", address.to_string());
        command.env("CALLTAP_CONFIG", home.join("calltap.toml")).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap(), address, said }
    }

    /// The code it ends with, and what it said; no code once it is ready.
    fn outcome(&mut self) -> (Option<i32>, String) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let said = || fs::read_to_string(&self.said).unwrap();
            if let Some(status) = self.child.try_wait().unwrap() {
                return (Some(status.code().unwrap_or(-1)), said());
            }
            if fetch(self.address, "/readyz").is_some_and(|answer| answer.status == 200) {
                return (None, said());
            }
            assert!(Instant::now() < until, "neither ready nor ended: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The code it ends with, -1 for a signal, and what it said.
    fn end(&mut self) -> (i32, String) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let said = fs::read_to_string(&self.said).unwrap();
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), said);
            }
            assert!(Instant::now() < until, "it goes on: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn call(&self) {
        let answer = post(self.address, "/v1/chat/completions", "", &chat_body(false));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn c_configuration() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let home = tempfile::tempdir().unwrap();
    let mut list = List::new('C', 12);
    let check = |bytes: &[u8]| {
        let file = home.path().join("check.toml");
        fs::write(&file, bytes).unwrap();
        let mut command = calltap.command();
        command.env_remove("CALLTAP_SERVER__LISTEN").env("CALLTAP_CONFIG", &file);
        let output = command.args(["config", "check"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).replace("check.toml", "calltap.toml");
        (output.status.code(), said + &String::from_utf8_lossy(&output.stdout))
    };
    for (name, text, says) in TEXTS {
        list.row(name, || {
            let (code, said) = check(text.as_bytes());
            assert_eq!(code, Some(if says.is_empty() { 0 } else { 78 }), "{name}: {said}");
            assert!(said.contains(says), "{name}: {said}");
        });
    }
    list.otherwise("C1 an empty list for a section", || {
        assert_eq!(check(b"server = []\n").0, Some(0));
    });
    list.row("C1 no text", || assert_eq!(check(b"[log]\nlevel = \"\xff\"\n").0, Some(78)));
    list.row("C1 2 MB", || {
        let (code, said) = check(&b"# x\n".repeat(1 << 19));
        assert!(code == Some(78) && said.contains("too large"), "{said}");
    });
    fs::write(
        home.path().join("calltap.toml"),
        format!("[upstreams.openai]\nbase_url = \"{}\"\n", upstream.url()),
    )
    .unwrap();
    directories(&mut list, home.path());
    surroundings(&mut list, &calltap, home.path());
    list.elsewhere(&[
        ("C1 a file without an end", "config::load::files_without_an_end_are_refused"),
        ("C3 a line end behind a key", "config::load::variables_files_and_defaults_are_put_in"),
        ("C6 newer, 0 bytes, another's, garbage", "store::tests::a_damaged_file_is_set_aside"),
        ("C6 newer", "store::tests::a_newer_file_is_not_touched"),
        ("C7 two processes", "cli::bad_starts_are_told_in_a_line_with_the_right_code"),
        ("C7 a lock that was left", "durability::running_calls_appear_as_interrupted_after_a_kill"),
        ("C9 no room", "disk::a_full_disk_stops_no_call"),
        ("C10 a broken reload", "durability::a_reload_swaps_the_configuration_whole_or_not_at_all"),
        ("C10 a stop under load", "durability::a_stop_lets_streams_finish_and_commits"),
        ("C12 no price", "prices::an_unknown_model_is_counted_and_said_once"),
        ("C12 bad prices", "prices::a_server_reads_imports_and_refuses_bad_files_of_ones_own"),
        ("C12 null", "pricing::tests::what_is_not_known_is_null"),
    ]);
    list.untried(&["C5 a network's file system", "C11 clocks that jump"]);
    sound(&mut list, &calltap, 0);
    list.end();
}

/// Data directories.
fn directories(list: &mut List, home: &Path) {
    let long = "d".repeat(255);
    for (name, folder) in [
        ("C5 missing, with parents", "a/b/c"),
        ("C5 spaces", "with some spaces"),
        ("C5 a line end", "with\na line end"),
        ("C5 other scripts", "données-数据-😀"),
        ("C5 255 letters", &*long),
        ("C5 a question mark and a hash", "a?b#c%20d"),
    ] {
        list.row(name, || {
            let mut served = Served::start(home, &home.join(folder), &[], &[]);
            assert_eq!(served.outcome().0, None, "{}", served.outcome().1);
            served.call();
            assert!(home.join(folder).join("calltap.db").is_file());
        });
    }
    list.row("C5 a file", || {
        fs::write(home.join("file"), "x").unwrap();
        let (code, said) = Served::start(home, &home.join("file"), &[], &[]).outcome();
        assert!(code == Some(74) && said.contains("directory"), "{said}");
    });
    list.row("C5 a name of 300 letters", || {
        let (code, said) = Served::start(home, &home.join("d".repeat(300)), &[], &[]).outcome();
        assert!(code == Some(74) && said.contains("directory"), "{said}");
    });
    list.row("C5 a link", || {
        fs::create_dir(home.join("target")).unwrap();
        std::os::unix::fs::symlink(home.join("target"), home.join("link")).unwrap();
        let mut served = Served::start(home, &home.join("link"), &[], &[]);
        assert_eq!(served.outcome().0, None);
        served.call();
    });
    list.row("C5 a link that leads nowhere", || {
        std::os::unix::fs::symlink(home.join("nowhere/at/all"), home.join("loose")).unwrap();
        let (code, said) = Served::start(home, &home.join("loose"), &[], &[]).outcome();
        assert!(code == Some(74) && said.contains("directory"), "{said}");
    });
    for (name, bytes) in [
        ("C6 garbage", b"no database at all, but long enough to be looked at".to_vec()),
        ("C6 0 bytes", Vec::new()),
        (
            "C6 encrypted",
            (0..65_536_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect(),
        ),
    ] {
        list.row(name, || {
            let data = home.join(name);
            fs::create_dir(&data).unwrap();
            fs::write(data.join("calltap.db"), &bytes).unwrap();
            let mut served = Served::start(home, &data, &[], &[]);
            assert_eq!(served.outcome().0, None, "{}", served.outcome().1);
            served.call();
        });
    }
    list.row("C6 a log without its file", || {
        let data = home.join("log alone");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("calltap.db-wal"), vec![7; 100_000]).unwrap();
        let mut served = Served::start(home, &data, &[], &[]);
        assert_eq!(served.outcome().0, None, "{}", served.outcome().1);
        served.call();
    });
}

/// Starts a program where nothing can be written but below `$ROOM`.
const READ_ONLY: &str = "mount --make-rprivate / && mount --bind \"$ROOM\" \"$ROOM\" && mount -o remount,bind,ro / \
    && ! touch /tmp/calltap-read-only 2>/dev/null && exec \"$0\" \"$@\"";

/// Name of a row, what the program is started by, and variables.
type Surroundings<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Environment, limits and signals.
fn surroundings(list: &mut List, calltap: &Calltap, home: &Path) {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let nobody = nobody.as_str();
    let keys = home.join("keys");
    let keys_file = keys.to_str().unwrap();
    // Everything but the folder of the data, where this process may do that.
    let is_allowed = |status: std::io::Result<std::process::ExitStatus>| {
        status.is_ok_and(|status| status.success())
    };
    let read_only: &[&str] = if is_allowed(Command::new("unshare").args(["-m", "true"]).status()) {
        &["unshare", "-m", "sh", "-c", READ_ONLY]
    } else {
        println!("not allowed to mount: the root stays writable");
        &[]
    };
    let room = home.to_str().unwrap();
    let rows: [Surroundings<'_>; 9] = [
        (
            "C8 proxies",
            &[],
            &[
                ("HTTP_PROXY", nobody),
                ("http_proxy", nobody),
                ("ALL_PROXY", nobody),
                ("HTTPS_PROXY", nobody),
            ],
        ),
        (
            "C8 certificates and keys",
            &[],
            &[("SSL_CERT_FILE", "/no/such/file"), ("SSLKEYLOGFILE", keys_file)],
        ),
        ("C9 64 descriptors", &["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""], &[]),
        ("C9 1 MB of stack", &["sh", "-c", "ulimit -s 1024; exec \"$0\" \"$@\""], &[]),
        ("C9 a read-only root", read_only, &[("ROOM", room)]),
        ("C9 one processor", &["taskset", "-c", "0"], &[]),
        ("C9 no folder for what passes", &[], &[("TMPDIR", "/no/such/folder")]),
        ("C9 no home", &[], &[("HOME", "/no/such/folder")]),
        ("C11 a strange zone", &[], &[("TZ", "Nowhere/Land")]),
    ];
    for (name, wrap, environment) in rows {
        list.row(name, || {
            let mut served = Served::start(home, &home.join(name), wrap, environment);
            let (code, said) = served.outcome();
            assert_eq!(code, None, "{said}");
            served.call();
            assert!(!keys.exists(), "keys of TLS are written");
            if name.contains("64") {
                let idle: Vec<_> =
                    (0..100).map(|_| std::net::TcpStream::connect(served.address)).collect();
                std::thread::sleep(Duration::from_millis(500));
                drop(idle);
                std::thread::sleep(Duration::from_millis(200));
                served.call();
                let lines = fs::read_to_string(&served.said).unwrap().lines().count();
                assert!(lines < 20, "{lines} lines about it");
            }
        });
    }
    list.row("C10 nobody reads", || {
        let mut command = calltap.command();
        command.args(["config", "schema"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
    });
    list.row("C10 a stop during the start", || {
        for wait in [0, 3, 10, 30, 100] {
            let mut served = Served::start(home, &home.join("stopped"), &[], &[]);
            std::thread::sleep(Duration::from_millis(wait));
            let pid = served.child.id().to_string();
            Command::new("kill").args(["-TERM", &pid]).status().unwrap();
            let (code, said) = served.end();
            // Before it listens to signals, the system ends it; afterwards it ends in order.
            assert!(code <= 0 && !said.contains("panicked"), "{said}");
        }
        let mut served = Served::start(home, &home.join("stopped"), &[], &[]);
        assert_eq!(served.outcome().0, None, "it starts again");
    });
}
