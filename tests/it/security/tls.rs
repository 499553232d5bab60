//! Certificates that are not to be trusted, of upstreams and of sinks (S27).

use crate::{
    delivery::wait_sink,
    harness::{Calltap, Upstream, chat_body, json_answer, post},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server that answers every request with `{}`, and how many requests it read.
struct Server {
    address: SocketAddr,
    read: Arc<AtomicUsize>,
}

fn serve(config: ServerConfig) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (read, config) = (Arc::new(AtomicUsize::new(0)), Arc::new(config));
    let count = Arc::clone(&read);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, count) = (Arc::clone(&config), Arc::clone(&count));
            std::thread::spawn(move || {
                let (mut stream, mut tls) = (stream, ServerConnection::new(config).unwrap());
                let mut both = Stream::new(&mut tls, &mut stream);
                let mut piece = [0; 4096];
                while let Ok(len @ 1..) = both.read(&mut piece) {
                    // A head may come apart from its body.
                    let is_head = piece[..len].starts_with(b"POST ");
                    count.fetch_add(usize::from(is_head), Ordering::Relaxed);
                    if !is_head {
                        continue;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                    both.write_all(answer).ok();
                }
            });
        }
    });
    Server { address, read }
}

/// A server with a certificate for `names`, as `change` makes it.
fn server(
    authority: Option<&Authority>,
    names: &[&str],
    change: impl Fn(&mut CertificateParams),
) -> Server {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let (mut params, key) = (CertificateParams::new(names).unwrap(), KeyPair::generate().unwrap());
    change(&mut params);
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    serve(config)
}

/// A server that speaks TLS 1.1 only: a hello of that version, by hand (RFC 4346 §7.4.1.3).
fn old() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut piece = [0; 16 * 1024];
            if stream.read(&mut piece).is_err() {
                continue;
            }
            let mut hello = vec![2, 0, 0, 38, 3, 2];
            hello.extend([7; 32]);
            hello.extend([0, 0x00, 0x2f, 0]);
            let record = [&[22, 3, 2, 0, u8::try_from(hello.len()).unwrap()][..], &hello].concat();
            stream.write_all(&record).ok();
            // An alert is no request: its record is of type 21.
            let len = stream.read(&mut piece).unwrap_or(0);
            count.fetch_add(usize::from(len > 0 && piece[0] != 21), Ordering::Relaxed);
        }
    });
    Server { address, read }
}

#[test]
fn only_sound_certificates_are_trusted() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let sound = |_: &mut CertificateParams| ();
    let local = ["127.0.0.1", "localhost"];
    let rows = [
        ("sound", server(Some(&ours), &local, sound)),
        (
            "expired",
            server(Some(&ours), &local, |params| {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
            }),
        ),
        (
            "not-yet-valid",
            server(Some(&ours), &local, |params| {
                (params.not_before, params.not_after) =
                    (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1));
            }),
        ),
        ("another-host", server(Some(&ours), &["api.example"], sound)),
        ("another-address", server(Some(&ours), &["127.0.0.2"], sound)),
        ("self-signed", server(None, &local, sound)),
        ("another-authority", server(Some(&theirs), &local, sound)),
        ("tls-1-1", old()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ours.pem()).unwrap();
    let sections: String = rows
        .iter()
        .map(|(name, server)| {
            let (ca, to) = (ca_file.display(), server.address);
            format!("[upstreams.{name}]\nbase_url = \"https://{to}/v1\"\nca_file = \"{ca}\"\n[sinks.{name}]\ntype = \"webhook\"\nsecret = \"s\"\nbase_url = \"https://{to}\"\nca_file = \"{ca}\"\nonly = \"session:s\"\n")
        })
        .collect();
    // Trusted by nobody but itself, and no authority is named: the web's do not know it.
    let unnamed = server(Some(&ours), &local, sound);
    let sections =
        format!("{sections}[upstreams.unnamed]\nbase_url = \"https://{}/v1\"\n", unnamed.address);
    let plain = Upstream::start(|_| json_answer(200, "{}"));
    let calltap = Calltap::with(&plain, "", &sections);
    let call = |name: &str| {
        let headers = "authorization: Bearer sk-for-upstream\r\nx-calltap-log: metadata\r\n";
        post(calltap.address, &format!("/{name}/v1/x"), headers, "{}")
    };
    for (name, server) in
        rows.iter().map(|(name, server)| (*name, server)).chain([("unnamed", &unnamed)])
    {
        let answer = call(name);
        let expected = if name == "sound" { 200 } else { 502 };
        assert_eq!(answer.status, expected, "{name}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(server.read.load(Ordering::Relaxed), usize::from(name == "sound"), "{name}");
        let told = answer.json()["error"]["message"].to_string();
        println!("upstream, {name}: {expected} {told:.160}");
    }
    post(calltap.address, "/v1/chat/completions", "x-calltap-session: s\r\n", &chat_body(false));
    wait_sink(&calltap, "sound", |sink| sink["delivered"] == 1);
    for (name, server) in rows.iter().skip(1) {
        let status = wait_sink(&calltap, name, |sink| {
            sink["last_error"].is_object() || sink["last_error"].is_string()
        });
        assert_eq!((&status["delivered"], &status["dead"]), (&0.into(), &0.into()), "{name}");
        assert_eq!(server.read.load(Ordering::Relaxed), 0, "{name}: a record went there");
        println!("sink, {name}: {:.160}", status["last_error"].to_string());
    }
}
