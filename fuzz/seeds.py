#!/usr/bin/env python3
"""Seeds from recorded exchanges, where they lie beside the project: fuzz/corpus, never committed.

What stands in fuzz/seeds was written by hand and is read from there.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORDINGS = HERE.parent.parent / "shared/corpus/open"
# Longer bodies make slow runs and find nothing more.
SEED_BYTES_MAX = 24 * 1024
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("*.rs"))


def tables():
    """The lists of targets/codecs.rs that the first letters of its inputs choose from."""
    text = (HERE / "targets/codecs.rs").read_text()
    lists = re.findall(r"const (\w+): &\[&str\] =\s*&\[(.*?)\];", text, re.S)
    return {name: re.findall(r'"([^"]*)"', items) for name, items in lists}


def letter(index):
    return bytes([ord("a") + index])


def asked(case):
    return (case["request"] or {}).get("body")


def exchange(case, lists):
    """An input of `codecs`: four letters, the request, 0xFE, the response."""
    kind = case["category"].split("-")[0]
    endpoint = case["endpoint"].split("?")[0]
    same = [path for path in lists["PATHS"] if endpoint.endswith(path.removeprefix("/v1"))]
    path = lists["PATHS"].index(same[0]) if same else len(lists["PATHS"]) - 1
    names = lists["PROVIDERS"]
    provider = names.index(case["provider"]) if case["provider"] in names else 0
    request, response = json.dumps(asked(case)), case["response"]["body"] or ""
    status = {200: 1, 101: 3}.get(case["response"]["status"], 2)
    if kind == "realtime":
        lines = [json.loads(line) for line in response.splitlines() if line]
        said = lambda way: "\n".join(json.dumps(l["data"]) for l in lines if l["direction"] == way)
        request, response, status = said("sent"), said("received"), 3
        path = lists["PATHS"].index("/v1/realtime")
    head = letter(path) + letter(provider) + letter(0) + letter(status)
    return head + request.encode() + b"\xfe" + response.encode()


def main():
    lists, count = tables(), 0
    for target in TARGETS:
        (HERE / "corpus" / target).mkdir(parents=True, exist_ok=True)
    for file in sorted(RECORDINGS.glob("*.json")):
        case = json.loads(file.read_text())
        body = (case["response"]["body"] or "").encode()
        seeds = {
            "codecs": exchange(case, lists),
            "sse": b"\x03\xff" + body,
            "cutter": b"\x07" + body,
            "request": json.dumps(asked(case)).encode(),
        }
        for target, seed in seeds.items():
            (HERE / "corpus" / target / file.stem).write_bytes(seed[:SEED_BYTES_MAX])
            count += 1
    print(f"{count} seeds from recordings")


if __name__ == "__main__":
    main()
