"""The API's description: whole, valid, for people with an account, and shown without scripts within pages."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tests import people

from .test_api import api

pytestmark = pytest.mark.django_db
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    GENERATOR_STATS.reset()
    return SchemaGenerator().get_schema(public=True)


def operations(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_it_is_valid_and_nothing_was_guessed(schema):
    validate_schema(schema)
    assert not GENERATOR_STATS._warn_cache and not GENERATOR_STATS._error_cache


def test_every_operation_has_its_words_the_envelope_and_the_errors(schema):
    for name, operation in operations(schema):
        assert {"400", "401", "403", "404"} <= set(operation["responses"]), name
        assert any(code.startswith("2") for code in operation["responses"]), name
        for code, response in operation["responses"].items():
            for kind, content in response.get("content", {}).items():
                if kind == "application/json" and not name.endswith("/export"):
                    assert set(content["schema"]["properties"]) == {"code", "data"}, (name, code)


def test_bodies_refuse_what_they_do_not_know_and_paths_are_written_without_a_slash(schema):
    task = schema["components"]["schemas"]["TaskWrite"]
    assert task["additionalProperties"] is False and "required" not in task
    assert schema["components"]["schemas"]["TaskCreate"]["required"] == ["name"]
    assert all(not path.endswith("/") for path in schema["paths"])
    assert "/api/v1/executions/{id}/logs/full" in schema["paths"]


@pytest.mark.parametrize("path", ["/api/schema", "/api/schema/"])
def test_it_is_for_people_with_an_account(path):
    assert Client().get(path).status_code == 401
    answer = api(people.stranger()).get(path)
    assert answer.status_code == 200 and b"openapi: 3.1" in answer.content
    assert api().get(path, {"format": "json"}).json()["info"]["title"] == "Quartz-Flow API"


@pytest.mark.parametrize("page", ["swagger", "redoc"])
def test_its_pages_hold_no_script_and_want_an_account(page):
    assert Client().get(f"/api/schema/{page}/")["Location"].startswith("/console/login/")
    client = Client()
    client.force_login(User.objects.create_superuser("somebody"))
    answer = client.get(f"/api/schema/{page}")
    text = answer.content.decode()
    assert text.count("<script src=") + text.count('<script type="module" src=') == text.count("<script") == 2
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert "<style" not in text and "style=" not in text
