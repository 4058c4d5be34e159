"""Backups of both databases: the round trip, and every way in which one is refused."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pyrage
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from groups_app.models import Bridge, Group
from quartzflow.management import passphrase
from quartzflow.run import backup, dumps
from tests import people, services

PASSPHRASE = "a long enough one"


@pytest.fixture(autouse=True)
def _given(monkeypatch):
    monkeypatch.setenv(passphrase.VARIABLE, PASSPHRASE)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A backup of this test's database and of a data directory with keys."""
    data_dir = tmp_path / "from"
    (data_dir / "pki").mkdir(parents=True)
    (data_dir / "pki" / "ca.key").write_text("private")
    (data_dir / "media" / "exports").mkdir(parents=True)
    (data_dir / "media" / "exports" / "报表.xlsx").write_bytes(b"\0binary")
    (data_dir / "secrets.key").write_text("one\ntwo\n")
    monkeypatch.setattr(settings, "QF_DATA_DIR", data_dir)
    people.group("kept")
    path = tmp_path / "backup.qfb"
    out = io.StringIO()
    call_command("backup", str(path), "--json", stdout=out)
    facts = json.loads(out.getvalue())
    assert facts["database"] == connection.vendor
    assert (facts["bytes"], facts["files"]) == (path.stat().st_size, 4)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(data_dir.glob(".backup-*")) + list(tmp_path.glob(".backup.qfb.*"))
    return path


def restore_elsewhere(
    path: Path, tmp_path: Path, *options: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """`manage.py restore` as an operator runs it, into another data directory."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("QF_")},
        "DJANGO_SETTINGS_MODULE": "quartzflow.settings",
        "QF_DATA_DIR": str(tmp_path / "to"),
        **env,
    }
    command = [sys.executable, "manage.py", "restore", str(path), *options]
    return subprocess.run(command, cwd=services.ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.django_db(transaction=True)
def test_the_round_trip_on_sqlite(made, tmp_path):
    done = restore_elsewhere(made, tmp_path)
    assert done.returncode == 0, done.stderr
    target = tmp_path / "to"
    assert (target / "secret_key").read_text().strip() == settings.SECRET_KEY
    assert (target / "secrets.key").read_text() == "one\ntwo\n"
    assert (target / "pki" / "ca.key").read_text() == "private"
    assert (target / "media" / "exports" / "报表.xlsx").read_bytes() == b"\0binary"
    files = [file for file in target.rglob("*") if file.is_file() and file.name != "run.lock"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    query = "from groups_app.models import Group; print(list(Group.objects.values_list('name', flat=True)))"
    env = {**os.environ, "QF_DATA_DIR": str(target), "DJANGO_SETTINGS_MODULE": "quartzflow.settings"}
    shown = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup(); {query}"],
        cwd=services.ROOT, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert shown.stdout == "['kept']\n", shown.stderr
    again = restore_elsewhere(made, tmp_path)
    assert again.returncode == 1
    assert "the database is not empty: --force replaces it" in again.stderr
    forced = restore_elsewhere(made, tmp_path, "--force", "--json")
    assert forced.returncode == 0, forced.stderr
    assert json.loads(forced.stdout)["database"] == "sqlite"
    assert len(list(target.glob("db.sqlite3.before-*"))) == 1
    assert "the database before is" in forced.stderr
    assert not list(target.glob(".restore-*"))


def test_the_round_trip_on_postgresql(postgres_db, postgres_url, made, tmp_path, monkeypatch):
    Group.objects.create(name="later")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE of_another_version (id int)")
    monkeypatch.setattr(settings, "QF_DATA_DIR", tmp_path / "to")
    with pytest.raises(CommandError, match="--force"):
        call_command("restore", str(made))
    (tmp_path / "to").rmdir() if not list((tmp_path / "to").iterdir()) else None
    call_command("restore", str(made), "--force", stdout=io.StringIO())
    assert list(Group.objects.values_list("name", flat=True)) == ["kept"]
    assert "of_another_version" not in connection.introspection.table_names()
    assert (tmp_path / "to" / "pki" / "ca.key").read_text() == "private"
    assert people.admin()  # sequences and all: rows can be added


def test_a_failing_restore_on_postgresql_changes_nothing(postgres_db, made, tmp_path, monkeypatch):
    Group.objects.create(name="later")
    monkeypatch.setattr(settings, "QF_DATA_DIR", tmp_path / "to")
    monkeypatch.setattr(dumps, "FRESH_SCHEMA", dumps.FRESH_SCHEMA + b"SELECT no_such_thing();\n")
    with pytest.raises(CommandError, match="no_such_thing"):
        call_command("restore", str(made), "--force")
    assert set(Group.objects.values_list("name", flat=True)) == {"kept", "later"}
    assert not (tmp_path / "to" / "pki").exists()


def test_a_backup_of_another_database_is_refused(postgres_db, made, tmp_path):
    done = restore_elsewhere(made, tmp_path)
    assert "the backup is of postgresql, DATABASE_URL names sqlite" in done.stderr


@pytest.mark.django_db(transaction=True)
def test_what_runs_is_not_replaced(made):
    people.online_client()
    assert Bridge.objects.exists()
    with pytest.raises(CommandError, match="stop it on all machines"):
        call_command("restore", str(made), "--force")


@pytest.mark.django_db(transaction=True)
def test_the_wrong_passphrase_and_damage_are_told_before_anything_changes(made, monkeypatch):
    Group.objects.create(name="later")
    whole = made.read_bytes()
    at = whole.index(b"data.tar.age") + 2000
    for damaged in (
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        whole[: len(whole) // 2],
        b"no tar at all",
        b"",
    ):
        made.write_bytes(damaged)
        with pytest.raises(CommandError, match="backup"):
            call_command("restore", str(made), "--force")
    made.write_bytes(whole)
    monkeypatch.setenv(passphrase.VARIABLE, "quite another one")
    with pytest.raises(CommandError, match="the passphrase is wrong"):
        call_command("restore", str(made), "--force")
    with pytest.raises(CommandError, match="No such file"):
        call_command("restore", str(made) + "x", "--force")
    assert set(Group.objects.values_list("name", flat=True)) == {"kept", "later"}


@pytest.mark.django_db(transaction=True)
def test_the_tools_of_age_open_a_backup(made):
    with tarfile.open(made) as tar:
        identity = pyrage.passphrase.decrypt(tar.extractfile("identity.age").read(), PASSPHRASE).decode()
        data = pyrage.decrypt(
            tar.extractfile("data.tar.age").read(), [pyrage.x25519.Identity.from_str(identity)]
        )
        assert tar.getnames() == ["manifest.json", "identity.age", "data.tar.age"]
    with tarfile.open(fileobj=io.BytesIO(data)) as inner:
        assert set(inner.getnames()) == {
            "secret_key", "secrets.key", "db.sqlite3", "pki/ca.key", "media/exports/报表.xlsx",
        }  # fmt: skip


@pytest.mark.parametrize(("field", "value", "words"), [("format", 99, "format 99"), ("more", 1, "no backup")])
@pytest.mark.django_db(transaction=True)
def test_a_manifest_of_another_version_is_refused(made, field, value, words):
    with tarfile.open(made) as tar:
        manifest = {**json.loads(tar.extractfile("manifest.json").read()), field: value}
    with tarfile.open(made, "w") as tar:
        backup._add(tar, "manifest.json", json.dumps(manifest).encode())
    with pytest.raises(CommandError, match=words):
        call_command("restore", str(made))


@pytest.mark.django_db(transaction=True)
def test_a_backup_that_fails_leaves_the_one_before(made, monkeypatch):
    before = made.read_bytes()
    monkeypatch.setattr(
        dumps, "dump", lambda directory: (_ for _ in ()).throw(dumps.DumpError("disk is full"))
    )
    with pytest.raises(CommandError, match="disk is full"):
        call_command("backup", str(made))
    assert made.read_bytes() == before
    monkeypatch.setenv(passphrase.VARIABLE, "short")
    with pytest.raises(CommandError, match="12 characters"):
        call_command("backup", str(made))


def test_without_the_programs_of_postgresql_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(dumps.shutil, "which", lambda name: None)
    monkeypatch.setattr(dumps, "Path", lambda *parts: tmp_path)
    with pytest.raises(dumps.DumpError, match="postgresql-client"):
        dumps._program("pg_dump")


def test_where_the_passphrase_comes_from(monkeypatch, tmp_path):
    file = tmp_path / "passphrase"
    file.write_text("of the file\nsecond line\n")
    assert passphrase.read_passphrase(str(file)) == "of the file"
    assert passphrase.read_passphrase(None) == PASSPHRASE
    file.write_text("\n")
    for name in (file, tmp_path / "missing"):
        with pytest.raises(CommandError, match="--passphrase-file"):
            passphrase.read_passphrase(str(name))
    monkeypatch.delenv(passphrase.VARIABLE)
    with pytest.raises(CommandError, match=passphrase.VARIABLE):
        passphrase.read_passphrase(None)
    monkeypatch.setattr(passphrase.sys.stdin, "isatty", lambda: True, raising=False)
    answers = iter(["typed", "typed", "typed", "mistyped"])
    monkeypatch.setattr(passphrase.getpass, "getpass", lambda prompt: next(answers))
    assert passphrase.read_passphrase(None, twice=True) == "typed"
    with pytest.raises(CommandError, match="two passphrases"):
        passphrase.read_passphrase(None, twice=True)
