"""Which ladder a comparison recommends, from what the methods have shown."""

import pytest

from regflow.pipeline.comparison import DEFAULT, OWN, ComparedPair, Trial
from regflow.pipeline.recommendation import choose_ladders, gather_rows

DEFAULTS = {"initialize": ["first", "second"], "refine": ["network"]}
STARTS = {"moved 5": 6.0, "moved 20": 25.0, "warped 5": 4.0}


def outcome(error: float | None = None, seconds: float = 10.0, status: str = "pass", **figures: float):
    spent = {"initialize": seconds / 2, "refine": seconds / 2}
    truth = {} if error is None else {"mean": error}
    return {
        **{"state": "done", "status": status, "reason": "", "figures": figures, "seconds": spent},
        **{"truth": truth, "cpu_seconds": 2 * seconds, "peak_mb": 100.0},
    }


FAILED = {"state": "failed", "status": "error", "reason": "nothing was found"}


def rows_of(shown):
    """Return rows from ``{stage: {method: {pair: outcome}}}``."""
    trials, outcomes = [], []
    for stage, methods in shown.items():
        for method, pairs in methods.items():
            for pair, found in pairs.items():
                kind = "own" if pair == OWN else pair.split()[0]
                trials.append(Trial(stage, method, ComparedPair(pair, kind, "", ""), {}))
                outcomes.append(found)
    return gather_rows(trials, outcomes, STARTS, spacing=1.0)


def linear(near, far, own=None, **more):
    return {OWN: own or outcome(**more), "moved 5": near, "moved 20": far}


def deformable(error, seconds=10.0, own=None, **figures):
    return {OWN: own or outcome(**figures), "warped 5": outcome(error, seconds)}


def recommended(shown):
    return choose_ladders(rows_of(shown), DEFAULTS)


def test_a_failure_counts_as_the_start():
    (row,) = rows_of({"refine": {"greedy": {"warped 5": FAILED}}})
    assert row.error == 4.0
    assert row.solved == ()
    assert row.seconds is None


def test_methods_are_added_that_solve_what_others_do_not():
    shown = {
        "near": linear(outcome(0.2, 1), FAILED),
        "far": linear(FAILED, outcome(0.3, 5)),
        "useless": linear(outcome(5.0, 0.1), outcome(24.0, 0.1)),
        DEFAULT: {"moved 5": outcome(0.2, 20), "moved 20": FAILED},
    }
    found = recommended({"initialize": shown})
    assert found.ladders["initialize"] == ["near", "far"]
    assert not found.is_default["initialize"]
    assert "solves 2 of 2" in found.reasons["initialize"]


def test_the_default_ladder_stays_where_it_does_as_well():
    shown = {
        "near": linear(outcome(0.2, 5), outcome(0.2, 5)),
        DEFAULT: {"moved 5": outcome(0.2, 5), "moved 20": outcome(0.1, 5)},
    }
    found = recommended(
        {"initialize": shown, "refine": {"greedy": deformable(0.50), DEFAULT: deformable(0.52)}}
    )
    assert found.ladders == DEFAULTS
    assert found.is_default == {"initialize": True, "refine": True}


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ({"greedy": deformable(0.5), DEFAULT: deformable(0.9)}, ["greedy"]),
        ({"slow": deformable(0.50, 60), "fast": deformable(0.53, 5), DEFAULT: deformable(2.0)}, ["fast"]),
        ({"refused": deformable(0.1, own=outcome(status="fail")), "good": deformable(0.4)}, ["good"]),
        ({"broken": deformable(0.1, own=FAILED), "good": deformable(0.4)}, ["good"]),
        (
            {
                "of truth": deformable(0.40, tre_mean_mm_refine=9.0),
                "of landmarks": deformable(0.45, tre_mean_mm_refine=2.0),
            },
            ["of landmarks"],
        ),
        ({"broken": deformable(0.1, own=FAILED)}, DEFAULTS["refine"]),
    ],
    ids=["best", "as good and faster", "refused", "failed", "landmarks", "nothing"],
)
def test_the_deformable_method_that_errs_least_is_taken(methods, expected):
    assert recommended({"refine": methods}).ladders["refine"] == expected


def test_without_a_usable_linear_method_the_default_stays():
    shown = {"broken": linear(outcome(0.1), outcome(0.1), own=FAILED)}
    found = recommended({"initialize": shown})
    assert found.ladders["initialize"] == DEFAULTS["initialize"]
    assert "no linear method" in found.reasons["initialize"]
