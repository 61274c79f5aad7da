import math

from regflow.core.gate import Verdict, judge, worst

LIMITS = {
    "determinant": {"fail_below": 0.3, "fail_above": 3.0},
    "similarity_gain": {"fail_below": 0.0, "warn_below": 0.05},
    "folding_percent": {"warn_above": 0.0, "fail_above": 0.5},
}


def test_within_the_limits_it_passes_and_keeps_the_figures():
    verdict = judge({"determinant": 1.1, "similarity_gain": 0.2, "other": 3}, LIMITS)
    assert verdict.status == "pass"
    assert verdict.figures == {"determinant": 1.1, "similarity_gain": 0.2, "other": 3.0}


def test_the_most_severe_figure_decides_and_is_named():
    verdict = judge({"similarity_gain": 0.01, "determinant": 4.0}, LIMITS)
    assert verdict.status == "fail"
    assert "determinant is 4" in verdict.reason
    assert "above the limit of 3" in verdict.reason


def test_a_warning_names_its_limit():
    verdict = judge({"similarity_gain": 0.01}, LIMITS)
    assert verdict.status == "warn"
    assert "below the limit of 0.05" in verdict.reason


def test_a_limit_itself_is_within():
    assert judge({"folding_percent": 0.0, "determinant": 0.3}, LIMITS).status == "pass"


def test_what_cannot_be_computed_fails():
    assert judge({"determinant": math.nan}, LIMITS).status == "fail"


def test_worst_keeps_the_first_of_equals_and_round_trips():
    a, b = Verdict("warn", "first"), Verdict("warn", "second")
    assert worst([Verdict("pass", ""), a, b]) is a
    assert worst([]).status == "pass"
    assert Verdict.from_dict(a.to_dict()) == a
