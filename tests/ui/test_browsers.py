"""Scripts are parsed as the oldest promised browsers parse them, and pages report what goes wrong in them."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.quartzflow.catalogue import ROOT
from tests.services import Stack, wait_until
from tests.ui.conftest import Visitor

ACORN = Path(__file__).parent / "vendor" / "acorn-8.19.0" / "acorn.js"
# What Chrome 90, Firefox 88 and Safari 14 have in common (PRD §4.5.2): ECMAScript 2020. Safari 14.0 has no class
# fields, and of 2021 no more than parts.
YEAR = 2020
PARSE = """([text, ecmaVersion, sourceType]) => {
  try {
    acorn.parse(text, { ecmaVersion, sourceType });
    return "";
  } catch (error) {
    return String(error);
  }
}"""
SCRIPTS = sorted((ROOT / "static").rglob("*.js"))


def test_every_script_parses_in_the_promised_browsers(chrome: Browser):
    page = chrome.new_page()
    page.add_script_tag(path=ACORN)

    def fault(text: str, kind: str) -> str:
        return page.evaluate(PARSE, [text, YEAR, kind])

    # The parser does refuse what is newer, and takes what is not.
    for newer in ("a ||= b", "class A { #x = 1 }", "class A { x = 1 }", "class A { static {} }", "await x"):
        assert "SyntaxError" in fault(newer, "module"), newer
    assert fault("export const a = b?.c ?? 2n;", "module") == ""
    found = {
        str(path.relative_to(ROOT)): fault(
            path.read_text(), "module" if "vendor" not in path.parts else "script"
        )
        for path in SCRIPTS
    }
    page.close()
    assert len(found) > 30
    assert {path: what for path, what in found.items() if what} == {}


def test_what_goes_wrong_in_a_page_reaches_the_servers_log(chrome: Browser, stack: Stack):
    page = Visitor(chrome.new_page(), stack.url, stack.password).log_in()
    page.wait_for_load_state()
    page.evaluate("() => { setTimeout(() => { throw new Error('thrown by a test'); }); }")
    page.evaluate("() => { Promise.reject(new Error('refused by a test')); }")
    page.evaluate(
        "() => { document.body.append(Object.assign(new Image(), { src: '/static/no-such.png' })); }"
    )
    page.evaluate(
        "() => { document.body.append(Object.assign(new Image(), { src: 'http://elsewhere.test/a.png' })); }"
    )
    expected = ("thrown by a test", "refused by a test", "no-such.png", "img-src http://elsewhere.test/a.png")

    def missing() -> list[str]:
        text = stack.log.read_text()
        return [what for what in expected if what not in text]

    wait_until(lambda: not missing(), 10, lambda: f"in the log: {missing()}")
    page.context.close()
