#!/usr/bin/env python3
"""What a call costs as work grows, end to end: CPU of calltap's process for one call, everything included that
follows from it (record, index, totals, deliveries), by length of prompt, length of stream, number of sinks and
size of the store. Beside it, how long reads of that store take.

  benches/growth.py CALLTAP MOCK_UPSTREAM [--big STORE] [--svg FILE]

CALLTAP and MOCK_UPSTREAM are release binaries, the second one that of the rig. STORE is a data directory with
many calls (`examples/seed.rs` makes one); it grows by what is measured. Prints tables in Markdown. Loopback only.
"""
import argparse, http.client, json, math, os, shutil, statistics, subprocess, tempfile, time

PORT, MOCK = 9300, 9000
TICK = os.sysconf("SC_CLK_TCK")
WORDS = ["".join(chr(97 + (i * 7 + j * 11 + i * j) % 26) for j in range(2 + i % 9)) for i in range(997)]
PROMPTS = [(1 << 10, 2000), (10 << 10, 800), (100 << 10, 150), (1 << 20, 20), (10 << 20, 4)]
STREAMS = [(10, 800), (100, 200), (1000, 30), (10_000, 6), (100_000, 2)]
SINKS = [(0, 1000), (1, 1000), (2, 1000), (3, 1000), (4, 1000)]
STORES = [1_000, 10_000, 50_000]
READS = [
    ("a call by its id", "/api/v1/calls/{id}"),
    ("the newest 50", "/api/v1/calls?limit=50"),
    ("50 with a word", "/api/v1/calls?limit=50&q=" + WORDS[17]),
    ("a day's metrics", "/api/v1/metrics?by=model"),
]


class Proxy:
    """calltap on a data directory, until the end of a `with`."""

    def __init__(self, binary, data, sinks=0):
        self.home = tempfile.mkdtemp(prefix="growth-")
        self.data = data or os.path.join(self.home, "data")
        config = os.path.join(self.home, "calltap.toml")
        with open(config, "w") as file:
            file.write(f'[server]\nlisten = "127.0.0.1:{PORT}"\n[log]\nlevel = "error"\n')
            file.write(f'[upstreams.openai]\nbase_url = "http://127.0.0.1:{MOCK}/v1"\n')
            for at in range(sinks):
                file.write(f'[sinks.s{at}]\ntype = "webhook"\nbase_url = "http://127.0.0.1:{MOCK}/sink"\nsecret = "whsec_{"Z3Jvd3RoIGdyb3d0aCBncm93dGg="}"\n')
        self.process = subprocess.Popen([binary, "--config", config, "--data-dir", self.data])

    def __enter__(self):
        for _ in range(400):
            try:
                self.get("/livez")
                return self
            except OSError:
                time.sleep(0.025)
        raise SystemExit("calltap did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:200]}")
        return body

    def cpu(self):
        """CPU seconds of the process so far."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def settle(self):
        """Waits until nothing is left to do with the calls that were made."""
        quiet = 0
        while quiet < 3:
            before = self.cpu()
            time.sleep(0.3)
            quiet = quiet + 1 if self.cpu() - before < 0.02 else 0

    def call(self, count, prompt_bytes=1024, stream=False):
        """Makes calls one after the other; CPU seconds for each, with all that follows from it."""
        self.settle()
        before = self.cpu()
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=300)
        for at in range(count):
            body = request(at, prompt_bytes, stream)
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"a call was answered with {answer.status}")
        connection.close()
        self.settle()
        return (self.cpu() - before) / count


def request(at, prompt_bytes, stream):
    start, words = at * 131, []
    size = 0
    while size < prompt_bytes:
        word = WORDS[(start + len(words) * len(words) % 8191) % len(WORDS)]
        words.append(word)
        size += len(word) + 1
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": " ".join(words)}]}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(asked)


def shape(**values):
    connection = http.client.HTTPConnection("127.0.0.1", MOCK, timeout=5)
    connection.request("GET", "/__set?" + "&".join(f"{key}={value}" for key, value in values.items()))
    connection.getresponse().read()
    connection.close()


def reads(proxy):
    newest = json.loads(proxy.get("/api/v1/calls?limit=50"))["items"]
    found = {}
    for name, path in READS:
        times = []
        for at in range(30):
            started = time.perf_counter()
            proxy.get(path.format(id=newest[at % len(newest)]["id"]))
            times.append((time.perf_counter() - started) * 1000)
        found[name] = statistics.median(times)
    return found


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def human(number):
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def svg(panels):
    """Curves on logarithmic axes, labelled with x less a number; a dashed line shows what growing in proportion
    would be."""
    width, height, gap = 330, 250, 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width + gap} {2 * height + gap}" '
           'font-family="system-ui, sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="#fff"/>']
    colours = ["#0b57d0", "#a8480b", "#146c2e", "#8b1a8b"]
    for at, (title, curves, proportional, less) in enumerate(panels):
        left, top = (at % 2) * (width + gap) + 50, (at // 2) * (height + gap) + 30
        inner_w, inner_h = width - 70, height - 70
        xs = [x for _, points in curves for x, _ in points]
        ys = [y for _, points in curves for _, y in points]
        x0, x1 = math.log10(min(xs)), math.log10(max(xs))
        y0, y1 = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)
        px = lambda x: left + (math.log10(x) - x0) / (x1 - x0) * inner_w
        py = lambda y: top + inner_h - (math.log10(y) - y0) / (y1 - y0) * inner_h
        out.append(f'<text x="{left}" y="{top - 12}" font-weight="600" fill="#1f1f1f">{title}</text>')
        for power in range(int(y0), int(y1) + 1):
            y = py(10.0 ** power)
            out.append(f'<line x1="{left}" x2="{left + inner_w}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e0e0e0"/>')
            out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{human(10.0 ** power)}</text>')
        for x in sorted(set(xs)):
            out.append(f'<text x="{px(x):.1f}" y="{top + inner_h + 16}" text-anchor="middle" fill="#555">{human(x - less)}</text>')
        if proportional:
            first = curves[0][1][-1]
            start = (min(xs), first[1] * min(xs) / first[0])
            if start[1] < 10.0 ** y0:
                start = (first[0] * 10.0 ** y0 / first[1], 10.0 ** y0)
            out.append(f'<line x1="{px(start[0]):.1f}" y1="{py(start[1]):.1f}" x2="{px(first[0]):.1f}" '
                       f'y2="{py(first[1]):.1f}" stroke="#888" stroke-dasharray="4 4"/>')
        for (name, points), colour in zip(curves, colours):
            line = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        for row, ((name, _), colour) in enumerate(zip(curves, colours)):
            if len(curves) > 1:
                x, y = left + row % 2 * 130, top + inner_h + 34 + row // 2 * 14
                out.append(f'<circle cx="{x}" cy="{y - 4}" r="3" fill="{colour}"/>')
                out.append(f'<text x="{x + 8}" y="{y}" fill="#333">{name}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("calltap")
    arguments.add_argument("mock")
    arguments.add_argument("--big")
    arguments.add_argument("--svg")
    given = arguments.parse_args()
    mock = subprocess.Popen([given.mock], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    try:
        run(given)
    finally:
        mock.terminate()
        mock.wait()


def run(given):
    us = lambda seconds: seconds * 1e6
    shape(size=1024, ttft_us=0)
    prompts = []
    for size, count in PROMPTS:
        with Proxy(given.calltap, None) as proxy:
            proxy.call(20, 1024)
            prompts.append((size, us(proxy.call(count, size))))
    table(["Prompt, bytes", "CPU a call, µs", "ns a byte"],
          [[f"{size:,}", f"{cost:,.0f}", f"{cost * 1000 / size:,.1f}"] for size, cost in prompts])
    streams = []
    for chunks, count in STREAMS:
        shape(chunks=chunks, delay_us=0, stamp=0, ttft_us=0)
        with Proxy(given.calltap, None) as proxy:
            proxy.call(5, 1024, True)
            streams.append((chunks, us(proxy.call(count, 1024, True))))
    table(["Stream, chunks", "CPU a stream, µs", "µs a chunk"],
          [[f"{chunks:,}", f"{cost:,.0f}", f"{cost / chunks:,.1f}"] for chunks, cost in streams])
    shape(size=1024, ttft_us=0, chunks=200)
    sinks = []
    for number, count in SINKS:
        with Proxy(given.calltap, None, number) as proxy:
            proxy.call(20)
            sinks.append((number, us(proxy.call(count))))
    table(["Sinks", "CPU a call, µs"], [[str(number), f"{cost:,.0f}"] for number, cost in sinks])
    stores, waits = [], {name: [] for name, _ in READS}
    data = tempfile.mkdtemp(prefix="growth-store-")
    for size in STORES + ([None] if given.big else []):
        with Proxy(given.calltap, given.big if size is None else data) as proxy:
            here = json.loads(proxy.get("/api/v1/store"))["calls"]
            if size is not None and here < size:
                proxy.call(size - here, 200)
            here = json.loads(proxy.get("/api/v1/store"))["calls"]
            stores.append((here, us(proxy.call(1500))))
            for name, wait in reads(proxy).items():
                waits[name].append((here, wait))
    shutil.rmtree(data, ignore_errors=True)
    table(["Calls stored", "CPU for one more, µs", *(f"{name}, ms" for name, _ in READS)],
          [[f"{here:,}", f"{cost:,.0f}", *(f"{waits[name][at][1]:.1f}" for name, _ in READS)]
           for at, (here, cost) in enumerate(stores)])
    if given.svg:
        with open(given.svg, "w") as file:
            file.write(svg([
                ("CPU a call, µs, by bytes of its prompt", [("", prompts)], True, 0),
                ("CPU a stream, µs, by its chunks", [("", streams)], True, 0),
                ("CPU a call, µs, by sinks", [("", [(number + 1, cost) for number, cost in sinks])], False, 1),
                ("By calls stored",
                 [("CPU for one more, µs", stores), *((name + ", ms", waits[name]) for name, _ in READS[:3])], False, 0),
            ]))


if __name__ == "__main__":
    main()
