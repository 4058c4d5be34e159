"""What a page shows of a growing output, piece by piece."""

from tests.ui.conftest import Visitor

FOLLOW = """async (steps) => {
  const { LogFollower } = await import("/static/js/log_follower.js");
  const viewer = {
    shown: "",
    set(text) { this.shown = text; },
    append(text) { this.shown += text; },
    get open() { return this.shown !== "" && !this.shown.endsWith("\\n"); },
  };
  let asked = 0;
  const follower = new LogFollower(viewer, "", () => (asked += 1));
  for (const [what, ...values] of steps) follower[what](...values);
  return [viewer.shown, asked, follower.bytes];
}"""


def test_pieces_are_shown_once_and_gaps_are_named(visitor: Visitor) -> None:
    visitor.speak("en")
    page = visitor.open("/console/login/")

    def shown(*steps: list[object]) -> list[object]:
        return page.evaluate(FOLLOW, list(steps))

    one, two = ["increment", 0, "日志 one\n"], ["increment", 11, "two\n"]
    assert shown(one, two, one, two) == ["日志 one\ntwo\n", 0, 15]
    assert shown(one, ["increment", 3, "志 one\ntwo\nthr"]) == ["日志 one\ntwo\nthr", 0, 18]
    # What was missed is in the stored text, or it is told again.
    assert shown(one, ["increment", 15, "x"], ["snapshot", "日志 one\ntwo\n", False], ["increment", 15, "x"]) == [
        "日志 one\ntwo\nx", 1, 16,
    ]  # fmt: skip
    # While it runs, the stored text is never more than a beginning.
    assert shown(one, two, ["snapshot", "日志 one\n", False]) == ["日志 one\ntwo\n", 0, 15]
    assert shown(one, two, ["snapshot", "the end", True]) == ["the end", 0, 7]
    assert shown(one, ["snapshot", "", True]) == ["日志 one\n", 0, 11]
    # Beyond what is stored nobody is asked: the page says what it leaves out, and goes on.
    long = "x" * 10_240
    left_out = f"{long}\n[5000 bytes are left out here]\nnext"
    assert shown(["snapshot", long, False], ["increment", 15_240, "next"]) == [left_out, 0, 15_244]
    assert shown(one, ["increment", 99, "a"], ["increment", 99, "a"]) == [
        "日志 one\n[88 bytes are left out here]\na", 1, 100,
    ]  # fmt: skip
    assert shown(one, ["restart"], ["increment", 0, "again"]) == ["again", 1, 5]
