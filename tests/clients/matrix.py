"""Writes the results of both runs as a table: client × case, passed of run. `matrix.py OUT RESULTS…`"""

import json
import pathlib
import sys

HEAD = """# Client × case

What `make clients-matrix` saw: each client library, at the version named, drives calltap before a provider on
loopback; every case asserts what the library returned and what was recorded, in texts with umlauts and emoji. A cell
holds cases passed of cases run; – stands where nothing was run: the library does not offer it, cannot do it, or its
adapter has no call for it yet. The cases: `tests/clients/test_clients.py`, `tests/clients/clients.test.js`.

"""


def main(out, *paths):
    results = {}
    for path in paths:
        language = "JavaScript" if ".js" in pathlib.Path(path).suffixes else "Python"
        for client, cases in json.loads(pathlib.Path(path).read_text()).items():
            results[f"{client} ({language})"] = cases
    cases = list(dict.fromkeys(case for client in results.values() for case in client))
    lines = ["| Client | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for client, ran in sorted(results.items()):
        cells = ["{}/{}".format(*ran[case]) if case in ran else "–" for case in cases]
        lines.append(f"| {client} | " + " | ".join(cells) + " |")
    counts = [count for ran in results.values() for count in ran.values()]
    total = f"\n{sum(passed for passed, _ in counts)} of {sum(run for _, run in counts)} passed.\n"
    pathlib.Path(out).write_text(HEAD + "\n".join(lines) + "\n" + total)


if __name__ == "__main__":
    main(*sys.argv[1:])
