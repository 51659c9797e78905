#!/usr/bin/env python3
"""What users' servers and clients make of the proxy, beside what they make of nginx.

Each client asks each server the same: direct, through nginx, and through crossfade-proxy. A difference
between crossfade and the direct way is a row of tests/COMPAT.md. One that is not explained there, by an
entry of EXPLAINED, fails the run.

    tests/compat/run.py PROXY [--short] [--write]

PROXY is the program. Needs Python 3.10, curl and openssl. Node, Go, nginx, PHP, Puma, busybox and Apache take
part where they are installed, and of Python's packages grpcio, gunicorn and uvicorn. The short form has fewer
servers and cases, and leaves nginx out.
"""

import argparse
import fnmatch
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

import buffer
from clients import CASES, GRPC_CASES, SHORT_CASES, LineClient, clients, curl_client, grpc_client, grpcio
from servers import CASES_OF, Processes, build_go, certificate, free_port, fronts, servers

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "COMPAT.md"
HEADING = "# What servers and clients make of the proxy"

# (server, client, case), as patterns: why it may differ from the direct way. The first that fits counts.
EXPLAINED = {
    ("python-cgi", "node*", "*"): "Node's client refuses a bare LF; a proxy ends lines with CRLF",
    ("busybox", "node*", "head"): "busybox responds to HEAD with a body, which Node's client refuses; a proxy drops it",
    ("*", "*", "utf8-target"): "UTF-8 that is not escaped goes on escaped (docs/config.md, Paths)",
    ("*", "*", "dot-segments"): "dot segments are resolved before a route is matched (docs/config.md, Paths)",
}


def explanation(server, client, case):
    for key, why in EXPLAINED.items():
        if all(map(fnmatch.fnmatchcase, (server, client, case), key)):
            return why
    return None


class Comparison:
    """One run: what took part, and every difference, with what came of it by each way."""

    def __init__(self, proxy, folder, short):
        self.proxy, self.folder, self.short = proxy, folder, short
        self.processes = Processes(folder)
        go = build_go(folder)
        self.servers = servers(folder, go, short)
        self.clients = clients(go)
        self.differences, self.count = [], 0

    def run(self):
        certificate(self.folder)
        wrong = []
        try:
            for name, command in self.servers.items():
                began = time.monotonic()
                self.compare(name, command)
                print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
            if grpcio():
                self.compare_grpc()
            if importlib.util.find_spec("gunicorn"):
                wrong = buffer.check(self.proxy, self.folder, self.processes)
        finally:
            self.processes.end()
            for client in {id(client): client for _, client in self.clients.values()}.values():
                if isinstance(client, LineClient):
                    client.end()
        return wrong

    def note(self, server, client, case, got):
        self.count += 1
        if got["crossfade"] != got["direct"]:
            self.differences.append((server, client, case, got))

    def compare(self, name, command):
        port = free_port()
        self.processes.start(name, command(port), port, cwd=HERE)
        before = fronts(self.processes, self.folder, name, port, self.proxy, not self.short)
        cases = SHORT_CASES if self.short else CASES_OF.get(name, [case for case in CASES if case != "not-found"])
        for client_name, (wire, client) in self.clients.items():
            for case in cases:
                got = {}
                for front, ports in before.items():
                    # A server alone speaks plain HTTP/1.1: the same client's way to that is compared.
                    plain = front == "direct" and wire != "plain"
                    asks = curl_client("--http1.1") if plain and "curl" in client_name else client
                    scheme = "https" if wire == "tls" and not plain else "http"
                    url = f"{scheme}://localhost:{ports['plain' if plain else wire]}"
                    got[front] = asks(url, case, self.folder)
                self.note(name, client_name, case, got)

    def compare_grpc(self):
        """The same of calls of gRPC."""
        port = free_port()
        self.processes.start("grpc", [sys.executable, str(HERE / "server.py"), "grpc", str(port)], port)
        before = fronts(self.processes, self.folder, "grpc", port, self.proxy, not self.short)
        for case in GRPC_CASES:
            for wire in ("h2c", "tls"):
                got = {}
                for front, ports in before.items():
                    is_tls = wire == "tls" and front != "direct"
                    at = ports["plain"] if front == "direct" else ports[wire]
                    got[front] = grpc_client(at, is_tls, case, self.folder)
                self.note("grpcio", f"grpcio-{wire}", case, got)

    def page(self):
        also = ["grpcio"] if grpcio() else []
        lines = [
            HEADING,
            "",
            "`make compat` asks each server by each client the same: direct, through nginx, and through the",
            "proxy. Where what comes through the proxy differs from what comes direct, it is here. A difference",
            "without a reason fails the run. Numbers are the length and the beginning of the hash of a body.",
            "`SHORT=1` has fewer servers and cases; it is part of CI. Before gunicorn with two sync workers,",
            "`buffer` is tried, too: four slow clients, and five quick requests that have to be served.",
            "",
            f"Servers: {', '.join([*self.servers, *also])}. Clients: {', '.join([*self.clients, *also])}.",
            f"Of {self.count} exchanges, {len(self.differences)} differ.",
            "",
            "| server | clients | case | direct | nginx | crossfade | why |",
            "|---|---|---|---|---|---|---|",
        ]
        # What many clients see alike is one row.
        rows = {}
        for name, client, case, got in self.differences:
            why = explanation(name, client, case) or "**not explained**"
            ways = tuple(got.get(front, "-") for front in ("direct", "nginx", "crossfade"))
            rows.setdefault((name, case, ways, why), []).append(client)
        for (name, case, ways, why), seen_by in rows.items():
            shown = " | ".join(f"`{way}`" for way in ways)
            lines.append(f"| {name} | {', '.join(seen_by)} | {case} | {shown} | {why} |")
        return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("proxy")
    parser.add_argument("--short", action="store_true", help="few servers and cases, without nginx")
    parser.add_argument("--write", action="store_true", help="writes tests/COMPAT.md")
    asked = parser.parse_args()
    os.environ.pop("http_proxy", None)
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(os.path.abspath(asked.proxy), Path(folder), asked.short)
        wrong = comparison.run()
    text = comparison.page()
    if asked.write:
        PAGE.write_text(text)
    differences = comparison.differences
    unexplained = [row for row in differences if explanation(*row[:3]) is None]
    print(text if unexplained else f"{comparison.count} exchanges, {len(differences)} explained differences")
    for line in wrong:
        print(line)
    sys.exit(1 if unexplained or wrong else 0)


if __name__ == "__main__":
    main()
