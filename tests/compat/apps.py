"""The application of server.py over WSGI (`wsgi`, for gunicorn) and ASGI (`asgi`, for uvicorn)."""

import urllib.parse


def response(method, path, raw_target, body):
    """Status, fields and the pieces of a body."""
    plain = [("content-type", "text/plain")]
    if path.endswith("/echo"):
        return 200, [*plain, ("x-seen", method)], [body]
    if "echo-target" in path:
        return 200, plain, [raw_target]
    found = {
        "/text": (200, plain, [b"hello\n"]),
        "/no-content": (204, [], []),
        "/not-modified": (304, [], []),
        "/redirect": (302, [("location", "/text")], [b""]),
        "/cookies": (200, [("set-cookie", "a=1"), ("set-cookie", "b=2")], [b""]),
        "/chunks": (200, [("x-pieces", "3")], [b"one ", b"two ", b"three"]),
        "/error": (500, [], [b"broken"]),
        "/large": (200, [], [b"x" * (1 << 20)]),
    }
    return found.get(path, (404, [], [b"not here"]))


def sized(status, fields, pieces):
    """With the length, where the body is one piece."""
    if len(pieces) == 1 and status not in (204, 304):
        return [*fields, ("content-length", str(len(pieces[0])))]
    return [(name, value) for name, value in fields if name != "x-pieces"]


def wsgi(environ, start):
    path = environ["PATH_INFO"]
    if path == "/early":
        start("401 No", [("connection", "close"), ("content-length", "2")])
        return [b"no"]
    # Of the length alone, as Django does.
    length = environ.get("CONTENT_LENGTH") or 0
    only_sized = path == "/sized/echo"
    body = environ["wsgi.input"].read(int(length)) if length or only_sized else environ["wsgi.input"].read()
    target = environ.get("RAW_URI", path).encode("latin-1")
    status, fields, pieces = response(environ["REQUEST_METHOD"], path, target, body)
    start(f"{status} Told", sized(status, fields, pieces))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else pieces


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    early = path == "/early"
    body, more = b"", not early
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    target = (scope.get("raw_path") or urllib.parse.quote(path).encode()) + query
    found = response(scope["method"], path, target, body)
    status, fields, pieces = (401, [("connection", "close")], [b"no"]) if early else found
    told = [(name.encode(), value.encode()) for name, value in sized(status, fields, pieces)]
    await send({"type": "http.response.start", "status": status, "headers": told})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
