#!/usr/bin/env python3
"""tls.py CALLTAP RIG ROUNDS: the rig's S1 and S4 with TLS towards the upstream, beside nginx.

RIG is a built copy of ../shared/bench. An nginx in front of the rig's mock takes TLS for it; its own CPU counts for
nobody. Needs nginx and openssl. Figures beside "direct" are against the mock without TLS.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

FRONT = """
worker_processes auto; pid {dir}/{name}.pid; error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 100000000; client_max_body_size 64m; client_body_buffer_size 256k;
    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    upstream next {{ server {next}; keepalive 1024; keepalive_requests 100000000; }}
    server {{
        listen {listen} backlog=4096;
        location / {{
            proxy_pass {scheme}://next; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
            proxy_read_timeout 600s;
            {more}
        }}
    }}
}}
"""

CALLTAP = """
[server]
listen = "127.0.0.1:9310"
[upstreams.openai]
base_url = "https://localhost:9443/v1"
ca_file = "{dir}/cert.pem"
[log]
level = "warn"
"""

PEERS = """
[[peer]]
name = "direct"
url = "http://127.0.0.1:9000"

[[peer]]
name = "nginx"
cmd = "nginx -p {dir} -c {dir}/proxy.conf -g 'daemon off;'"
url = "http://127.0.0.1:9210"

[[peer]]
name = "calltap"
cmd = "{calltap} --config {dir}/calltap.toml --data-dir {dir}/data"
url = "http://127.0.0.1:9310"
"""


def main():
    calltap, rig = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
    rounds = sys.argv[3]
    with tempfile.TemporaryDirectory(dir=rig) as scratch:
        at = pathlib.Path(scratch)
        cert = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        cert += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        cert += ["-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run([*cert, "-keyout", at / "key.pem", "-out", at / "cert.pem"], check=True, capture_output=True)
        tls = f"ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;"
        front = FRONT.replace("location /", "ssl_protocols TLSv1.3; " + tls + " location /")
        verify = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {at}/cert.pem; proxy_ssl_name localhost; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;"
        make = {
            "front.conf": front.format(dir=at, name="front", next="127.0.0.1:9000", listen="127.0.0.1:9443 ssl", scheme="http", more=""),
            "proxy.conf": FRONT.format(dir=at, name="proxy", next="127.0.0.1:9443", listen="127.0.0.1:9210", scheme="https", more=verify),
            "calltap.toml": CALLTAP.format(dir=at),
            "peers.toml": PEERS.format(dir=at, calltap=calltap),
        }
        for name, text in make.items():
            (at / name).write_text(text)
        server = subprocess.Popen(["nginx", "-p", str(at), "-c", str(at / "front.conf"), "-g", "daemon off;"])
        try:
            time.sleep(0.5)
            out = rig / "tls.jsonl"
            out.unlink(missing_ok=True)
            run = ["./run.py", "run", "--peers", str(at / "peers.toml"), "--scenarios", "S1,S4", "--rounds", rounds, "--tries", "1"]
            subprocess.run([*run, "--out", str(out)], cwd=rig, check=True)
            subprocess.run(["./run.py", "report", str(out)], cwd=rig, check=True)
        finally:
            server.terminate()
            server.wait()


main()
