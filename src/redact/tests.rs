use super::*;
use proptest::prelude::*;
use serde_json::Value;
use std::sync::LazyLock;

fn preset(preset: RedactionPreset) -> Redactor {
    Redactor::new(&[Redaction::Preset(preset)]).unwrap()
}

fn redact(redactor: &Redactor, text: &str) -> Option<String> {
    redactor.redact(text.as_bytes()).map(|(masked, _)| String::from_utf8(masked).unwrap())
}

/// A made-up token of `len` letters and digits.
fn a(len: usize) -> String {
    "aB3dE7gH".chars().cycle().take(len).collect()
}

fn hex(len: usize) -> String {
    "0a9f4c".chars().cycle().take(len).collect()
}

fn caps(len: usize) -> String {
    "Q7XW2Z".chars().cycle().take(len).collect()
}

/// The rule, what stands around its secret, and the secret: one of each shape at least.
fn secrets() -> Vec<(&'static str, &'static str, String)> {
    vec![
        ("openai-key", "", format!("sk-{}", a(48))),
        ("openai-key", "", format!("sk-{}", "abcdefghijklmnopqrstuvwxyz")),
        ("openai-key", "", format!("sk-{}-{}_{}", a(8), a(8), a(8))),
        ("openai-key", "", format!("sk-proj-{}", a(64))),
        ("openai-key", "", format!("sk-svcacct-{}_{}", a(20), a(20))),
        ("openai-key", "", format!("sk-admin-{}", a(40))),
        ("anthropic-key", "", format!("sk-ant-api03-{}", a(40))),
        ("anthropic-key", "", format!("sk-ant-admin01-{}", a(40))),
        ("openrouter-key", "", format!("sk-or-v1-{}", hex(64))),
        ("aws-key-id", "", format!("AKIA{}", caps(16))),
        ("aws-key-id", "", format!("ASIA{}", caps(16))),
        ("aws-secret-key", "aws_secret_access_key = @", a(40)),
        ("aws-secret-key", "SecretAccessKey: '@'", a(40)),
        ("aws-session-token", "AWS_SESSION_TOKEN=@", a(200)),
        ("aws-bedrock-key", "", format!("ABSK{}=", a(100))),
        ("google-key", "", format!("AIza{}", a(35))),
        ("google-oauth", "", format!("ya29.{}", a(60))),
        ("google-oauth", "", format!("GOCSPX-{}", a(28))),
        ("github-token", "", format!("ghp_{}", a(36))),
        ("github-token", "", format!("gho_{}", a(36))),
        ("github-token", "", format!("ghs_{}", a(36))),
        ("github-token", "", format!("github_pat_{}_{}", a(22), a(59))),
        ("gitlab-token", "", format!("glpat-{}", a(20))),
        ("huggingface-token", "", format!("hf_{}", a(34))),
        ("slack-token", "", format!("xoxb-123456789012-{}", a(24))),
        ("slack-token", "", format!("xoxp-1-2-{}", a(24))),
        ("slack-token", "", format!("xapp-1-A01-{}", a(24))),
        ("slack-webhook", "https://@", format!("hooks.slack.com/services/T0/B0/{}", a(24))),
        ("stripe-key", "", format!("sk_live_{}", a(24))),
        ("stripe-key", "", format!("rk_live_{}", a(24))),
        ("stripe-key", "", format!("whsec_{}", a(32))),
        ("groq-key", "", format!("gsk_{}", a(52))),
        ("xai-key", "", format!("xai-{}", a(80))),
        ("perplexity-key", "", format!("pplx-{}", a(48))),
        ("fireworks-key", "", format!("fw_{}", a(24))),
        ("cerebras-key", "", format!("csk-{}", hex(48))),
        ("replicate-token", "", format!("r8_{}", a(37))),
        ("nvidia-key", "", format!("nvapi-{}", a(64))),
        ("tavily-key", "", format!("tvly-dev-{}", a(32))),
        ("pinecone-key", "", format!("pcsk_{}_{}", a(6), a(60))),
        ("langsmith-key", "", format!("lsv2_pt_{}_{}", hex(32), hex(10))),
        ("npm-token", "", format!("npm_{}", a(36))),
        ("pypi-token", "", format!("pypi-AgEI{}", a(80))),
        ("rubygems-key", "", format!("rubygems_{}", hex(48))),
        ("docker-token", "", format!("dckr_pat_{}", a(27))),
        ("sendgrid-key", "", format!("SG.{}.{}", a(22), a(43))),
        ("twilio-key", "", format!("SK{}", hex(32))),
        ("mailgun-key", "", format!("key-{}", hex(32))),
        ("telegram-token", "", format!("1234567890:AA{}", a(33))),
        ("discord-webhook", "https://@", format!("discord.com/api/webhooks/1/{}", a(68))),
        ("digitalocean-token", "", format!("dop_v1_{}", hex(64))),
        ("databricks-token", "", format!("dapi{}", hex(32))),
        ("doppler-token", "", format!("dp.pt.{}", a(43))),
        ("grafana-token", "", format!("glsa_{}_{}", a(32), hex(8))),
        ("vault-token", "", format!("hvs.{}", a(60))),
        ("linear-key", "", format!("lin_api_{}", a(40))),
        ("notion-token", "", format!("ntn_{}", a(46))),
        ("airtable-token", "", format!("pat{}.{}", a(14), hex(64))),
        ("shopify-token", "", format!("shpat_{}", hex(32))),
        ("postman-key", "", format!("PMAK-{}-{}", hex(24), hex(34))),
        ("newrelic-key", "", format!("NRAK-{}", caps(27))),
        ("supabase-token", "", format!("sbp_{}", hex(40))),
        ("atlassian-token", "", format!("ATATT3{}={}", a(60), caps(8))),
        ("age-secret-key", "", format!("AGE-SECRET-KEY-1{}", caps(58))),
        ("azure-storage-key", "AccountName=x;AccountKey=@;x", format!("{}==", a(86))),
        ("azure-sas", "https://x.example/?sv=1&sig=@", format!("{}%3D", a(43))),
        ("basic-auth", "Authorization: Basic @", a(24)),
        ("bearer-token", "authorization: Bearer @", a(30)),
        ("jwt", "", format!("eyJ{}.eyJ{}.{}", a(20), a(30), a(40))),
        ("url-password", "postgres://user:@@db.example/x", "hunter22".to_owned()),
        ("url-password", "redis://:@@cache", a(12)),
        ("api-key", "api_key = '@'", a(24)),
        ("api-key", "clientSecret: \"@\"", hex(24)),
        ("private-key", "", pem("", "\n")),
        ("private-key", "", pem("RSA ", "\r\n")),
        ("private-key", "", pem("OPENSSH ", "\n")),
        ("private-key", "", pem("EC ", "\n").split("-----END").next().unwrap().trim().to_owned()),
    ]
}

fn pem(kind: &str, line_end: &str) -> String {
    let body = [a(64), a(64), format!("{}==", a(22))].join(line_end);
    format!(
        "-----BEGIN {kind}PRIVATE KEY-----{line_end}{body}{line_end}-----END {kind}PRIVATE KEY-----"
    )
}

#[test]
fn each_shape_is_masked_wherever_it_stands() {
    let redactor = preset(RedactionPreset::Secrets);
    for (name, around, secret) in secrets() {
        let text =
            if around.is_empty() { secret.clone() } else { around.replacen('@', &secret, 1) };
        for context in
            ["@", "my key is @, keep it", "line\n@\nline", "\t@\té", "(@)", "\u{1}@\u{2}", "a='@'"]
        {
            let plain = context.replace('@', &text);
            let once = serde_json::json!({ "content": plain }).to_string();
            let twice = serde_json::json!({ "arguments": once }).to_string();
            for text in [plain, once.clone(), twice, format!("data: {once}\n\n")] {
                let (masked, names) =
                    redactor.redact(text.as_bytes()).unwrap_or_else(|| panic!("{name}: {text}"));
                let masked = String::from_utf8(masked).unwrap();
                assert!(masked.contains(&format!("[redacted:{name}:")), "{name}: {masked}");
                assert!(names.iter().any(|have| have == name));
                let tail = &secret[secret.len() - 8..];
                assert!(!masked.contains(tail), "{name}: {text}\n{masked}");
                if text.starts_with('{') {
                    let json: Value = serde_json::from_str(&masked).unwrap();
                    if let Some(inner) = json["arguments"].as_str() {
                        serde_json::from_str::<Value>(inner).unwrap();
                    }
                }
                assert_eq!(redact(&redactor, &masked), None, "{name}: masked once is masked");
            }
        }
        let in_url = format!("https://x.example/?a%3D{secret}%26b");
        assert!(
            !around.is_empty() || secret.starts_with('-') || redact(&redactor, &in_url).is_some(),
            "{in_url}"
        );
    }
}

/// Marks are random: `[m]` stands for each.
fn with_plain_marks(masked: &str) -> String {
    static MARKS: LazyLock<regex::Regex> =
        LazyLock::new(|| regex::Regex::new(r"\[redacted:[a-z]+:[0-9a-f]{8}\]").unwrap());
    MARKS.replace_all(masked, "[m]").into_owned()
}

#[test]
fn every_shape_has_an_example() {
    let examples = secrets();
    for shape in SECRETS {
        let regex = compile(&pattern(shape)).unwrap();
        let shown = examples.iter().any(|(name, around, secret)| {
            let text =
                if around.is_empty() { secret.clone() } else { around.replacen('@', secret, 1) };
            *name == shape.name && regex.is_match(text.as_bytes())
        });
        assert!(shown, "{}: {}", shape.name, shape.regex);
        assert!(
            shape.place != Hinted::AtStart || shape.is_word,
            "{}: looked for as a word",
            shape.name
        );
        assert!(regex.captures_len() <= 2, "{}: one group at most", shape.name);
    }
    assert!(SECRETS.len() >= 25);
}

#[test]
fn ordinary_text_stays() {
    let redactor = preset(RedactionPreset::Secrets);
    for text in [
        "The task-force sk-ating rink opens at 12:30, see https://example.com/a?b=c",
        "fn main() { let risk_level = \"high\"; } // sk-short",
        "Bearer of good news; the eyJ is not a token",
        "curl -H 'Authorization: Bearer YOUR_ACCESS_TOKEN_GOES_HERE'",
        "authentication uses Bearer authentication_is_required_here",
        "<div class=\"sk-folding-cube sk-loading-spinner-container-large\">",
        "api_key = os.environ[\"OPENAI_API_KEY\"]",
        "OpenAI(api_key=\"your-api-key-goes-here\")",
        "{\"api_key\": \"<your key>\", \"client_secret\": \"${CLIENT_SECRET}\"}",
        "{\"api_key\": {\"type\": \"string\", \"description\": \"authentication of the caller\"}}",
        "Basic understanding of internationalization, basic authorization",
        "git clone ssh://git@example.com:2222/x.git && curl http://localhost:8080/a@b",
        "key-value stores; a primary key-1234; KEY-DRIVEN design",
        "-----BEGIN PRIVATE KEY----- is the first line of such a file, as one may read",
        "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END CERTIFICATE-----",
        "{\"id\":\"chatcmpl-AfhuMhGf8Genpm2uKosEpBtvtQgco\",\"system_fingerprint\":\"fp_0ba0d124f1\"}",
        "{\"id\":\"call_7xw2aB3dE7gHaB3dE7gHaB3d\",\"created\":1763993281,\"object\":\"chat.completion\"}",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "550e8400-e29b-41d4-a716-446655440000 pattern: ^sk-[A-Za-z0-9]{20,}$",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
    ] {
        assert_eq!(redact(&redactor, text), None, "{text}");
    }
}

#[test]
fn emails() {
    let redactor = preset(RedactionPreset::Emails);
    for (text, masked) in [
        ("to ann.b+x@mail.example.co.uk.", "to [m]."),
        (r#"{"a":"hi\nann@example.com\tbob@example.org"}"#, r#"{"a":"hi\n[m]\t[m]"}"#),
        (r#"{"a":"caf\u00e9ann@example.com"}"#, r#"{"a":"caf\u00e9[m]"}"#),
        (r#"{"a":"C:\\nann@example.com"}"#, r#"{"a":"C:\\n[m]"}"#),
        ("<ann@example.com>,<bob@example.com>", "<[m]>,<[m]>"),
        ("mailto:ann%40x.com?to=%3Cann@example.com", "mailto:ann%40x.com?to=%3C[m]"),
    ] {
        let found = redact(&redactor, text).unwrap();
        assert_eq!(with_plain_marks(&found), masked, "{text}");
    }
    for text in ["a@b", "@example.com", "x @ y.com", "pkg@1.2.3", "user@host"] {
        assert_eq!(redact(&redactor, text), None, "{text}");
    }
}

#[test]
fn cards() {
    let redactor = preset(RedactionPreset::Cards);
    for (text, masked) in [
        ("pay 4111 1111 1111 1111 12/28 cvc 123", "pay [m] 12/28 cvc 123"),
        ("4111111111111111 123, 5555-5555-5555-4444", "[m] 123, [m]"),
        ("order 1234 4111 1111 1111 1111", "order 1234 [m]"),
        (r#"{"a":"x\n4111111111111111\n"}"#, r#"{"a":"x\n[m]\n"}"#),
        (r#"{"a":4111111111111111,"b":[ 4111111111111111 ]}"#, r#"{"a":"[m]","b":[ "[m]" ]}"#),
    ] {
        let found = redact(&redactor, text).unwrap();
        assert_eq!(with_plain_marks(&found), masked, "{text}");
    }
    for text in [
        "4111111111111112",
        "{\"ms\":1763993281123,\"ns\":1763993281123456789}",
        "0.4111111111111111234567890",
        "call +1 555 123 4567 or 2026-11-24 12:40:00",
        "a4111111111111111",
    ] {
        assert_eq!(redact(&redactor, text), None, "{text}");
    }
}

#[test]
fn presets_and_patterns_of_ones_own() {
    let custom =
        |name: &str, regex: &str| Redaction::Custom { name: name.into(), regex: regex.into() };
    let redactor = Redactor::new(&[
        Redaction::Preset(RedactionPreset::Emails),
        Redaction::Preset(RedactionPreset::Cards),
        custom("ticket \"x\"", "TCK-[0-9]+"),
        custom("name", "(?i)müller"),
        custom("pin", "pin ([0-9]{4})"),
    ])
    .unwrap();
    let text = "ann.b@example.co.uk: TCK-42, card 4111 1111 1111 1111, MÜLLER, pin 1234.";
    let (masked, names) = redactor.redact(text.as_bytes()).unwrap();
    let masked = String::from_utf8(masked).unwrap();
    assert_eq!(names, ["email", "card", "ticketx", "name", "pin"]);
    assert!(masked.contains("pin [redacted:pin:") && masked.ends_with("]."));
    assert!(Redactor::new(&[custom("x", "(")]).is_err());
}

#[test]
fn a_pattern_that_matches_nothing_or_part_of_an_escape_does_no_harm() {
    for (regex, text, expected) in [
        ("x*", "aaa", None),
        ("x*", "axxa", Some("a[m]a")),
        ("n", r#"{"a":"\n"}"#, None),
        ("n.", r#"{"a":"\nb"}"#, Some(r#"{"a":"\n[m]"}"#)),
        ("$", "aaa", None),
        ("42", r#"{"a":1423}"#, Some(r#"{"a":"[m]"}"#)),
        (".", "é", Some("[m]")),
    ] {
        let custom = Redaction::Custom { name: "m".into(), regex: regex.into() };
        let masked = redact(&Redactor::new(&[custom]).unwrap(), text);
        let masked = masked.map(|masked| with_plain_marks(&masked));
        assert_eq!(masked.as_deref(), expected, "{regex} on {text}");
    }
}

#[test]
fn equal_secrets_get_equal_marks() {
    let secret = format!("sk-{}", "x7".repeat(24));
    let (one, other) = (preset(RedactionPreset::Secrets), preset(RedactionPreset::Secrets));
    assert_eq!(
        redact(&one, &secret),
        redact(&one, &format!("{secret} {secret}")).map(|t| t[..t.len() / 2].to_owned())
    );
    assert_ne!(redact(&other, &secret), redact(&one, &secret));
}

fn all() -> Redactor {
    let presets = [RedactionPreset::Secrets, RedactionPreset::Emails, RedactionPreset::Cards];
    Redactor::new(&presets.map(Redaction::Preset)).unwrap()
}

/// Without a look at hints: what they leave out must change nothing.
fn by_every_rule(redactor: &Redactor, text: &str) -> Option<String> {
    let mut masked = None::<Vec<u8>>;
    for rule in &redactor.rules {
        let next = redactor.mask(masked.as_deref().unwrap_or(text.as_bytes()), rule);
        masked = next.or(masked);
    }
    masked.map(|masked| String::from_utf8(masked).unwrap())
}

proptest! {
    #[test]
    fn masked_json_is_json_and_matches_no_more(parts in prop::collection::vec(prop_oneof![
        prop::sample::select(secrets()).prop_map(|(_, around, secret)| {
            if around.is_empty() { secret } else { around.replacen('@', &secret, 1) }
        }),
        "[a-z \"\\\\\n/:@.-]{0,6}",
        Just("ann@example.com".to_owned()),
        Just("4111111111111111".to_owned()),
        Just("4111 1111".to_owned()),
        "\\PC{0,3}",
    ], 0..8), number: bool) {
        static ALL: LazyLock<Redactor> = LazyLock::new(all);
        let mut value = serde_json::json!({ "a": parts.join(" "), "b": { "c": parts } });
        if number { value["n"] = Value::from(4_111_111_111_111_111_u64); }
        for text in [value.to_string(), format!("{value:#}"), value["a"].as_str().unwrap().to_owned()] {
            let found = redact(&ALL, &text);
            prop_assert_eq!(&found, &by_every_rule(&ALL, &text));
            let Some(masked) = found else { continue };
            if text.starts_with("{\"a\"") || text.starts_with("{\n") {
                let json: Value = serde_json::from_str(&masked).expect(&masked);
                prop_assert_eq!(json.as_object().unwrap().len(), value.as_object().unwrap().len());
            }
            prop_assert_eq!(redact(&ALL, &masked), None);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), regex in "[a-z.\\\\\"]{1,3}[*+?]?") {
        let custom = Redaction::Custom { name: "x".into(), regex };
        if let Ok(redactor) = Redactor::new(&[custom]) {
            redactor.redact(&bytes);
        }
    }
}
