//! What the presets look for.

use super::Check::{self, Any, Card, NotWords};
use Hinted::{Anywhere, AtStart, Inside};

/// A shape that is masked wherever it stands: its first group, where it has one, else all of it.
pub(super) struct Shape {
    /// Stands in the mark.
    pub(super) name: &'static str,
    /// No match is without one of these, in whatever case, `|` between them. With none, any text may
    /// hold a match.
    pub(super) hints: &'static str,
    /// Regular expression over bytes.
    pub(super) regex: &'static str,
    /// What a match must also be.
    pub(super) check: Check,
    /// It starts at the start of a word. Such a shape has no group.
    pub(super) is_word: bool,
    /// Where in a match the hints stand.
    pub(super) place: Hinted,
}

/// Where the hints of a shape stand in its matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hinted {
    /// Each match starts with one, in just its spelling.
    AtStart,
    /// Inside, in or before a long word ([`super::words`]).
    Inside,
    /// Inside, in just its spelling, and a match may be without a long word.
    Anywhere,
}

/// What may stand before a word: the end of another one, or an escape of JSON or of a URL, whose
/// last letter is no part of the word.
pub(super) const WORD_START: &str = r"(?:\b|\\[bfnrt]|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2})";

const fn token(name: &'static str, hints: &'static str, regex: &'static str) -> Shape {
    Shape { name, hints, regex, check: Any, is_word: true, place: AtStart }
}

const fn free(name: &'static str, hints: &'static str, regex: &'static str, check: Check) -> Shape {
    Shape { name, hints, regex, check, is_word: false, place: Inside }
}

impl Shape {
    const fn hinted(self, place: Hinted) -> Self {
        Self { place, ..self }
    }
}

/// Token shapes by the prefixes that their issuers document. Larger shapes stand before those they
/// may hold.
pub(super) const SECRETS: &[Shape] = &[
    free(
        "private-key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:-{0,4}[A-Za-z0-9+/=\s\\:,.()])*-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----",
        Any,
    )
    .hinted(Anywhere),
    // Cut off before its end.
    free(
        "private-key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\+[nr])*[A-Za-z0-9+/=]{40}(?:[A-Za-z0-9+/=\s]|\\+[nr])*",
        Any,
    )
    .hinted(Anywhere),
    token("jwt", "eyJ", r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    free(
        "url-password",
        "://",
        r#"[a-z0-9+.-]{2}://[^\s/:@"'\\<>]*:([^\s/@"'\\<>\[][^\s/@"'\\<>]{2,})@"#,
        Any,
    )
    .hinted(Anywhere),
    token("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{16,}"),
    token("openrouter-key", "sk-or-", r"sk-or-[A-Za-z0-9_-]{16,}"),
    token("openai-key", "sk-", r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{16,}"),
    Shape {
        name: "openai-key",
        hints: "sk-",
        regex: r"sk-[A-Za-z0-9_-]{20,}",
        check: NotWords,
        is_word: true,
        place: AtStart,
    },
    token(
        "aws-key-id",
        "AKIA|ASIA|AROA|AIDA|ABIA|ACCA",
        r"(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{16}\b",
    ),
    free(
        "aws-secret-key",
        "secretkey|secret_key|secretaccess|secret_access",
        r#"(?i:aws_?secret_?(?:access_?)?key|secret_?access_?key)[\\"'\s:=]{1,8}([A-Za-z0-9/+]{40})"#,
        Any,
    ),
    free(
        "aws-session-token",
        "sessiontoken|session_token",
        r#"(?i:aws_?session_?token|"sessiontoken)[\\"'\s:=]{1,8}([A-Za-z0-9/+=]{100,})"#,
        Any,
    ),
    token("aws-bedrock-key", "ABSK", r"ABSK[A-Za-z0-9+/]{80,}={0,2}"),
    token("google-key", "AIza", r"AIza[A-Za-z0-9_-]{35}"),
    token("google-oauth", "ya29.", r"ya29\.[A-Za-z0-9_-]{20,}"),
    token("google-oauth", "GOCSPX-", r"GOCSPX-[A-Za-z0-9_-]{20,}"),
    token("github-token", "gho_|ghp_|ghr_|ghs_|ghu_", r"gh[oprsu]_[A-Za-z0-9]{36,}"),
    token("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,}"),
    token(
        "gitlab-token",
        "glpat-|gldt-|glrt-|glcbt-|glptt-|glft-|glimt-|glagent-|glsoat-",
        r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-[A-Za-z0-9_.-]{20,}",
    ),
    token("huggingface-token", "hf_|api_org_", r"(?:hf_|api_org_)[A-Za-z0-9]{30,}"),
    token("slack-token", "xox", r"xox[a-z](?:\.xox[bp])?-[A-Za-z0-9-]{10,}"),
    token("slack-token", "xapp-", r"xapp-[0-9]-[A-Za-z0-9-]{10,}"),
    token(
        "slack-webhook",
        "hooks.slack.com/",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{20,}",
    ),
    token("stripe-key", "_live_|_test_", r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}").hinted(Inside),
    token("stripe-key", "sk_|rk_|whsec_", r"(?:sk|rk|whsec)_[A-Za-z0-9]{24,}"),
    token("groq-key", "gsk_", r"gsk_[A-Za-z0-9]{20,}"),
    token("xai-key", "xai-", r"xai-[A-Za-z0-9]{20,}"),
    token("perplexity-key", "pplx-", r"pplx-[A-Za-z0-9]{20,}"),
    token("fireworks-key", "fw_", r"fw_[A-Za-z0-9]{20,}"),
    token("cerebras-key", "csk-", r"csk-[a-z0-9]{32,}"),
    token("replicate-token", "r8_", r"r8_[A-Za-z0-9]{30,}"),
    token("nvidia-key", "nvapi-", r"nvapi-[A-Za-z0-9_-]{30,}"),
    token("tavily-key", "tvly-", r"tvly-(?:dev-|prod-)?[A-Za-z0-9]{20,}"),
    token("pinecone-key", "pcsk_", r"pcsk_[A-Za-z0-9_]{40,}"),
    token("langsmith-key", "lsv2_", r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    token("npm-token", "npm_", r"npm_[A-Za-z0-9]{30,}"),
    token("pypi-token", "pypi-", r"pypi-[A-Za-z0-9_-]{50,}"),
    token("rubygems-key", "rubygems_", r"rubygems_[0-9a-f]{48}"),
    token("docker-token", "dckr_pat_", r"dckr_pat_[A-Za-z0-9_-]{20,}"),
    token("sendgrid-key", "SG.", r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    token("twilio-key", "SK|AC", r"(?:SK|AC)[0-9a-f]{32}\b"),
    token("mailgun-key", "key-", r"key-[0-9a-f]{32}\b"),
    token("telegram-token", ":AA", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}").hinted(Inside),
    token(
        "discord-webhook",
        "/api/webhooks/",
        r"discord(?:app)?\.com/api/webhooks/[0-9]+/[A-Za-z0-9_-]{40,}",
    )
    .hinted(Inside),
    token("digitalocean-token", "dop_v1_|doo_v1_|dor_v1_", r"do[opr]_v1_[0-9a-f]{64}\b"),
    token("databricks-token", "dapi", r"dapi[0-9a-f]{32}(?:-[0-9])?\b"),
    token(
        "doppler-token",
        "dp.pt.|dp.st.|dp.sa.|dp.ct.",
        r"dp\.(?:pt|st|sa|ct)\.[A-Za-z0-9._-]{40,}",
    ),
    token("grafana-token", "glsa_", r"glsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}"),
    token("vault-token", "hvs.|hvb.|hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    token("linear-key", "lin_api_", r"lin_api_[A-Za-z0-9]{32,}"),
    token("notion-token", "ntn_", r"ntn_[A-Za-z0-9]{40,}"),
    token("airtable-token", "pat", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    token("shopify-token", "shpat_|shpca_|shppa_|shpss_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b"),
    token("postman-key", "PMAK-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    token("newrelic-key", "NRAK-", r"NRAK-[A-Z0-9]{27}"),
    token("supabase-token", "sbp_", r"sbp_[0-9a-f]{40}"),
    token("atlassian-token", "ATATT3", r"ATATT3[A-Za-z0-9_=-]{50,}"),
    token("age-secret-key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    free(
        "azure-storage-key",
        "AccountKey=|SharedAccessKey=",
        r"(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{40,}={0,2})",
        Any,
    ),
    free("azure-sas", "sig=", r"[?&]sig=([A-Za-z0-9%+/]{40,}={0,2})", Any),
    free(
        "basic-auth",
        "authorization",
        r#"(?i:authorization)[\\"'\s:=]{1,8}(?i:basic) ([A-Za-z0-9+/]{8,}={0,2})"#,
        Any,
    ),
    free("bearer-token", "bearer ", r"(?i:bearer) ([A-Za-z0-9_.~+/-]{20,}=*)", NotWords),
    // A value of a key that says what it is, quoted; `\"` where code is quoted in JSON.
    free(
        "api-key",
        "apikey|api_key|api-key|clientsecret|client_secret|client-secret|secretkey|secret_key|secret-key|accesstoken|access_token|access-token|refreshtoken|refresh_token|refresh-token|authtoken|auth_token|auth-token",
        r#"(?i:api[_-]?key|client[_-]?secret|secret[_-]?key|(?:access|refresh|auth)[_-]?token)\\*["']?\s{0,2}[:=]\s{0,2}\\*["']([^\s"'\\\[<{$][^\s"'\\]{11,})\\*["']"#,
        NotWords,
    ),
];

/// E-mail addresses as people write them; not all that RFC 5322 allows.
pub(super) const EMAILS: &[Shape] =
    &[token("email", "@", r"[A-Za-z0-9][A-Za-z0-9._%+-]*@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}\b")
        .hinted(Anywhere)];

/// Payment card numbers, in one piece or in groups.
pub(super) const CARDS: &[Shape] = &[Shape {
    name: "card",
    hints: "",
    regex: r"[0-9](?:[ -]?[0-9]){11,18}",
    check: Card,
    is_word: true,
    place: Inside,
}];
