//! Tool definitions as the models see them: declarations of a namespace, as community work has it
//! (`openai-surface.md` §20.3).

use super::text;
use serde_json::{Map, Value};

/// Deepest level of parameters that is described; deeper ones are only named.
const DESCRIBED_LEVELS: u8 = 2;
/// Deepest level that is written at all.
const LEVELS_MAX: u8 = 16;

/// The declarations of `functions`: objects with `name`, `description` and `parameters`.
pub(super) fn render<'a>(functions: impl Iterator<Item = &'a Value>) -> String {
    let mut out = String::from("namespace functions {\n\n");
    for function in functions {
        comment(function, 0, &mut out);
        out.push_str("type ");
        out.push_str(text(function, "name"));
        let parameters = function.get("parameters").or_else(|| function.get("input_schema"));
        let properties = parameters.and_then(|schema| schema.get("properties")?.as_object());
        match (parameters, properties.filter(|properties| !properties.is_empty())) {
            (Some(schema), Some(properties)) => {
                out.push_str(" = (_: {\n");
                members(schema, properties, 0, &mut out);
                out.push_str("}) => any;\n\n");
            }
            _ => out.push_str(" = () => any;\n\n"),
        }
    }
    out.push_str("} // namespace functions");
    out
}

fn comment(described: &Value, level: u8, out: &mut String) {
    let description = text(described, "description");
    if level < DESCRIBED_LEVELS && !description.is_empty() {
        out.push_str(&format!("// {description}\n"));
    }
}

fn members(schema: &Value, properties: &Map<String, Value>, level: u8, out: &mut String) {
    if level > LEVELS_MAX {
        return;
    }
    let required = super::items(schema, "required");
    for (name, property) in properties {
        comment(property, level, out);
        let needed = required.iter().any(|item| item.as_str() == Some(name));
        out.push_str(&format!("{name}{}: ", if needed { "" } else { "?" }));
        kind(property, level, out);
        if let Some(default) = property.get("default") {
            out.push_str(&format!(", // default: {default}\n"));
        } else {
            out.push_str(",\n");
        }
    }
}

fn kind(schema: &Value, level: u8, out: &mut String) {
    let choices = |key: &str| schema.get(key).and_then(Value::as_array);
    if let Some(values) = choices("enum") {
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        out.push_str(&values.join(" | "));
        return;
    }
    if let Some(schemas) = choices("anyOf").or_else(|| choices("oneOf")) {
        return joined(schemas, level, out);
    }
    match schema.get("type") {
        Some(Value::Array(names)) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).map(plain).collect();
            out.push_str(&names.join(" | "));
        }
        Some(Value::String(name)) if name == "array" => match schema.get("items") {
            Some(items) if level < LEVELS_MAX => {
                kind(items, level + 1, out);
                out.push_str("[]");
            }
            _ => out.push_str("any[]"),
        },
        Some(Value::String(name)) if name == "object" => {
            let properties = schema.get("properties").and_then(Value::as_object);
            match properties.filter(|properties| !properties.is_empty()) {
                Some(properties) => {
                    out.push_str("{\n");
                    members(schema, properties, level + 1, out);
                    out.push('}');
                }
                None => out.push_str("object"),
            }
        }
        Some(Value::String(name)) => out.push_str(plain(name)),
        _ => out.push_str("any"),
    }
}

fn joined(schemas: &[Value], level: u8, out: &mut String) {
    for (at, schema) in schemas.iter().enumerate() {
        if at > 0 {
            out.push_str(" | ");
        }
        if level < LEVELS_MAX {
            kind(schema, level + 1, out);
        }
    }
}

fn plain(name: &str) -> &str {
    if name == "integer" { "number" } else { name }
}
