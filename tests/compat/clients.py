"""Clients: each makes of one case a line of text that says what came of it."""

import hashlib
import http.client
import json
import select
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BODY = b"0123456789abcdef" * 4096

# What is asked: method, target, fields, body, whether the body says no length.
CASES = {
    "get": ("GET", "/text", {}, None, False),
    "head": ("HEAD", "/text", {}, None, False),
    "query": ("GET", "/echo-target?a=1&b=%20", {}, None, False),
    "utf8-target": ("GET", "/echo-target/caf\u00e9?q=\u00e9", {}, None, False),
    "dot-segments": ("GET", "/a/../echo-target", {}, None, False),
    "no-content": ("GET", "/no-content", {}, None, False),
    "not-modified": ("GET", "/not-modified", {}, None, False),
    "redirect": ("GET", "/redirect", {}, None, False),
    "two-cookies-set": ("GET", "/cookies", {}, None, False),
    "chunks": ("GET", "/chunks", {}, None, False),
    "error": ("GET", "/error", {}, None, False),
    "large": ("GET", "/large", {}, None, False),
    "post": ("POST", "/echo", {"content-type": "text/plain"}, b"order", False),
    "post-64k": ("POST", "/echo", {}, BODY, False),
    "post-no-length": ("POST", "/echo", {}, BODY, True),
    "put": ("PUT", "/echo", {}, b"order", False),
    "delete-with-body": ("DELETE", "/echo", {}, b"order", False),
    "post-empty": ("POST", "/echo", {}, b"", False),
    "early-401": ("POST", "/early", {}, BODY, False),
    "not-found": ("GET", "/not-here", {}, None, False),
}

# What the short form asks.
SHORT_CASES = [
    "get", "head", "query", "not-modified", "two-cookies-set", "chunks", "large",
    "post", "post-64k", "post-no-length", "delete-with-body", "early-401",
]


def outcome(status, fields, body):
    shown = {name.lower(): value for name, value in fields}
    kept = [f"{name}={shown[name]}" for name in ("content-type", "location", "x-seen") if name in shown]
    cookies = sum(1 for name, _ in fields if name.lower() == "set-cookie")
    if cookies:
        kept.append(f"cookies={cookies}")
    digest = hashlib.sha256(body).hexdigest()[:8] if body else "-"
    return " ".join([str(status), *kept, f"{len(body)}:{digest}"])


def python_client(url, case, folder):
    scheme, rest = url.split("://")
    method, target, fields, body, no_length = CASES[case]
    if scheme == "https":
        context = ssl.create_default_context(cafile=folder / "cert.pem")
        connection = http.client.HTTPSConnection(rest, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection(rest, timeout=10)
    try:
        # http.client takes no raw UTF-8: it is written as it is on the wire.
        connection._encode_request = lambda line: line.encode()
        connection._validate_path = lambda path: None
        sent = iter([body]) if no_length else body
        connection.request(method, target, sent, fields, encode_chunked=no_length)
        response = connection.getresponse()
        return outcome(response.status, response.getheaders(), response.read())
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def curl_client(*flags):
    def client(url, case, folder):
        method, target, fields, body, no_length = CASES[case]
        with tempfile.TemporaryDirectory(dir=folder) as place:
            head, out = Path(place, "head"), Path(place, "out")
            args = ["curl", "-sS", "--path-as-is", "-m", "10", "--cacert", str(folder / "cert.pem")]
            args += [*flags, "-D", str(head), "-o", str(out)]
            args += ["-I"] if method == "HEAD" else ["-X", method]
            for name, value in fields.items():
                args += ["-H", f"{name}: {value}"]
            if no_length:
                args += ["-H", "transfer-encoding: chunked"]
            if body is not None:
                Path(place, "body").write_bytes(body)
                args += ["-H", "expect:", "--data-binary", f"@{place}/body"]
            done = subprocess.run([*args, url + target], capture_output=True)
            if done.returncode:
                return f"curl {done.returncode}"
            blocks = head.read_text("latin-1").replace("\r", "").strip().split("\n\n")
            first, *lines = blocks[-1].split("\n")
            pairs = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line]
            read = out.read_bytes() if out.exists() and method != "HEAD" else b""
            return outcome(first.split()[1], pairs, read)

    return client


class LineClient:
    """A program that is told of each request on a line, and says on one what came of it."""

    def __init__(self, args):
        self.child = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, url, case, folder):
        method, target, fields, body, no_length = CASES[case]
        asked = {"url": url, "method": method, "target": target, "fields": fields, "noLength": no_length}
        asked["body"] = None if body is None else body.decode()
        asked["ca"] = str(folder / "cert.pem")
        self.child.stdin.write(json.dumps(asked).encode() + b"\n")
        self.child.stdin.flush()
        if not select.select([self.child.stdout], [], [], 30)[0]:
            return "hangs"
        got = json.loads(self.child.stdout.readline() or '{"error": "it died"}')
        if got.get("error"):
            return got["error"]
        return outcome(got["status"], [tuple(pair) for pair in got["fields"]], bytes.fromhex(got["body"]))

    def end(self):
        self.child.stdin.close()
        self.child.wait(10)


def clients(go):
    """By name: the wire that it needs of what stands before the server, and the client. `go` is the folder of
    what was built of Go, if anything was."""
    found = {
        "python": ("plain", python_client),
        "python-tls": ("tls", python_client),
        "curl": ("plain", curl_client("--http1.1")),
        "curl-h2c": ("h2c", curl_client("--http2-prior-knowledge")),
        "curl-tls": ("tls", curl_client("--http1.1")),
        "curl-tls-h2": ("tls", curl_client("--http2")),
    }
    if shutil.which("node"):
        node = LineClient(["node", str(HERE / "client.js")])
        found["node"], found["node-tls"] = ("plain", node), ("tls", node)
    if go:
        client = LineClient([str(go / "client")])
        # It speaks HTTP/2 over TLS.
        found["go"], found["go-tls-h2"] = ("plain", client), ("tls", client)
    return found


def grpcio():
    """The package, where it is installed."""
    try:
        import grpc

        return grpc
    except ImportError:
        return None


GRPC_CASES = ["Echo", "Echo-1MiB", "Echo-empty", "Fail", "Sleep", "Stream", "Upload", "Both", "Unknown"]


def grpc_client(port, is_tls, case, folder):
    """What comes of a call of grpcio."""
    grpc = grpcio()
    name, _, kind = case.partition("-")
    sent = {"1MiB": b"x" * (1 << 20), "empty": b""}.get(kind, b"order")
    target = f"localhost:{port}"
    credentials = grpc.ssl_channel_credentials((folder / "cert.pem").read_bytes())
    channel = grpc.secure_channel(target, credentials) if is_tls else grpc.insecure_channel(target)
    method = f"/compat.Compat/{name}"
    with channel:
        try:
            if name in ("Stream", "Both"):
                call = channel.unary_stream if name == "Stream" else channel.stream_stream
                asked = sent if name == "Stream" else iter([sent, sent])
                return f"OK {list(call(method)(asked, timeout=10))}"
            call = channel.stream_unary if name == "Upload" else channel.unary_unary
            asked = iter([sent] * 100) if name == "Upload" else sent
            timeout = 0.5 if name == "Sleep" else 10
            got, call = call(method).with_call(asked, timeout=timeout)
            return f"OK {len(got)} {[pair for pair in call.trailing_metadata() if pair[0] == 'x-trailer']}"
        except grpc.RpcError as error:
            return f"{error.code().name} {error.details() if name == 'Fail' else ''}".strip()
