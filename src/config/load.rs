//! From file, environment and flags to a configuration, or to a list of all that is wrong.

use super::{
    Config, Environment,
    faults::{Fault, Faults, key_span, position},
};
use crate::model::Secret;
use serde_path_to_error::deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};
use toml::{Table, Value, de::DeTable};

/// Name of the file that is read from the working directory.
pub const FILE: &str = "calltap.toml";
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Prefix of variables that set a key: `CALLTAP_SERVER__LISTEN`.
const PREFIX: &str = "CALLTAP_";

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// File named by flag or variable; must exist.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Keys set by flags: (dotted path, value). They win over everything.
    pub flags: Vec<(String, Value)>,
}

/// A configuration and the file it came from.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file, if there was one.
    pub file: Option<PathBuf>,
}

impl Sources {
    /// The process's environment, and the file named in it unless `file` names one.
    pub fn new(file: Option<PathBuf>, flags: Vec<(String, Value)>) -> Self {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let file = file.or_else(|| environment.get("CALLTAP_CONFIG").map(PathBuf::from));
        Self { file, environment, flags }
    }
}

/// Loads a configuration; `check` says what is wrong with it beyond its types.
///
/// # Errors
/// All faults, rendered with file, line and caret.
pub fn load(sources: &Sources, check: impl Fn(&Config) -> Vec<Fault>) -> Result<Loaded, Faults> {
    let (file, text) = read(sources.file.as_deref())?;
    let name = file.as_deref().map_or_else(|| FILE.to_owned(), |path| path.display().to_string());
    let mut table = match toml::from_str::<Table>(&text) {
        Ok(table) => table,
        Err(error) => {
            let fault = Fault { span: error.span(), ..Fault::at("", error.message()) };
            return Err(Faults::new(&[fault], &name, &text));
        }
    };
    let mut faults = Vec::new();
    let mut origins = origins_of(&table, &name, &text);
    let mut outside = Outside::default();
    interpolate(&mut table, "", &sources.environment, &mut outside.paths, &mut faults);
    for (path, value, origin) in overlay(sources) {
        if let Some(text) = sources.environment.get(&origin) {
            outside.paths.insert(path.clone());
            outside.texts.insert(path.clone(), text.clone());
        }
        set(&mut table, &path, value);
        origins.insert(path, origin);
    }
    let mut config = read_table(table, outside, &mut faults);
    if let Some(config) = &mut config {
        config.environment = Environment(sources.environment.clone());
        config.origins.clone_from(&origins);
        faults.extend(check(config));
    }
    for fault in &mut faults {
        // The file may name the same key: it is not its line that is at fault.
        if let Some(origin) = origins.get(&fault.path)
            && !origin.starts_with(&name)
        {
            fault.elsewhere = Some(origin.clone());
        }
    }
    match config {
        Some(config) if faults.is_empty() => Ok(Loaded { config, file }),
        _ => Err(Faults::new(&faults, &name, &text)),
    }
}

/// Keys whose values came from variables or other files. They may be secrets: no fault quotes them.
#[derive(Default)]
struct Outside {
    paths: BTreeSet<String>,
    /// What variables say, as they say it: a token may look like a number.
    texts: BTreeMap<String, String>,
}

fn read(file: Option<&Path>) -> Result<(Option<PathBuf>, String), Faults> {
    let path = match file {
        Some(path) => path.to_owned(),
        None if Path::new(FILE).is_file() => PathBuf::from(FILE),
        None => return Ok((None, String::new())),
    };
    let problem =
        |why: String| Faults::new(&[Fault::at("", format!("{}: {why}", path.display()))], FILE, "");
    let text = read_text(&path).map_err(problem)?;
    Ok((Some(path.clone()), text.trim_start_matches('\u{feff}').to_owned()))
}

/// Content of a file of bounded size, whatever its metadata says.
fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is too large; at most {FILE_BYTES_MAX} bytes are read"));
    }
    Ok(text)
}

/// Deserialises; a key at fault is noted, taken out, and the rest tried again.
fn read_table(mut table: Table, mut outside: Outside, faults: &mut Vec<Fault>) -> Option<Config> {
    for _ in 0..100 {
        let error = match deserialize::<_, Config>(Value::Table(table.clone())) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let path = error.path().to_string();
        if let Some(text) = outside.texts.remove(&path) {
            set(&mut table, &path, Value::String(text));
            continue;
        }
        let message = error.into_inner().message().to_owned();
        let (at, fault) = if let Some((field, known)) = unknown_field(&message) {
            unknown_fault(&path, field, &known)
        } else {
            let message = if outside.paths.contains(&path) {
                unquoted(&message)
            } else {
                message.trim().to_owned()
            };
            let message = format!("`{path}`: {message}");
            (path.clone(), Fault::at(path, message))
        };
        let removed = remove(&mut table, &at);
        faults.push(fault);
        if !removed {
            return None;
        }
    }
    None
}

/// A message of serde's without the value that it quotes. Serde quotes in `"` and in backticks.
fn unquoted(message: &str) -> String {
    if message.trim() == Secret::EMPTY {
        return Secret::EMPTY.to_owned();
    }
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("its value does not fit, expected {}", expected.trim()),
        None => "its value does not fit".to_owned(),
    }
}

/// Field and known names of serde's message about an unknown field.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (field, rest) = rest.split_once('`')?;
    Some((field, rest.split('`').skip(1).step_by(2).collect()))
}

fn unknown_fault(path: &str, field: &str, known: &[&str]) -> (String, Fault) {
    // The path ends in the field itself or in what holds it, as the deserializer likes.
    let holder = path.strip_suffix(field).map_or(path, |holder| holder.trim_end_matches('.'));
    let holder = if holder == "." { "" } else { holder };
    let at = if holder.is_empty() { field.to_owned() } else { format!("{holder}.{field}") };
    let place = if holder.is_empty() { String::new() } else { format!(" in {holder}") };
    let close = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, field), *name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let hint = match close {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("known are: {}", known.join(", ")),
    };
    let fault = Fault {
        hint: Some(hint),
        ..Fault::at(at.clone(), format!("unknown field `{field}`{place}"))
    };
    (at, fault)
}

/// Replaces `${VAR}`, `${VAR:-default}` and `${file:PATH}` inside strings, after parsing: a secret can
/// neither break the file nor put anything into it.
fn interpolate(
    table: &mut Table,
    path: &str,
    environment: &BTreeMap<String, String>,
    expanded: &mut BTreeSet<String>,
    faults: &mut Vec<Fault>,
) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        interpolate_value(value, &path, environment, expanded, faults);
    }
}

fn interpolate_value(
    value: &mut Value,
    path: &str,
    environment: &BTreeMap<String, String>,
    expanded: &mut BTreeSet<String>,
    faults: &mut Vec<Fault>,
) {
    match value {
        Value::String(text) if text.contains("${") => match expand(text, environment) {
            Ok(full) => {
                *text = full;
                expanded.insert(path.to_owned());
            }
            Err(why) => faults.push(Fault::at(path, why)),
        },
        Value::Table(table) => interpolate(table, path, environment, expanded, faults),
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                interpolate_value(item, &format!("{path}[{at}]"), environment, expanded, faults);
            }
        }
        _ => {}
    }
}

fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err("a `${` is never closed".to_owned());
        };
        out.push_str(&lookup(name, environment)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn lookup(name: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    if let Some(path) = name.strip_prefix("file:") {
        return read_text(Path::new(path))
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| format!("the file {path} cannot be read: {error}"));
    }
    let (name, default) = match name.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (name, None),
    };
    match (environment.get(name), default) {
        (Some(value), None) => Ok(value.clone()),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value.clone()),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the variable {name} is not set; set it, or give a default as ${{{name}:-…}}"
        )),
    }
}

/// Keys set from outside the file, weakest first: (path, value, origin).
fn overlay(sources: &Sources) -> Vec<(String, Value, String)> {
    let from_environment = sources.environment.iter().filter_map(|(name, value)| {
        let path = name.strip_prefix(PREFIX).filter(|path| path.contains("__"))?;
        let path = path.to_lowercase().replace("__", ".");
        Some((path, scalar(value), name.clone()))
    });
    let flags =
        sources.flags.iter().map(|(path, value)| (path.clone(), value.clone(), "flag".to_owned()));
    from_environment.chain(flags).collect()
}

/// `true`, `7` and `["a"]` are what they look like; everything else is text.
fn scalar(text: &str) -> Value {
    match toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
    {
        Some(value @ (Value::Boolean(_) | Value::Integer(_) | Value::Array(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn set(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// Takes the key at `path` out, or the nearest above it; false when there is nothing left to take.
fn remove(table: &mut Table, path: &str) -> bool {
    let path = path.split('[').next().unwrap_or(path).trim_matches('.');
    if path.is_empty() || path == "?" {
        return false;
    }
    match path.split_once('.') {
        None => table.remove(path).is_some(),
        Some((first, rest)) => match table.get_mut(first) {
            Some(Value::Table(inner)) => remove(inner, rest) || table.remove(first).is_some(),
            Some(_) => table.remove(first).is_some(),
            None => false,
        },
    }
}

fn origins_of(table: &Table, name: &str, text: &str) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    let Ok(root) = DeTable::parse(text) else { return origins };
    let mut paths = Vec::new();
    leaves(table, "", &mut paths);
    for path in paths {
        if let Some(span) = key_span(root.get_ref(), &path) {
            let (line, ..) = position(text, span.start);
            origins.insert(path, format!("{name}:{line}"));
        }
    }
    origins
}

fn leaves(table: &Table, path: &str, found: &mut Vec<String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => leaves(inner, &path, found),
            _ => found.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn loaded(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let sources = Sources {
            file: Some(file.path().to_owned()),
            environment: environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            flags: Vec::new(),
        };
        let name = file.path().display().to_string();
        load(&sources, crate::check::check)
            .map_err(|faults| faults.to_string().replace(&name, "calltap.toml"))
    }

    #[test]
    fn faults_point_at_their_place() {
        let text = "[server]\nlisten = \"127.0.0.1:1\"\n\n[capture]\n  max_bdy = \"1MiB\"\n";
        assert_eq!(
            loaded(text, &[]).unwrap_err(),
            "error: unknown field `max_bdy` in capture\n  ┌─ calltap.toml:5:3\n5 │   max_bdy = \"1MiB\"\n  \
             │   ^^^^^^^ did you mean `max_body`?\n1 error"
        );
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = "[serve]\n[capture]\nmax_body = \"lots\"\n[store]\ndurability = \"maybe\"\n\
                    [sinks.x]\ntype = \"${NOT_SET}\"\n[upstreams.a]\nbase_url = \"ftp://x\"\n";
        let error = loaded(text, &[]).unwrap_err();
        for part in [
            "`serve`",
            "did you mean `server`?",
            "lots",
            "maybe",
            "NOT_SET",
            "upstreams.a",
            "5 errors",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn variables_files_and_defaults_are_put_in() {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        secret.write_all(b"from-file\n").unwrap();
        let text = format!(
            "[auth]\nadmin_token = \"${{TOKEN}}\"\n[sinks.a]\ntype = \"jsonl\"\nid = \"${{file:{}}}\"\ndir = \"a-${{NONE:-d}}-b\"\n",
            secret.path().display()
        );
        let loaded = loaded(&text, &[("TOKEN", "a\"b\\c")]).unwrap();
        assert_eq!(loaded.config.auth.admin_token.unwrap().expose(), "a\"b\\c");
        assert_eq!(loaded.config.sinks["a"].0["id"].as_str(), Some("from-file"));
        assert_eq!(loaded.config.sinks["a"].0["dir"].as_str(), Some("a-d-b"));
    }

    #[test]
    fn environment_wins_over_the_file() {
        let loaded = loaded(
            "[store]\ndurability = \"group\"\n",
            &[("CALLTAP_STORE__DURABILITY", "strict"), ("CALLTAP_STORE__JOURNAL_START", "false")],
        )
        .unwrap();
        assert_eq!(loaded.config.store.durability, super::super::Durability::Strict);
        assert!(!loaded.config.store.journal_start);
        assert_eq!(loaded.config.origins["store.durability"], "CALLTAP_STORE__DURABILITY");
    }

    #[test]
    fn values_from_outside_are_taken_as_text_and_never_quoted() {
        let token = loaded("", &[("CALLTAP_AUTH__ADMIN_TOKEN", "1_234")]).unwrap();
        assert_eq!(token.config.auth.admin_token.unwrap().expose(), "1_234");
        for (text, variable) in [
            ("[store]\ndurability = \"${T}\"\n", "T"),
            ("[capture]\nmax_body = \"${T}\"\n", "T"),
            ("", "CALLTAP_STORE__DURABILITY"),
            ("", "CALLTAP_CAPTURE__MAX_BODY"),
            ("", "CALLTAP_SERVER__LISTEN"),
            ("[upstreams.a]\nbase_url = \"http://me:${T}@host/v1\"\n", "T"),
        ] {
            let error = loaded(text, &[(variable, "hush-4711")]).unwrap_err();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_fault_is_told_where_it_was_made() {
        let file = "[server]\nlisten = \"127.0.0.1:1\"\n[upstreams]\n[upstreams.\"a.b\"]\nbase_url = \"nope\"\n";
        let error = loaded(file, &[("CALLTAP_SERVER__LISTEN", "x")]).unwrap_err();
        assert!(error.contains("CALLTAP_SERVER__LISTEN") && !error.contains(":2:"), "{error}");
        assert!(error.contains("calltap.toml:5:1"), "{error}");
    }

    #[test]
    fn files_without_an_end_are_refused() {
        if !Path::new("/dev/zero").exists() {
            return;
        }
        assert!(read(Some(Path::new("/dev/zero"))).is_err());
        assert!(loaded("[log]\nlevel = \"${file:/dev/zero}\"\n", &[]).is_err());
    }

    #[test]
    fn nothing_means_zero_and_no_upstream_hides_behind_a_path() {
        for (section, key) in
            [("store", "keep_bodies"), ("store", "keep_calls"), ("capture", "max_body")]
        {
            let zero = if section == "store" { "0s" } else { "0B" };
            let error = loaded(&format!("[{section}]\n{key} = \"{zero}\"\n"), &[]).unwrap_err();
            assert!(error.contains("more than zero") && error.contains(":2:1"), "{error}");
        }
        for name in ["stats", "calls", "api", "metrics", "v1", "chat", "-"] {
            let text = format!("[upstreams.{name}]\nbase_url = \"http://127.0.0.1:1/v1\"\n");
            let error = loaded(&text, &[]).unwrap_err();
            assert!(error.contains("no use for an upstream"), "{error}");
        }
        assert!(
            loaded("[upstreams.statistics]\nbase_url = \"http://127.0.0.1:1/v1\"\n", &[]).is_ok()
        );
    }

    #[test]
    fn an_empty_secret_is_a_fault() {
        let error = loaded("[auth]\nadmin_token = \"${T}\"\n", &[("T", " \n")]).unwrap_err();
        assert!(error.contains("is empty") && error.contains(":2:1"), "{error}");
    }
}
