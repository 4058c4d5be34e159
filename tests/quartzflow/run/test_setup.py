"""Preparing an installation, step by step and again."""

import io
from pathlib import Path

import pytest
from django.conf import UserSettingsHolder
from django.contrib.auth import get_user_model
from django.core.management import call_command
from quartzflow_agent import config as agent_config
from quartzflow_agent.paths import Home

from groups_app.models import Client, EnrollmentToken, Group
from groups_app.secrets import token_hash
from quartzflow import env
from quartzflow.run import setup

User = get_user_model()


@pytest.fixture
def said() -> list[str]:
    return []


def loaded(directory: Path, **values: str) -> env.Env:
    return env.load({"QF_DATA_DIR": str(directory / "data"), **values})


def prepare(loaded_env: env.Env, said: list[str]) -> setup.Prepared:
    return setup.prepare(loaded_env, said.append)


@pytest.fixture(autouse=True)
def _without_side_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting static files takes seconds: one test does. A new secret key must not reach what follows the test."""
    monkeypatch.setattr(setup, "collect_static", lambda say: None)
    monkeypatch.setattr(setup, "settings", UserSettingsHolder(setup.settings))


def test_the_first_time_makes_everything_and_the_second_nothing(
    transactional_db: None, tmp_path: Path, said: list[str]
) -> None:
    prepared = prepare(loaded(tmp_path), said)
    assert User.objects.get(username="admin").check_password(prepared.new_password)
    assert prepared.new_password not in "".join(said)
    assert list(Group.objects.values_list("name", flat=True)) == ["default"]
    data = tmp_path / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "secret_key").stat().st_mode & 0o777 == 0o600
    assert len((data / "secret_key").read_text()) > 50
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    said.clear()
    again = prepare(loaded(tmp_path), said)
    assert (said, again.new_password) == ([], "")
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_given_password_is_used_and_not_told(
    transactional_db: None, tmp_path: Path, said: list[str]
) -> None:
    prepared = prepare(loaded(tmp_path, QF_ADMIN_PASSWORD="correct horse battery"), said)
    assert prepared.new_password == ""
    assert User.objects.get(username="admin").check_password("correct horse battery")


def test_a_weak_password_stops_before_anything_is_made(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(env.EnvError, match=r"^QF_ADMIN_PASSWORD is too weak: This password is too short"):
        prepare(loaded(tmp_path, QF_ADMIN_PASSWORD="12345"), said)
    assert not (tmp_path / "data").exists()


def test_who_has_a_superuser_gets_no_other(transactional_db: None, tmp_path: Path, said: list[str]) -> None:
    User.objects.create_superuser("root", "", "correct horse battery")
    assert prepare(loaded(tmp_path), said).new_password == ""
    assert not User.objects.filter(username="admin").exists()


def test_a_taken_name_is_told(transactional_db: None, tmp_path: Path, said: list[str]) -> None:
    User.objects.create_user("admin")
    prepare(loaded(tmp_path), said)
    assert any("createsuperuser" in line for line in said)
    assert not User.objects.filter(is_superuser=True).exists()


def test_a_directory_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "data" / "letters.txt").touch()
    with pytest.raises(env.EnvError, match=r"^QF_DATA_DIR holds other things"):
        setup.make_data_dir(tmp_path / "data")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o755


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(env.EnvError, match=r"^QF_DATA_DIR cannot be used"):
        setup.make_data_dir(tmp_path / "file" / "data")


def test_the_local_agent_gets_a_token_that_lets_it_in(
    transactional_db: None, tmp_path: Path, said: list[str]
) -> None:
    prepare(loaded(tmp_path, QF_QUIC_PORT="9474"), said)
    home = Home(tmp_path / "data" / "agent")
    config = agent_config.load(home)
    assert (config.client_id, config.group, str(config.servers[0])) == ("local", "default", "127.0.0.1:9474")
    token = EnrollmentToken.objects.get()
    assert token.token_hash == token_hash(agent_config.read_secret(home.enrollment_token))
    assert token.group.name == "default"


def test_once_joined_the_local_agent_keeps_its_credential_and_follows_the_port(
    transactional_db: None, tmp_path: Path, said: list[str]
) -> None:
    prepare(loaded(tmp_path), said)
    home = Home(tmp_path / "data" / "agent")
    home.enrollment_token.unlink()
    agent_config.write_secret(home.credential, "qfc_secret")
    Client.objects.create(client_id="local", credential_hash=token_hash("qfc_secret"))
    said.clear()
    prepare(loaded(tmp_path, QF_QUIC_PORT="9475", QF_QUIC_HOST="0.0.0.0"), said)
    assert agent_config.read_secret(home.credential) == "qfc_secret"
    assert not home.enrollment_token.exists()
    assert str(agent_config.load(home).servers[0]) == "127.0.0.1:9475"


def test_an_agent_of_a_lost_database_joins_anew(
    transactional_db: None, tmp_path: Path, said: list[str]
) -> None:
    prepare(loaded(tmp_path), said)
    home = Home(tmp_path / "data" / "agent")
    agent_config.write_secret(home.credential, "qfc_of_another_database")
    EnrollmentToken.objects.all().delete()
    prepare(loaded(tmp_path), said)
    assert not home.credential.exists()
    assert EnrollmentToken.objects.get().token_hash == token_hash(
        agent_config.read_secret(home.enrollment_token)
    )


def test_without_a_local_agent_there_is_no_token(
    transactional_db: None, tmp_path: Path, said: list[str]
) -> None:
    prepare(loaded(tmp_path, QF_LOCAL_AGENT="0"), said)
    assert not (tmp_path / "data" / "agent").exists()
    assert not EnrollmentToken.objects.exists()


def test_static_files_are_collected_once(tmp_path: Path, said: list[str], settings, monkeypatch) -> None:
    monkeypatch.undo()
    settings.STATIC_ROOT = str(tmp_path / "static")
    setup.collect_static(said.append)
    assert (tmp_path / "static" / "admin" / "css" / "base.css").exists()
    setup.collect_static(said.append)
    assert said == ["collecting static files"]


def test_the_command_prints_the_password_once(transactional_db: None, tmp_path: Path, settings) -> None:
    settings.ENV = loaded(tmp_path)
    first, second = io.StringIO(), io.StringIO()
    call_command("setup", stdout=first)
    settings.ENV = loaded(tmp_path)
    call_command("setup", stdout=second)
    password = first.getvalue().split("(not shown again): ")[1].strip()
    assert User.objects.get(username="admin").check_password(password)
    assert second.getvalue() == ""
