#!/usr/bin/env python3
"""Writes the dashboard's queries as recording rules, for promtool to read."""
import json
import pathlib
import sys

board = json.loads((pathlib.Path(__file__).parent / "calltap.json").read_text())
rules = [
    {"record": f"panel:{panel['id']}:{target['refId'].lower()}",
     "expr": target["expr"].replace("$__rate_interval", "5m").replace("$__range", "6h")}
    for panel in board["panels"] for target in panel.get("targets", [])
]
ids = [panel["id"] for panel in board["panels"]]
assert len(set(ids)) == len(ids), "panel ids repeat"
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
