//! Events whose text alone is read give what they give when each is parsed.

use super::{
    Meaning,
    chat::ChatChoice,
    chunks::Chunks,
    completions::TextChoice,
    corpus_tests::recorded_streams,
    notes::Notes,
    stream::{self, Assembly, Data, Seen},
};
use proptest::prelude::*;
use serde_json::Value;

/// Parses every event.
struct Parsing<A>(Box<A>);

impl<A: Assembly> Assembly for Parsing<A> {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        Seen { repeats: None, ..self.0.add(event, notes) }
    }

    fn finish(self: Box<Self>, notes: &mut Notes) -> Option<Value> {
        self.0.finish(notes)
    }
}

/// Counts the events that were not parsed.
struct Counting<A>(Box<A>, std::rc::Rc<std::cell::Cell<usize>>);

impl<A: Assembly> Assembly for Counting<A> {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        self.0.add(event, notes)
    }

    fn add_text(&mut self, text: &str) {
        self.1.set(self.1.get() + 1);
        self.0.add_text(text);
    }

    fn finish(self: Box<Self>, notes: &mut Notes) -> Option<Value> {
        self.0.finish(notes)
    }
}

/// Reads `bytes` both ways; how many events were not parsed.
fn compare<A: Assembly + Default + 'static>(bytes: &[u8]) -> usize {
    let read = |assembly: Box<dyn Assembly>| {
        let (mut meaning, mut notes) = (Meaning::default(), Notes::default());
        let is_silent = stream::read(bytes, assembly, &mut meaning, &mut notes);
        // Members in order: `Value`'s own comparison does not mind it.
        let response = serde_json::to_string(&meaning.response).unwrap();
        (is_silent, response, format!("{meaning:?} {notes:?}"))
    };
    let repeated = std::rc::Rc::default();
    let counting = Counting::<A>(Box::default(), std::rc::Rc::clone(&repeated));
    let quick = read(Box::new(counting));
    assert_eq!(quick, read(Box::new(Parsing::<A>(Box::default()))));
    repeated.get()
}

#[test]
fn recorded_streams_are_read_alike() {
    let mut repeated = 0;
    for (name, body) in recorded_streams() {
        println!("{name}");
        repeated += compare::<Chunks<ChatChoice>>(&body) + compare::<Chunks<TextChoice>>(&body);
    }
    println!("{repeated} events of recorded streams were not parsed");
}

#[test]
fn usual_streams_repeat() {
    let chunk = |text: &str, padding: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":[{{\"index\":0,\
             \"delta\":{{\"content\":{text}}},\"logprobs\":null,\"finish_reason\":null}}],\
             \"usage\":null,\"obfuscation\":\"{padding}\"}}\n\n"
        )
    };
    let body: String =
        ["\" a\"", "\"b\\n\"", "\"\"", "\"c\"", "\"\\ud83d\"", "\"\\ude00\"", "\"d\"", "\"😀\""]
            .iter()
            .zip(["x", "yy", "", "zzz", "1", "2", "3", "4"])
            .map(|(text, padding)| chunk(text, padding))
            .collect();
    assert_eq!(compare::<Chunks<ChatChoice>>(body.as_bytes()), 2);
}

fn chunk() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "\"a\"",
        "\" b\"",
        "\"\"",
        "null",
        "\"\\n\"",
        "\"\\\"content\\\"\"",
        "\"é\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "[\"p\"]",
        "7",
    ]);
    let delta = prop::sample::select(vec![
        "{\"content\":T}",
        "{\"content\": T}",
        "{\"role\":\"assistant\",\"content\":T}",
        "{}",
        "{\"content\":T,\"refusal\":\"r\"}",
        "{\"content\":T,\"content\":\"twice\"}",
        "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\"}}]}",
    ]);
    let choice = prop::sample::select(vec![
        "{\"index\":0,\"delta\":D,\"finish_reason\":null}",
        "{\"delta\":D}",
        "{\"index\":1,\"delta\":D,\"logprobs\":null}",
        "{\"index\":0,\"delta\":D,\"finish_reason\":\"stop\"}",
        "{\"index\":0,\"delta\":D,\"logprobs\":{\"content\":[1]}}",
        "{\"index\":-1,\"delta\":D}",
        "{\"index\":0,\"text\":T,\"finish_reason\":null}",
        "{\"index\":0,\"text\":T,\"logprobs\":null}",
    ]);
    let around = prop::sample::select(vec![
        "{\"id\":\"c\",\"choices\":[C],\"usage\":null}",
        "{\"id\":\"c\",\"choices\":[C]}",
        "{\"id\":\"d\",\"model\":\"content\",\"choices\":[C]}",
        "{\"choices\":[C],\"obfuscation\":\"xy\"}",
        "{\"choices\":[C],\"obfuscation\":\"z\"}",
        "{\"choices\":[C,C]}",
        "{\"choices\":[C],\"usage\":{\"total_tokens\":3}}",
        "{\"choices\":[C],\"x\":[1]}",
        "{\"choices\":[C],\"error\":{\"message\":\"m\"}}",
        "{\"choices\":[C]} tail",
        "{\"id\":\"c\",\"choices\":[C]",
        "[DONE]",
    ]);
    let name = prop::sample::select(vec!["", "", "", "event: error\n", "event: x\n"]);
    (name, around, choice, delta, text).prop_map(|(name, around, choice, delta, text)| {
        let data = around.replace('C', choice).replace('D', delta).replace('T', text);
        format!("{name}data: {data}\n\n")
    })
}

proptest! {
    #[test]
    fn any_stream_is_read_alike(
        chunks in prop::collection::vec((chunk(), 1..4_usize), 0..12),
    ) {
        let body: String = chunks.iter().map(|(chunk, times)| chunk.repeat(*times)).collect();
        compare::<Chunks<ChatChoice>>(body.as_bytes());
        compare::<Chunks<TextChoice>>(body.as_bytes());
    }
}
