//! Fills a data directory with made-up calls, to measure and look at a large store:
//! `cargo run --release --example seed -- DIR CALLS`.
//!
//! Every call goes the way of a real one after its end: an exchange is read, priced and appended; then
//! the store is kept open until its consumers have caught up. The same numbers give the same calls.

use anyhow::{Context, ensure};
use bytes::Bytes;
use calltap::{
    config,
    interpret::{interpret, search_text},
    model::{Body, ChunkLog, Client, End, Endpoint, Exchange, Head, Tags, Timestamp},
    pricing::PriceBook,
    store::{Entry, Store},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::{NoContext, Uuid};

/// The calls lie in this many days before now.
const DAYS: i64 = 25;
/// Calls of the one long session.
const LONG_SESSION: u64 = 20_000;
/// Different words.
const WORDS: u64 = 20_000;
const DAY_US: i64 = 86_400_000_000;

const MODELS: [(&str, &str, &str); 8] = [
    ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    ("openai", "gpt-5.4", "gpt-5.4-2026-03-05"),
    ("openai", "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
    ("openai", "o3", "o3-2025-04-16"),
    ("groq", "llama-3.3-70b-versatile", "llama-3.3-70b-versatile"),
    ("mistral", "mistral-small-latest", "mistral-small-latest"),
    ("deepseek", "deepseek-v4-flash", "deepseek-v4-flash"),
    ("openai", "in-house-model", "in-house-model"),
];
const PROMPTS: [&str; 12] = [
    "support-reply",
    "summarise-ticket",
    "classify-mail",
    "search-plan",
    "extract-invoice",
    "translate",
    "write-title",
    "moderate",
    "sql-helper",
    "meeting-notes",
    "onboarding",
    "code-review",
];

/// Numbers that look random and are always the same (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides.max(1)
    }

    /// Small numbers come much more often than large ones.
    fn skewed(&mut self, sides: u64) -> u64 {
        let below = self.roll(sides) + 1;
        let below = self.roll(below) + 1;
        self.roll(below)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = self.skewed(of.len() as u64);
        of.get(usize::try_from(at).unwrap_or(0))
    }

    fn words(&mut self, count: u64) -> String {
        (0..count).map(|_| word(self.skewed(WORDS))).collect::<Vec<_>>().join(" ")
    }
}

fn word(mut number: u64) -> String {
    let mut word = String::new();
    loop {
        let part = |list: &[&'static str], at: u64| {
            list.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or_default()
        };
        word.push_str(part(
            &["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t"],
            number % 12,
        ));
        word.push_str(part(&["a", "e", "i", "o", "u"], number / 12 % 5));
        number /= 60;
        if number == 0 {
            word.push('n');
            return word;
        }
    }
}

fn body(text: String) -> Body {
    let sha256 = Some(Sha256::digest(text.as_bytes()).into());
    Body { total: text.len() as u64, kept: Bytes::from(text), sha256 }
}

/// The `number`th of `all` calls, which end at `now`.
fn call(number: u64, all: u64, now: Timestamp) -> anyhow::Result<Exchange> {
    let mut dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    dice.roll(1);
    let (upstream, asked, served) = *dice.pick(&MODELS).context("there are models")?;
    let age = i128::from(DAYS * DAY_US) * i128::from(all - number) / i128::from(all);
    let started_at = now.plus_us(-i64::try_from(age)?);
    let stream = dice.roll(3) > 0;
    let failed = dice.roll(50) == 0;
    let long = number.is_multiple_of((all / LONG_SESSION).max(1));
    let session =
        if long { "marathon".to_owned() } else { format!("s-{}", number / 8 + dice.roll(40)) };
    let turns = dice.skewed(6) + 1;
    let mut messages = vec![json!({"role": "system", "content": dice.words(60)})];
    for _ in 0..turns {
        let length = 10 + dice.skewed(120);
        messages.push(json!({"role": "user", "content": dice.words(length)}));
    }
    let (input, output) = (200 + dice.skewed(4000), 20 + dice.skewed(600));
    let answer = dice.words(output / 2);
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": if dice.roll(3) == 0 { input / 2 } else { 0 }}});
    let first_us = 150_000 + dice.skewed(900_000);
    let mut chunks = ChunkLog::default();
    let answer = match (failed, stream) {
        (true, _) => json!({"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}).to_string(),
        (false, false) => json!({"id": format!("chatcmpl-{number}"), "object": "chat.completion", "model": served, "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}]}).to_string(),
        (false, true) => events(number, served, &answer, &usage, &mut |len, at| chunks.push(len, first_us + at)),
    };
    if chunks.count() == 0 {
        chunks.push(answer.len(), first_us);
    }
    let ended_us = chunks.iter().last().map_or(first_us, |(_, at)| at) + 2000;
    let (tags, client) = caller(session, &mut dice);
    let id_time = uuid::Timestamp::from_unix(
        NoContext,
        u64::try_from(started_at.0 / 1_000_000)?,
        u32::try_from(started_at.0 % 1_000_000)? * 1000,
    );
    let request =
        json!({"model": asked, "stream": stream, "temperature": 0.2, "messages": messages})
            .to_string();
    let head = Head {
        id: Uuid::new_v7(id_time),
        started_at,
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        endpoint: Endpoint::of_call("POST", "/v1/chat/completions"),
        upstream: upstream.into(),
        provider: upstream.into(),
        tags,
        keep_content: true,
        client,
        request_bytes: request.len() as u64,
        ..Head::default()
    };
    let kind = if stream && !failed { "text/event-stream" } else { "application/json" };
    Ok(Exchange {
        head: Arc::new(head),
        request: body(request),
        status: Some(if failed { 429 } else { 200 }),
        response_headers: vec![("content-type".to_owned(), kind.to_owned())],
        delivered: answer.len() as u64,
        response: body(answer),
        chunks,
        ended_us,
        overhead_us: 60 + dice.skewed(400),
        end: End::Complete,
        notes: Vec::new(),
    })
}

/// Who makes the call, and what about.
fn caller(session: String, dice: &mut Dice) -> (Tags, Client) {
    let text = |text: String| Some(text);
    let tags = Tags {
        prompt: dice.pick(&PROMPTS).map(|name| (*name).to_owned()),
        prompt_version: text((1 + dice.skewed(5)).to_string()),
        session: Some(session),
        environment: text(if dice.roll(4) == 0 { "staging" } else { "prod" }.to_owned()),
        customer: text(format!("customer-{}", dice.skewed(400))),
        user: text(format!("user-{}", dice.skewed(20_000))),
        ..Tags::default()
    };
    let client = Client {
        user_agent: text("OpenAI/Python 2.54.0".to_owned()),
        sdk: text("openai-python".to_owned()),
        key: text(format!("fp_{:08x}", dice.skewed(30))),
        ..Client::default()
    };
    (tags, client)
}

/// A stream of the answer, a few words an event.
fn events(
    number: u64,
    served: &str,
    answer: &str,
    usage: &Value,
    chunk: &mut dyn FnMut(usize, u64),
) -> String {
    let (mut text, mut at) = (String::new(), 0);
    let mut push = |choices: Value, usage: &Value| {
        let event = json!({"id": format!("chatcmpl-{number}"), "object": "chat.completion.chunk",
            "model": served, "choices": choices, "usage": usage});
        let event = format!("data: {event}\n\n");
        chunk(event.len(), at);
        at += 25_000;
        text.push_str(&event);
    };
    let words: Vec<&str> = answer.split_inclusive(' ').collect();
    for words in words.chunks(6) {
        push(
            json!([{"index": 0, "delta": {"content": words.concat()}, "finish_reason": null}]),
            &Value::Null,
        );
    }
    push(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), &Value::Null);
    push(json!([]), usage);
    text.push_str("data: [DONE]\n\n");
    chunk(14, at);
    text
}

fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, calls] = arguments.as_slice() else { anyhow::bail!("seed DIR CALLS") };
    let calls: u64 = calls.parse().context("CALLS is a number")?;
    ensure!(calls > 0, "CALLS is at least one");
    std::fs::create_dir_all(dir)?;
    let store = Store::open(Path::new(dir), &config::Store::default())?;
    store.set_text_extractor(search_text);
    let (book, now, started) = (
        PriceBook::load(None, None).map_err(anyhow::Error::msg)?,
        Timestamp::now(),
        Instant::now(),
    );
    for number in 0..calls {
        let read = interpret(&call(number, calls, now)?, &book);
        let answer = read.response.as_ref().and_then(calltap::codec::answer_text);
        store.append(
            Entry { record: read.record, bodies: read.bodies, answer, json: None, text: None },
            None,
        );
        if number.is_multiple_of(256) {
            while store.health().waiting > 2048 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if number.is_multiple_of(50_000) {
            say(&format!("{number} calls appended after {:?}", started.elapsed()));
        }
    }
    let reader = store.reader()?;
    loop {
        let info = reader.info()?;
        let behind =
            info.consumers.iter().map(|consumer| consumer.lag).max().unwrap_or(info.last_seq);
        say(&format!("{} calls stored, {behind} to index, {:?}", info.last_seq, started.elapsed()));
        if behind == 0 && store.health().waiting == 0 && info.consumers.len() > 1 {
            break;
        }
        std::thread::sleep(Duration::from_secs(5));
    }
    store.close();
    Ok(())
}
