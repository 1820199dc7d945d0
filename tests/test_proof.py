"""What model files prove themselves by: digests that anyone can compute, logits of a known image, origin and error."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from safetensors import safe_open

import pyalexnet
from foreign import BVLC, CLASSES, PAPER, model_of
from pyalexnet import AlexNet, Classifier, ModelFileError, cli, convert, load_model, save_model
from pyalexnet.architecture import Options
from pyalexnet.formats import own
from pyalexnet.net import proof
from pyalexnet.net.model_file import record_accuracy, verify_model
from pyalexnet.net.tensor_file import checksum
from pyalexnet.system.folder_lock import locked_folder
from pyalexnet.training.result import BEST_FILE

CPU = ["cpu:0"]


@pytest.fixture(scope="module")
def model() -> Classifier:
    return model_of(PAPER)


@pytest.fixture(scope="module")
def saved(model: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("proof") / "model.safetensors"
    save_model(path, model)
    return path


@pytest.fixture
def file(saved: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copy(saved, tmp_path / "model.safetensors"))


def description(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as opened:
        found: dict[str, Any] = json.loads(opened.metadata()["pyalexnet"])
    return found


def rewrite(
    path: Path,
    describe: Callable[[dict[str, Any]], object] = lambda _about: None,
    tensors: Callable[[dict[str, Any]], object] = lambda _tensors: None,
) -> None:
    """Change what a file says of its tensors, or these, and leave the rest as it is."""
    about, values = description(path), safetensors.numpy.load_file(path)
    describe(about)
    tensors(values)
    safetensors.numpy.save_file(values, path, {"pyalexnet": json.dumps(about)})


def checksum_by_hand(path: Path) -> str:
    """As docs/exchange.md says it, with nothing of this package."""
    lines = []
    for name, values in sorted(safetensors.numpy.load_file(path).items()):
        extents = ",".join(str(extent) for extent in values.shape)
        lines.append(f"{name} F32 {extents} {hashlib.sha256(values.tobytes()).hexdigest()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_others_compute_the_same_checksum(saved: Path) -> None:
    found = description(saved)["proof"]
    assert found["sha256"] == checksum_by_hand(saved)
    assert len(found["tensors"]) == 17


def test_the_program_of_the_document(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parent.parent / "docs" / "exchange.md").read_text()
    (program,) = (part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "sha256" in part)
    exec(program.replace('"model.safetensors"', repr(str(saved))), {})
    assert capsys.readouterr().out.split()[-1] == description(saved)["proof"]["sha256"]


def test_logits_are_those_of_the_known_image(model: Classifier, saved: Path) -> None:
    """Here from the formula in the plainest form, and the net's input made by hand."""
    image = [[[(y + 1) * (x + 3) * (c + 2) % 251 for c in range(3)] for x in range(256)] for y in range(256)]
    seen = np.array(image, np.float32)[14:241, 14:241] - model.mean[14:241, 14:241]
    expected = model.net.forward(seen[np.newaxis])[0]
    # The crop may be subtracted from and multiplied out in an order of its own.
    found = np.array(description(saved)["proof"]["logits"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=4.9e-5 * np.abs(expected).max())
    assert proof.known_image().dtype == np.uint8
    assert (proof.known_image() == image).all()
    assert len({*found}) == model.net.num_classes


def test_a_file_proves_itself(saved: Path, model: Classifier) -> None:
    found = load_model(saved, devices=CPU, verify=True)
    assert found.classes == CLASSES
    checked = verify_model(saved, devices=CPU)
    assert checked.problem == ""
    assert checked.logits is not None
    assert checked.logits.difference == 0  # the same device computes the same bits
    assert checked.model.net.parameters()["fc8.bias"].tobytes() == model.net.parameters()["fc8.bias"].tobytes()


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"crop": 224, "towers": 1}], ids=str)
def test_other_devices_are_within_the_tolerance(options: dict[str, Any], device: str, tmp_path: Path) -> None:
    if device == "ptx:0":
        pytest.skip("whole nets take minutes there")
    save_model(tmp_path / "model.safetensors", model_of({**PAPER, **options}))
    try:
        checked = verify_model(tmp_path / "model.safetensors", devices=[device])
    except ValueError as error:
        pytest.skip(str(error))
    assert checked.problem == ""


@pytest.mark.usefixtures("full_size")
@pytest.mark.parametrize(("towers", "conv3_terms"), [(2, 2304), (1, 1152)])
def test_tolerance_is_the_sum_of_the_layers_roots(towers: Any, conv3_terms: int) -> None:
    terms = (363, 1200, conv3_terms, 1728, 1728, 9216, 4096, 4096)
    expected = 2**-23 * sum(count**0.5 for count in terms)
    assert proof.tolerance(Options(towers=towers), 1000) == pytest.approx(expected, rel=1e-12)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_found_and_named(file: Path) -> None:
    header_bytes = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + header_bytes])
    for name in ("conv1.weight", "fc8.bias", "input.mean"):
        place = 8 + header_bytes + header[name]["data_offsets"][0]
        flip(file, place)
        for load in (load_model, own.read):
            with pytest.raises(ModelFileError, match=rf"model\.safetensors is damaged: {name} does not match"):
                load(file)
        flip(file, place)
    load_model(file, devices=CPU)


def test_swapped_tensors_are_found_and_named(file: Path) -> None:
    """Equal shapes and values, under other names: each tensor's digest and the checksum go by the name."""

    def swap(values: dict[str, Any]) -> None:
        values["fc6.bias"], values["fc7.bias"] = values["fc7.bias"], values["fc6.bias"]

    rewrite(file, tensors=swap)
    with pytest.raises(ModelFileError, match=r"is damaged: fc6\.bias, fc7\.bias do not match the SHA-256"):
        load_model(file)

    def swap_digests(about: dict[str, Any]) -> None:
        swap(about["proof"]["tensors"])

    rewrite(file, swap_digests)
    with pytest.raises(ModelFileError, match="is damaged: its tensors do not match its checksum"):
        load_model(file)


def with_own_digests(path: Path, tensors: Callable[[dict[str, Any]], object]) -> None:
    """Other tensors, with digests that are right of them."""
    rewrite(path, tensors=tensors)
    values = safetensors.numpy.load_file(path)
    digests = {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in values.items()}

    def describe(about: dict[str, Any]) -> None:
        about["checksum"] = checksum(values)
        about["proof"] |= {"tensors": digests, "sha256": checksum_by_hand(path)}

    rewrite(path, describe)


def test_other_weights_with_digests_of_their_own_compute_otherwise(file: Path) -> None:
    with_own_digests(file, lambda values: values["fc8.weight"].__imul__(1.001))
    load_model(file, devices=CPU)
    with pytest.raises(ModelFileError, match=r"its logits of the known image differ by 1.0e-03 of the largest"):
        load_model(file, devices=CPU, verify=True)


def test_nan_weights_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_own_digests(file, lambda values: values["conv3.weight"].__setitem__((0, 0, 0, 0), np.nan))
    with pytest.raises(ModelFileError, match=r"conv3\.weight has 1 NaN or infinite"):
        load_model(file, devices=CPU)
    assert cli.main(["verify", str(file)]) == 1
    assert "conv3.weight has 1 NaN or infinite" in capsys.readouterr().err


def test_a_net_of_nans_is_written_without_logits(tmp_path: Path) -> None:
    """And told as before where it is read."""
    net = AlexNet(3, devices=CPU)
    net.load_parameters({**net.parameters(), "fc8.bias": np.full(3, np.nan, np.float32)})
    save_model(tmp_path / "model.safetensors", Classifier(net, ("a",), np.zeros((256, 256, 3), np.float32)))
    assert description(tmp_path / "model.safetensors")["proof"]["logits"] is None
    with pytest.raises(ModelFileError, match=r"fc8\.bias has 3 NaN or infinite"):
        load_model(tmp_path / "model.safetensors")


def test_without_room_for_an_image_a_net_is_saved_all_the_same(tmp_path: Path) -> None:
    small = AlexNet(3, devices=CPU)
    parameters = 4 * sum(value.size for value in small.parameters().values())
    net = AlexNet(3, devices=CPU, memory_limit=parameters + 2**16)
    save_model(tmp_path / "model.safetensors", Classifier(net, ("a",), np.zeros((256, 256, 3), np.float32)))
    load_model(tmp_path / "model.safetensors", devices=CPU)
    with pytest.raises(ModelFileError, match="it has no logits to verify: its writer had no room"):
        load_model(tmp_path / "model.safetensors", devices=CPU, verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda logits: logits.__setitem__(0, logits[0] + 0.01 * max(map(abs, logits))),
            "differ by 1.0e-02 of the largest",
        ),
        (lambda logits: logits.reverse(), "differ by"),
        (lambda logits: logits.__setitem__(slice(None), [0.0] * len(logits)), "differ by"),
    ],
)
def test_other_logits_are_found(
    file: Path, change: Callable[[list[float]], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(file, lambda about: change(about["proof"]["logits"]))
    load_model(file, devices=CPU)  # which does not compute any
    with pytest.raises(ModelFileError, match=message):
        load_model(file, devices=CPU, verify=True)
    assert cli.main(["verify", str(file), "--devices", "cpu:0"]) == 1
    captured = capsys.readouterr()
    assert re.search(r"logits .* no", captured.out)
    assert message in captured.err


def test_logits_that_are_not_finite_are_found(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "known_logits", lambda model: np.full(model.net.num_classes, np.nan, np.float32))
    with pytest.raises(ModelFileError, match="differ by nan"):
        load_model(saved, devices=CPU, verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": [1.0]}, "proof has 1 logits; it must have as many as num_classes, 7"),
        ({"logits": ["NaN"] * 7}, r"proof\.logits\[0\] is 'NaN'; it must be a number"),
        ({"sha256": "0" * 64}, "is damaged: its tensors do not match its checksum"),
        ({"tensors": {}}, r"is damaged: conv1\.bias, .* do not match"),
        ({"accuracy": {"data": "x", "images": 0, "views": 1, "top1_error": 0.5}}, r"accuracy\.images is 0"),
        ({"accuracy": {"data": "x", "images": 1, "views": 2, "top1_error": 0.5}}, r"accuracy\.views is 2"),
        ({"origin": {"run": 5, "files": []}}, r"origin\.run is 5"),
        ({"more": 5}, r"proof\.more is unknown"),
    ],
)
def test_other_proofs_are_refused(file: Path, change: dict[str, Any], message: str) -> None:
    rewrite(file, lambda about: about["proof"].update(change))
    with pytest.raises(ModelFileError, match=message):
        load_model(file)


def of_earlier_version(path: Path) -> None:
    rewrite(path, lambda about: about.pop("proof"))


def test_a_file_of_an_earlier_version(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # in which no cell takes two lines
    of_earlier_version(file)
    assert load_model(file, devices=CPU).classes == CLASSES
    with pytest.raises(ModelFileError, match="it has no SHA-256 and no logits to verify, as files of earlier versions"):
        load_model(file, devices=CPU, verify=True)
    assert cli.main(["verify", str(file), "--devices", "cpu:0"]) == 1
    captured = capsys.readouterr()
    assert "no SHA-256, as in files of earlier versions" in captured.out
    assert "it has no SHA-256 and no logits to verify" in captured.err
    rewrite(file, tensors=lambda values: values["fc8.bias"].__setitem__(0, 5))
    with pytest.raises(ModelFileError, match="is damaged: its content does not match its checksum"):
        load_model(file)


def test_verify_is_of_own_files_as_they_are(saved: Path, tmp_path: Path) -> None:
    convert(saved, tmp_path / "other.safetensors", to="pytorch")
    with pytest.raises(ValueError, match=r"verify is True; it must be False for .*, as only a model file as it is"):
        load_model(tmp_path / "other.safetensors", verify=True)
    with pytest.raises(ValueError, match="verify is True"):
        load_model(saved, verify=True, mean=(1, 2, 3))
    with pytest.raises(TypeError, match="verify is 'yes'"):
        load_model(saved, verify="yes")  # type: ignore[arg-type]


def test_a_run_says_where_its_model_comes_from(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model.safetensors", BEST_FILE):
        found = description(digits_run / name)["proof"]
        run, record = found["origin"]["run"], json.loads((digits_run / "run.json").read_text())
        devices = record["settings"].pop("devices")
        assert devices
        assert run["settings"] == record["settings"]
        assert (run["data"]["source"], run["data"]["training"]["images"]) == (
            "digits",
            record["data"]["training"]["images"],
        )
        (measured,) = (each for each in record["history"] if each["epoch"] == record["best"])
        assert found["accuracy"]["top1_error"] == measured["validation_error"]
        assert found["accuracy"]["images"] == record["data"]["held_out"]["images"]
        assert found["version"] == version("pyalexnet")
    assert cli.main(["verify", str(digits_run), "--devices", "cpu:0"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "a run on digits: " in shown
    assert f"{1 - found['accuracy']['top1_error']:.2%} of {found['accuracy']['images']} images" in shown


def test_origin_outlives_loading_and_converting(digits_run: Path, tmp_path: Path) -> None:
    run = description(digits_run / "model.safetensors")["proof"]["origin"]["run"]
    save_model(tmp_path / "again.safetensors", load_model(digits_run, devices=CPU))
    again = description(tmp_path / "again.safetensors")["proof"]
    assert again["origin"] == {"run": run, "files": []}
    assert again["accuracy"] is None  # who has a net may have changed it
    convert(digits_run, tmp_path / "renamed.safetensors", classes=[*"0123456789"])
    renamed = description(tmp_path / "renamed.safetensors")["proof"]
    assert renamed["origin"]["run"] == run
    (through,) = renamed["origin"]["files"]
    assert (through["name"], through["format"]) == ("model.safetensors", "pyalexnet")
    assert renamed["accuracy"]["images"] > 0
    convert(digits_run, tmp_path / "of_grey.safetensors", mean=(1, 2, 3))
    assert description(tmp_path / "of_grey.safetensors")["proof"]["accuracy"] is None


@pytest.fixture
def run(digits_run: Path, tmp_path: Path) -> Path:
    """A copy of the digits' run to be written into."""
    return Path(shutil.copytree(digits_run, tmp_path / "run"))


def evaluate(*arguments: str | Path) -> int:
    return cli.main(["evaluate", *map(str, arguments), "--devices", "cpu:0", "--quiet"])


def tensors_of(path: Path) -> bytes:
    """All that lies behind a safetensors file's header."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


@pytest.mark.long
def test_accuracy_by_more_views_is_recorded(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_file = run / "model.safetensors"
    before, tensors = description(model_file), tensors_of(model_file)
    assert before["proof"]["more_views"] == []
    for views in (10, 5, 10):
        assert evaluate(run, "--views", str(views), "--record") == 0
    after = description(model_file)
    five, ten = after["proof"]["more_views"]
    assert (five["views"], ten["views"]) == (5, 10)
    expected = pyalexnet.evaluate(load_model(run, devices=CPU), views=10)
    assert ten == {**before["proof"]["accuracy"], "views": 10, "top1_error": expected.top1_error}
    assert after == {**before, "proof": {**before["proof"], "more_views": [five, ten]}}
    assert tensors_of(model_file) == tensors
    capsys.readouterr()
    assert cli.main(["verify", str(run), "--devices", "cpu:0"]) == 0
    assert re.findall(r"; (\w+) views?\b", " ".join(capsys.readouterr().out.split())) == ["one", "5", "10"]


@pytest.mark.long
def test_what_was_recorded_goes_with_the_same_net(run: Path, tmp_path: Path) -> None:
    assert evaluate(run, "--views", "5", "--record") == 0
    convert(run, tmp_path / "renamed.safetensors", classes=[*"0123456789"])
    (recorded,) = description(tmp_path / "renamed.safetensors")["proof"]["more_views"]
    assert recorded["views"] == 5
    convert(run, tmp_path / "of_grey.safetensors", mean=(1, 2, 3))
    assert description(tmp_path / "of_grey.safetensors")["proof"]["more_views"] == []


def test_what_training_measured_can_be_recorded_anew(run: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    rewrite(run / "model.safetensors", lambda about: about["proof"].update(accuracy=None))
    assert evaluate(run, "--record") == 0
    assert (run / "model.safetensors").read_bytes() == before


def test_nothing_is_recorded_of_another_net(run: Path) -> None:
    model = load_model(run, devices=CPU)
    accuracy = proof.Accuracy(data="digits", images=3, views=10, top1_error=0.0)
    save_model(run / "model.safetensors", model_of(PAPER))
    before = (run / "model.safetensors").read_bytes()
    with pytest.raises(ModelFileError, match="no more the net that was judged"):
        record_accuracy(run, model, accuracy)
    with locked_folder(run), pytest.raises(OSError, match="is at work in it"):
        record_accuracy(run, model, accuracy)
    assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("data", "change", "message"),
    [
        (["digits"], {}, "DATA is digits; with --record it must be left out"),
        ([], {"proof": None}, "has no proof to hold an accuracy"),
    ],
)
def test_what_cannot_be_recorded_is_refused_first(
    run: Path,
    data: list[str],
    change: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rewrite(run / "model.safetensors", lambda about: about.update(change))
    before = (run / "model.safetensors").read_bytes()
    command = importlib.import_module("pyalexnet.cli.evaluate")
    monkeypatch.setattr(command, "evaluate", lambda *_arguments, **_named: pytest.fail("it was judged"))
    assert evaluate(run, *data, "--record") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert (run / "model.safetensors").read_bytes() == before


def test_a_converted_file_says_what_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("google.protobuf")
    convert(model_of(BVLC), tmp_path / "bvlc.caffemodel")
    convert(tmp_path / "bvlc.caffemodel", tmp_path / "model.safetensors", mean=(1, 2, 3))
    found = description(tmp_path / "model.safetensors")["proof"]
    sha256 = hashlib.sha256((tmp_path / "bvlc.caffemodel").read_bytes()).hexdigest()
    assert found["origin"] == {"run": None, "files": [{"name": "bvlc.caffemodel", "format": "caffe", "sha256": sha256}]}
    assert cli.main(["verify", str(tmp_path / "model.safetensors"), "--devices", "cpu:0"]) == 0
    assert "bvlc.caffemodel (caffe)" in capsys.readouterr().out


def test_the_command_says_what_is_damaged(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(file, file.stat().st_size - 5)
    assert cli.main(["verify", str(file)]) == 1
    assert re.search(r"pyalexnet verify: .*is damaged: \S+ does not match", capsys.readouterr().err)
    assert cli.main(["verify", str(file.parent / "nothing.safetensors")]) == 2


def test_paths_are_not_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "secret" / "photos" / name).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
            image.save(tmp_path / "secret" / "photos" / name / f"{number}.png")
    run = pyalexnet.train(
        tmp_path / "secret" / "photos",
        epochs=1,
        batch_size=2,
        validation=0.5,
        out=tmp_path / "run",
        devices=CPU,
        progress=False,
    )
    assert run.stopped == "finished"
    text = json.dumps(description(tmp_path / "run" / "model.safetensors")["proof"])
    assert '"source": "photos"' in text
    assert "secret" not in text
