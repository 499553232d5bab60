//! Tokens of a request (`openai-surface.md` §20.3).

use super::{Notes, counter::Counter, family::Family, images, items, text, tools};
use serde_json::{Map, Value};

/// What every message costs beside its text; what a name in it costs.
const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
/// What a list of tools, and each call in the history, cost beside their text.
const PER_TOOLS: u64 = 9;
const SYSTEM_BEFORE_TOOLS: u64 = 4;
const PER_PAST_CALL: u64 = 3;

/// Tokens of `request`; `None` where they cannot be known.
pub(super) fn count(
    endpoint: &str,
    request: &Map<String, Value>,
    family: &Family,
    counter: &mut Counter,
    notes: &mut Notes,
) -> Option<u64> {
    let mut prompt = Prompt {
        family,
        counter,
        notes,
        past_calls: 0,
        results: 0,
        parallel: false,
        system: false,
    };
    let counted = match endpoint {
        "chat.completions" => prompt.chat(request)?,
        "responses" => prompt.responses(request)?,
        "completions" => {
            let suffix = request.get("suffix").map_or(0, |suffix| prompt.texts(suffix));
            prompt.texts(request.get("prompt")?) + suffix
        }
        "embeddings" => prompt.texts(request.get("input")?),
        _ => return None,
    };
    let template = if endpoint.starts_with("chat") { family.template } else { 0 };
    Some((counted.saturating_mul(family.percent) / 100).saturating_add_signed(template))
}

struct Prompt<'a> {
    family: &'a Family,
    counter: &'a mut Counter,
    notes: &'a mut Notes,
    past_calls: u64,
    results: u64,
    parallel: bool,
    system: bool,
}

impl Prompt<'_> {
    fn chat(&mut self, request: &Map<String, Value>) -> Option<u64> {
        let messages = request.get("messages")?.as_array()?;
        let mut tokens: u64 = messages.iter().map(|message| self.message(message)).sum();
        let functions = request.get("functions").and_then(Value::as_array).into_iter().flatten();
        let declared = request.get("tools").and_then(Value::as_array).into_iter().flatten();
        tokens += self.tools(functions.chain(declared))?;
        let format = request.get("response_format").and_then(|format| format.get("json_schema"));
        Some(tokens + self.schema(format) + self.family.reply)
    }

    fn responses(&mut self, request: &Map<String, Value>) -> Option<u64> {
        let known = |key: &str| request.get(key).is_some_and(|value| !value.is_null());
        if known("prompt") {
            self.notes.add("the stored prompt is not in the request: its tokens are unknown");
            return None;
        }
        if known("previous_response_id") || known("conversation") {
            self.notes.add("the conversation so far is not in the request: its tokens are unknown");
            return None;
        }
        let mut tokens = 0;
        if let Some(instructions) = request.get("instructions").and_then(Value::as_str) {
            self.system = true;
            tokens += PER_MESSAGE + 1 + self.counter.count(instructions);
        }
        tokens += match request.get("input")? {
            Value::String(text) => PER_MESSAGE + 1 + self.counter.count(text),
            Value::Array(items) => items.iter().map(|item| self.item(item)).sum(),
            _ => return None,
        };
        let declared = request.get("tools").and_then(Value::as_array).into_iter().flatten();
        tokens += self.tools(declared)?;
        let format = request.get("text").and_then(|text| text.get("format"));
        Some(
            tokens
                + self.schema(format.filter(|format| format.get("schema").is_some()))
                + self.family.reply,
        )
    }

    fn message(&mut self, message: &Value) -> u64 {
        let role = text(message, "role");
        self.system |= matches!(role, "system" | "developer");
        self.results += u64::from(matches!(role, "tool" | "function"));
        let mut tokens = PER_MESSAGE + self.counter.count(role);
        tokens += message.get("content").map_or(0, |content| self.content(content));
        let name = text(message, "name");
        if !name.is_empty() {
            tokens += PER_NAME + self.counter.count(name);
        }
        let calls = items(message, "tool_calls");
        self.parallel |= calls.len() > 1;
        for call in calls {
            let inner = call.get("function").or_else(|| call.get("custom")).unwrap_or(call);
            tokens += self.past_call(inner);
        }
        tokens + message.get("function_call").map_or(0, |call| self.past_call(call))
    }

    /// One item of a Responses input.
    fn item(&mut self, item: &Value) -> u64 {
        match text(item, "type") {
            "function_call" | "custom_tool_call" => PER_MESSAGE + 1 + self.past_call(item),
            "function_call_output" | "custom_tool_call_output" => {
                self.results += 1;
                PER_MESSAGE + 1 + item.get("output").map_or(0, |output| self.content(output))
            }
            "reasoning" => {
                self.notes.add("hidden reasoning is not counted");
                0
            }
            "" | "message" => self.message(item),
            _ => {
                self.notes.add("items of another kind are not counted");
                0
            }
        }
    }

    fn past_call(&mut self, call: &Value) -> u64 {
        self.past_calls += 1;
        let input = text(call, "arguments");
        let input = if input.is_empty() { text(call, "input") } else { input };
        PER_PAST_CALL + self.counter.count(text(call, "name")) + self.counter.count(input)
    }

    /// A text, or parts of any kind.
    fn content(&mut self, content: &Value) -> u64 {
        match content {
            Value::String(text) => self.counter.count(text),
            Value::Array(parts) => parts.iter().map(|part| self.part(part)).sum(),
            _ => 0,
        }
    }

    fn part(&mut self, part: &Value) -> u64 {
        match text(part, "type") {
            "image_url" | "input_image" => {
                let (image, url) = (part.get("image_url").unwrap_or(part), part.get("image_url"));
                let url = url.and_then(Value::as_str).unwrap_or_else(|| text(image, "url"));
                let detail = [text(image, "detail"), text(part, "detail")];
                let detail = detail.into_iter().find(|detail| !detail.is_empty());
                images::count(url, detail.unwrap_or_default(), self.family.images, self.notes)
            }
            "input_audio" | "file" | "input_file" | "video_url" => {
                self.notes.add("audio and files are not counted");
                0
            }
            _ => [text(part, "text"), text(part, "refusal")]
                .into_iter()
                .map(|text| self.counter.count(text))
                .sum(),
        }
    }

    /// Definitions and what they and past calls bring with them; `None` where the provider's own tools
    /// add what nobody can foresee.
    fn tools<'v>(&mut self, declared: impl Iterator<Item = &'v Value>) -> Option<u64> {
        let declared: Vec<&Value> = declared.collect();
        let own = |tool: &&Value| !matches!(text(tool, "type"), "" | "function" | "custom");
        if declared.iter().any(own) {
            self.notes.add("the provider's own tools add input that cannot be counted");
            return None;
        }
        let fit = self.family.tooling;
        let mut tokens = fit.per_call * self.past_calls + fit.per_result * self.results;
        if self.parallel {
            tokens += fit.parallel;
        }
        if !declared.is_empty() {
            let functions = declared
                .iter()
                .map(|tool| tool.get("function").or_else(|| tool.get("custom")).unwrap_or(tool));
            let rendered = tools::render(functions);
            tokens += self.counter.count(&rendered) + PER_TOOLS + fit.once;
            tokens = tokens.saturating_sub(if self.system { SYSTEM_BEFORE_TOOLS } else { 0 });
        }
        Some(tokens)
    }

    fn schema(&mut self, format: Option<&Value>) -> u64 {
        let Some(format) = format else { return 0 };
        self.notes.add("the schema of the answer is counted roughly");
        self.counter.count(&format.to_string())
    }

    /// Texts without any frame; lists of numbers are tokens already.
    fn texts(&mut self, value: &Value) -> u64 {
        match value {
            Value::String(text) => self.counter.count(text),
            Value::Array(items) => items.iter().map(|item| self.texts(item)).sum(),
            Value::Number(_) => 1,
            Value::Object(_) => self.content(value.get("content").unwrap_or(&Value::Null)),
            _ => 0,
        }
    }
}
