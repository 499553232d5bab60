//! `calltap env`: the variables that point clients here.

use super::{
    Common,
    out::{self, Exit, Stop},
    serve::reachable,
};
use crate::config::Config;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What may stand as it is in a value of a path segment.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Metadata for every call of a program that can set only a base URL.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Labels {
    /// Prompt slug of the calls
    #[arg(long, env = "CALLTAP_PROMPT", value_name = "SLUG")]
    prompt: Option<String>,
    /// Session of the calls
    #[arg(long, env = "CALLTAP_SESSION", value_name = "ID")]
    session: Option<String>,
}

/// Flags of `env`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    labels: Labels,
    /// The shell that will read it
    #[arg(long, env = "CALLTAP_SHELL", value_enum, default_value_t)]
    shell: Shell,
    /// Address of the running calltap
    #[arg(long, env = "CALLTAP_URL", value_name = "URL")]
    url: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Shell {
    /// sh, bash, zsh
    #[default]
    Sh,
    Fish,
    Pwsh,
}

/// Prints lines for a shell: `eval "$(calltap env)"`.
///
/// # Errors
/// When the configuration is wrong.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let config = common.load(Vec::new())?.config;
    let url = match &arguments.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", reachable(config.server.listen)),
    };
    let variables = variables(&config, &url, &arguments.labels, None);
    if common.json {
        let object: serde_json::Map<_, _> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        out::line(&serde_json::Value::Object(object).to_string())?;
        return Ok(Exit::Ok);
    }
    for (name, value) in variables {
        out::line(&match arguments.shell {
            Shell::Sh => format!("export {name}='{}'", value.replace('\'', r"'\''")),
            Shell::Fish => format!("set -gx {name} '{}'", value.replace('\'', r"\'")),
            Shell::Pwsh => format!("$env:{name} = '{}'", value.replace('\'', "''")),
        })?;
    }
    Ok(Exit::Ok)
}

/// The variables that clients read (`ux.md` §11), for a calltap at `url`. `run` marks the calls.
pub fn variables(
    config: &Config,
    url: &str,
    labels: &Labels,
    run: Option<&str>,
) -> Vec<(&'static str, String)> {
    let pairs = [
        ("prompt", labels.prompt.as_deref()),
        ("session", labels.session.as_deref()),
        ("meta-run", run),
    ];
    let pairs: Vec<String> = pairs
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", utf8_percent_encode(value?, PLAIN))))
        .collect();
    let root =
        if pairs.is_empty() { url.to_owned() } else { format!("{url}/-/{}", pairs.join(";")) };
    let mut variables = vec![
        ("OPENAI_BASE_URL", format!("{root}/v1")),
        // The name that LangChain, LlamaIndex and LiteLLM read.
        ("OPENAI_API_BASE", format!("{root}/v1")),
    ];
    if config.upstreams.contains_key("azure") {
        variables.push(("AZURE_OPENAI_ENDPOINT", root));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_into_the_path() {
        let labels = Labels { prompt: Some("a b;c".into()), session: Some("s/1".into()) };
        let mut config = Config::default();
        let marked = variables(&config, "http://h", &labels, Some("r"));
        let base = "http://h/-/prompt=a%20b%3Bc;session=s%2F1;meta-run=r/v1";
        assert_eq!(
            marked,
            [("OPENAI_BASE_URL", base.to_owned()), ("OPENAI_API_BASE", base.to_owned())]
        );
        config.upstreams.insert("azure".into(), crate::config::Upstream::default());
        let azure = variables(&config, "http://h", &Labels::default(), None);
        assert_eq!(azure[2], ("AZURE_OPENAI_ENDPOINT", "http://h".to_owned()));
    }
}
