"""Placeholders: their grammar, and that no value ever gets out of the place where it is put."""

import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quartzflow_agent.request_text import check_url, fill_body, fill_header, fill_url
from quartzflow_agent.script_text import fill_script, interpreter_of
from quartzflow_agent.substitution import SubstitutionError, find, replace

EVIL = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    st.text("\"'`$(){}\\;&|<>*? \n\t#!~ab", max_size=30),
    st.sampled_from(
        ["$(touch /tmp/no)", "'; exit 9; '", '"; exit 9; "', "`exit 9`", "-n", "{{ params.x }}", ""]
    ),
)


def test_only_the_two_namespaces_are_placeholders():
    text = "{{ params.a }} {{secrets.B}} {{ .Names }} {{ item.params }} {{ paramsx.y }} ${{ env.X }} {{\tparams.a}}"
    assert find(text) == {("params", "a"), ("secrets", "B")}


@pytest.mark.parametrize(
    "text",
    [
        "{{ params.x | upper }}",
        "{{ params.x",
        "{{ params }}",
        "{{ params.1 }}",
        "{{ params.a.b }}",
        "{{ secrets. }}",
    ],
)
def test_what_is_nearly_a_placeholder_is_refused(text):
    with pytest.raises(SubstitutionError, match=r"a placeholder is written \{\{ (params|secrets).NAME \}\}"):
        find(text)


def test_values_are_quoted_and_never_read_for_placeholders_again():
    values = {("secrets", "A"): "{{ secrets.B }}", ("secrets", "B"): "no"}
    text = replace(
        "{{ secrets.A }} {{ params.x }}", lambda *name: values.get(name), lambda value: f"<{value}>"
    )
    assert text == "<{{ secrets.B }}> {{ params.x }}"


# --- scripts ---------------------------------------------------------------------------------------------


PLACES = r"""
printf '%s\0' {{ params.x }} "a{{params.x}}b" x{{ params.x }}y "$(printf '%s.' {{ params.x }})" # don't {{ params.x }}
printf '%s\0' "$(printf '%s.' "{{ params.x }}")" "${unset:-{{ params.x }}}"
cat <<END; cat <<-	TAB
{{ params.x }}
END
	{{ params.x }}
	TAB
"""


@pytest.mark.parametrize("shell", ["sh", "bash"])
@settings(max_examples=60, deadline=None)
@given(value=EVIL)
def test_no_value_gets_out_of_its_quotes_in_a_shell(shell, value):
    script = fill_script(PLACES, shell)
    found = subprocess.run(
        [shell, "-c", script],
        env={"PATH": os.defpath, "QF_PARAM_X": value},
        capture_output=True,
        check=True,
        timeout=20,
    )
    inner = f"{value}."
    wanted = [value, f"a{value}b", f"x{value}y", inner, inner, value, f"{value}\n{value}\n"]
    assert found.stdout.decode().split("\0") == wanted
    assert found.stderr == b""


@pytest.mark.parametrize(
    ("interpreter", "script"),
    [
        ("python3", "import sys; sys.stdout.write({{ params.x }})"),
        ("perl", "binmode STDOUT; print {{ params.x }}"),
        ("node", "process.stdout.write({{ params.x }})"),
    ],
)
def test_other_interpreters_get_an_expression(interpreter, script):
    value = "'\"`$(exit 9)\\\n"
    option = {"python3": "-c"}.get(interpreter, "-e")
    script = fill_script(script, interpreter)
    found = subprocess.run(
        [interpreter, option, script],
        env={"PATH": os.environ["PATH"], "QF_PARAM_X": value}, capture_output=True, check=True, timeout=20,
    )  # fmt: skip
    assert found.stdout.decode() == value


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("echo '{{ params.x }}'", "in single quotes"),
        ("echo $'a\\'{{ params.x }}'", "in single quotes"),
        ("echo \"$(echo '{{ params.x }}')\"", "in single quotes"),
        ("echo `echo {{ params.x }}`", "in backticks"),
        ('echo "`echo {{ params.x }}`"', "in backticks"),
        ("echo $((1 + {{ params.x }}))", "in arithmetic"),
        ("((y = {{ params.x }}))", "in arithmetic"),
        ("[[ {{ params.x }} -eq 1 ]]", "in arithmetic"),
        ("echo \\{{ params.x }}", r"behind a \\ or \$"),
        ('echo "\\{{ params.x }}"', r"behind a \\ or \$"),
        ("cat <<'END'\n{{ params.x }}\nEND", "quoted end mark"),
        ("cat <<END\n$(date) {{ params.x }}\nEND", "a here-document that runs commands"),
        ("cat <<{{ params.x }}\nEND", "in the end mark"),
        ('echo "$(case a in a) echo b;; esac) {{ params.x }}"', "whose quotes are not clear"),
        ('echo "${y%\\}} {{ params.x }}"', "whose quotes are not clear"),
    ],
)
def test_where_a_shell_could_not_take_it_as_text_it_is_refused(script, place):
    with pytest.raises(SubstitutionError, match=place) as found:
        fill_script(script, "")
    assert "QF_PARAM_X" in str(found.value)


def test_behind_such_a_place_it_is_as_ever():
    script = "echo `date` $((1 + 1)) 'it''s' $'\\'' \"$(date)\" <<<x; case a in a) echo {{ params.x }};; esac"
    assert fill_script(script, "bash").endswith('echo "${QF_PARAM_X}";; esac')


def test_a_command_without_placeholders_is_left_alone():
    assert (
        fill_script("docker ps --format '{{ .Names }}' `x", "php") == "docker ps --format '{{ .Names }}' `x"
    )


def test_an_interpreter_of_which_nothing_is_known_and_secrets_are_refused():
    with pytest.raises(
        SubstitutionError, match="not filled in for php; read the environment variable QF_PARAM_DAY"
    ):
        fill_script("echo {{ params.day }}", "/usr/bin/php")
    with pytest.raises(SubstitutionError, match="set an environment variable to it"):
        fill_script("echo {{ secrets.KEY }}", "")


@pytest.mark.parametrize(
    ("command", "setting", "name"),
    [
        ("x", "", "sh"), ("x", "/bin/bash", "bash"), ("x", "python3.11", "python"),
        ("#!/bin/dash -e\nx", "perl", "dash"),
        ("#!/usr/bin/env -S A=b python3 -u\nx", "", "python"), ("x", "nodejs", "node"), ("#!\nx", "perl", "sh"),
    ],
)  # fmt: skip
def test_the_interpreter_is_told_by_the_first_line_or_the_setting(command, setting, name):
    assert interpreter_of(command, setting) == name


# --- requests --------------------------------------------------------------------------------------------


@given(value=EVIL)
def test_no_value_gets_out_of_its_part_of_an_address(value):
    if value in (".", ".."):
        return
    url = fill_url("http://host:80/a/{{ params.x }}/b?q={{ params.x }}&r=1#{{ params.x }}", lambda one: value)
    parts = urlsplit(url)
    assert (parts.netloc, parts.path.count("/")) == ("host:80", 3)
    assert unquote(parts.path.split("/")[2]) == value
    assert parse_qs(parts.query, keep_blank_values=True) == {"q": [value], "r": ["1"]}


def test_a_value_leads_neither_to_another_host_nor_up_the_path():
    with pytest.raises(SubstitutionError, match=r"would be \. or \.\."):
        fill_url("http://host/a/{{ params.x }}{{ params.x }}/b", lambda one: ".")
    for url in (
        "http://{{ params.x }}/",
        "{{ params.x }}://host/",
        "http://host{{ params.x }}",
        "http://u:{{ params.x }}@h",
    ):
        with pytest.raises(SubstitutionError, match="scheme, host and port of the address are fixed"):
            check_url(url)


@given(value=EVIL)
def test_no_value_gets_out_of_its_text_in_json(value):
    body = (
        r'{"a": "x\"{{ params.x }}y", "b": {{ params.x }}, "{{ params.x }}k": [1, {{params.x}}], "c": "\\"}'
    )
    found = json.loads(fill_body(body, "application/vnd.api+json; charset=utf-8", lambda one: value))
    assert found["a"] == f'x"{value}y'
    assert str(found["b"]) == value or found["b"] == json.loads(value)
    assert set(found) == {"a", "b", "c", f"{value}k"}
    assert found[f"{value}k"][1] == found["b"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("5", 5),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ("007", "007"),
        ("NaN", "NaN"),
        ("[1]", "[1]"),
        ("1, 2", "1, 2"),
    ],
)
def test_outside_of_quotes_a_value_becomes_one_json_value(value, found):
    assert json.loads(fill_body(' {"n": {{ params.n }}}', "", lambda one: value)) == {"n": found}


@given(value=EVIL)
def test_no_value_gets_out_of_its_field_in_a_form_or_its_text_in_xml(value):
    form = fill_body("a={{ params.x }}&b=1", "application/x-www-form-urlencoded", lambda one: value)
    assert parse_qs(form, keep_blank_values=True) == {"a": [value], "b": ["1"]}
    plain = "".join(char for char in value if char in "\t\n" or " " <= char < "\ufffe")
    xml = ElementTree.fromstring(
        fill_body('<a b="{{params.x}}">{{ params.x }}</a>', "text/xml", lambda one: plain)
    )
    assert (xml.text or "", len(xml)) == (plain, 0)
    assert fill_body("a {{ params.x }}", "text/plain", lambda one: value) == f"a {value}"
    assert fill_body("a {{ params.x }}", "", lambda one: value) == f"a {value}"


def test_what_would_break_a_header_or_has_no_quoting_is_refused():
    assert fill_header("Bearer {{ params.x }}", lambda one: "a\tb€") == "Bearer a\tb€"
    with pytest.raises(SubstitutionError, match="one line without control characters"):
        fill_header("{{ params.x }}", lambda one: "a\r\nHost: b")
    with pytest.raises(SubstitutionError, match="not filled in for a body of the type multipart/form-data"):
        fill_body("{{ params.x }}", "multipart/form-data", lambda one: "1")
    with pytest.raises(SubstitutionError, match="behind a backslash"):
        fill_body(r'{"a": "\{{ params.x }}"}', "", lambda one: "n")
