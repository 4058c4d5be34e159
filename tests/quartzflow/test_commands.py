"""Management commands of the installation."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import call_command

from groups_app.models import EnrollmentToken, Group
from groups_app.secrets import token_hash
from quartzflow import env
from quartzflow.run import joining, pki
from tests import people


def printed(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_a_token_is_printed_in_the_command_that_joins(db: None, tmp_path: Path, settings) -> None:
    settings.ENV = env.load({"QF_DATA_DIR": str(tmp_path), "QF_QUIC_HOST": "quartz.example.com"})
    pki.ensure(tmp_path / "pki", ["localhost"], datetime.now(UTC))
    people.admin()
    Group.objects.create(name="web")
    out, err = printed("enroll_token", "create", "web", "--uses", "3")
    words = out.split()
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[:3] == ["quicflow", "agent", "join"]
    assert options["--server"] == "quartz.example.com:8474"
    assert options["--ca-sha256"] == pki.fingerprint(tmp_path / "pki" / "ca.pem")
    row = EnrollmentToken.objects.get()
    assert (row.token_hash, row.max_uses, row.group.name) == (token_hash(options["--token"]), 3, "web")
    assert err == ""


def test_a_token_comes_with_a_warning_where_other_hosts_cannot_connect(
    db: None, tmp_path: Path, settings
) -> None:
    settings.ENV = env.load({"QF_DATA_DIR": str(tmp_path)})
    people.admin()
    Group.objects.create(name="default")
    out, err = printed("enroll_token", "create", "default")
    assert "--ca-sha256" not in out
    assert "QF_QUIC_HOST=0.0.0.0" in err


@pytest.mark.parametrize(
    ("host", "addresses", "address"),
    [
        ("192.0.2.7", [], "192.0.2.7:8474"),
        ("0.0.0.0", ["192.0.2.8", "192.0.2.9"], "192.0.2.8:8474"),
        ("0.0.0.0", [], "127.0.0.1:8474"),
        ("2001:db8::7", [], "[2001:db8::7]:8474"),
    ],
)
def test_the_address_for_agents(
    host: str, addresses: list[str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "own_addresses", lambda: addresses)
    assert joining.server_address(env.load({"QF_QUIC_HOST": host})) == address


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("quartz.example.com", False)],
)
def test_which_hosts_are_loopback(host: str, loopback: bool) -> None:
    assert joining.is_loopback(host) is loopback
