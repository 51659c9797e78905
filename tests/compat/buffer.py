"""`buffer` before a real gunicorn with two sync workers."""

import socket
import threading
import urllib.request

from servers import HERE, free_port, gunicorn

UPLOAD = b"POST /sized/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\norder\r\n"

CONFIG = """
[[listeners]]
address = "127.0.0.1:{plain}"
[[services]]
name = "server"
endpoints = [{{ address = "127.0.0.1:{server}", version = "1" }}]
buffer = {{ request = "1MiB", response = "1MiB" }}
"""


def slow_clients(port):
    """Four that stop in their uploads."""
    clients = []
    for _ in range(4):
        client = socket.create_connection(("127.0.0.1", port), 10)
        client.sendall(UPLOAD)
        clients.append(client)
    return clients


def quick_requests(port):
    """How many of five are served."""
    served = []

    def ask():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/text", timeout=5) as response:
                served.append(response.read() == b"hello\n")
        except OSError:
            pass

    asking = [threading.Thread(target=ask) for _ in range(5)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    return sum(served)


def check(proxy, folder, processes):
    """What is wrong, as lines of text."""
    server, plain = free_port(), free_port()
    processes.start("gunicorn-sync", gunicorn(server, "--workers", "2"), server, cwd=HERE)
    file = folder / "buffer.toml"
    file.write_text(CONFIG.format(plain=plain, server=server))
    processes.start("crossfade-buffer", [proxy, "--config", str(file)], plain)
    wrong = []
    clients = slow_clients(plain)
    served = quick_requests(plain)
    if served != 5:
        wrong.append(f"beside four slow clients, gunicorn's two sync workers served {served} of 5 quick requests")
    # An application that reads by the length alone gets the whole of an upload that says none.
    for client in clients:
        client.sendall(b"0\r\n\r\n")
        response = b""
        while not response.endswith(b"order") and (read := client.recv(4096)):
            response += read
        if not response.endswith(b"order"):
            wrong.append(f"an upload without a length came back as {response!r}")
    return wrong
