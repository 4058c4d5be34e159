"""The Chinese catalogues: complete, without guesses, and compiled from what is committed."""

import re
from pathlib import Path

import pytest

from tests.quartzflow import catalogue

CATALOGUES = {
    "server": (catalogue.SERVER / "django.po", catalogue.server_texts),
    "browser": (catalogue.SERVER / "djangojs.po", catalogue.browser_texts),
    "agent": (catalogue.AGENT_CATALOGUE, catalogue.agent_texts),
}
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w+\}")


@pytest.fixture(params=CATALOGUES)
def path(request) -> Path:
    return CATALOGUES[request.param][0]


def test_every_text_is_translated_and_none_is_a_guess(path):
    texts = catalogue.entries(path)[1:]
    assert len(texts) > 20
    assert [e.msgid for e in texts if not all(e.strings.values())] == []
    assert [e.msgid for e in texts if "fuzzy" in e.flags] == []


def test_translations_keep_the_placeholders(path):
    for entry in catalogue.entries(path)[1:]:
        # Chinese has one form for all numbers: it stands for the plural, where there is one.
        wanted = set(PLACEHOLDER.findall(entry.plural or entry.msgid))
        for text in entry.strings.values():
            assert set(PLACEHOLDER.findall(text)) == wanted, entry.msgid


def test_the_compiled_catalogue_is_that_of_the_texts(path):
    compiled = catalogue.compiled(path.with_suffix(".mo"))
    for entry in catalogue.entries(path)[1:]:
        if entry.plural is None:
            assert compiled.get(entry.msgid) == entry.strings[0], f"run `make messages`: {entry.msgid}"
        else:
            assert compiled.get((entry.msgid, 0)) == entry.strings[0], f"run `make messages`: {entry.msgid}"
    assert len([key for key in compiled if key]) == len(catalogue.entries(path)) - 1


@pytest.mark.parametrize("name", CATALOGUES)
def test_every_text_that_the_sources_mark_is_in_the_catalogue(name):
    path, marked = CATALOGUES[name]
    known = {entry.msgid for entry in catalogue.entries(path)}
    assert sorted(marked() - known) == [], "run `make messages` and translate"


def test_no_text_is_kept_that_the_sources_do_not_mark():
    for path, marked in CATALOGUES.values():
        known = {entry.msgid for entry in catalogue.entries(path)[1:]}
        assert sorted(known - marked()) == [], "run `make messages`"


def test_texts_are_found_in_sources(tmp_path):
    """The finder itself: what it misses, the tests above would not notice."""
    source = tmp_path / "a.py"
    source.write_text("x = _lazy('One')\ny = ngettext('%d two', '%d twos', n) % n\nz = _(name)\n")
    assert list(catalogue.python_texts(source)) == ["One", "%d two"]
    page = tmp_path / "a.html"
    page.write_text(
        '{% load i18n %}{% translate "One" %}{% blocktranslate count counter=n %}One {{ counter }}{% plural %}Many'
        '{% endblocktranslate %}{% firstof x _("Two") %}'
    )
    assert set(catalogue.template_texts(page)) == {"One", "One %(counter)s", "Two"}
    script = tmp_path / "a.js"
    script.write_text('toast(_("One %(n)s.", { n }));')
    assert list(catalogue.script_texts(script)) == ["One %(n)s."]
