"""Management commands of the installation."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from groups_app.models import EnrollmentToken, Group
from groups_app.secrets import token_hash
from quartzflow import env
from quartzflow.run import joining, pki


def printed(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_enroll_prints_the_command_that_joins(db: None, tmp_path: Path, settings) -> None:
    settings.ENV = env.load({"QF_DATA_DIR": str(tmp_path), "QF_QUIC_HOST": "quartz.example.com"})
    pki.ensure(tmp_path / "pki", ["localhost"], datetime.now(UTC))
    Group.objects.create(name="web")
    out, err = printed("enroll", "web", "--uses", "3")
    words = out.split()
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[:3] == ["quicflow", "agent", "join"]
    assert options["--server"] == "quartz.example.com:8474"
    assert options["--ca-sha256"] == pki.fingerprint(tmp_path / "pki" / "ca.pem")
    row = EnrollmentToken.objects.get()
    assert (row.token_hash, row.max_uses, row.group.name) == (token_hash(options["--token"]), 3, "web")
    assert err == ""


def test_enroll_warns_where_other_hosts_cannot_connect(db: None, tmp_path: Path, settings) -> None:
    settings.ENV = env.load({"QF_DATA_DIR": str(tmp_path)})
    Group.objects.create(name="default")
    out, err = printed("enroll")
    assert "--ca-sha256" not in out
    assert "QF_QUIC_HOST=0.0.0.0" in err


def test_enroll_names_the_groups_there_are(db: None) -> None:
    Group.objects.create(name="web")
    with pytest.raises(CommandError, match="no group 'wbe'; there are: web"):
        call_command("enroll", "wbe")


def test_enroll_refuses_what_the_rules_refuse(db: None) -> None:
    Group.objects.create(name="web")
    with pytest.raises(CommandError, match=r"^max_uses: "):
        call_command("enroll", "web", "--uses", "0")
    assert not EnrollmentToken.objects.exists()


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
