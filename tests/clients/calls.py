"""Calls of a test: a session of their own, and what calltap recorded under it."""

import json
import time
import urllib.parse
import urllib.request
import uuid

SLUG = "greet"


class Calls:
    def __init__(self, url):
        self.session = uuid.uuid4().hex
        self.url = url
        self.base = f"{url}/v1"
        self.headers = {"x-calltap-session": self.session, "x-calltap-prompt": SLUG}

    def records(self, count=1, at_least=False):
        """The records of the session, oldest first, as soon as there are so many."""
        deadline = time.monotonic() + 20
        query = urllib.parse.urlencode({"q": f"session:{self.session}", "limit": 1000})
        while True:
            rows = self.read(f"calls?{query}")["items"]
            if len(rows) >= count:
                assert at_least or len(rows) == count
                return [self.read(f"calls/{row['id']}") for row in reversed(rows)]
            assert time.monotonic() < deadline, rows
            time.sleep(0.02)

    def record(self):
        return self.records()[0]

    def read(self, path):
        return json.load(urllib.request.urlopen(f"{self.url}/api/v1/{path}"))
