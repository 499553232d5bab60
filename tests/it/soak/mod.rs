//! A long time under a light load, while a fifth of the time something is wrong: nothing grows, nothing is
//! lost (`reliability.md` R26, R32).

mod faults;
mod load;

use crate::harness::{Calltap, count, fetch};
use faults::{FAULTS, Fault, World};
use load::{CLIENTS, Load, Seen};
use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// A soak without `CALLTAP_TEST_SOAK`: every fault once.
const SHORT: Duration = Duration::from_secs(20);
/// Pause between two looks at the process.
const LOOK: Duration = Duration::from_secs(10);
/// From this length on, the slope of the memory is held to its bound.
const LONG: Duration = Duration::from_mins(30);
/// KiB an hour by which memory may grow.
const SLOPE: f64 = 1024.0;

/// What the process holds at a time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    hours: f64,
    memory: u64,
    descriptors: usize,
    threads: u64,
    tasks: u64,
}

type Of = fn(&Sample) -> u64;

impl Sample {
    fn take(calltap: &Calltap, since: Instant) -> Self {
        Self {
            hours: since.elapsed().as_secs_f64() / 3600.0,
            memory: calltap.memory_kib(),
            descriptors: calltap.descriptors(),
            threads: calltap.threads(),
            tasks: calltap.tasks(),
        }
    }
}

/// `CALLTAP_TEST_SOAK`: minutes.
#[test]
fn nothing_grows_and_nothing_is_lost() {
    let minutes = count("CALLTAP_TEST_SOAK", 0) as u64;
    let time = if minutes == 0 { SHORT } else { Duration::from_mins(minutes) };
    let cycle = (time / 8).clamp(Duration::from_millis(2500), Duration::from_secs(75));
    let mut world = World::start(&format!("{}m", 64 + 32 * minutes));
    if world.volume.is_none() {
        println!("not allowed to mount: the disk is never full");
    }
    let load = Load::start(world.calltap.address);
    let (samples, landed) = soak(&mut world, &load.seen, time, cycle);
    let seen = load.end();
    println!("{landed:?}\n{seen:?}");
    let is_flat = tell(&samples, time);
    let cpu = cpu_seconds(world.calltap.pid());
    println!("{cpu:.0} s of processor time in {time:?}: {:.3} cores", cpu / time.as_secs_f64());
    conserved(&world, &seen);
    assert!(landed.iter().all(|(_, count)| *count > 0), "every fault was met: {landed:?}");
    for kind in [&seen.streams, &seen.slow, &seen.aborted, &seen.errors] {
        assert!(kind.load(Ordering::Relaxed) > 0, "every kind of call was made: {seen:?}");
    }
    assert!(is_flat, "memory, descriptors, threads or tasks grow");
}

/// A fault at the end of each cycle, a fifth of it long; samples meanwhile, and how often each fault was met.
fn soak(
    world: &mut World,
    seen: &Seen,
    time: Duration,
    cycle: Duration,
) -> (Vec<Sample>, BTreeMap<String, usize>) {
    let (begun, mut samples, mut landed) = (Instant::now(), Vec::new(), BTreeMap::new());
    let quiet = cycle.saturating_sub((cycle / 5).max(Duration::from_millis(1250)));
    let has_disk = world.volume.is_some();
    let faults: Vec<Fault> =
        FAULTS.into_iter().filter(|fault| has_disk || *fault != Fault::DiskIsFull).collect();
    for round in 0.. {
        let start = cycle * round;
        if start + cycle > time {
            break;
        }
        let fault = faults[round as usize % faults.len()];
        let mut is_on = false;
        // A disk is full when what was left is used up.
        let late = |world: &World| {
            fault == Fault::DiskIsFull
                && world.met(fault, seen) == 0
                && begun.elapsed() < start + 2 * cycle
        };
        while begun.elapsed() < start + cycle || late(world) {
            if !is_on && begun.elapsed() >= start + quiet {
                world.begin(fault, seen);
                is_on = true;
            } else if is_on {
                world.go_on(fault);
            }
            if begun.elapsed() >= LOOK * u32::try_from(samples.len()).unwrap() {
                samples.push(look(world, seen, begun));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        *landed.entry(format!("{fault:?}")).or_default() += world.end(fault, seen);
    }
    (samples, landed)
}

/// A look as a person would have it too: lists and totals are read meanwhile.
fn look(world: &World, seen: &Seen, begun: Instant) -> Sample {
    let address = world.calltap.address;
    for path in ["/api/v1/calls?limit=50", "/api/v1/stats", "/api/v1/sinks"] {
        fetch(address, path).unwrap();
    }
    if let Some(upstream) = &world.upstream {
        upstream.forget();
    }
    world.healthy.forget();
    world.sick.forget();
    let sample = Sample::take(&world.calltap, begun);
    println!("{:6.0} s {:7} calls  {sample:?}", sample.hours * 3600.0, get(&seen.calls));
    sample
}

fn get(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

/// Says how memory, descriptors, threads and tasks went after the first third; whether they are flat.
fn tell(samples: &[Sample], time: Duration) -> bool {
    let third = samples.len().div_ceil(3);
    let (early, late) = samples.split_at(samples.len() - third);
    let after = &samples[third..];
    let points: Vec<(f64, f64)> =
        after.iter().map(|sample| (sample.hours, number(sample.memory))).collect();
    let (slope, error) = slope(&points);
    let most = |part: &[Sample], of: Of| part.iter().map(of).max().unwrap_or(0);
    let counts: [(&str, Of); 3] = [
        ("descriptors", |sample| sample.descriptors as u64),
        ("threads", |sample| sample.threads),
        ("tasks", |sample| sample.tasks),
    ];
    println!(
        "memory: {} to {} KiB after the first third; slope {slope:.0} KiB/h, standard error {error:.0}",
        after.iter().map(|sample| sample.memory).min().unwrap_or(0),
        most(after, |sample| sample.memory),
    );
    let mut is_flat = time < LONG || slope - 2.0 * error <= SLOPE;
    for (what, of) in counts {
        let (before, now) = (most(early, of), most(late, of));
        println!("{what}: at most {before}, in the last third {now}");
        // As many as there happen to be calls at once.
        is_flat &= now <= before + before / 4 + u64::from(CLIENTS);
    }
    is_flat
}

/// Slope of the straight line nearest to the points (least squares), and its standard error.
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    if points.len() < 3 {
        return (0.0, 0.0);
    }
    let count = number(points.len() as u64);
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (middle, level) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - middle).powi(2)).sum();
    let slope = points.iter().map(|(x, y)| (x - middle) * (y - level)).sum::<f64>() / spread;
    let off: f64 = points.iter().map(|(x, y)| (y - level - slope * (x - middle)).powi(2)).sum();
    (slope, (off / (count - 2.0) / spread).sqrt())
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// User and system time of a process, in seconds (proc(5); a tick is 10 ms).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Calls = stored + dropped, each stored once; of each sink stored = delivered + dead, nothing pending.
fn conserved(world: &World, seen: &Seen) {
    let calls = get(&seen.calls);
    let until = Instant::now() + Duration::from_mins(3);
    let is_done = || {
        let (stored, dropped) = world.calltap.counts();
        let sinks = fetch(world.calltap.address, "/api/v1/sinks").unwrap().json();
        let waits = |sink: &serde_json::Value| sink["queue"].as_u64() != Some(0);
        stored + dropped >= calls && !sinks["items"].as_array().unwrap().iter().any(waits)
    };
    while !is_done() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
    let (stored, dropped) = world.calltap.counts();
    let file = world.calltap.data_dir().join("calltap.db");
    let database = rusqlite::Connection::open(file).unwrap();
    let rows: Vec<(String, String)> = database
        .prepare("SELECT id, reference FROM calls")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let ids: HashSet<String> = rows.iter().map(|row| row.0.clone()).collect();
    let references: HashSet<usize> = rows.iter().map(|row| row.1.parse().unwrap()).collect();
    println!("{calls} calls: {stored} stored, {dropped} dropped, {} unheard", get(&seen.unheard));
    assert_eq!(stored + dropped, calls, "every call is stored or counted");
    assert_eq!((rows.len(), references.len()), (stored, stored), "and stored once");
    assert!(references.iter().all(|reference| *reference < calls), "nothing is invented");
    let sinks = fetch(world.calltap.address, "/api/v1/sinks").unwrap().json();
    for (name, receiver) in [("healthy", &world.healthy), ("sick", &world.sick)] {
        let all = sinks["items"].as_array().unwrap();
        let sink = all.iter().find(|sink| sink["name"] == name).unwrap();
        let [delivered, pending, dead] = ["delivered", "queue", "dead"]
            .map(|of| usize::try_from(sink[of].as_u64().unwrap()).unwrap());
        let (taken, repeats) = (receiver.taken(), get(&receiver.repeats));
        println!(
            "{name}: {delivered} delivered, {pending} pending, {dead} dead; {} taken, {repeats} of them again",
            taken.len()
        );
        assert_eq!(delivered + pending + dead, stored, "{sink:#}");
        assert_eq!(pending, 0, "{sink:#}");
        assert!(taken.len() >= delivered && taken.is_subset(&ids), "nothing is invented");
    }
}
