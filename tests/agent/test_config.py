"""The configuration file, secrets, and where they lie."""

import re
import socket
import stat
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quartzflow_agent import config as config_module
from quartzflow_agent import files
from quartzflow_agent.config import (
    AgentConfig,
    ConfigError,
    Endpoint,
    default_client_id,
    load,
    normalise_sha256,
    read_secret,
    save,
    to_toml,
    write_secret,
)
from quartzflow_agent.paths import Home
from quartzflow_agent.policy import Policy

GOOD = AgentConfig([Endpoint("a.example", 8474)], "c1")


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("a.example", "a.example", 8474, "a.example:8474"),
        ("a.example:1", "a.example", 1, "a.example:1"),
        (" 10.0.0.1:65535 ", "10.0.0.1", 65535, "10.0.0.1:65535"),
        ("[::1]:99", "::1", 99, "[::1]:99"),
        ("[fe80::1]", "fe80::1", 8474, "[fe80::1]:8474"),
    ],
)
def test_addresses_of_servers(text, host, port, shown):
    endpoint = Endpoint.parse(text)
    assert endpoint == Endpoint(host, port)
    assert str(endpoint) == shown
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text", ["", ":1", "a:0", "a:65536", "a:b", "a b", "http://a", "a/b", "::1", "[a]:1"]
)
def test_what_is_no_address_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"quartz\.example\.com:8474"):
        Endpoint.parse(text)


def test_what_is_saved_is_loaded_again(home, certificates):
    config = AgentConfig(
        servers=[Endpoint("::1", 1), Endpoint("b", 2)],
        client_id="host-1.x_y",
        ca_file=certificates.authority,
        group="生产",
        labels={"zone": 'a"\\b', "dc.1/x": "北京"},
        retention_days=3,
        log_limit=4096,
        logs_limit=8192,
        stop_timeout=1.5,
    )
    save(home, config)
    assert load(home) == config
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600


@given(
    st.dictionaries(
        st.from_regex(config_module.LABEL, fullmatch=True),
        st.text(max_size=50).filter(str.isprintable),
        max_size=5,
    ),
    st.text(max_size=30),
)
def test_any_text_survives_the_file(labels, group):
    config = AgentConfig(GOOD.servers, "c1", labels=labels, group=group)
    data = config_module.tomllib.loads(to_toml(config))
    assert (data["labels"], data["group"]) == (labels, group)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"servers": []}, "No server"),
        ({"client_id": ""}, "cannot name a client"),
        ({"client_id": "-x"}, "cannot name a client"),
        ({"client_id": "a" * 65}, "cannot name a client"),
        ({"client_id": "a/b"}, "cannot name a client"),
        ({"ca_sha256": "abc"}, "64 hexadecimal"),
        ({"ca_sha256": "0" * 64, "ca_file": "/dev/null"}, "not both"),
        ({"ca_file": "/no/such/ca.pem"}, "no CA file"),
        ({"labels": {"a b": "x"}}, "no label"),
        ({"labels": {"a": "x\ny"}}, "no label"),
        ({"labels": {"a": "x" * 257}}, "no label"),
        ({"labels": {f"a{n}": "x" for n in range(65)}}, "At most 64 labels"),
        ({"retention_days": 0}, "retention_days"),
        ({"log_limit": 10}, "log_limit"),
        ({"stop_timeout": -1}, "stop_timeout"),
    ],
)
def test_what_cannot_work_is_refused(change, message):
    if "ca_file" in change:
        change["ca_file"] = Path(change["ca_file"])
    with pytest.raises(ConfigError, match=message):
        replace(GOOD, **change).check()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, 'run "quicflow agent join'),
        (b"this is no TOML", "is damaged"),
        (b"client_id = 'a'", "is damaged"),
        (b"servers = 5\nclient_id = 'a'", "is damaged"),
        (b"servers = ['a:b']\nclient_id = 'a'", "no server address"),
        (b"servers = ['a']\nclient_id = 'a'\n[limits]\nretention_days = 'x'", "is damaged"),
        (b"servers = ['a']\nclient_id = 'a'\n[limits]\nlog_limits = 1", "unknown setting: log_limits"),
        (b"servers = ['a']\nclient_id = 'a'\nca_file = '/x'", "unknown setting: ca_file"),
        (b"\xff", "Cannot read"),
    ],
)
def test_a_bad_file_says_the_way_out(home, content, message):
    if content is not None:
        home.config.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(home)


def test_the_default_name_is_that_of_the_host(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "web 1.例子.local")
    assert default_client_id() == "web-1.-.local"
    monkeypatch.setattr(socket, "gethostname", lambda: "例子")
    assert default_client_id() == "agent"


def test_a_fingerprint_may_be_written_as_openssl_does():
    assert normalise_sha256(" AB:cd:01 ") == "abcd01"


def test_a_secret_is_for_its_owner_alone(home):
    assert read_secret(home.credential) == ""
    write_secret(home.credential, "hush")
    assert stat.S_IMODE(home.credential.stat().st_mode) == 0o600
    assert read_secret(home.credential) == "hush"
    home.credential.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_secret(home.credential)


def test_a_failed_write_leaves_the_old_file(home, monkeypatch):
    write_secret(home.credential, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_secret(home.credential, "new")
    assert read_secret(home.credential) == "old"
    assert [path.name for path in home.root.iterdir() if path.is_file()] == ["credential"]


def test_the_home_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("QUICFLOW_HOME", str(tmp_path / "there"))
    home = Home.find()
    assert home.root == tmp_path / "there"
    home.create()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    monkeypatch.delenv("QUICFLOW_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Home.find().root == Path("/home/somebody/.quicflow")


@pytest.mark.parametrize(
    ("page", "kind"), [("docs/configuration.md", AgentConfig), ("agent/README.md", Policy)]
)
def test_every_setting_is_documented(page, kind):
    text = (Path(__file__).parents[2] / page).read_text()
    missing = [field.name for field in fields(kind) if not re.search(rf"\b{field.name}(`|\]| =)", text)]
    assert missing == []
