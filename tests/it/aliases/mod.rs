//! Headers of other products, one row an alias: each is tried with good values and bad ones, beside its
//! peers and against calltap's own words, and the upstream's bytes hold nothing of it.

mod table;

use crate::harness::{Calltap, Request, Upstream, chat, chat_body, connect_and_send};
use base64::{Engine, engine::general_purpose as engine};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};
use table::{FLAGS, FORWARDED, LABELS, NAMED, OBJECTS, PARAMETERS, TEXTS, TRACES, all};

/// In every value that must not go upstream.
const CANARY: &str = "canary";

/// A call, and what its record holds.
struct Case {
    name: String,
    alias: String,
    lines: Vec<u8>,
    path: &'static str,
    body: String,
    at: &'static str,
    value: Value,
    refused: bool,
    recorded: bool,
}

impl Case {
    /// Of one alias with one value: what stands at `at` of the record, and whether a warning names it.
    fn new(alias: &str, value: impl AsRef<[u8]>, at: &'static str, wanted: Value) -> Self {
        let value = value.as_ref();
        let shown = String::from_utf8_lossy(&value[..value.len().min(24)]).into_owned();
        Self {
            name: format!("{alias}: {shown}"),
            alias: alias.to_owned(),
            lines: line(alias, value),
            path: "/v1/chat/completions",
            body: chat_body(false),
            at,
            value: wanted,
            refused: false,
            recorded: true,
        }
    }

    fn refused(mut self) -> Self {
        self.refused = true;
        self
    }

    /// Beside these lines.
    fn beside(mut self, name: &str, lines: &[u8]) -> Self {
        self.name += &format!(" beside {name}");
        self.lines.extend_from_slice(lines);
        self
    }

    fn run(&self, calltap: &Calltap, upstream: &Upstream) -> Result<String, String> {
        let head = format!("POST {} HTTP/1.1\r\nhost: x\r\n", self.path);
        let rest = format!("content-length: {}\r\n\r\n{}", self.body.len(), self.body);
        let request = [head.as_bytes(), &self.lines, rest.as_bytes()].concat();
        let answer = connect_and_send(calltap.address, &request).ok_or("no answer")?;
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.json()));
        }
        let warning = answer.header("x-calltap-warning").unwrap_or_default();
        if warning.contains(&self.alias) != self.refused || warning.is_empty() == self.refused {
            return Err(format!("warned {warning:?}"));
        }
        let request = upstream.last().ok_or("nothing went upstream")?;
        leaks(&request, &self.alias).map_or(Ok(()), Err)?;
        Ok(answer.header("x-calltap-id").ok_or("no id")?.to_owned())
    }

    fn judge(&self, record: &Value) -> Result<(), String> {
        let found = record.pointer(self.at).unwrap_or(&Value::Null);
        let said = record.to_string();
        // What was refused is nowhere in the record, unless it passes as a header of the request.
        let passes = FORWARDED.contains(&self.alias.as_str());
        let leaked = self.refused && !passes && said.contains(CANARY);
        (*found == self.value && !leaked).then_some(()).ok_or_else(|| {
            format!("{} is {}", self.at, found.to_string().chars().take(200).collect::<String>())
        })
    }
}

fn line(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b": ", value, b"\r\n"].concat()
}

/// What of the alias, or of calltap's own, is in the bytes that went upstream.
fn leaks(request: &Request, alias: &str) -> Option<String> {
    let headers = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
    let body = String::from_utf8_lossy(&request.body);
    let raw = format!("{}\n{}{body}", request.line, headers.collect::<String>()).to_lowercase();
    let forwarded = FORWARDED.contains(&alias);
    let forbidden = ["x-calltap", "/-/", "\"calltap\""].into_iter();
    let theirs = (!forwarded).then_some([alias, CANARY]);
    let leak = forbidden.chain(theirs.into_iter().flatten()).find(|word| raw.contains(word));
    let lost = forwarded && !raw.contains(&format!("{alias}:"));
    leak.map(|word| format!("{word} went upstream"))
        .or_else(|| lost.then(|| "did not go upstream".to_owned()))
}

fn texts() -> Vec<Case> {
    let mut cases = Vec::new();
    for (_, at, aliases) in TEXTS.iter().chain(TRACES) {
        for alias in *aliases {
            let good = |value: &str, wanted: &str| Case::new(alias, value, at, json!(wanted));
            let bad = |value: &[u8]| Case::new(alias, value, at, Value::Null).refused();
            cases.extend([
                good("canary-1", "canary-1"),
                good("  canary a b ", "canary a b"),
                good("canary %C3%A9", "canary é"),
                good("canary 🐋", "canary 🐋"),
                good("canary 100%", "canary 100%"),
                bad(b""),
                bad(b"canary \xff\xfe"),
                bad(b"canary %ff"),
            ]);
            if !at.starts_with("/trace") {
                let longest = "x".repeat(8192);
                cases.push(good(&longest, &longest));
                cases.push(bad(format!("canary{}", "x".repeat(8187)).as_bytes()));
                cases.push(bad(format!("canary{}", "x".repeat(64_000)).as_bytes()));
            }
        }
    }
    cases
}

fn labels() -> Vec<Case> {
    let at = "/tags/labels";
    let case = |alias: &&'static str| {
        let good = |value: &str| Case::new(alias, value, at, json!(["canary-a", "ü"]));
        let bad = |value: &[u8]| Case::new(alias, value, at, json!([])).refused();
        [
            good("canary-a,ü"),
            good("canary-a, %C3%BC, canary-a,"),
            good("[canary-a, ü]"),
            good(r#"["canary-a", "ü"]"#),
            bad(r#"["canary-a", 1]"#.as_bytes()),
            bad(b""),
            bad(b"canary \xff"),
            bad(format!("canary{}", "x".repeat(64_000)).as_bytes()),
        ]
    };
    LABELS.iter().flat_map(case).collect()
}

/// Plain, and in each base64.
fn spelled(json: &str) -> Vec<String> {
    vec![
        json.to_owned(),
        json.replace('ü', "%C3%BC").replace('>', "%3E"),
        engine::STANDARD.encode(json),
        engine::STANDARD_NO_PAD.encode(json),
        engine::URL_SAFE.encode(json),
        engine::URL_SAFE_NO_PAD.encode(json),
    ]
}

fn objects() -> Vec<Case> {
    let mut cases = Vec::new();
    for alias in OBJECTS {
        let at = "/tags/metadata";
        let json = r#"{"Plan":"canary ü>>?","n":{"x":1.50},"_user":"canary-u"}"#;
        for value in spelled(json) {
            let entries = serde_json::from_str(r#"{"plan":"canary ü>>?","n":{"x":1.50}}"#).unwrap();
            cases.push(Case::new(alias, &value, at, entries));
            cases.push(Case::new(alias, &value, "/tags/user", json!("canary-u")));
        }
        cases.push(Case::new(alias, "{}", at, json!({})));
        cases.extend(no_objects(alias, at));
        let long = format!(r#"{{"long":"canary{}"}}"#, "x".repeat(64_000));
        cases.push(Case::new(alias, long, at, json!({})).refused());
    }
    for alias in PARAMETERS {
        let json = r#"{"customer_identifier":"canary ü>>?","thread_identifier":"t","prompt_id":"p","prompt_version_number":3,"custom_identifier":"r","environment":"e","metadata":{"a":[1]},"fallback_models":["m"]}"#;
        for value in spelled(json) {
            for (at, wanted) in [
                ("/tags/user", json!("canary ü>>?")),
                ("/tags/session", json!("t")),
                ("/tags/prompt", json!("p")),
                ("/tags/prompt_version", json!("3")),
                ("/tags/reference", json!("r")),
                ("/tags/environment", json!("e")),
                ("/tags/metadata", json!({"a": [1]})),
            ] {
                cases.push(Case::new(alias, &value, at, wanted));
            }
        }
        cases.extend(no_objects(alias, "/tags/metadata"));
        let long = format!(r#"{{"customer_identifier":"canary{}"}}"#, "x".repeat(64_000));
        cases.push(Case::new(alias, long, "/tags/user", Value::Null).refused());
    }
    cases
}

/// What is no JSON object, in whatever dress.
fn no_objects(alias: &str, at: &'static str) -> Vec<Case> {
    let bad: [&[u8]; 11] = [
        b"",
        b"canary",
        b"{canary",
        br#"{"canary":1,}"#,
        br#"{"canary":1} x"#,
        br#"["canary"]"#,
        b"7",
        b"%%%",
        b"canary \xff",
        b"WyJjYW5hcnkiXQ==",
        b"eyJjYW5hcnkiOg",
    ];
    let case = |value: &&[u8]| Case::new(alias, value, at, json!({})).refused();
    bad.iter().map(case).collect()
}

fn named() -> Vec<Case> {
    let mut cases = Vec::new();
    for prefix in NAMED {
        let alias = format!("{prefix}plan");
        let at = "/tags/metadata/plan";
        cases.extend([
            Case::new(&alias, "canary", at, json!("canary")),
            Case::new(&alias, "canary %C3%A9 ü", at, json!("canary é ü")),
            Case::new(&alias, r#"{"canary": 1}"#, at, json!(r#"{"canary": 1}"#)),
            Case::new(&alias, "", at, Value::Null).refused(),
            Case::new(&alias, b"canary \xff", at, Value::Null).refused(),
            Case::new(&alias, format!("canary{}", "x".repeat(64_000)), at, Value::Null).refused(),
            Case::new(prefix, "canary", "/tags/metadata", json!({})).refused(),
            Case::new(&alias, "canary", at, json!("own"))
                .beside("x-calltap-meta-plan", b"x-calltap-meta-plan: own\r\n"),
        ]);
    }
    cases
}

fn flags() -> Vec<Case> {
    let mut cases = Vec::new();
    for (alias, acts, rests, log) in FLAGS {
        let model = json!("gpt-4o-mini");
        let kept = |value: &str| Case::new(alias, value, "/request/model", model.clone());
        let mut acting = Case::new(alias, acts, "/request", Value::Null);
        acting.recorded = *log != "off";
        let mut louder = Case::new(alias, acts.to_uppercase(), "/request", Value::Null);
        louder.recorded = acting.recorded;
        cases.extend([
            acting,
            louder,
            kept(rests),
            kept("canary"),
            kept(&format!("canary{}", "x".repeat(64_000))),
            kept(acts).beside("x-calltap-log", b"x-calltap-log: full\r\n"),
            Case::new(alias, "", "/request/model", model.clone()).refused(),
            Case::new(alias, b"canary\xff", "/request/model", model.clone()).refused(),
        ]);
    }
    cases
}

/// Every alias of a slot at once, in the wrong order: the strongest that is there wins, and whatever
/// calltap's own carriers say wins over all, and all over what the body says by itself.
fn precedence() -> Vec<Case> {
    let mut cases = Vec::new();
    for (key, at, aliases) in TEXTS.iter().chain(TRACES) {
        for from in 0..aliases.len() {
            let present: Vec<u8> = aliases[from + 1..]
                .iter()
                .rev()
                .flat_map(|alias| line(alias, format!("weaker {alias}").as_bytes()))
                .collect();
            let winner = format!("{CANARY} {}", aliases[from]);
            let mut case = Case::new(aliases[from], &winner, at, json!(winner));
            case.lines = [present.as_slice(), case.lines.as_slice()].concat();
            case.name += " beside all that are weaker";
            cases.push(case);
        }
        for alias in *aliases {
            if at.starts_with("/trace") {
                let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
                let wanted = if at.ends_with("trace_id") { trace } else { parent };
                let own = format!("traceparent: 00-{trace}-{parent}-01\r\n");
                let case = Case::new(alias, "canary", at, json!(wanted));
                cases.push(case.beside("traceparent", own.as_bytes()));
                continue;
            }
            let theirs = || Case::new(alias, "canary", at, json!("own"));
            let own = format!("x-calltap-{key}: own\r\n");
            cases.push(theirs().beside("calltap's header", own.as_bytes()));
            let mut path = theirs().beside("the path", b"");
            path.path = match *key {
                "session" => "/-/session=own/v1/chat/completions",
                "session-name" => "/-/session-name=own/v1/chat/completions",
                "session-path" => "/-/session-path=own/v1/chat/completions",
                "prompt" => "/-/prompt=own/v1/chat/completions",
                "prompt-version" => "/-/prompt-version=own/v1/chat/completions",
                "user" => "/-/user=own/v1/chat/completions",
                "customer" => "/-/customer=own/v1/chat/completions",
                "environment" => "/-/environment=own/v1/chat/completions",
                _ => "/-/reference=own/v1/chat/completions",
            };
            cases.push(path);
            let mut member = theirs().beside("the body's member", b"");
            member.body =
                chat_body(false).replacen('{', &format!(r#"{{"calltap":{{"{key}":"own"}},"#), 1);
            cases.push(member);
            let mut weaker = Case::new(alias, "canary", at, json!("canary"));
            weaker = weaker.beside("what the body says by itself", b"");
            let said = r#"{"user":"weak","metadata":{"session_id":"weak","session_name":"weak","session_path":"weak","prompt":"weak","prompt_version":"weak","user_id":"weak","customer":"weak","environment":"weak","reference":"weak"},"#;
            weaker.body = chat_body(false).replacen('{', said, 1);
            cases.push(weaker);
        }
    }
    cases
}

#[test]
fn every_alias_is_read_or_refused_and_stays_here() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let lists = [texts(), labels(), objects(), named(), flags(), precedence()];
    let cases: Vec<Case> = lists.into_iter().flatten().collect();
    let mut faults = Vec::new();
    let mut sent = Vec::new();
    for case in &cases {
        match case.run(&calltap, &upstream) {
            Ok(id) => sent.push((case, id)),
            Err(why) => faults.push(format!("{}: {why}", case.name)),
        }
    }
    // Those that are recorded first: once they are there, the others would be too.
    sent.sort_by_key(|(case, _)| !case.recorded);
    for (case, id) in &sent {
        let judged = if case.recorded {
            case.judge(&stored(&calltap, id))
        } else {
            let known = calltap.record(id)["id"] == **id;
            (!known).then_some(()).ok_or_else(|| "was recorded".to_owned())
        };
        if let Err(why) = judged {
            faults.push(format!("{}: {why}", case.name));
        }
    }
    let aliases: BTreeSet<&str> = cases.iter().map(|case| case.alias.as_str()).collect();
    let right = cases.len() - faults.len();
    println!("aliases {}, cases {}, right {right}", aliases.len(), cases.len());
    assert!(faults.is_empty(), "{} of {}: {faults:#?}", faults.len(), cases.len());
}

/// The record, once it is there.
fn stored(calltap: &Calltap, id: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let record = calltap.record(id);
        if record["id"] == *id {
            return record;
        }
        assert!(Instant::now() < until, "{id} was not recorded");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn all_aliases_at_once_stay_here() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let names = all().into_iter().filter(|name| !FORWARDED.contains(name));
    let lines: Vec<u8> = names.flat_map(|name| line(name, b"canary")).collect();
    let mut case = Case::new("helicone-session-id", "", "/tags/session", json!("canary"));
    case.lines = lines;
    let head = format!("content-length: {}\r\n\r\n{}", case.body.len(), case.body);
    let head =
        [b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n", &case.lines[..], head.as_bytes()];
    assert_eq!(connect_and_send(calltap.address, &head.concat()).unwrap().status, 200);
    let request = upstream.last().unwrap();
    for name in all().into_iter().filter(|name| !FORWARDED.contains(name)) {
        assert_eq!(leaks(&request, name), None, "{name}");
    }
    case.judge(&calltap.only_record()).unwrap();
}

/// The tables above have every row of the source, and no other.
#[test]
fn every_alias_is_tried() {
    let source = fs::read_to_string("src/proxy/aliases.rs").unwrap();
    let table = |start: &str| {
        let rows = source.split_once(start).unwrap().1.split_once("];").unwrap().0;
        let names = rows.split('"').skip(1).step_by(2).filter(|text| text.contains(['-', '_']));
        names.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let mut rows = table("const ALIASES:");
    rows.retain(|name| source.contains(&format!("(\"{name}\", ")));
    rows.extend(table("const NAMED:"));
    assert_eq!(rows, all().into_iter().map(str::to_owned).collect());
}
