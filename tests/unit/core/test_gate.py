import math

from regflow.core.gate import Verdict, compute_figure_changes, find_worst_verdict, judge_figures

LIMITS = {
    "determinant": {"fail_below": 0.3, "fail_above": 3.0},
    "similarity_gain": {"fail_below": 0.0, "warn_below": 0.05},
    "folding_percent": {"warn_above": 0.0, "fail_above": 0.5},
}


def test_within_the_limits_it_passes_and_keeps_the_figures():
    verdict = judge_figures({"determinant": 1.1, "similarity_gain": 0.2, "other": 3}, LIMITS)
    assert verdict.status == "pass"
    assert verdict.figures == {"determinant": 1.1, "similarity_gain": 0.2, "other": 3.0}


def test_the_most_severe_figure_decides_and_is_named():
    verdict = judge_figures({"similarity_gain": 0.01, "determinant": 4.0}, LIMITS)
    assert verdict.status == "fail"
    assert "determinant is 4" in verdict.reason
    assert "above the limit of 3" in verdict.reason


def test_a_warning_names_its_limit():
    verdict = judge_figures({"similarity_gain": 0.01}, LIMITS)
    assert verdict.status == "warn"
    assert "below the limit of 0.05" in verdict.reason


def test_a_limit_itself_is_within():
    assert judge_figures({"folding_percent": 0.0, "determinant": 0.3}, LIMITS).status == "pass"


def test_what_cannot_be_computed_fails():
    assert judge_figures({"determinant": math.nan}, LIMITS).status == "fail"


def test_worst_keeps_the_first_of_equals_and_round_trips():
    a, b = Verdict("warn", "first"), Verdict("warn", "second")
    assert find_worst_verdict([Verdict("pass", ""), a, b]) is a
    assert find_worst_verdict([]).status == "pass"
    assert Verdict.from_dict(a.to_dict()) == a


def test_a_missing_start_leaves_no_change_and_a_missing_end_fails():
    assert compute_figure_changes({"mi": 0.5, "ncc": 0.25}, {"mi": 0.25, "ncc": math.nan}) == {
        "mi_change": 0.25
    }
    limits = {"mi_change": {"fail_below": 0.0}}
    assert judge_figures(compute_figure_changes({"mi": 0.5}, {"mi": math.nan}), limits).status == "pass"
    lost = judge_figures(compute_figure_changes({"mi": math.nan}, {"mi": 0.5}), limits)
    assert (lost.status, lost.reason) == ("fail", "mi_change could not be computed")
    assert judge_figures(compute_figure_changes({"mi": math.nan}, {"mi": math.nan}), limits).status == "fail"


def test_a_broken_limit_says_what_it_means_only_where_it_is_broken():
    meanings = {"determinant": "the image is torn", "folding_percent": "it folds"}
    verdict = judge_figures({"determinant": 4.0, "folding_percent": 0.0}, LIMITS, meanings)
    assert verdict.reason == "the image is torn (determinant is 4, above the limit of 3)"
