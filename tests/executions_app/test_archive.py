"""What leaves the database is in files before, whole and once."""

import io
import json
import os
from datetime import timedelta

import pytest
import time_machine
from django.core.management import CommandError, call_command

from executions_app import archive, retention
from executions_app.models import Execution
from quartzflow.execution_status import ExecutionStatus
from quartzflow.lease import LeaseKeeper
from tests import people
from tests.executions_app.test_retention import NOW, all_steps, entered, keep, short_steps, totals

SUCCESS, RUNNING = ExecutionStatus.SUCCESS, ExecutionStatus.RUNNING


@pytest.fixture(autouse=True)
def _somewhere(settings, tmp_path):
    settings.QF_ARCHIVE_DIR = tmp_path / "archive"
    with time_machine.travel(NOW, tick=True):
        yield


def test_a_day_becomes_one_file_with_its_checksum(db, tmp_path, monkeypatch):
    keep()
    rows = [entered(40, output=f"line {n} 中文\n", local=True) for n in range(5)]
    short_steps(monkeypatch, looks=4)
    all_steps()
    (file,) = archive.files()
    assert file.path.name == f"executions-{NOW - timedelta(days=40):%Y-%m-%d}.jsonl.gz"
    assert archive.check(file) == ""
    assert sorted(path.name for path in archive.directory().iterdir()) == [
        file.path.name, file.checksum_path.name,
    ]  # fmt: skip
    lines = list(archive.read(file.day, archive.EXECUTIONS))
    assert [line["id"] for line in lines] == [row.pk for row in rows]
    first = lines[0]
    assert (first["status"], first["log"]["output"], first["attempts"][0]["number"]) == (
        "SUCCESS", "line 0 中文\n", 0,
    )  # fmt: skip
    assert (first["execution_id"], first["start_time"]) == (
        rows[0].execution_id, rows[0].start_time.isoformat(),
    )  # fmt: skip
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_outputs_have_files_of_their_own(db):
    keep(output_days=7)
    row = entered(8)
    all_steps()
    (file,) = archive.files()
    assert file.kind == archive.OUTPUTS
    (line,) = archive.read(file.day, archive.OUTPUTS)
    assert (line["id"], line["task_id"], line["log"]["output"]) == (row.pk, 7, "done\n")


def test_what_comes_later_is_added_to_the_days_file(db):
    keep()
    live = entered(40, RUNNING)
    first = entered(40)
    all_steps()
    Execution.objects.filter(pk=live.pk).update(status=SUCCESS)
    all_steps()
    (file,) = archive.files()
    assert [line["id"] for line in archive.read(file.day, archive.EXECUTIONS)] == [first.pk, live.pk]
    assert archive.check(file) == ""


def test_a_crash_before_the_deletion_loses_and_doubles_nothing(db, monkeypatch):
    keep()
    monkeypatch.setattr(retention, "BATCH", 2)
    rows = [entered(40) for _n in range(4)]
    delete, calls = retention._delete_executions, []

    def dies(pks):
        calls.append(pks)
        if len(calls) == 2:
            raise RuntimeError("the machine is gone")
        return delete(pks)

    monkeypatch.setattr(retention, "_delete_executions", dies)
    with pytest.raises(RuntimeError):
        retention.remove_old()
    assert Execution.objects.count() == 2
    all_steps()
    (file,) = archive.files()
    assert [line["id"] for line in archive.read(file.day, archive.EXECUTIONS)] == [row.pk for row in rows]
    assert Execution.objects.count() == 0
    assert totals(file.day) == {"web-1": (4, 0, 400, 100, 100)}


def test_what_cannot_be_written_is_not_deleted(db, settings, tmp_path):
    keep()
    (tmp_path / "file").write_text("")
    settings.QF_ARCHIVE_DIR = tmp_path / "file" / "archive"
    entered(40)
    with pytest.raises(OSError, match="file"):
        retention.remove_old()
    assert Execution.objects.count() == 1
    assert LeaseKeeper(retention.LEASE).keep(), "the next step may begin at once"


def test_what_a_crash_left_half_written_goes_after_a_day(db):
    keep()
    entered(40)
    archive.directory().mkdir()
    old, new = (archive.directory() / f".{name}.jsonl.gz.abcd.new" for name in ("old", "new"))
    for path, age in ((old, 25), (new, 1)):
        path.write_bytes(b"half")
        at = (NOW - timedelta(hours=age)).timestamp()
        os.utime(path, (at, at))
    all_steps()
    assert [path.exists() for path in (old, new)] == [False, True]
    assert len(archive.files()) == 1


def test_it_can_be_left_out(db):
    keep(archive=False)
    entered(40)
    all_steps()
    assert (Execution.objects.count(), archive.files()) == (0, [])


def test_old_files_go(db):
    keep(archive_days=35)
    entered(40)
    all_steps()
    assert (Execution.objects.count(), archive.files()) == (0, [])
    keep(archive_days=41)
    entered(40)
    all_steps()
    assert len(archive.files()) == 1


def test_damage_is_found(db):
    keep()
    entered(40)
    all_steps()
    (file,) = archive.files()
    file.path.write_bytes(file.path.read_bytes()[:-9] + b"x")
    assert archive.check(file) == "its checksum is another one"
    with pytest.raises(archive.Damaged, match=file.path.name):
        list(archive.read(file.day, archive.EXECUTIONS))
    file.checksum_path.unlink()
    assert archive.check(file) == "its checksum is missing"


def test_the_archive_is_listed_checked_and_read(db, capsys):
    keep(output_days=7)
    row = entered(8)
    all_steps()
    day = str((NOW - timedelta(days=8)).date())

    def command(*options):
        out = io.StringIO()
        call_command("executions", "archive", *options, stdout=out)
        return out.getvalue()

    people.admin()
    assert f"outputs-{day}.jsonl.gz" in command()
    (listed,) = json.loads(command("--check", "--json"))
    assert (listed["day"], listed["kind"], listed["check"]) == (day, "outputs", "ok")
    assert (
        json.loads(command("--day", day, "--kind", "outputs", "--id", str(row.pk)))["log"]["output"]
        == "done\n"
    )
    assert command("--day", day, "--kind", "outputs", "--id", "0") == ""
    with pytest.raises(CommandError, match="has no executions of"):
        command("--day", day)
    with pytest.raises(CommandError, match="permission"):
        command("--user", people.stranger().username)
    (file,) = archive.files()
    file.path.write_bytes(b"x")
    with pytest.raises(CommandError, match="not as they were written"):
        command("--check")
    with pytest.raises(CommandError, match=r"jsonl\.gz: "):
        command("--day", day, "--kind", "outputs")
