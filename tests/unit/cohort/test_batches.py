"""How a cohort is shared out to jobs."""

import pytest

from regflow.cohort.batches import (
    SHARED,
    Batches,
    Machine,
    assign_fixed,
    assign_samples,
    choose_size,
    find_machine,
    split_batches,
    split_evenly,
)
from regflow.config.loading import load_config
from regflow.config.workflow import plan_jobs

HERE = Machine(cores=2, memory_mb=24_000, cluster=False, gpu=False)
CLUSTER = Machine(cores=8, memory_mb=16_000, cluster=True, gpu=True)


def share(names, before=None, wanted=None, machine=HERE, jobs=1, sizes=None):
    fixed_of = dict.fromkeys(names, "atlas")
    needs = {"jobs": jobs, "threads": 4, "memory_mb": 8000}
    size_of = dict.fromkeys(names, 1) | (sizes or {})
    return assign_samples(fixed_of, wanted, before, machine, **needs, size_of=size_of.__getitem__)


def test_batches_keep_the_order_of_the_sheet():
    assert split_batches("abcde", 2) == {"0001": ["a", "b"], "0002": ["c", "d"], "0003": ["e"]}
    assert split_batches("ab", 2, first=7) == {"0007": ["a", "b"]}
    assert split_batches([], 4) == {}


def test_a_small_cohort_is_shared_out_by_the_size_of_its_images():
    found = share(list("abcdefghij"), sizes=dict.fromkeys("abcd", 100))
    assert found.members == {"0001": ["a", "b"], "0002": list("cdefghij")}
    assert found.fixed == {"atlas": SHARED}
    assert share(list("abcde")).members == {"0001": ["a", "b", "c"], "0002": ["d", "e"]}
    # Those that came earlier stay where they were, whatever joins them.
    later = share(list("abcdefghijk"), found, sizes={"k": 1000})
    assert later.members == {**found.members, "0003": ["k"]}


@pytest.mark.parametrize("sizes", [[0, 0, 0], [1, 1000, 1], [7], [], [5] * 9])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_sample_is_lost_or_moved_where_sizes_differ(sizes, count):
    names = [str(number) for number in range(len(sizes))]
    found = split_evenly(names, count, dict(zip(names, sizes, strict=True)).__getitem__, first=3)
    assert [name for part in found.values() for name in part] == names
    assert list(found) == [f"{number:04d}" for number in range(3, 3 + len(found))]
    assert len(found) <= count
    assert all(found.values())


def test_samples_stay_in_their_batches_when_others_come_and_go():
    before = share(list("abcdefgh"), wanted=3)
    after = share(list("xacdbyefghz"), before, wanted=3)
    assert {name: after.members[name] for name in before.members} == before.members
    assert list(after.members.values())[3:] == [["x", "y", "z"]]
    fewer = share(list("abfgh"), before, wanted=3)
    assert fewer.members == {"0001": ["a", "b"], "0002": ["f"], "0003": ["g", "h"]}


def test_another_number_of_samples_per_job_shares_out_anew():
    before = share(list("abcdefgh"), wanted=3)
    assert share(list("abcdefgh"), before, wanted=4).members == {"0001": list("abcd"), "0002": list("efgh")}


@pytest.mark.parametrize(
    ("count", "slots", "size"),
    [
        (1, 1, 1),
        (2, 2, 1),
        (10, 2, 5),
        (11, 2, 5),
        (1000, 2, 50),
        (1000, 16, 16),
        (10_000, 64, 40),
        (0, 1, 1),
    ],
)
def test_small_cohorts_are_shared_evenly_and_large_ones_in_rounds(count, slots, size):
    assert choose_size(count, slots) == size


def test_every_core_has_a_job_and_no_more_memory_is_used_than_there_is():
    assert share(["a"]).threads == 2
    assert share(list("abcd")).threads == 1
    tight = Machine(cores=16, memory_mb=20_000, cluster=False, gpu=False)
    assert share([f"s{n}" for n in range(100)], machine=tight).threads == 4


def test_a_cluster_gets_few_submissions():
    names = [f"s{number}" for number in range(1000)]
    found = share(names, machine=CLUSTER, jobs=3)
    assert len(found.members) * 3 <= len(names) / 50
    assert found.threads is None


def test_what_was_shared_out_is_found_again(tmp_path):
    path = tmp_path / "jobs" / "batches.json"
    assert Batches.read(path) is None
    shared = share(list("abc"), wanted=2)
    shared.write(path)
    assert Batches.read(path) == shared


def test_a_fixed_image_is_prepared_by_the_batch_that_alone_needs_it():
    members = {"0001": ["a", "b"], "0002": ["c"]}
    fixed_of = {"a": "atlas", "b": "own", "c": "atlas"}
    assert assign_fixed(members, fixed_of, {}) == {"atlas": SHARED, "own": "0001"}


def test_a_fixed_image_stays_with_its_batch_when_others_come_to_need_it():
    before = assign_fixed({"0001": ["a"]}, {"a": "atlas"}, {})
    later = {"0001": ["a"], "0002": ["b"]}
    assert assign_fixed(later, {"a": "atlas", "b": "atlas"}, before) == {"atlas": "0001"}
    # A batch never waits for a later one, so none wait for each other.
    crossed = assign_fixed(later, {"a": "second", "b": "atlas"}, {"atlas": "0001", "second": "0002"})
    assert crossed == {"atlas": "0002", "second": "0001"}
    both = {"0001": ["a"], "0002": ["b"], "0003": ["c"]}
    gone = assign_fixed(both, {"a": "other", "b": "atlas", "c": "atlas"}, before)
    assert gone == {"atlas": SHARED, "other": "0001"}


def test_jobs_that_are_submitted_may_meet_a_gpu():
    assert find_machine(None, 200) == find_machine(None, 7)
    assert find_machine(3, 200).gpu
    assert find_machine(3, None).cores == 3


@pytest.mark.parametrize("count", [50, 1000, 10_000])
@pytest.mark.parametrize("gpu", [False, True])
def test_no_more_is_submitted_than_one_job_for_fifty_samples(count, gpu):
    """The jobs of the batches, and those that prepare fixed images that all share."""
    plans = plan_jobs(load_config({"samples": "a.tsv"}), gpu=gpu)
    assert len(plans) == (3 if gpu else 1)
    found = share([f"s{n}" for n in range(count)], machine=CLUSTER, jobs=len(plans))
    references = split_batches([name for name, owner in found.fixed.items() if owner == SHARED], 20)
    assert len(found.members) * len(plans) + len(references) <= max(count / 50, len(plans))
