"""What browsers get: vendored files as recorded, nothing inline, nothing newer than the promised browsers."""

import hashlib
import json
import re

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders

from quartzflow.templatetags.console import ICON_SPRITE
from tests.quartzflow.catalogue import ROOT

STATIC = ROOT / "static"
VENDOR = STATIC / "vendor"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
STYLES = sorted((STATIC / "css").glob("*.css"))

# Chrome 90, Firefox 88, Safari 14 do not know these (PRD §4.5.2).
TOO_NEW_SCRIPT = {
    "logical assignment": r"\?\?=|\|\|=|&&=",
    "class fields": r"class [^{]*\{\s*(static )?#?\w+ = ",
    "private members": r"this\.#",
    "Array.at": r"\.at\(",
    "Object.hasOwn": r"Object\.hasOwn\b",
    "structuredClone": r"structuredClone",
    "findLast": r"\.findLast",
    "toSorted": r"\.to(Sorted|Reversed|Spliced)\(",
    "top-level await": r"^await ",
    "crypto.randomUUID": r"randomUUID",
    "error causes": r"\bcause:",
    "dialog": r"showModal",
    ":focus-visible outside a try": r"(?<!return element)\.matches\(\":focus-visible",
}
TOO_NEW_STYLE = {
    ":has()": r":has\(",
    "container queries": r"@container",
    "cascade layers": r"@layer",
    "color-mix": r"color-mix\(",
    "oklch": r"oklch\(",
    "nesting": r"^\s+&",
    "dynamic viewport units": r"\d[dsl]vh",
    "inset": r"^\s*inset:",
    "aspect-ratio": r"aspect-ratio:",
}
INLINE = {
    "a style attribute": r"\sstyle\s*=",
    "an event handler": r"\son[a-z]+\s*=\s*[\"']",
    "an inline script": r"<script(?![^>]*\bsrc=)[^>]*>",
    "an inline style sheet": r"<style",
    "a javascript: link": r"javascript:",
}


def manifest():
    return json.loads((VENDOR / "manifest.json").read_text())


def test_vendored_files_are_those_of_the_manifest():
    recorded = {}
    for entry in manifest():
        assert re.fullmatch(r"npm:\S+@\d\S*", entry["source"]), entry
        assert "LICENSE" in entry["files"], entry
        directory = VENDOR / f"{entry['name']}-{entry['version']}"
        recorded |= {directory / name: digest for name, digest in entry["files"].items()}
    found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*/*")}
    assert found == recorded


def test_vendored_files_name_no_source_maps():
    assert [path for path in VENDOR.rglob("*.[cj]ss*") if "sourceMappingURL" in path.read_text()] == []
    assert [path for path in VENDOR.rglob("*.js") if "sourceMappingURL" in path.read_text()] == []


def test_every_icon_that_is_used_is_in_the_sprite():
    have = set(re.findall(r'<symbol id="([\w-]+)"', (STATIC / ICON_SPRITE).read_text()))
    used = {name for path in TEMPLATES for name in re.findall(r'{% icon "([\w-]+)"', path.read_text())}
    used |= {name for path in SCRIPTS for name in re.findall(r'\bicon\("([\w-]+)"', path.read_text())}
    for path in ROOT.glob("*/*admin*.py"):
        used |= set(re.findall(r'(?:"icon": |\bicon = |empty_icon = )"([\w-]+)"', path.read_text()))
    assert len(used) > 30
    assert used - have == set()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_templates_have_nothing_inline(path):
    text = path.read_text()
    assert {what for what, pattern in INLINE.items() if re.search(pattern, text)} == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_keep_to_the_promised_browsers_and_build_no_markup(path):
    text = path.read_text()
    assert {what for what, pattern in TOO_NEW_SCRIPT.items() if re.search(pattern, text, re.M)} == set()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_style_sheets_keep_to_the_promised_browsers(path):
    text = path.read_text()
    assert {what for what, pattern in TOO_NEW_STYLE.items() if re.search(pattern, text, re.M)} == set()


@pytest.mark.parametrize("path", [*SCRIPTS, *STYLES], ids=lambda path: path.name)
def test_modules_stay_small(path):
    assert len(path.read_text().splitlines()) < 400


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_style_sheets_use_only_variables_that_exist(path):
    defined = set(re.findall(r"(--[\w-]+):", (STATIC / "css" / "tokens.css").read_text()))
    assert set(re.findall(r"var\((--[\w-]+)", path.read_text())) - defined == set()


def test_static_files_that_pages_name_exist():
    named = {name for path in TEMPLATES for name in re.findall(r"{% static '([^']+)' %}", path.read_text())}
    assert len(named) > 15
    assert [name for name in named if not finders.find(name)] == []


def test_modules_import_only_what_is_there():
    for path in SCRIPTS:
        for name in re.findall(r'from "\./([^"]+)"', path.read_text()):
            assert (path.parent / name).exists(), f"{path.name} imports {name}"


def test_the_content_security_policy_allows_nothing_unsafe():
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    assert directives["default-src"] == ["'self'"]
    assert not [
        value for values in directives.values() for value in values if "unsafe" in value or value == "*"
    ]
