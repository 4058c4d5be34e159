"""tcp_check, http_check and service_check."""

import os
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from quartzflow_agent.plugins import ParamError, PluginFailed, find, http_check, tcp_check
from quartzflow_agent.plugins.http_check import certificate_days

from tests.services import free_port


def check(name, **params):
    plugin = find(name)
    plugin.run(**plugin.parse(params))


# --- tcp_check ---


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_an_open_port(port, capsys):
    check("tcp_check", targets=[f"127.0.0.1:{port}", f"localhost:{port}"], max_ms=10_000)
    assert capsys.readouterr().out == f"127.0.0.1:{port}: open\nlocalhost:{port}: open\n"


def test_closed_ports_are_all_named(port):
    closed = free_port()
    with pytest.raises(PluginFailed) as caught:
        check(
            "tcp_check",
            targets=[f"127.0.0.1:{closed}", f"127.0.0.1:{port}", "no-such.invalid:1"],
            tries=2,
            pause_s=0,
        )
    lines = str(caught.value).splitlines()
    assert lines[0] == f"127.0.0.1:{closed}: Connection refused"
    assert lines[1].startswith("no-such.invalid:1: ")
    assert len(lines) == 2


def test_a_port_that_answers_too_slowly(port, monkeypatch):
    moments = iter([0.0, 0.5])
    monkeypatch.setattr(tcp_check, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    with pytest.raises(PluginFailed, match="answered after 500 ms, 100 ms allowed"):
        check("tcp_check", targets=[f"127.0.0.1:{port}"], max_ms=100)


@pytest.mark.parametrize("target", ["localhost", ":80", "a:0", "a:65536", "a:x"])
def test_what_is_no_target(target):
    with pytest.raises(ParamError, match="is not HOST:PORT"):
        check("tcp_check", targets=target)
    with pytest.raises(ParamError, match="at least one"):
        check("tcp_check", targets=[])


# --- http_check ---


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/")
            self.end_headers()
            return
        body = "all 健康 here".encode()
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site():
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def url(site):
    return f"http://127.0.0.1:{site.server_port}"


def test_a_site_that_is_well(url, capsys):
    check("http_check", url=url, pattern="健康", max_ms=60_000)
    assert "status 200, 11 characters" in capsys.readouterr().out
    check("http_check", url=f"{url}/none", status=404)
    check("http_check", url=f"{url}/away", follow_redirects=True)


@pytest.mark.parametrize(
    ("path", "params", "message"),
    [
        ("/none", {}, "status 404, expected 200 to 299"),
        ("/", {"status": 201}, "status 200, expected 201"),
        ("/away", {}, "status 302"),
        ("/", {"pattern": "ill$"}, "does not match 'ill\\$'"),
    ],
)
def test_a_site_that_is_not_as_it_should_be(url, path, params, message):
    with pytest.raises(PluginFailed, match=message):
        check("http_check", url=url + path, **params)


def test_a_site_that_is_slow_or_gone(url, monkeypatch):
    with pytest.raises(PluginFailed, match="ConnectError"):
        check("http_check", url=f"http://127.0.0.1:{free_port()}/")
    moments = iter([0.0, 2.0])
    monkeypatch.setattr(http_check, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    with pytest.raises(PluginFailed, match="answered after 2000 ms, 1 ms allowed"):
        check("http_check", url=url, max_ms=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"url": "ftp://a/"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "http://a/", "pattern": "("}, "pattern"),
        ({"url": "http://a/", "min_cert_days": 5}, "min_cert_days"),
        ({"url": "https://a/", "min_cert_days": 5, "verify_tls": False}, "min_cert_days"),
    ],
)
def test_what_cannot_be_checked(params, message):
    with pytest.raises(ParamError, match=message):
        check("http_check", **params)


def test_the_end_of_a_certificate(site, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.key)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    trusting = ssl.create_default_context(cafile=str(certificates.authority))
    assert 0.9 < certificate_days("127.0.0.1", site.server_port, 5, trusting) <= 1
    with pytest.raises(PluginFailed, match=r"certificate of 127\.0\.0\.1"):
        certificate_days("127.0.0.1", site.server_port, 5)


# --- service_check ---


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A systemctl that says what the files beside it say, and mends what is restarted, if it can be."""
    script = tmp_path / "systemctl"
    script.write_text(
        f"#!/bin/sh\ncd {tmp_path}\ncase $1 in\n"
        'is-active) cat "$3.state" 2>/dev/null || echo inactive ;;\n'
        'restart) [ -e "$3.good" ] && echo active > "$3.state" || echo "job failed" >&2 ;;\nesac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "web.service.state").write_text("active\n")
    (tmp_path / "mends.service.good").touch()
    (tmp_path / "bad.service.state").write_text("failed\n")
    return tmp_path


def test_units(systemctl, capsys):
    check("service_check", units="web.service")
    assert capsys.readouterr().out == "web.service: active\n"
    with pytest.raises(PluginFailed, match=r"^bad\.service is failed\nmends\.service is inactive$"):
        check("service_check", units=["bad.service", "web.service", "mends.service"])
    check("service_check", units=["mends.service"], restart=True)
    with pytest.raises(PluginFailed, match="was failed, and is failed after a restart: job failed"):
        check("service_check", units=["bad.service"], restart=True)


def test_a_host_without_systemd(monkeypatch):
    monkeypatch.setenv("PATH", "/none")
    with pytest.raises(PluginFailed, match="no systemd"):
        check("service_check", units="a.service")


def test_processes():
    with subprocess.Popen(["sleep", "30"]) as process:
        check("service_check", processes=["sleep"])
        process.kill()
    with pytest.raises(PluginFailed, match="no-such-process-here: 0 running, 1 wanted"):
        check("service_check", processes=["no-such-process-here"])


@pytest.mark.parametrize("params", [{}, {"units": ["--all"]}, {"units": ["a b"]}, {"units": [""]}])
def test_names_that_are_none(params):
    with pytest.raises(ParamError):
        check("service_check", **params)
