"""Starts provider and calltap for a test run; the address goes to standard output as JSON.

Ends both when standard input ends.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Running:
    """A provider, and calltap before it."""

    def __init__(self, config=""):
        self.home = tempfile.TemporaryDirectory()
        here = pathlib.Path(__file__).parent
        self.provider = subprocess.Popen(
            [sys.executable, here / "provider.py"], stdout=subprocess.PIPE, text=True)
        upstream = f"http://127.0.0.1:{self.provider.stdout.readline().strip()}/v1"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            "HOME": self.home.name,
            "CALLTAP_DATA_DIR": f"{self.home.name}/data",
            "CALLTAP_SERVER__LISTEN": self.url.removeprefix("http://"),
            "CALLTAP_UPSTREAM": upstream,
            "CALLTAP_CONFIG": f"{self.home.name}/calltap.toml",
        }
        pathlib.Path(self.environment["CALLTAP_CONFIG"]).write_text(config)
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.binary = os.environ.get("CALLTAP_BIN", target / "debug/calltap")
        self.log = open(f"{self.home.name}/log", "w+")
        self.serve()

    def serve(self):
        self.calltap = subprocess.Popen(
            [self.binary, "serve"], env=self.environment, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 20
        while not self.is_ready():
            assert time.monotonic() < deadline and self.calltap.poll() is None, self.read_log()
            time.sleep(0.02)

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"{self.url}/readyz", timeout=1).status == 200
        except OSError:
            return False

    def read_log(self):
        self.log.seek(0)
        return self.log.read()

    def restart(self):
        self.end()
        self.serve()

    def end(self):
        self.calltap.terminate()
        assert self.calltap.wait(20) == 0, self.read_log()

    def stop(self):
        self.end()
        self.provider.terminate()
        self.provider.wait(20)


if __name__ == "__main__":
    running = Running()
    print(json.dumps({"url": running.url}), flush=True)
    sys.stdin.read()
    running.stop()
