"""Graphs of known truth: the solution returns to it, whatever the order, the gauge and wrong links."""

import numpy as np
import pytest

from regflow.core.errors import InputError
from regflow.core.transform import Affine
from regflow.methods.groupwise.graph import Link, PositionPrior, TransformGraph
from regflow.methods.groupwise.solver import solve_graph

MODELS = [(model, ndim) for model in ("translation", "rigid", "similarity", "affine") for ndim in (2, 3)]
SIZE = 100.0


def turn(ndim: int, angle: float) -> np.ndarray:
    matrix = np.eye(ndim)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if ndim == 3:
        other = np.eye(3)
        other[1:, 1:] = [
            [np.cos(0.7 * angle), -np.sin(0.7 * angle)],
            [np.sin(0.7 * angle), np.cos(0.7 * angle)],
        ]
        matrix = matrix @ other
    return matrix


def random_pose(rng: np.random.Generator, model: str, ndim: int, reach: float = 300.0) -> Affine:
    linear = np.eye(ndim)
    if model != "translation":
        linear = turn(ndim, rng.uniform(-3, 3))
    if model == "similarity":
        linear = linear * rng.uniform(0.7, 1.4)
    if model == "affine":
        linear = linear @ (np.eye(ndim) + 0.15 * rng.standard_normal((ndim, ndim)))
    return Affine.from_parts(linear, rng.uniform(-reach, reach, ndim))


def jitter(rng: np.random.Generator, model: str, ndim: int, sigma: float, points: np.ndarray) -> Affine:
    """Return a small map of a model that moves the points by about sigma."""
    linear = np.eye(ndim)
    size = sigma / SIZE
    if model in ("rigid", "similarity"):
        linear = turn(ndim, size * rng.standard_normal())
    if model == "similarity":
        linear = linear * (1 + size * rng.standard_normal())
    if model == "affine":
        linear = linear + size * rng.standard_normal((ndim, ndim))
    return Affine.from_parts(linear, sigma * rng.standard_normal(ndim), points.mean(axis=0))


def join(one: Affine, other: Affine) -> Affine:
    """Return the map that applies ``one`` first."""
    return Affine(other.matrix @ one.matrix)


def make_links(
    poses: dict[str, Affine],
    pairs: list[tuple[str, str]],
    model: str,
    *,
    sigma: float = 0.0,
    wrong: float = 0.0,
    seed: int = 0,
) -> tuple[list[Link], set[tuple[str, str]]]:
    rng = np.random.default_rng(seed)
    ndim = next(iter(poses.values())).ndim
    links, outliers = [], set()
    for first, second in pairs:
        true = join(poses[first], poses[second].inverse())
        points = rng.uniform(0, SIZE, (12, ndim))
        measured = true
        if sigma:
            measured = join(true, jitter(rng, model, ndim, sigma, true.apply(points)))
        if rng.uniform() < wrong:
            measured = join(true, random_pose(rng, model, ndim))
            outliers.add((first, second))
        links.append(Link(first, second, measured, sigma or 1.0, points=points))
    return links, outliers


def chain_pairs(count: int, reach: int) -> list[tuple[str, str]]:
    names = [f"n{i:04d}" for i in range(count)]
    return [(names[i], names[i + k]) for k in range(1, reach + 1) for i in range(count - k)]


def random_poses(model: str, ndim: int, count: int, seed: int = 1) -> dict[str, Affine]:
    rng = np.random.default_rng(seed)
    return {f"n{i:04d}": random_pose(rng, model, ndim) for i in range(count)}


def worst(poses, found, reference: str) -> float:
    """Return the largest error of a node's corner relative to a node, in world units."""
    corners = (
        np.array(np.meshgrid(*[[0.0, SIZE]] * poses[reference].ndim)).reshape(poses[reference].ndim, -1).T
    )
    errors = []
    for name in poses:
        true = join(poses[name], poses[reference].inverse()).apply(corners)
        errors.append(np.abs(found.find_transform(name, reference).apply(corners) - true).max())
    return float(max(errors))


@pytest.mark.parametrize(("model", "ndim"), MODELS)
def test_exact_links_give_the_truth(model, ndim):
    poses = random_poses(model, ndim, 15)
    links, _ = make_links(poses, chain_pairs(15, 3), model)
    found = solve_graph(TransformGraph(tuple(poses), tuple(links)), model)
    assert worst(poses, found, "n0000") < 1e-5
    assert max(each.distance for each in found.residuals) < 1e-5
    assert max(each.distance for each in found.triples) < 1e-5
    assert not found.list_contradictions()
    assert all(each.checked for each in found.residuals)


@pytest.mark.parametrize(("model", "ndim"), MODELS)
def test_three_of_ten_wrong_links_are_named_and_do_no_harm(model, ndim):
    poses = random_poses(model, ndim, 40)
    links, outliers = make_links(poses, chain_pairs(40, 6), model, sigma=0.1, wrong=0.3, seed=3)
    found = solve_graph(TransformGraph(tuple(poses), tuple(links)), model)
    assert 0.2 < len(outliers) / len(links) < 0.4
    assert {(each.link.first, each.link.second) for each in found.list_contradictions()} == outliers
    assert found.parts == (tuple(sorted(poses)),)
    # Along a chain of 40 the errors of 12 links in the mean add up.
    assert worst(poses, found, "n0020") < (1.0 if model in ("translation", "rigid") else 10.0)


def test_a_grid_without_triples_survives_wrong_links():
    side = 12
    rng = np.random.default_rng(5)
    poses = {
        f"r{r:02d}c{c:02d}": Affine.from_parts(np.eye(2), rng.normal([90.0 * c, 90.0 * r], 3))
        for r in range(side)
        for c in range(side)
    }
    pairs = [(f"r{r:02d}c{c:02d}", f"r{r:02d}c{c + 1:02d}") for r in range(side) for c in range(side - 1)]
    pairs += [(f"r{r:02d}c{c:02d}", f"r{r + 1:02d}c{c:02d}") for r in range(side - 1) for c in range(side)]
    links, outliers = make_links(poses, pairs, "translation", sigma=0.1, wrong=0.15, seed=6)
    found = solve_graph(TransformGraph(tuple(poses), tuple(links)), "translation")
    kept = {(each.link.first, each.link.second) for each in found.residuals if each.kept and each.checked}
    assert not kept & outliers
    assert not found.triples
    assert len(found.basis) == sum(each.kept for each in found.residuals) - len(poses) + len(found.parts)


@pytest.mark.parametrize("model", ["translation", "similarity"])
def test_the_order_of_the_input_changes_no_bit(model):
    poses = random_poses(model, 2, 12)
    links, _ = make_links(poses, chain_pairs(12, 3), model, sigma=0.2, wrong=0.1)
    one = solve_graph(TransformGraph(tuple(poses), tuple(links)), model)
    other = solve_graph(TransformGraph(tuple(reversed(poses)), tuple(reversed(links))), model)
    assert all(np.array_equal(one.poses[name].matrix, other.poses[name].matrix) for name in poses)
    assert one.to_dict("px") == other.to_dict("px")


@pytest.mark.parametrize("model", ["translation", "rigid", "similarity", "affine"])
def test_the_gauge_moves_all_alike(model):
    poses = random_poses(model, 2, 10)
    links, _ = make_links(poses, chain_pairs(10, 3), model, sigma=0.2)
    graph = TransformGraph(tuple(poses), tuple(links))
    middle, named = solve_graph(graph, model), solve_graph(graph, model, gauge="n0003")
    np.testing.assert_allclose(named.poses["n0003"].matrix, np.eye(3), atol=1e-9)
    mean = np.mean([pose.matrix for pose in middle.poses.values()], axis=0)
    np.testing.assert_allclose(mean[:2, 2], 0, atol=1e-6)
    for name in poses:
        a, b = (found.find_transform(name, "n0005").matrix for found in (middle, named))
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_place_of_the_common_world_changes_no_link():
    poses = random_poses("similarity", 2, 10)
    links, _ = make_links(poses, chain_pairs(10, 3), "similarity", sigma=0.2)
    away = Affine.from_parts(np.eye(2), [4e6, 6e6])
    graph = TransformGraph(tuple(poses), tuple(links))
    held = TransformGraph(tuple(poses), tuple(links), anchors={"n0000": away})
    one, other = solve_graph(graph, "similarity"), solve_graph(held, "similarity")
    np.testing.assert_allclose(other.poses["n0000"].matrix, away.matrix, rtol=1e-12)
    pairs = zip(one.residuals, other.residuals, strict=True)
    assert max(abs(a.distance - b.distance) for a, b in pairs) < 1e-5


def test_anchors_stay_where_they_are():
    poses = random_poses("rigid", 3, 8)
    links, _ = make_links(poses, chain_pairs(8, 2), "rigid", sigma=0.1)
    anchors = {name: poses[name] for name in ("n0000", "n0007")}
    found = solve_graph(TransformGraph(tuple(poses), tuple(links), anchors=anchors), "rigid")
    for name, anchor in anchors.items():
        np.testing.assert_allclose(found.poses[name].matrix, anchor.matrix, atol=1e-9)
    for name, pose in poses.items():
        np.testing.assert_allclose(found.poses[name].translation, pose.translation, atol=20)


def test_expected_positions_place_what_no_link_does():
    poses = random_poses("translation", 2, 6)
    links, _ = make_links(poses, chain_pairs(3, 2), "translation", sigma=0.1)
    priors = tuple(PositionPrior(name, [0, 0], pose.translation, 5.0) for name, pose in poses.items())
    found = solve_graph(TransformGraph(tuple(poses), tuple(links), priors=priors), "translation")
    assert [len(part) for part in found.parts] == [3, 1, 1, 1]
    for name, pose in poses.items():
        np.testing.assert_allclose(found.poses[name].translation, pose.translation, atol=0.5)


def test_a_prior_counts_by_its_deviation():
    link = Link("a", "b", Affine.from_parts(np.eye(2), [-10.0, 0.0]), 1.0)
    priors = (PositionPrior("a", [0, 0], [0, 0], 2.0), PositionPrior("b", [0, 0], [13.0, 0], 2.0))
    found = solve_graph(TransformGraph(("a", "b"), (link,), priors=priors), "translation")
    # 3 units of contradiction, of which the link of variance 1 bears a ninth and each prior four.
    np.testing.assert_allclose(found.poses["a"].translation, [4 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(found.poses["b"].translation, [13 - 4 / 3, 0], atol=1e-6)


def test_uncertain_directions_give_way():
    poses = {name: Affine.identity(2) for name in "abc"}
    spread = np.diag([1.0, 100.0])
    links = [
        Link("a", "b", Affine.from_parts(np.eye(2), [3.0, 3.0]), covariance=spread),
        Link("b", "c", Affine.identity(2), covariance=np.diag([1.0, 1.0])),
        Link("a", "c", Affine.identity(2), covariance=np.diag([1.0, 1.0])),
    ]
    found = solve_graph(TransformGraph(tuple(poses), tuple(links)), "translation", robust=False)
    shift = found.find_transform("a", "b").translation
    np.testing.assert_allclose(shift, [2.0, 3.0 * 2 / 102], atol=1e-6)


def test_understated_uncertainties_drop_nothing():
    poses = random_poses("translation", 2, 30)
    links, _ = make_links(poses, chain_pairs(30, 4), "translation", sigma=1.0)
    sure = [Link(each.first, each.second, each.transform, 0.05, points=each.points) for each in links]
    found = solve_graph(TransformGraph(tuple(poses), tuple(sure)), "translation")
    assert found.noise_scale > 5
    assert not found.list_contradictions()


def test_an_image_without_links_is_a_part_of_its_own():
    poses = random_poses("rigid", 2, 5)
    links, _ = make_links(poses, chain_pairs(5, 2), "rigid")
    found = solve_graph(TransformGraph((*poses, "alone"), tuple(links)), "rigid")
    assert found.parts == (tuple(poses), ("alone",))
    np.testing.assert_allclose(found.poses["alone"].matrix, np.eye(3), atol=1e-12)
    assert found.list_figures("px")["parts"] == 2


@pytest.mark.parametrize(
    ("links", "nodes", "sentence"),
    [
        ([Link("a", "a", Affine.identity(2))], ("a",), "joins an image to itself"),
        ([Link("a", "z", Affine.identity(2))], ("a", "b"), "'z', which is no image"),
        ([Link("a", "b", Affine.identity(2), sigma=0.0)], ("a", "b"), "must be above 0"),
        ([Link("a", "b", Affine(np.diag([0.0, 1.0, 1.0])))], ("a", "b"), "singular"),
        ([Link("a", "b", Affine(np.diag([np.nan, 1.0, 1.0])))], ("a", "b"), "not finite"),
        ([Link("a", "b", Affine.identity(2), points=[[1.0, 2.0, 3.0]])], ("a", "b"), "2 coordinates"),
        ([Link("a", "b", Affine.identity(2), covariance=-np.eye(2))], ("a", "b"), "not positive definite"),
        ([], ("a", "a"), "named twice"),
        ([], (), "at least one image"),
    ],
)
def test_bad_graphs_are_refused_in_a_sentence(links, nodes, sentence):
    with pytest.raises(InputError, match=sentence):
        TransformGraph(nodes, tuple(links))


def test_bad_questions_are_refused_in_a_sentence():
    turned = Link("a", "b", Affine.from_parts(turn(2, 0.1), [0, 0]))
    graph = TransformGraph(("a", "b"), (turned,))
    with pytest.raises(InputError, match="turns or scales"):
        solve_graph(graph, "translation")
    with pytest.raises(InputError, match="no points over its overlap"):
        solve_graph(graph, "rigid")
    with pytest.raises(InputError, match="no model of a graph"):
        solve_graph(graph, "spline")
    with pytest.raises(InputError, match="gauge 'z'"):
        solve_graph(graph, "rigid", gauge="z")
    with pytest.raises(InputError, match="no image of the graph"):
        solve_graph(TransformGraph(("a",), ())).find_transform("a", "b")


def test_far_links_are_solved_like_near_ones():
    """Graphs linked far and wide are solved by iterating, chains by factors; both are least squares."""
    from regflow.methods.groupwise import normal_equations

    poses = random_poses("rigid", 2, 60)
    rng = np.random.default_rng(2)
    names = list(poses)
    pairs = sorted({tuple(sorted(rng.choice(60, 2, replace=False).tolist())) for _ in range(240)})
    links, _ = make_links(poses, [(names[a], names[b]) for a, b in pairs], "rigid", sigma=0.1)
    graph = TransformGraph(tuple(poses), tuple(links))
    factored = solve_graph(graph, "rigid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normal_equations, "FACTORABLE", 0.0)
        iterated = solve_graph(graph, "rigid")
    for name in poses:
        np.testing.assert_allclose(factored.poses[name].matrix, iterated.poses[name].matrix, atol=1e-5)
