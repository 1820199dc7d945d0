"""Classifiers: what one is made of, and how one shows itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyalexnet import (
    Classifier,
    Evaluation,
    Features,
    ModelFileError,
    TrainingResult,
    evaluate,
    extract_features,
    find_neighbours,
    predict,
    save_model,
)
from pyalexnet.architecture import parameter_count
from pyalexnet.data.augmentation import view_variations
from pyalexnet.device.tensor import Tensor
from pyalexnet.net.model_file import MODEL_FILE, as_model
from pyalexnet.net.network import AlexNet

GREY = np.full((256, 256, 3), 128, np.float32)


@pytest.fixture(scope="module")
def model() -> Classifier:
    return Classifier(AlexNet(8, bias_init="caffe"), ("cat", "a\n\x1b[31m<b>", "ten thousand names of one", "x"), GREY)


@pytest.fixture(scope="module")
def run(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / MODEL_FILE, model)
    return folder


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (3, 256, 256, 3), np.uint8)


def test_parts_of_other_kinds_become_what_they_must_be(model: Classifier) -> None:
    torch = pytest.importorskip("torch")
    made = Classifier(model.net, ["a", "b"], torch.nn.Parameter(torch.from_numpy(GREY.copy())))
    assert made.classes == ("a", "b")
    assert type(made.mean) is np.ndarray
    np.testing.assert_array_equal(made.mean, GREY)


def test_parts_that_do_not_belong_together_are_refused(model: Classifier) -> None:
    with pytest.raises(ValueError, match="classes has 9 names; it must have 1 to 8, as many as the net's outputs"):
        Classifier(model.net, tuple("abcdefghi"), GREY)
    with pytest.raises(ValueError, match="classes has 'a' 2 times; all must be different"):
        Classifier(model.net, ("a", "b", "a"), GREY)
    with pytest.raises(ValueError, match=r"mean has shape \(3,\); it must have 3 axes \(256, 256, 3\)"):
        Classifier(model.net, ("a",), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="mean has values that are NaN or infinite"):
        Classifier(model.net, ("a",), GREY * np.float32(np.inf))


def test_images_of_every_library_make_a_batch(model: Classifier, images: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    (centre,) = view_variations(3, 1)
    expected = model.net.forward(model.input_batch(images, centre))
    for given in (torch.from_numpy(images), Tensor.from_array(images), np.asfortranarray(images)):
        np.testing.assert_array_equal(model.net.forward(model.input_batch(given, centre)), expected)


def test_a_model_is_named_by_its_run_or_file(model: Classifier, run: Path, images: np.ndarray) -> None:
    expected = predict(model, images)
    for name in (str(run), run, run / MODEL_FILE):
        assert predict(name, images) == expected
    data = images, np.array([0, 1, 2])
    names = Classifier(model.net, tuple("0123"), GREY)
    save_model(run / "numbers", names)
    assert evaluate(str(run / "numbers"), data).loss == evaluate(names, data).loss
    np.testing.assert_array_equal(
        extract_features(run, data, "conv5").values, extract_features(model, data, "conv5").values
    )
    assert find_neighbours(run, images[0], data) == find_neighbours(model, images[0], data)


def test_what_is_no_model_is_named(model: Classifier, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"model is 5; it must be a Classifier, a run's folder or a model file$"):
        as_model(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model is <TrainingResult.*; it must be .*; its \.model is one$"):
        as_model(TrainingResult(model, [], None, {}))  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        predict(tmp_path / "nowhere", "cat.jpg")
    (tmp_path / "picture").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="picture"):
        predict(tmp_path / "picture", "cat.jpg")


def test_objects_show_themselves_in_a_line(model: Classifier, images: np.ndarray) -> None:
    net, data = model.net, (images, np.array([0, 1, 2]))
    evaluation = evaluate(Classifier(net, tuple("0123"), GREY), data)
    training, inference = net.program(2, training=True), net.program(2, training=False)
    (centre,) = view_variations(3, 1)
    shown = {
        net: f"<AlexNet(8, devices=['cpu:0'], seed=0, bias_init='caffe'): {parameter_count(8):,} parameters, step 0>",
        model: f"<Classifier of 4 classes ('cat', 'a\\n\\x1b[31m<b>', 'ten thousand names o', …): {net!r}>",
        inference: f"<Program for inference at batch size 2: entries {len(inference.forward)} forward, 0 backward, "
        "0 update>",
        training.backward[0]: "<Entry: backward loss tower 0 cross_entropy(losses (2,), dlogits (2, 8), logits (2, 8), "
        "labels (2,))>",
        training.update[0]: "<Entry: update update device 0 sgd_step(w of 30 arrays, v of 30 arrays, g of 30 arrays, "
        "rates of 30 arrays)>",
        evaluation: f"<Evaluation of 3 images of 4 classes, views 1: top-1 error {evaluation.top1_error:.2%}, top-5 "
        f"error {evaluation.top5_error:.2%}, loss {evaluation.loss:.4f}>",
        extract_features(model, data, "conv5"): "<Features of 3 images of 3 classes: conv5, float32 (3, 13, 13, 256)>",
        model.input_batch(images, centre): "<ImageBatch of 3 images, scale 1.0>",
    }
    for thing, expected in shown.items():
        assert repr(thing) == expected
    result = TrainingResult(model, [], None, {}, "interrupted")  # type: ignore[arg-type]
    assert repr(result) == f"<TrainingResult: interrupted after 0 epochs; {model!r}>"
    plan = net.plan(2, training=False)
    needed, limit = (f"{value / 2**20:.1f}" for value in (plan.total_bytes[0], plan.limit_bytes[0]))
    assert repr(plan) == f"<MemoryPlan for inference at batch size 2: cpu:0 {needed} of {limit} MiB>"
    nothing = Evaluation(1, 0.0, ("a",), np.zeros((1, 1), np.int64), np.zeros(1, np.int64))
    assert repr(nothing) == "<Evaluation of no images>"
    assert repr(Features("fc7", np.zeros((0, 4), np.float32), np.zeros(0, np.int32), (), ())).count("\n") == 0
