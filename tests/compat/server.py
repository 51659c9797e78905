"""A server of Python's standard library: `http`, or `cgi`, whose scripts end lines with a bare LF. Or one of
grpcio: `grpc`."""

import http.server
import os
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = """import os, sys
body = sys.stdin.buffer.read(int(os.environ.get("CONTENT_LENGTH") or 0))
sys.stdout.write("Content-Type: text/plain\\nX-Seen: %s\\n\\n%s" % (os.environ["REQUEST_METHOD"], body.decode()))
"""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            whole = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            return whole
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def respond(self, status, body=b"", fields=()):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def chunks(self):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in (b"one ", b"two ", b"three"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def handle_one(self):
        path = self.path.split("?")[0]
        plain = [("content-type", "text/plain")]
        if path == "/early":
            self.close_connection = True
            return self.respond(401, b"no", [("connection", "close")])
        body = self.body()
        if path.endswith("/echo"):
            return self.respond(200, body, [*plain, ("x-seen", self.command)])
        if "echo-target" in path:
            return self.respond(200, self.path.encode("latin-1"), plain)
        match path:
            case "/text":
                self.respond(200, b"hello\n", plain)
            case "/no-content":
                self.respond(204)
            case "/not-modified":
                self.respond(304)
            case "/redirect":
                self.respond(302, b"", [("location", "/text")])
            case "/cookies":
                self.respond(200, b"", [("set-cookie", "a=1"), ("set-cookie", "b=2")])
            case "/chunks":
                self.chunks()
            case "/error":
                self.respond(500, b"broken")
            case "/large":
                self.respond(200, b"x" * (1 << 20))
            case _:
                self.respond(404, b"not here")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def log_message(self, *_):
        pass


class Cgi(http.server.CGIHTTPRequestHandler):
    # The script is run by the interpreter, so that its folder may be one for data alone.
    have_fork = False

    # Whatever is asked for, one script responds to it.
    def is_cgi(self):
        self.cgi_info = ("", "script.py?" + self.path.partition("?")[2])
        return True

    def log_message(self, *_):
        pass


def serve_grpc(port):
    from concurrent import futures

    import grpc

    def echo(request, context):
        context.set_trailing_metadata((("x-trailer", "1"),))
        return request

    def fail(_, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "not here")

    def sleep(request, _):
        time.sleep(5)
        return request

    unary = grpc.unary_unary_rpc_method_handler
    methods = {
        "Echo": unary(echo),
        "Fail": unary(fail),
        "Sleep": unary(sleep),
        "Stream": grpc.unary_stream_rpc_method_handler(lambda *_: iter([b"one", b"two", b"three"])),
        "Upload": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests)),
        "Both": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("compat.Compat", methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def main():
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "grpc":
        return serve_grpc(port)
    handler = Handler
    if kind == "cgi":
        folder = Path(tempfile.mkdtemp())
        script = folder / "script.py"
        script.write_text(SCRIPT)
        os.chdir(folder)
        handler = Cgi
    http.server.ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


main()
