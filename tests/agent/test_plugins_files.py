"""directory_backup and file_checksum."""

import os
import re
import tarfile

import pytest
from quartzflow_agent.plugins import ParamError, PluginFailed, directory_backup, file_checksum, find


def run(plugin_name, /, **params):
    plugin = find(plugin_name)
    plugin.run(**plugin.parse(params))


@pytest.fixture
def source(tmp_path):
    found = tmp_path / "data"
    (found / "sub").mkdir(parents=True)
    (found / "a.txt").write_text("alpha")
    (found / "sub/b.txt").write_text("beta")
    (found / "sub/c.tmp").write_text("gamma")
    (found / "link").symlink_to("a.txt")
    return found


# --- directory_backup ---


def archives(target):
    return sorted(path.name for path in target.iterdir())


def test_a_directory_is_saved(source, tmp_path, capsys):
    target = tmp_path / "new/backups"
    run("directory_backup", source=str(source), target=str(target), exclude=["*.tmp"])
    (name,) = archives(target)
    assert re.fullmatch(r"data-\d{8}T\d{6}Z\.tar\.gz", name)
    assert (target / name).stat().st_mode & 0o777 == 0o600
    with tarfile.open(target / name) as archive:
        assert sorted(archive.getnames()) == ["data", "data/a.txt", "data/link", "data/sub", "data/sub/b.txt"]
        assert archive.extractfile("data/a.txt").read() == b"alpha"
    assert "5 entries" in capsys.readouterr().out


def test_the_oldest_archives_go_and_nothing_else(source, tmp_path):
    target = tmp_path / "backups"
    target.mkdir()
    others = ["data-2020.tar.gz", "data-more-20200101T000000Z.tar.gz", "x-20200101T000000Z.tar.gz"]
    for name in [*others, *(f"data-2020010{day}T000000Z.tar.gz" for day in range(1, 5))]:
        (target / name).touch()
    run("directory_backup", source=str(source), target=str(target), keep=2)
    left = archives(target)
    assert set(others) < set(left)
    assert len(left) == 5
    assert "data-20200104T000000Z.tar.gz" in left


def test_a_backup_that_fails_leaves_the_old_ones(source, tmp_path, monkeypatch):
    target = tmp_path / "backups"
    target.mkdir()
    (target / "data-20200101T000000Z.tar.gz").touch()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory_backup.os, "fsync", full)
    with pytest.raises(PluginFailed, match="No space left"):
        run("directory_backup", source=str(source), target=str(target), keep=1)
    assert archives(target) == ["data-20200101T000000Z.tar.gz"]


def test_a_file_that_goes_meanwhile_is_left_out(source, tmp_path, monkeypatch, capsys):
    add = tarfile.TarFile.addfile

    def and_delete(self, info, *rest):
        add(self, info, *rest)
        if info.name == "data/sub/b.txt":
            (source / "sub/c.tmp").unlink()

    monkeypatch.setattr(tarfile.TarFile, "addfile", and_delete)
    run("directory_backup", source=str(source), target=str(tmp_path / "backups"))
    assert "c.tmp: gone before it could be saved" in capsys.readouterr().out
    (name,) = archives(tmp_path / "backups")
    with tarfile.open(tmp_path / "backups" / name) as archive:
        assert sorted(archive.getnames()) == ["data", "data/a.txt", "data/link", "data/sub", "data/sub/b.txt"]


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"source": "data"}, ParamError),
        ({"source": "/no/such/directory"}, PluginFailed),
        ({"target": "backups"}, ParamError),
        ({"target": "{source}/sub/backups"}, ParamError),
        ({"target": "{source}"}, ParamError),
        ({"name": "../x"}, ParamError),
        ({"name": ".x"}, ParamError),
        ({"min_free_mb": 10**12}, PluginFailed),
    ],
)
def test_what_cannot_be_saved(source, tmp_path, params, error):
    given = {"source": str(source), "target": str(tmp_path / "backups"), **params}
    given = {
        name: value.format(source=source) if isinstance(value, str) else value
        for name, value in given.items()
    }
    with pytest.raises(error):
        run("directory_backup", **given)


# --- file_checksum ---


@pytest.fixture
def watch(source, tmp_path):
    def look(**params):
        run("file_checksum", **{"paths": [str(source)], "baseline": str(tmp_path / "base.json"), **params})

    return look


def test_the_first_run_writes_what_the_next_compare_with(source, watch, capsys):
    watch()
    assert "written, 3 files" in capsys.readouterr().out
    watch()
    (source / "a.txt").write_text("ALPHA")
    (source / "sub/b.txt").unlink()
    (source / "new").touch()
    with pytest.raises(PluginFailed) as caught:
        watch()
    assert str(caught.value).splitlines() == [
        f"{source}/sub/b.txt: missing",
        f"{source}/new: new",
        f"{source}/a.txt: changed",
    ]
    watch(update=True)
    watch()


def test_a_list_as_sha256sum_has_it(source, watch, tmp_path):
    known = tmp_path / "SHA256SUMS"
    file = source / "a.txt"
    known.write_text(f"8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8  {file}\n")
    watch(paths=[str(file)], baseline=str(known))
    file.write_text("x")
    with pytest.raises(PluginFailed, match="changed"):
        watch(paths=[str(file)], baseline=str(known))
    known.write_text("nonsense\n")
    with pytest.raises(PluginFailed, match="line 1"):
        watch(paths=[str(file)], baseline=str(known))


def test_a_path_that_is_missing(source, watch):
    with pytest.raises(PluginFailed, match="none: missing"):
        watch(paths=[str(source), str(source / "none")])
    watch()
    with pytest.raises(PluginFailed, match=r"^[^\n]*none: missing$"):
        watch(paths=[str(source), str(source / "none")])


def test_a_directory_or_file_that_cannot_be_read(source, watch, monkeypatch):
    def walk(path, onerror):
        onerror(PermissionError(13, "Permission denied", str(path)))

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(PluginFailed, match="Permission denied"):
        watch()
    monkeypatch.undo()
    monkeypatch.setattr(file_checksum, "MOST_FILES", 2)
    with pytest.raises(PluginFailed, match="3 files; at most 2"):
        watch()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("{}", "damaged"),
        ('{"algorithm": "sha256", "files": []}', "damaged"),
        ('{"algorithm": "md5", "files": {}}', "made with md5"),
    ],
)
def test_a_baseline_that_cannot_be_used(watch, tmp_path, text, message):
    (tmp_path / "base.json").write_text(text)
    with pytest.raises(PluginFailed, match=message):
        watch()


@pytest.mark.parametrize(
    "params", [{"paths": []}, {"paths": ["a"]}, {"baseline": "b.json"}, {"algorithm": "crc32"}]
)
def test_parameters_that_are_refused(watch, params):
    with pytest.raises(ParamError):
        watch(**params)
