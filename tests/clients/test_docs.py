"""The Python of the pages runs as it stands there, against this calltap."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def blocks():
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        for at, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)):
            yield pytest.param(code, id=f"{page.relative_to(ROOT)}-{at}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("code", list(blocks()))
def test_the_code_of_the_pages(code, calls, monkeypatch):
    for package in re.findall(r"^(?:from|import) ([\w.]+)", code, re.M):
        pytest.importorskip(package)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    code = code.replace("http://127.0.0.1:4777", f"{calls.url}/-/session={calls.session}").replace('"s1"', f'"{calls.session}"')
    exec(compile(code, "page", "exec"), {"__name__": "__main__"})
    wanted = len(re.findall(r"\.(?:create|invoke|embed_query|complete|completion|run_sync)\(", code))
    assert wanted and {record["outcome"] for record in calls.records(wanted)} == {"completed"}
