"""Options are completed in one way."""

from regflow.core.json_schema import define_option, fill_defaults
from regflow.methods.table import Method

OPTIONS = {
    "radius": define_option("array", [2, 2], "window"),
    "seed": define_option("integer", 0, "of choices"),
}


def test_what_is_given_goes_before_and_unknown_keys_stay_for_the_check():
    assert fill_defaults(OPTIONS, {"seed": 3, "more": 1}) == {"radius": [2, 2], "seed": 3, "more": 1}
    assert Method("a:b", "s", options=OPTIONS).complete({"seed": 3}) == {"radius": [2, 2], "seed": 3}


def test_a_default_is_nobody_elses():
    fill_defaults(OPTIONS, {})["radius"].append(9)
    assert fill_defaults(OPTIONS, {})["radius"] == [2, 2]
