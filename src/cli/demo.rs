//! `calltap demo`: something to look at without any key. Nothing leaves the machine.

use super::{
    Common,
    out::{self, Exit, Stop},
    serve,
};
use crate::{
    app::Setup,
    config::{Config, Upstream},
};
use axum::{
    Json, Router,
    body::Body,
    http::{Response, StatusCode, header},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Flags of `demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Address for calls
    #[arg(long, env = "CALLTAP_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:4777")]
    listen: SocketAddr,
    /// Sample calls to make
    #[arg(long, env = "CALLTAP_COUNT", default_value_t = 12)]
    count: u32,
}

const WORDS: [&str; 12] = [
    "A ", "proxy ", "stands ", "beside ", "the ", "stream ", "and ", "notes ", "what ", "passes ",
    "by", ".",
];

/// Serves with a sample provider and sends it a little traffic.
///
/// # Errors
/// When it cannot start.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let provider = std::net::TcpListener::bind("127.0.0.1:0")?;
    provider.set_nonblocking(true)?;
    let address = provider.local_addr()?;
    // Nothing of the real configuration: its upstreams, keys and store are not for sample calls.
    let mut config = Config::default();
    config.server.listen = arguments.listen;
    let base_url = Some(format!("http://{address}/v1"));
    config.upstreams.insert("openai".to_owned(), Upstream { base_url, ..Upstream::default() });
    let real = std::env::var_os("CALLTAP_DATA_DIR").map(PathBuf::from);
    let named = common.data_dir.clone().filter(|dir| real.as_ref() != Some(dir));
    let passing = std::env::temp_dir().join(format!("calltap-demo-{}", std::process::id()));
    let data_dir = named.clone().unwrap_or_else(|| passing.clone());
    let dir = data_dir.clone();
    let reloaded = config.clone();
    let reload = Arc::new(move || Ok(reloaded.clone()));
    let count = arguments.count;
    let ended = serve::start(
        Setup { config, data_dir, reload, stop: CancellationToken::new() },
        move |ready| {
            let url = format!("http://{}", ready.listen);
            out::say(&format!(
                "calltap demo · sample provider at http://{address} · store in {}\n\n  \
             {url}/\n  calltap tail --url {url}\n  \
             calltap logs --data-dir {}\n\nCtrl-C stops\n",
                dir.display(),
                dir.display()
            ));
            tokio::spawn(async move {
                if let Ok(listener) = tokio::net::TcpListener::from_std(provider) {
                    axum::serve(listener, sample_provider()).await.ok();
                }
            });
            tokio::spawn(traffic(url, count));
        },
    );
    if named.is_none() {
        std::fs::remove_dir_all(passing).ok();
    }
    ended
}

fn sample_provider() -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embeddings))
        .route(
            "/v1/models",
            get(|| async {
                Json(json!({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]}))
            }),
        )
}

async fn chat(Json(request): Json<Value>) -> Response<Body> {
    let model = request["model"].as_str().unwrap_or("gpt-4o-mini").to_owned();
    if model == "no-such-model" {
        let body = json!({"error": {"message": "The model `no-such-model` does not exist", "type": "invalid_request_error", "param": null, "code": "model_not_found"}});
        return answer(StatusCode::NOT_FOUND, "application/json", body.to_string().into());
    }
    let usage = json!({"prompt_tokens": 42, "completion_tokens": 12, "total_tokens": 54});
    if request["stream"] != Value::Bool(true) {
        let body = json!({"id": "chatcmpl-demo", "object": "chat.completion", "created": 1_763_000_000, "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS.concat()}, "finish_reason": "stop"}], "usage": usage});
        return answer(StatusCode::OK, "application/json", body.to_string().into());
    }
    let wants_usage = request["stream_options"]["include_usage"] == Value::Bool(true);
    let chunk = move |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({"id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": 1_763_000_000, "model": model, "choices": choices});
        if wants_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        format!("data: {chunk}\n\n")
    };
    let mut events = vec![chunk(
        json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]),
        None,
    )];
    for word in WORDS {
        events.push(chunk(
            json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}]),
            None,
        ));
    }
    events.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), None));
    if wants_usage {
        events.push(chunk(json!([]), Some(usage)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    let paced = stream::iter(events).then(|event| async move {
        tokio::time::sleep(Duration::from_millis(40)).await;
        Ok::<_, std::convert::Infallible>(Bytes::from(event))
    });
    answer(StatusCode::OK, "text/event-stream", Body::from_stream(paced))
}

async fn embeddings(Json(request): Json<Value>) -> Response<Body> {
    let body = json!({"object": "list", "model": request["model"], "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2, 0.3]}],
        "usage": {"prompt_tokens": 5, "total_tokens": 5}});
    answer(StatusCode::OK, "application/json", body.to_string().into())
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Sessions, prompts, streams, an error, a client that leaves: at the pace of a person.
async fn traffic(url: String, count: u32) {
    let Ok(client) = super::http_client() else { return };
    for at in 0..count {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let model = if at % 7 == 5 { "no-such-model" } else { "gpt-4o-mini" };
        let request = if at % 6 == 4 {
            client
                .post(format!("{url}/v1/embeddings"))
                .json(&json!({"model": "text-embedding-3-small", "input": "how long is a whale?"}))
        } else {
            client.post(format!("{url}/v1/chat/completions")).json(&json!({
                "model": model, "stream": at % 2 == 0,
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": format!("What does a proxy do? ({at})")}],
            }))
        };
        let request = request
            .header("x-calltap-session", format!("demo-{}", at / 4))
            .header("x-calltap-prompt", if at % 3 == 0 { "explain" } else { "support-reply" })
            .header("x-calltap-env", "demo");
        let Ok(answer) = request.send().await else { continue };
        let mut body = answer.bytes_stream();
        let mut pieces = 0;
        while body.next().await.is_some() {
            pieces += 1;
            if at % 5 == 2 && pieces == 4 {
                break; // this client has seen enough
            }
        }
    }
}
