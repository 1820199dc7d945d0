"""Similarity of layers: against plain formulas in float64, SciPy, known properties, and from files on the disk."""

from __future__ import annotations

import csv
import inspect
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform

import pyalexnet
from pyalexnet import AlexNet, Classifier
from pyalexnet.cli import main
from pyalexnet.cli import similarity as command
from pyalexnet.cli.parser import CommandParser
from pyalexnet.data import ImageArrays, Subset
from pyalexnet.evaluation import similarity
from pyalexnet.evaluation.choices import BATCH_SIZE, DISTANCES, MEASURE_NAMES, MEASURES
from pyalexnet.evaluation.features import extract_features
from pyalexnet.evaluation.similarity import compare, compare_nets, linear_cka, rdm, rsa
from pyalexnet.study.figures import encoded, save_figure, similarity_panel

Array = npt.NDArray[np.float64]


def features(rng: np.random.Generator, count: int = 12, units: tuple[int, ...] = (3, 5, 2)) -> npt.NDArray[np.float32]:
    """Outputs that lie far from zero, as those behind a ReLU do."""
    return (rng.standard_normal((count, *units)) * rng.uniform(0.5, 2, units) + 3).astype(np.float32)


def naive_cka(x: Array, y: Array, *, unbiased: bool) -> float:
    """Kornblith 2019, equations 1 to 3, and Song 2012, equation 5, term by term."""
    n = len(x)
    k, l = (each.reshape(n, -1) @ each.reshape(n, -1).T for each in (x.astype(np.float64), y.astype(np.float64)))  # noqa: E741

    def plain(k: Array, l: Array) -> float:  # noqa: E741
        h = np.eye(n) - 1 / n
        return float(np.trace(k @ h @ l @ h) / (n - 1) ** 2)

    def of_song(k: Array, l: Array) -> float:  # noqa: E741
        k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
        ones = np.ones(n)
        middle = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
        return float((np.trace(k @ l) + middle - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3)))

    hsic = of_song if unbiased else plain
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


@pytest.fixture(params=[2**23, 24])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All outputs at once, and two of twelve images at a time."""
    monkeypatch.setattr(similarity, "_BLOCK_VALUES", request.param)


# Dissimilarity --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("distance", ["correlation", "euclidean"])
def test_distances_are_scipys(distance: Any, rng: np.random.Generator) -> None:
    x = features(rng)
    found = rdm(x, distance)
    expected = squareform(pdist(x.reshape(12, -1).astype(np.float64), distance))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found, found.T)
    assert (np.diag(found) == 0).all()


def test_equal_images_are_not_apart(rng: np.random.Generator) -> None:
    x = features(rng, 6)
    x[4] = x[1]
    assert rdm(x, "correlation")[4, 1] == pytest.approx(0, abs=1e-14)
    assert rdm(x, "euclidean")[4, 1] <= 1e-7 * rdm(x, "euclidean").max()
    opposite = np.stack([x[0], -x[0]])
    assert rdm(opposite)[0, 1] == pytest.approx(2, abs=1e-14)


def test_correlation_minds_neither_gain_nor_offset(rng: np.random.Generator) -> None:
    x = features(rng, 8).astype(np.float64)
    gains, offsets = rng.uniform(1, 3, (2, 8, 1, 1, 1))
    np.testing.assert_allclose(rdm(gains * x + offsets), rdm(x), rtol=0, atol=1e-13)
    assert np.abs(rdm(gains * x + offsets, "euclidean") - rdm(x, "euclidean")).max() > 1


@pytest.mark.parametrize("unequal", [True, False])
def test_rsa_is_spearmans_correlation_of_scipy(unequal: bool, rng: np.random.Generator) -> None:
    one, other = (rdm(features(rng, 10)) for _ in range(2))
    if not unequal:
        one, other = np.round(one, 1), np.round(other, 1)  # with ties
    above = np.triu_indices(10, 1)
    expected = stats.spearmanr(one[above], other[above]).statistic
    assert rsa(one, other) == pytest.approx(expected, abs=1e-12)
    assert rsa(one, one) == pytest.approx(1, abs=1e-12)
    assert rsa(one, one**3) == pytest.approx(1, abs=1e-12)  # ranks alone count


# CKA ------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("unbiased", [True, False])
def test_cka_is_the_formula(unbiased: bool, rng: np.random.Generator) -> None:
    x = features(rng)
    y = features(rng, 12, (7,)) + 2 * x.reshape(12, -1)[:, :7]
    for one, other in ((x, y), (y, x), (x, features(rng))):
        # The formula's sums are of numbers 30 times those that are left when they are centred.
        assert linear_cka(one, other, unbiased=unbiased) == pytest.approx(
            naive_cka(one, other, unbiased=unbiased), abs=1e-11
        )


@pytest.mark.parametrize("unbiased", [True, False])
def test_what_cka_does_not_mind(unbiased: bool, rng: np.random.Generator) -> None:
    x = features(rng, 20, (9,)).astype(np.float64)
    turn, _ = np.linalg.qr(rng.standard_normal((9, 9)))
    wider = np.hstack([x @ turn, np.zeros((20, 4))])
    for same in (x, x @ turn, 7 * x, x + rng.standard_normal(9), x[:, ::-1], wider):
        assert linear_cka(x, same, unbiased=unbiased) == pytest.approx(1, abs=1e-12)
    stretched = x * np.geomspace(1, 30, 9)
    assert linear_cka(x, stretched, unbiased=unbiased) < 0.95


def test_unbiased_cka_finds_nothing_where_there_is_nothing(rng: np.random.Generator) -> None:
    """Plain CKA of few images of many independent outputs is near 1, as its authors' successors found."""
    pairs = [(rng.standard_normal((10, 500)), rng.standard_normal((10, 500))) for _ in range(100)]
    found = {unbiased: np.mean([linear_cka(*pair, unbiased=unbiased) for pair in pairs]) for unbiased in (True, False)}
    assert abs(found[True]) < 0.08  # each is 0 ± 0.24
    assert found[False] > 0.9


# Several layers -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("distance", ["correlation", "euclidean"])
def test_tables_hold_what_pairs_give(distance: Any, rng: np.random.Generator) -> None:
    one = {"a": features(rng), "b": features(rng, 12, (4,))}
    other = {"c": features(rng, 12, (6,)), "b": one["a"] + features(rng), "d": one["b"]}
    found = compare(one, other, distance=distance)
    assert (found.layers, found.other_layers, found.count, found.of_two_nets) == (("a", "b"), ("c", "b", "d"), 12, True)
    for row, mine in enumerate(one.values()):
        for column, theirs in enumerate(other.values()):
            expected = {
                "cka": linear_cka(mine, theirs),
                "cka_plain": linear_cka(mine, theirs, unbiased=False),
                "rsa": rsa(rdm(mine, distance), rdm(theirs, distance)),
            }
            for measure in MEASURES:
                assert found.values[measure][row, column] == pytest.approx(expected[measure], abs=1e-12)
    np.testing.assert_array_equal(found.rdms["a"], rdm(one["a"], distance))
    np.testing.assert_array_equal(found.other_rdms["d"], found.rdms["b"])


def test_a_net_is_compared_with_itself(rng: np.random.Generator) -> None:
    found = compare({"a": features(rng), "b": features(rng)})
    assert not found.of_two_nets
    assert repr(found) == "<Similarity of 2×2 layers of a net, 12 images>"
    for table in found.values.values():
        np.testing.assert_allclose(np.diag(table), 1, rtol=0, atol=1e-12)
        np.testing.assert_allclose(table, table.T, rtol=0, atol=1e-15)
        assert abs(table[0, 1]) < 1


def test_what_cannot_be_compared_is_named(rng: np.random.Generator) -> None:
    x = features(rng)
    dead = np.repeat(rng.standard_normal((1, 3, 5, 2)), 12, axis=0)  # whose means are rounded
    flat, spoilt = x.copy(), x.copy()
    flat[3], spoilt[2, 0, 0, 0] = 0.1, np.nan
    for call, message in [
        (
            lambda: compare({"fc6": dead}, distance="euclidean"),
            "fc6: all (distances are alike|images have the same outputs)",
        ),
        (lambda: linear_cka(dead, x, unbiased=False), "one: all images have the same outputs"),
        (lambda: linear_cka(x, dead), "other: all images have the same outputs, so that there is nothing to compare"),
        (lambda: compare({"a": x, "fc6": flat}), "fc6: the outputs for image 3 are all alike.*must be 'euclidean'"),
        (lambda: rdm(spoilt), "features has values that are NaN or infinite"),
        (lambda: rdm(x, "cosine"), "distance is 'cosine'; it must be one of 'correlation', 'euclidean'"),  # type: ignore[arg-type]
        (lambda: compare({"a": x}, {"b": x[:8]}), r"layers are of \[8, 12\] images; they must be of the same ones"),
        (lambda: linear_cka(x, x[:8]), "one is of 12 images and other of 8; they must be of the same images"),
        (lambda: linear_cka(x[:3], x[:3]), r"one has shape \(3, 3, 5, 2\); it must be \(N, ...\) of 4 images or more"),
        (lambda: rdm(x[0, 0, 0]), r"features has shape \(2,\); it must be \(N, ...\) of 2 images or more"),
        (lambda: rsa(rdm(x), rdm(x[:5])), "they must be of the same images"),
        (lambda: rsa(x[0], x[0]), r"one has shape \(3, 5, 2\); it must be \(N, N\) of three images or more"),
        (lambda: compare({}), "there are no layers to compare"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    compare({"a": x, "fc6": flat}, distance="euclidean")
    with pytest.raises(TypeError, match=r"features is an array of shape .* complex128; it must be an array of real"):
        rdm(x.astype(complex))


def test_blocks_bound_the_memory(rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 16 MB, of which a hundredth is in memory at a time."""
    import tracemalloc

    np.save(tmp_path / "x.npy", rng.standard_normal((40, 100_000), dtype=np.float32))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(similarity, "_BLOCK_VALUES", 40_000)
    tracemalloc.start()
    compare({"x": x})
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 2_000_000


# Nets -----------------------------------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(8).integers(0, 256, (9, 16, 16), np.uint8)
DATA = ImageArrays(IMAGES, np.array([2, 0, 1, 2, 0, 1, 2, 0, 1]), ("a", "b", "c"))


def classifier(seed: int) -> Classifier:
    return Classifier(
        AlexNet(3, devices=["cpu:0"], seed=seed), ("a", "b", "c"), np.full((256, 256, 3), 128, np.float32)
    )


def test_nets_are_compared_by_their_features() -> None:
    one, other = classifier(1), classifier(2)
    counts: list[int] = []
    found = compare_nets(
        one, other, DATA, layers=["conv1", "fc7_pre"], other_layers=["pool5"], batch_size=4, on_images=counts.append
    )
    assert sum(counts) == 18
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (found.names[0], found.classes) == ("1", ("a", "b", "c"))
    ordered = Subset(DATA, np.argsort(DATA.labels, kind="stable"))
    expected = compare(
        {layer: extract_features(one, ordered, layer).values for layer in ("conv1", "fc7_pre")},
        {"pool5": extract_features(other, ordered, "pool5").values},
    )
    for measure in MEASURES:
        np.testing.assert_array_equal(found.values[measure], expected.values[measure])
    np.testing.assert_array_equal(found.other_rdms["pool5"], expected.other_rdms["pool5"])


def test_a_net_is_like_itself_and_less_like_another() -> None:
    found = compare_nets(classifier(1), classifier(1), DATA, layers=["conv1", "conv5"], count=8)
    assert found.count == 8
    for table in found.values.values():
        np.testing.assert_allclose(np.diag(table), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3}, "count is 3; it must be at least 4"),
        ({"layers": ["conv1", "conv9"]}, r"layers\[1\] is 'conv9'; it must be one of conv1"),
        ({"layers": ["conv1", 1]}, r"layers\[1\] is 1; it must be one of conv1"),
        ({"layers": "conv1"}, "layers is 'conv1'; it must be a list of names"),
        ({"other_layers": ["conv1"]}, r"other_layers is \['conv1'\]; it must be None where other is None"),
        ({"other": 1, "other_layers": ["x"]}, r"other_layers\[0\] is 'x'; it must be one of conv1"),
        ({"other": 1, "other_layers": "x"}, "other_layers is 'x'; it must be a list of names"),
        ({"distance": "cosine"}, "distance is 'cosine'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        *(({"seed": seed}, "seed is .*; it must be an integer") for seed in ("2", None, True, np.array([1]), 1.0)),
        ({"on_error": "x"}, "on_error is 'x'; it must be"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    other = classifier(arguments["other"]) if "other" in arguments else None
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        compare_nets(classifier(1), data=DATA, **{**arguments, "other": other})


def test_another_net_that_is_none_is_named() -> None:
    with pytest.raises(TypeError, match=r"^other is 0; it must be a Classifier"):
        compare_nets(classifier(1), 0, DATA)  # type: ignore[arg-type]


def test_measures_of_what_is_no_array() -> None:
    good = np.eye(4)
    for wrong in (1, "x", None, [[1.0]], good.astype(complex)):
        for call in (lambda it: rsa(good, it), lambda it: linear_cka(good, it)):
            with pytest.raises(TypeError, match=r"^other is .*; it must be an array of real numbers"):
                call(wrong)
    with pytest.raises(TypeError, match=r"^unbiased is 'x'; it must be True or False"):
        linear_cka(good, good, unbiased="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^other is 1; it must be outputs by layer"):
        compare({"conv1": good}, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^distance is 'x'; it must be one of"):
        compare({"conv1": good}, distance="x")  # type: ignore[arg-type]


# Command and figure ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run's folder, and the file of a net of other weights."""
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    model = pyalexnet.load_model(digits_run, devices=["cpu:0"])
    pyalexnet.save_model(path, Classifier(AlexNet(10, devices=["cpu:0"], seed=9), model.classes, model.mean))
    return [str(digits_run), str(path)]


COMMON = ["--layers", "conv5,fc7", "fc8", "--sample", "20", "--devices", "cpu:0", "--quiet"]


def test_the_command_says_what_python_does(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rdms = str(tmp_path / "rdms.npz")
    assert main(["similarity", *runs, *COMMON, "--format", "json", "--distance", "euclidean", "--rdms", rdms]) == 0
    records = json.loads(capsys.readouterr().out)
    layers = ["conv5", "fc7", "fc8"]
    expected = compare_nets(*runs, layers=layers, distance="euclidean", count=20)
    assert [(record["layer"], record["other_layer"]) for record in records] == [(a, b) for a in layers for b in layers]
    for measure in MEASURES:
        assert [record[measure] for record in records] == expected.values[measure].ravel().tolist()
    assert {(record["distance"], record["images"]) for record in records} == {("euclidean", 20)}
    with np.load(rdms) as archive:
        np.testing.assert_array_equal(archive["fc7"], expected.rdms["fc7"])
        np.testing.assert_array_equal(archive["other_fc7"], expected.other_rdms["fc7"])
        assert archive["labels"].tolist() == expected.labels.tolist() == np.repeat(np.arange(10), 2).tolist()
        assert archive["names"].tolist() == list(expected.names)
        assert len(archive.files) == 9


def test_the_command_shows_a_table(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["similarity", runs[0], *COMMON, "--measure", "rsa"]) == 0
    shown = capsys.readouterr().out
    table = compare_nets(runs[0], layers=["conv5", "fc7", "fc8"], count=20).values["rsa"]
    (line,) = [line.split() for line in shown.splitlines() if line.startswith(" fc7")]
    assert line == ["fc7", *(f"{value:.3f}" for value in table[1])]
    assert "RSA (correlation), 20 images\n" in shown
    assert main(["similarity", *runs, *COMMON, "--format", "csv"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 9


def test_names_that_cannot_serve_are_refused_first(capsys: pytest.CaptureFixture[str]) -> None:
    for option, name, message in (
        ("--rdms", "a.npy", "--rdms is 'a.npy'; its name must end in .npz"),
        ("--figure", "a.gif", "path is 'a.gif'; its name must end in .png, .svg, .pdf"),
    ):
        assert main(["similarity", "nowhere", option, name]) == 2
        assert capsys.readouterr().err == f"pyalexnet similarity: {message}\n"


def test_the_command_knows_what_there_is() -> None:
    parser = CommandParser()
    commands = parser.add_subparsers()
    command.add(commands)
    choices = {action.dest: action.choices for action in commands.choices["similarity"]._actions}
    assert (choices["measure"], choices["distance"]) == (MEASURES, DISTANCES) == (tuple(MEASURE_NAMES), DISTANCES)
    options = parser.parse_args(["similarity", "run"])
    defaults = inspect.signature(compare_nets).parameters
    assert tuple(options.layers) == defaults["layers"].default
    assert options.batch_size == defaults["batch_size"].default == BATCH_SIZE


@pytest.mark.parametrize("count", [1, 2])
def test_the_figure_shows_what_was_found(runs: list[str], count: int, tmp_path: Path) -> None:
    found = compare_nets(*runs[:count], layers=["conv1", "fc8"], count=20)
    figure = similarity_panel(found, "cka_plain")
    *above, below = figure.axes
    shown = [axes.images[0].get_array() for axes in above]
    nets = [found.rdms, found.other_rdms][:count]
    for picture, matrix in zip(shown, [matrix for net in nets for matrix in net.values()], strict=True):
        np.testing.assert_array_equal(picture, matrix)
    assert above[0].get_title() == f"conv1\nto {found.rdms['conv1'].max():.3g}"
    assert [text.get_text() for text in above[0].get_yticklabels()] == list(found.classes)
    np.testing.assert_allclose(above[0].get_yticks(), np.arange(10) * 2 + 0.5)
    assert [text.get_text() for text in below.texts] == [f"{value:.2f}" for value in found.values["cka_plain"].flat]
    assert below.get_title() == "linear CKA; 20 images"
    assert below.get_xlabel() == ("" if count == 1 else "the other")
    save_figure(figure, tmp_path / "similarity.png")
    with pytest.raises(ValueError, match="measure is 'cca'; it must be one of 'cka', 'cka_plain', 'rsa'"):
        similarity_panel(found, "cca")  # type: ignore[arg-type]


def test_a_figure_of_arrays_from_elsewhere_names_no_classes(rng: np.random.Generator) -> None:
    figure = similarity_panel(compare({"V4": features(rng), "$IT$": features(rng)}), "rsa")
    assert len(figure.axes[0].get_yticks()) == 0
    assert [text.get_text() for text in figure.axes[-1].get_yticklabels()] == ["V4", "$IT$"]
    encoded(figure, "svg")
