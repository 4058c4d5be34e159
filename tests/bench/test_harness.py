"""The harness of the benchmarks, without running any."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import __main__ as harness
from tests.bench.registry import BENCHMARKS, Measurement, benchmark, percentile

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def figure(name: str, value: float) -> Measurement:
    return Measurement(name, value, "ms", "lower", 200, "a promise")


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5], 50, 5), ([1, 2, 3, 4], 50, 2), ([4, 3, 2, 1], 95, 4), (range(1, 101), 99, 99), ([1, 2], 0, 1)],
)
def test_percentiles_are_values_that_occurred(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_names_are_given_once() -> None:
    with pytest.raises(ValueError, match="two benchmarks lateness"):
        benchmark(BENCHMARKS["lateness"])


def test_an_entry_has_the_figure_and_the_machines_facts() -> None:
    made = harness.entry(figure("late", 50), NOW, harness.machine())
    assert {name: made[name] for name in ("value", "better", "yardstick", "ratio", "at")} == {
        "value": 50,
        "better": "lower",
        "yardstick": 200,
        "ratio": 0.25,
        "at": "2026-01-02T00:00:00+00:00",
    }
    assert made["machine"]["cores"] > 0
    assert made["machine"]["cpu"]


def test_new_figures_replace_those_of_their_names(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    harness.write(path, [harness.entry(figure(name, 1), NOW, {}) for name in ("b", "a")])
    harness.write(path, [harness.entry(figure("b", 2), NOW, {})])
    assert [(one["name"], one["value"]) for one in json.loads(path.read_text())] == [("a", 1), ("b", 2)]


def test_figures_are_shown_as_a_table() -> None:
    stream = io.StringIO()
    harness.show(Console(file=stream, width=120), [figure("late", 50)])
    assert "late" in stream.getvalue()
    assert "0.250" in stream.getvalue()


def test_an_unknown_benchmark_is_an_error_that_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness.main(["ONLY=nothing"]) == 2
    assert "there is no benchmark nothing; there are: " in capsys.readouterr().out
