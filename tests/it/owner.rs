//! One owner of a data directory (`reliability.md` R21).

use crate::harness::{command, count, fetch, free_port};
use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

const RACERS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a port of its own over the store below `home`.
fn start(home: &Path) -> (SocketAddr, Child) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = home.join("calltap.toml");
    let mut command = command(&config, home, address);
    let child = command.arg("serve").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    (address, child)
}

fn is_ready(address: SocketAddr) -> bool {
    fetch(address, "/readyz").is_some_and(|answer| answer.status == 200)
}

fn wait(what: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < until, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `CALLTAP_TEST_RACES`: how many races.
#[test]
fn one_of_five_wins_and_a_kill_frees_the_directory() {
    let races = count("CALLTAP_TEST_RACES", 5);
    let mut slowest = Duration::ZERO;
    for _ in 0..races {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("calltap.toml"), "[log]\nlevel = \"warn\"\n").unwrap();
        let begun = Instant::now();
        let mut racers: Vec<_> = (0..RACERS).map(|_| start(home.path())).collect();
        let mut losers = 0;
        while losers < RACERS - 1 {
            let ended = racers.iter_mut().position(|racer| racer.1.try_wait().unwrap().is_some());
            if let Some(ended) = ended {
                let output = racers.remove(ended).1.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(74), "{said}");
                assert!(said.contains("another calltap uses"), "{said}");
                assert!(said.contains("stop it or choose another --data-dir"), "{said}");
                losers += 1;
            }
            assert!(begun.elapsed() < PATIENCE, "{losers} gave up");
            std::thread::sleep(Duration::from_millis(1));
        }
        slowest = slowest.max(begun.elapsed());
        let (address, mut winner) = racers.remove(0);
        wait(|| is_ready(address));
        assert!(winner.try_wait().unwrap().is_none(), "one wins");
        // Reading goes on beside it.
        let config = home.path().join("calltap.toml");
        let info =
            command(&config, home.path(), address).args(["store", "info", "--json"]).output();
        assert!(info.unwrap().status.success());
        winner.kill().unwrap();
        winner.wait().unwrap();
        let (address, mut next) = start(home.path());
        wait(|| is_ready(address));
        next.kill().unwrap();
        next.wait().unwrap();
    }
    println!(
        "{races} races of {RACERS}: one won each time, the others were gone {slowest:?} after the first began, at the latest; free after each kill"
    );
}
