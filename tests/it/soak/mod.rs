//! A long time under a light load, while a fifth of the time something is wrong: nothing grows, nothing is
//! lost (`reliability.md` R26, R32).

mod faults;
mod load;

use crate::harness::{Calltap, Random, count, fetch};
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
/// From this length on, what the process holds must be flat: before, it is still warming up.
const LONG: Duration = Duration::from_mins(30);
/// KiB an hour by which memory may grow.
const SLOPE: f64 = 1024.0;
/// Cycles in which a disk that is full must have been noticed.
const DISK_CYCLES: u32 = 4;

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
    let begun = Instant::now();
    let load = Load::start(world.calltap.address);
    let (samples, landed) = soak(&mut world, &load.seen, time, cycle);
    let seen = load.end();
    println!("met: {landed:?}\n{seen:?}");
    let is_flat = tell(&samples, time);
    let cpu = world.calltap.cpu_seconds();
    println!("{cpu:.0} s of processor time in {time:?}: {:.3} cores", cpu / time.as_secs_f64());
    conserved(&world, &seen);
    let Sample { memory, descriptors, threads, tasks, .. } = Sample::take(&world.calltap, begun);
    println!(
        "in the end: {memory} KiB, {descriptors} descriptors, {threads} threads, {tasks} tasks"
    );
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
    for (round, fault) in (0..).zip(schedule(world.volume.is_some())) {
        let start = cycle * round;
        if start + cycle > time {
            break;
        }
        if begun.elapsed() >= start + quiet {
            continue; // the one before took its time
        }
        let mut is_on = false;
        // A disk is full when what was left is used up.
        let late = |world: &World| {
            fault == Fault::DiskIsFull
                && round == 0
                && world.met(fault, seen) == 0
                && begun.elapsed() < DISK_CYCLES * cycle
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
    samples.push(look(world, seen, begun));
    (samples, landed)
}

/// Every fault once, shuffled, then any of them. A full disk comes first: later, what retention frees may
/// be all that the store needs, and it never notices.
fn schedule(has_disk: bool) -> impl Iterator<Item = Fault> {
    let mut dice = Random(26);
    let mut faults: Vec<Fault> =
        FAULTS.into_iter().filter(|fault| has_disk || *fault != Fault::DiskIsFull).collect();
    faults.sort_by_cached_key(|fault| match fault {
        Fault::DiskIsFull => 0,
        _ => 1 + dice.below(1 << 30),
    });
    let any = faults.clone();
    faults.into_iter().chain(std::iter::repeat_with(move || {
        any[usize::try_from(dice.below(any.len() as u64)).unwrap()]
    }))
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
        "memory: {} to {} KiB after the first third; slope {:.1} MiB/h (least squares), standard error {:.1}",
        after.iter().map(|sample| sample.memory).min().unwrap_or(0),
        most(after, |sample| sample.memory),
        slope / 1024.0,
        error / 1024.0,
    );
    let mut is_flat = slope - 2.0 * error <= SLOPE;
    for (what, of) in counts {
        let (before, now) = (most(early, of), most(late, of));
        let ends = [samples.first(), samples.last()].map(|sample| sample.map_or(0, of));
        println!(
            "{what}: {} at the start, {} at the end; at most {before}, in the last third {now}",
            ends[0], ends[1]
        );
        // As many as there happen to be calls at once.
        is_flat &= now <= before + before / 4 + u64::from(CLIENTS);
    }
    is_flat || time < LONG
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
