"""Servers, and what stands before them."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# What has no program of ours in it responds with files to these. In `python-cgi`, one script responds to
# whatever it is asked for; its server takes of a body what has come when it looks, so that only short ones are
# whole.
FILE_CASES = ["get", "head", "large", "not-found"]
CASES_OF = {
    "python-cgi": ["get", "head", "query", "utf8-target", "post", "post-empty"],
    "apache": FILE_CASES,
    "busybox": FILE_CASES,
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, what):
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{what} does not listen on port {port}")


class Processes:
    """What was started; all of it ends with this."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def start(self, what, args, port, **more):
        log = open(self.folder / f"{what}.log", "ab")
        child = subprocess.Popen(args, stdout=log, stderr=log, **more)
        self.started.append(child)
        wait_for(port, what)

    def end(self):
        for child in self.started:
            child.terminate()
        for child in self.started:
            child.wait(10)


def build_go(folder):
    """Builds what is written in Go, of its standard library alone. Gives where it is."""
    if not shutil.which("go"):
        return None
    for name in ("client", "server"):
        args = ["go", "build", "-o", str(folder / name), str(HERE / "go" / f"{name}.go")]
        subprocess.run(args, check=True, env={**os.environ, "GO111MODULE": "off"})
    return folder


def apache(folder):
    """Apache with files."""
    conf = folder / "apache.conf"
    modules = "/usr/lib/apache2/modules"
    loads = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in ("mpm_event", "authz_core", "mime"))
    user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""

    def command(port):
        conf.write_text(
            f"{loads}{user}ServerName localhost\nListen 127.0.0.1:{port}\nPidFile {folder}/apache.pid\n"
            f"ErrorLog {folder}/apache-error.log\nDefaultRuntimeDir {folder}\nTypesConfig /dev/null\n"
            f"DocumentRoot {folder}/files\n<Directory />\nRequire all granted\n</Directory>\n"
        )
        return ["apache2", "-X", "-f", str(conf)]

    return command


def servers(folder, go, short):
    """By name, how each is started on a port."""
    python = [sys.executable, str(HERE / "server.py")]
    found = {"python-http": lambda port: [*python, "http", str(port)]}
    if shutil.which("node"):
        found["node-http"] = lambda port: ["node", str(HERE / "server.js"), str(port)]
    if go:
        found["go-http"] = lambda port: [str(go / "server"), str(port)]
    if short:
        return found
    found["python-cgi"] = lambda port: [*python, "cgi", str(port)]
    if importlib.util.find_spec("gunicorn"):
        found["gunicorn"] = lambda port: gunicorn(port, "--threads", "4")
    if importlib.util.find_spec("uvicorn"):
        args = [sys.executable, "-m", "uvicorn", "--no-access-log", "--lifespan", "off", "apps:asgi", "--port"]
        found["uvicorn"] = lambda port: [*args, str(port)]
    if shutil.which("php"):
        found["php"] = lambda port: ["php", "-q", "-S", f"127.0.0.1:{port}", str(HERE / "router.php")]
    if shutil.which("puma"):
        puma = ["puma", "--quiet", "--environment", "production", "--threads", "4:4"]
        found["puma"] = lambda port: [*puma, "--bind", f"tcp://127.0.0.1:{port}", str(HERE / "apps.ru")]
    files = folder / "files"
    files.mkdir()
    folder.chmod(0o755)
    (files / "text").write_text("hello\n")
    (files / "large").write_text("x" * (1 << 20))
    if shutil.which("busybox"):
        found["busybox"] = lambda port: ["busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", str(files)]
    if shutil.which("apache2"):
        found["apache"] = apache(folder)
    return found


def gunicorn(port, *flags):
    """gunicorn with the application over WSGI."""
    return [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *flags, "apps:wsgi"]


NGINX = """
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{}}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream server {{ server 127.0.0.1:{server}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{h2c} http2; listen 127.0.0.1:{tls} ssl http2;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location / {{
      proxy_pass http://server; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host;
    }}
    location /compat.Compat/ {{ grpc_pass grpc://server; }}
  }}
}}
"""

CROSSFADE = """
[[listeners]]
address = "127.0.0.1:{plain}"
[[listeners]]
address = "127.0.0.1:{tls}"
tls = [{{ cert = "{folder}/cert.pem", key = "{folder}/key.pem" }}]
[[services]]
name = "server"
endpoints = [{{ address = "127.0.0.1:{server}", version = "1" }}]
versions = {{ "1" = {{ protocol = "{protocol}" }} }}
"""


def certificate(folder):
    args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", *args.split(), *more, *files], check=True, capture_output=True)


def fronts(processes, folder, name, server, proxy, with_nginx):
    """The port of each wire, by what stands before the server."""
    found = {"direct": {"plain": server}}
    ports = {wire: free_port() for wire in ("plain", "h2c", "tls")}
    # Its workers would not be let into the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    protocol = "h2" if name == "grpc" else "http/1.1"
    values = {"folder": folder, "server": server, "user": user, "protocol": protocol, **ports}
    if with_nginx and shutil.which("nginx"):
        file = folder / f"nginx-{name}.conf"
        file.write_text(NGINX.format(**values))
        processes.start(f"nginx-{name}", ["nginx", "-c", str(file)], ports["plain"])
        found["nginx"] = ports
    ports = {wire: free_port() for wire in ("plain", "tls")}
    ports["h2c"] = ports["plain"]
    file = folder / f"{name}.toml"
    file.write_text(CROSSFADE.format(**{**values, **ports}))
    processes.start(f"crossfade-{name}", [proxy, "--config", str(file)], ports["tls"])
    found["crossfade"] = ports
    return found
