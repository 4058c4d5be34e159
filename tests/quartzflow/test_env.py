"""Settings from the environment."""

import dataclasses
import os
from pathlib import Path

import pytest

from quartzflow import env


def test_an_empty_environment_gives_the_defaults(tmp_path: Path) -> None:
    loaded = env.load({"QF_DATA_DIR": str(tmp_path)})
    assert (loaded.http_host, loaded.http_port, loaded.quic_host, loaded.quic_port) == (
        "127.0.0.1",
        8000,
        "127.0.0.1",
        8474,
    )
    assert loaded.redis_socket == tmp_path / "redis.sock"
    assert loaded.redis_url == f"unix://{tmp_path}/redis.sock"
    assert (loaded.database_url, loaded.secret_key, loaded.admin_password) == ("", "", "")
    assert {"localhost", "127.0.0.1", "[::1]"} <= set(loaded.allowed_hosts)
    assert loaded.local_agent
    assert (loaded.debug, loaded.legacy_clients, loaded.behind_proxy) == (False, False, False)


def test_the_default_data_directory_lies_in_the_project() -> None:
    assert env.load({}).data_dir == env.ROOT / "data"


def test_every_field_has_a_variable_and_a_description() -> None:
    fields = {field.name for field in dataclasses.fields(env.Env)} - {"redis_socket"}
    assert fields == set(env.VARIABLES)
    assert all(variable.help.endswith(".") for variable in env.VARIABLES.values())


def test_an_empty_value_counts_as_unset() -> None:
    assert env.load({"QF_HTTP_PORT": "", "QF_LOG_LEVEL": " "}).http_port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QF_DATA_DIR", __file__),
        ("QF_DATA_DIR", __file__ + "/data"),
        ("QF_HTTP_HOST", "http://localhost"),
        ("QF_HTTP_HOST", "10.0.0.300"),
        ("QF_HTTP_PORT", "0"),
        ("QF_HTTP_PORT", "65536"),
        ("QF_HTTP_PORT", "80a"),
        ("QF_MAX_RUNNING", "-1"),
        ("QF_MAX_RUNNING_PER_HOST", "many"),
        ("QF_HTTP_PORT", "８０"),
        ("QF_QUIC_HOST", "a b"),
        ("QF_QUIC_PORT", "-1"),
        ("DATABASE_URL", "mysql://localhost/quartz"),
        ("DATABASE_URL", "quartz"),
        ("DATABASE_URL", "postgres://"),
        ("DATABASE_URL", "postgres://host:port/name"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "unix://"),
        ("QF_SECRET_KEY", "short"),
        ("QF_LOCAL_AGENT", "perhaps"),
        ("QF_LOG_LEVEL", "loud"),
        ("QF_ALLOWED_HOSTS", "a.example.com,https://b.example.com"),
        ("QF_CSRF_TRUSTED_ORIGINS", "quartz.example.com"),
        ("QF_CSRF_TRUSTED_ORIGINS", "https://quartz.example.com/path"),
        ("QF_BEHIND_PROXY", "2"),
        ("QF_DEBUG", "maybe"),
        ("QF_LEGACY_CLIENTS", "x"),
        ("QF_TIME_ZONE", "Mars/Olympus"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(env.EnvError) as caught:
        env.load({name: value})
    assert str(caught.value).startswith(f"{name} ")
    assert "\n" not in str(caught.value)


def test_a_wrong_url_does_not_show_its_password() -> None:
    with pytest.raises(env.EnvError) as caught:
        env.load({"DATABASE_URL": "mysql://quartz:sesame@localhost/quartz"})
    assert "sesame" not in str(caught.value)


def test_values_are_read_with_their_types(tmp_path: Path) -> None:
    loaded = env.load(
        {
            "QF_DATA_DIR": str(tmp_path),
            "QF_HTTP_HOST": "::1",
            "QF_HTTP_PORT": "18000",
            "DATABASE_URL": "postgres://quartz:sesame@db.example.com:5432/quartz",
            "REDIS_URL": "redis://:sesame@cache.example.com:6379/1",
            "QF_LOCAL_AGENT": "off",
            "QF_LOG_LEVEL": "debug",
            "QF_CSRF_TRUSTED_ORIGINS": "https://quartz.example.com, http://localhost:8443",
        }
    )
    assert loaded.http_port == 18000
    assert loaded.redis_socket is None
    assert not loaded.local_agent
    assert loaded.log_level == "DEBUG"
    assert "[::1]" in loaded.allowed_hosts
    assert loaded.csrf_trusted_origins == ("https://quartz.example.com", "http://localhost:8443")


def test_what_is_printed_of_the_settings_shows_no_secret() -> None:
    given = {"QF_SECRET_KEY": "sesame" * 9, "QF_ADMIN_PASSWORD": "sesame-seed"}
    given |= {"DATABASE_URL": "postgres://q:sesame@localhost/q", "REDIS_URL": "redis://:sesame@localhost"}
    assert "sesame" not in repr(env.load(given))


def test_the_secret_key_is_read_from_its_file_unless_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("f" * 50 + "\n")
    assert env.load({"QF_DATA_DIR": str(tmp_path)}).secret_key == "f" * 50
    assert env.load({"QF_DATA_DIR": str(tmp_path), "QF_SECRET_KEY": "g" * 50}).secret_key == "g" * 50


def test_a_socket_path_that_is_too_long_moves_to_the_temporary_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    path = env.redis_socket(deep)
    assert len(os.fsencode(path)) <= env.SOCKET_PATH_LIMIT
    assert path == env.redis_socket(deep)
    assert path != env.redis_socket(deep / "other")


def test_the_limit_is_the_last_length_a_socket_can_have(tmp_path: Path) -> None:
    fits = Path("/" + "d" * (env.SOCKET_PATH_LIMIT - len("//redis.sock")))
    assert env.redis_socket(fits) == fits / "redis.sock"
    assert env.redis_socket(Path(f"{fits}d")).parent != Path(f"{fits}d")


def test_listening_everywhere_allows_the_addresses_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "own_addresses", lambda: ["192.0.2.7", "2001:db8::7"])
    hosts = env.load({"QF_HTTP_HOST": "0.0.0.0"}).allowed_hosts
    assert {"192.0.2.7", "[2001:db8::7]"} <= set(hosts)
    assert "0.0.0.0" not in hosts


def test_a_misspelt_variable_is_pointed_out() -> None:
    lines = env.unknown(
        {"QF_HTTP_PROT": "1", "QF_PARAM_DAY": "1", "QF_TASK_ID": "1", "QF_HTTP_PORT": "1", "HOME": "/"}
    )
    assert lines == ["QF_HTTP_PROT means nothing here; did you mean QF_HTTP_PORT?"]
