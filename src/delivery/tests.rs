//! Lanes against a scripted sink over a real socket, on a store of their own.

use super::{
    answer::Obstacle,
    bench_tests::{Act, Numbers, ROOMY, Service, bench, bench_to, number, ok, times},
    *,
};
use std::{
    collections::BTreeSet,
    sync::{
        Mutex as Lock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_delivered_once_and_in_order() {
    for batch in [1, 100] {
        let service = Service::start(|_, _| ok());
        let kind = Numbers { batch, bytes: ROOMY };
        let mut bench = bench(service.address, kind, "concurrency = 1").await;
        bench.put(0..500);
        bench.settled(500).await;
        let numbers: Vec<u64> =
            service.seen().into_iter().flat_map(|(_, numbers, _)| numbers).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "batch {batch}");
        assert_eq!((bench.row().delivered, bench.row().dead), (500, 0));
        // It goes on where it was.
        bench.end().await;
        bench.put(500..510);
        bench.start().await;
        bench.settled(510).await;
        assert!(times(&service.seen()).values().all(|times| *times == 1), "batch {batch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_in_a_batch_is_found_by_quarters() {
    let service = Service::start(|numbers, _| {
        if numbers.iter().any(|number| number % 100 == 37) {
            Act::Answer(422, "", r#"{"detail":"bad 37"}"#.into())
        } else {
            ok()
        }
    });
    let bench =
        bench(service.address, Numbers { batch: 100, bytes: ROOMY }, "concurrency = 4").await;
    bench.put(0..1000);
    bench.settled(1000).await;
    let dead = bench.dead();
    assert_eq!(dead.len(), 10);
    assert!(dead.iter().all(|dead| dead.reason == r#"422 {"detail":"bad 37"}"#), "{dead:?}");
    let row = bench.row();
    assert_eq!((row.delivered, row.dead, row.waiting), (990, 10, 0));
    // Each is found within log4(100) + 1 rounds, four requests each.
    let requests = service.seen().len();
    assert!(requests <= 10 * (2 * 7 + 1) + 10, "{requests} requests");
    let refused: BTreeSet<u64> = (0..10).map(|at| at * 100 + 37).collect();
    for (number, times) in times(&service.seen()) {
        assert!(refused.contains(&number) || times <= 8, "{number}: {times}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_batch_may_be_refused() {
    let service = Service::start(|numbers, _| {
        let refused: Vec<usize> = numbers
            .iter()
            .enumerate()
            .filter(|(_, number)| **number % 10 == 3)
            .map(|(at, _)| at)
            .collect();
        if refused.is_empty() { ok() } else { Act::Answer(207, "", format!("{refused:?}")) }
    });
    let bench = bench(service.address, Numbers { batch: 50, bytes: ROOMY }, "").await;
    bench.put(0..200);
    bench.settled(200).await;
    assert_eq!((bench.row().delivered, bench.dead().len()), (180, 20));
    assert!(bench.dead().iter().all(|dead| dead.reason == "not this one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_records_are_redriven_and_dropped() {
    let fixed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fixed);
    let service = Service::start(move |numbers, _| {
        let bad = numbers.iter().any(|number| number % 5 == 0);
        if bad && !flag.load(Ordering::Relaxed) { Act::Answer(400, "", "no".into()) } else { ok() }
    });
    let bench = bench(service.address, Numbers { batch: 1, bytes: ROOMY }, "").await;
    bench.put(0..50);
    bench.settled(50).await;
    let dead = bench.dead();
    assert_eq!(dead.len(), 10);
    fixed.store(true, Ordering::Relaxed);
    let one = Some(vec![dead[0].id.to_string()]);
    assert_eq!(bench.act(Op::Drop(one)).await.unwrap().records, 1);
    assert_eq!(bench.act(Op::Redrive(None)).await.unwrap().records, 9);
    bench.wait(|| bench.row().waiting == 0 && bench.row().delivered == 49).await;
    assert_eq!(bench.row().dead, 0);
    assert!(bench.act(Op::Redrive(Some(vec!["nonsense".into()]))).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_pauses_and_loses_nothing() {
    let service =
        Service::start(
            |_, at| {
                if at <= 5 { Act::Answer(401, "", "who are you".into()) } else { ok() }
            },
        );
    let bench = bench(service.address, Numbers { batch: 1, bytes: ROOMY }, "concurrency = 2").await;
    bench.put(0..20);
    bench.wait(|| bench.board.read().state == State::Paused).await;
    let posted = bench.board.read();
    assert_eq!(posted.last_error.unwrap().message, "401 who are you");
    // It resumes by itself, and a person need not wait for that.
    bench.settled(20).await;
    assert_eq!((bench.row().delivered, bench.dead().len()), (20, 0));
    assert_eq!(bench.board.read().state, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_an_address_is_gone_after_a_while() {
    // No resolver is asked for a label that long.
    let nowhere = format!("http://{}.invalid", "x".repeat(64));
    let mut bench = bench_to(&nowhere, Numbers { batch: 1, bytes: ROOMY }, "").await;
    bench.put(0..3);
    bench.wait(|| bench.board.read().state == State::Retrying).await;
    bench.wait(|| bench.board.read().obstacle == Some(Obstacle::Gone)).await;
    assert_eq!(bench.board.read().state, State::Paused);
    bench.end().await;
    assert_eq!((bench.row().delivered, bench.dead().len()), (0, 0), "all of it still waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_stop_it_also_over_a_restart() {
    let service = Service::start(|_, _| ok());
    let mut bench = bench(service.address, Numbers { batch: 1, bytes: ROOMY }, "").await;
    bench.act(Op::Pause).await.unwrap();
    bench.put(0..10);
    bench.end().await;
    bench.start().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(service.seen().is_empty());
    bench.act(Op::Resume).await.unwrap();
    bench.settled(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_split_then_cut_then_dead() {
    // Its own limit, before anything is sent; and the sink's, by 413.
    let service = Service::start(|numbers, _| {
        if numbers.len() > 2 || numbers.contains(&7) {
            Act::Answer(413, "", "too much".into())
        } else {
            ok()
        }
    });
    let bench = bench(service.address, Numbers { batch: 8, bytes: 3000 }, "").await;
    bench.put_with(0..16, |record| {
        if record.tags.reference.as_deref() == Some("3") {
            record.tags.user_query = Some("x".repeat(10_000));
        }
    });
    bench.settled(16).await;
    assert_eq!(bench.dead().len(), 1, "{:?}", bench.dead());
    assert_eq!(bench.dead()[0].reason, "413 too much");
    let seen = service.seen();
    let cut = seen.iter().find(|(_, numbers, _)| numbers == &[3]).unwrap();
    assert!(cut.2.len() < 3000 && String::from_utf8_lossy(&cut.2).contains("[cut, 10000 bytes]"));
    assert_eq!(bench.row().delivered, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_breaks_the_kind_is_dead_and_alone() {
    let service = Service::start(|_, _| ok());
    let bench = bench(service.address, Numbers { batch: 20, bytes: ROOMY }, "").await;
    bench.put(10_660..10_700);
    bench.settled(40).await;
    assert_eq!((bench.row().delivered, bench.dead().len()), (39, 1));
    assert_eq!(bench.dead()[0].reason, "the record cannot be put into a request");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_that_always_fails_holds_nobody_up() {
    let service = Service::start(|numbers, _| {
        if numbers.contains(&5) { Act::Answer(500, "", "boom".into()) } else { ok() }
    });
    let bench = bench(service.address, Numbers { batch: 1, bytes: ROOMY }, "concurrency = 4").await;
    bench.put(0..200);
    bench.wait(|| bench.row().cursor == 200).await;
    let row = bench.row();
    assert_eq!((row.delivered, row.waiting, row.dead), (199, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_samples_and_choices_hold() {
    let service = Service::start(|_, _| ok());
    let kind = Numbers { batch: 10, bytes: ROOMY };
    let bench = bench(service.address, kind, "only = \"env:prod\"").await;
    bench.put_with(0..30, |record| {
        let at = number(record);
        record.tags.environment = Some(if at.is_multiple_of(2) { "prod" } else { "dev" }.into());
        record.sinks = match at % 6 {
            0 => Some(vec!["other".into()]),
            2 => Some(vec!["n".into(), "other".into()]),
            _ => None,
        };
    });
    bench.settled(30).await;
    let wanted: Vec<u64> = (0..30).filter(|at| at % 2 == 0 && at % 6 != 0).collect();
    assert_eq!(times(&service.seen()).into_keys().collect::<Vec<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_interrupted_and_resumed() {
    let service = Service::start(|_, _| ok());
    let kind = Numbers { batch: 5, bytes: ROOMY };
    // It starts with what comes after it.
    let mut bench = bench(service.address, kind, "concurrency = 2").await;
    bench.end().await;
    bench.put(0..400);
    bench.wait(|| bench.reader.last_seq().unwrap() == 400).await;
    let conn = bench.reader.clone();
    // As if the sink was added now.
    drop(
        bench
            .store
            .change_lane(
                "n",
                LaneChange::Progress(crate::store::Progress {
                    cursor: Some(400),
                    ..Default::default()
                }),
            )
            .await,
    );
    assert_eq!(conn.lane("n").unwrap().unwrap().cursor, 400);
    bench.start().await;
    bench.act(Op::Backfill(None)).await.unwrap();
    bench.put(400..420);
    bench.wait(|| bench.row().delivered > 60).await;
    bench.end().await;
    let row = bench.row();
    println!("interrupted at {:?}, delivered {}", row.fill, row.delivered);
    let again = bench.row().fill.is_some();
    bench.start().await;
    bench.settled(420).await;
    bench.wait(|| bench.row().fill.is_none()).await;
    let times = times(&service.seen());
    assert_eq!(times.len(), 420);
    assert!(!again || times.values().filter(|times| **times > 1).count() <= 10);
}

/// Random answers; every record ends delivered, dead for the right reason, or is still tried.
#[tokio::test(flavor = "multi_thread")]
async fn random_answers_lose_and_misjudge_nothing() {
    let wanted: usize =
        std::env::var("CALLTAP_TEST_ANSWERS").ok().and_then(|n| n.parse().ok()).unwrap_or(600);
    let early = Arc::new(Lock::new((None::<Instant>, 0, 0)));
    let floor = Arc::clone(&early);
    let taken = Arc::new(Lock::new(BTreeSet::new()));
    let took = Arc::clone(&taken);
    let service = Service::start(move |numbers, at| {
        let mut floor = floor.lock().unwrap();
        if let Some(until) = floor.0.take() {
            // Only what is sent after the answer arrived can be too early: one request at a time here.
            floor.2 += 1;
            if Instant::now() < until {
                floor.1 += 1;
            }
        }
        // A number decides for itself what is wrong with it; the rest is chance.
        let poison = numbers.iter().any(|number| number % 17 == 3);
        if poison {
            return Act::Answer(if at % 2 == 0 { 400 } else { 422 }, "", "poison".into());
        }
        match at.wrapping_mul(2_654_435_761) % 11 {
            0 => {
                floor.0 = Some(Instant::now() + Duration::from_millis(30));
                Act::Answer(429, "retry-after-ms: 30\r\n", String::new())
            }
            1 => {
                floor.0 = Some(Instant::now() + Duration::from_millis(20));
                Act::Answer(503, "retry-after: 0.02\r\n", String::new())
            }
            2 => Act::Answer(500, "", "<h1>oops".into()),
            3 => Act::Cut,
            4 => Act::Answer(408, "retry-after: -5\r\n", String::new()),
            5 if at % 3 == 0 => Act::Answer(403, "", String::new()),
            5 if at % 3 == 1 => {
                Act::Answer(302, "location: http://127.0.0.1:1/\r\n", String::new())
            }
            6 if numbers.len() > 1 => Act::Answer(413, "", String::new()),
            _ => {
                took.lock().unwrap().extend(numbers.iter().copied());
                ok()
            }
        }
    });
    let bench = bench(service.address, Numbers { batch: 4, bytes: ROOMY }, "concurrency = 1").await;
    let mut put = 0;
    while service.seen().len() < wanted {
        bench.put(put..put + 50);
        put += 50;
        let limit = i64::try_from(put).unwrap();
        bench.settled(limit).await;
    }
    let dead = bench.dead();
    let row = bench.row();
    assert_eq!(row.delivered + row.dead, put, "{row:?}");
    let poisoned = (0..put).filter(|number| number % 17 == 3).count();
    let (found, _) = bench.reader.dead("n", 0, 1000).unwrap();
    assert_eq!(usize::try_from(row.dead).unwrap(), poisoned);
    assert!(found.iter().all(|dead| dead.reason.ends_with("poison")), "{dead:?}");
    assert_eq!(taken.lock().unwrap().len() as u64, row.delivered);
    let (_, early, asked) = *early.lock().unwrap();
    println!(
        "{} answers, {put} records, {} dead, {asked} waits asked for, {early} early",
        service.seen().len(),
        row.dead
    );
    assert!(asked > 20 && early == 0, "{early} of {asked} came early");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_is_left_after_its_time() {
    let service =
        Service::start(|_, at| if at == 1 { Act::Hang(Duration::from_secs(5)) } else { ok() });
    let kind = Numbers { batch: 1, bytes: ROOMY };
    let bench = bench(service.address, kind, "timeout = \"200ms\"\nconcurrency = 1").await;
    bench.put(0..3);
    bench.settled(3).await;
    assert_eq!(bench.board.read().last_error.unwrap().message, "no answer in time");
    let seen = service.seen();
    assert_eq!(seen[0].2, seen[1].2, "the same bytes again");
}
