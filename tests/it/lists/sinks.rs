//! D: answers of sinks. One calltap with a sink a row: the first answers are the row's, then all is well.

use super::{List, sound};
use crate::{
    delivery::{sink, wait_sink},
    harness::{Calltap, Step, Upstream, chat, chat_body, post},
};
use flate2::{Compression, write::GzEncoder};
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What becomes of the records.
#[derive(Clone, Copy)]
enum Ends {
    /// All are delivered in the end.
    Delivered,
    /// None is, and the lane waits for somebody who sees to this.
    Paused(&'static str),
    /// The lane waits, as the sink asked; nothing is dead.
    Waits,
    /// All are dead.
    Dead,
}

struct Row {
    name: &'static str,
    kind: &'static str,
    answer: Vec<Step>,
    /// How often the sink gives that answer.
    times: usize,
    ends: Ends,
}

const CALLS: usize = 2;
const ALWAYS: usize = usize::MAX;

fn head(status: &str, lines: &str, body: &[u8]) -> Vec<Step> {
    let head = format!("HTTP/1.1 {status}\r\n{lines}content-length: {}\r\n\r\n", body.len());
    vec![Step::Send([head.as_bytes(), body].concat())]
}

fn rows() -> Vec<Row> {
    use Ends::{Dead, Delivered, Paused, Waits};
    let row = |name, answer, times, ends| Row { name, kind: "webhook", answer, times, ends };
    let vendor = |name, answer, times, ends| Row { name, kind: "athina", answer, times, ends };
    let busy = |after: &str| head("429 Slow", &format!("retry-after: {after}\r\n"), b"{}");
    let mut bomb = GzEncoder::new(Vec::new(), Compression::default());
    bomb.write_all(&vec![b' '; 32 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    let cut = |text: &str| vec![Step::Send(text.as_bytes().to_vec()), Step::Fin];
    let mut endless =
        vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n{".to_vec())];
    endless.extend((0..512).map(|_| Step::Send(vec![b' '; 64 * 1024])));
    endless.push(Step::Fin);
    let slowly = |text: &str| -> Vec<Step> {
        let bytes = text.bytes();
        bytes
            .flat_map(|byte| [Step::Send(vec![byte]), Step::Pause(Duration::from_millis(20))])
            .collect()
    };
    vec![
        row("D1 30 s", busy("30"), ALWAYS, Waits),
        row("D1 a date", busy("Thu, 31 Dec 2099 23:59:59 GMT"), ALWAYS, Waits),
        row("D1 a year", busy("99999999"), ALWAYS, Waits),
        row("D1 0", busy("0"), 1, Delivered),
        row("D1 -5", busy("-5"), 1, Delivered),
        row("D1 abc", busy("abc"), 1, Delivered),
        row("D1 none", head("429 Slow", "", b""), 1, Delivered),
        row("D1 in the body", head("429 Slow", "", b"{\"retry_after\":0.1}"), 1, Delivered),
        vendor(
            "D2 no success",
            head("200 OK", "content-type: application/json\r\n", b"{\"success\":false}"),
            ALWAYS,
            Dead,
        ),
        row(
            "D3 cut in its body",
            cut("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf"),
            1,
            Delivered,
        ),
        row("D3 cut in its head", cut("HTTP/1.1 20"), 1, Delivered),
        row("D3 a reset", vec![Step::Rst], 1, Delivered),
        row("D3 no HTTP", cut("SSH-2.0-OpenSSH_9.6\r\n"), 1, Delivered),
        row("D4 413 for all", head("413 Large", "", b""), ALWAYS, Dead),
        row("D4 400 for all", head("400 Bad", "", b"{\"detail\":\"unknown field\"}"), ALWAYS, Dead),
        row("D5 401", head("401 No", "", b"{}"), ALWAYS, Paused("key_refused")),
        row("D5 403", head("403 No", "", b"{}"), ALWAYS, Paused("key_refused")),
        row(
            "D6 another host",
            head("301 Moved", "location: http://127.0.0.1:1/\r\n", b""),
            ALWAYS,
            Paused("misconfigured"),
        ),
        vendor(
            "D6 a page",
            head("200 OK", "content-type: text/html\r\n", b"<html>log in</html>"),
            ALWAYS,
            Paused("misconfigured"),
        ),
        row("D6 404", head("404 Nothing", "", b""), ALWAYS, Paused("gone")),
        row("D6 410", head("410 Gone", "", b""), ALWAYS, Paused("gone")),
        row("D7 never", vec![Step::Stall], 1, Delivered),
        row(
            "D7 a byte at a time",
            slowly("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
            1,
            Delivered,
        ),
        row("D7 an endless body", endless, 1, Delivered),
        row(
            "D7 a bomb",
            head("200 OK", "content-encoding: gzip\r\ncontent-type: application/json\r\n", &bomb),
            ALWAYS,
            Delivered,
        ),
        row("D7 503", head("503 Later", "", b"<h1>later</h1>"), 2, Delivered),
    ]
}

fn check(calltap: &Calltap, name: &str, ends: Ends) {
    match ends {
        Ends::Delivered => {
            let status = wait_sink(calltap, name, |sink| sink["delivered"] == CALLS);
            assert_eq!(status["dead"], 0, "{status}");
        }
        Ends::Paused(obstacle) => {
            let status = wait_sink(calltap, name, |sink| sink["state"] == "paused");
            assert_eq!(status["obstacle"], obstacle, "{status}");
            assert_eq!((&status["dead"], &status["delivered"]), (&0.into(), &0.into()), "{status}");
        }
        Ends::Waits => {
            let status = wait_sink(calltap, name, |sink| sink["state"] == "retrying");
            assert_eq!((&status["dead"], &status["delivered"]), (&0.into(), &0.into()), "{status}");
        }
        Ends::Dead => {
            let status = wait_sink(calltap, name, |sink| sink["dead"] == CALLS);
            assert_eq!(status["delivered"], 0, "{status}");
        }
    }
}

#[test]
fn d_sinks() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let (mut sections, mut services) = (String::new(), Vec::new());
    for (at, Row { kind, answer, times, .. }) in rows().into_iter().enumerate() {
        let given = Arc::new(AtomicUsize::new(0));
        let service = Upstream::start(move |_| {
            let well = head("200 OK", "content-type: application/json\r\n", b"{}");
            if given.fetch_add(1, Ordering::Relaxed) < times { answer.clone() } else { well }
        });
        let key = if kind == "webhook" { "secret" } else { "api_key" };
        sections += &format!(
            "[sinks.s{at}]\ntype = \"{kind}\"\nbase_url = \"http://{}\"\n{key} = \"k\"\nconcurrency = 1\ntimeout = \"3s\"\n",
            service.address
        );
        services.push(service);
    }
    let calltap = Calltap::with(&upstream, "", &sections);
    let mut list = List::new('D', 12);
    for _ in 0..CALLS {
        post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    }
    for (at, row) in rows().iter().enumerate() {
        list.row(row.name, || check(&calltap, &format!("s{at}"), row.ends));
    }
    list.row("D1 is not asked again before its time", || {
        for (at, row) in
            rows().iter().enumerate().filter(|(_, row)| matches!(row.ends, Ends::Waits))
        {
            assert_eq!(
                services[at].requests().len(),
                1,
                "{}: {}",
                row.name,
                sink(&calltap, &format!("s{at}"))
            );
        }
    });
    list.elsewhere(&[
        ("D1 every form", "delivery::answer::retry_after_in_every_form"),
        ("D1 none comes early", "delivery::tests::random_answers_lose_and_misjudge_nothing"),
        ("D2 parts of a batch", "delivery::tests::parts_of_a_batch_may_be_refused"),
        ("D4 413", "delivery::tests::what_is_too_large_is_split_then_cut_then_dead"),
        ("D4 one of 100", "delivery::poison::one_percent_of_poison_is_found_and_holds_nobody_up"),
        ("D5 then 200", "delivery::control::a_refused_key_pauses_until_a_reload_brings_a_new_one"),
        ("D5 loses nothing", "delivery::tests::a_refused_key_pauses_and_loses_nothing"),
        ("D9 its date", "delivery::answer::retry_after_in_every_form"),
        ("D9 too old", "delivery::tests::one_poison_in_a_batch_is_found_by_quarters"),
        (
            "D10 taken out and put in again",
            "delivery::history::a_sink_taken_out_and_put_in_again_goes_on_where_it_was",
        ),
        (
            "D10 pruned meanwhile",
            "delivery::outage::retention_in_the_middle_of_a_delivery_loses_nothing",
        ),
        ("D11", "delivery::history::a_sink_added_later_is_filled_from_history_over_a_kill"),
        ("D12", "delivery::kills::every_record_arrives_and_repeats_are_the_same_bytes"),
    ]);
    list.untried(&["D8 certificate", "D8 name", "D8 IPv6"]);
    sound(&mut list, &calltap, CALLS);
    list.end();
}
