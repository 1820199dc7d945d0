"""Lists of labels and classes as ImageNet, tiny-imagenet and Kaggle hand them out, and as editors leave them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyalexnet.data.class_lists import read_classes_list
from pyalexnet.data.label_numbers import number_labels
from pyalexnet.data.labels import image_labels
from pyalexnet.data.text_lists import number_of, read_lines
from pyalexnet.errors import DataError

IMAGES = ("val_0.JPEG", "val_1.JPEG", "val_2.JPEG", "val_3.JPEG")
WNIDS = ("n01440764", "n01443537", "n02119789", "n01440764")


def labels_in(
    tmp_path: Path, text: str | bytes, names: Sequence[str] = IMAGES, classes: Sequence[str] = ()
) -> list[str]:
    path = tmp_path / "labels.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return image_labels(path, names, classes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Caffe's val.txt, train.txt, and torchvision-like ones
        ("val_3.JPEG 3\nval_0.JPEG 65\nval_2.JPEG 9\nval_1.JPEG 970\n", ["65", "970", "9", "3"]),
        ("a/b/val_0.JPEG 0\na/b/val_1.JPEG 0\na/b/val_2.JPEG 1\na/b/val_3.JPEG 1\n", ["0", "0", "1", "1"]),
        ("./val_0.JPEG 0\n./val_1.JPEG 0\n.\\val_2.JPEG 1\nC:\\data\\val_3.JPEG 1\n", ["0", "0", "1", "1"]),
        # ILSVRC2012_validation_ground_truth.txt
        ("490\n361\n171\n822\n", ["490", "361", "171", "822"]),
        # LOC_val_solution.csv
        (
            "ImageId,PredictionString\nval_3,n01440764 85 1 499 272 \nval_1,n01443537 131 0 499 254 \n"
            "val_0,n01440764 1 2 3 4 n01440764 5 6 7 8 \nval_2,n02119789 4 56 7 89\n",
            [*WNIDS],
        ),
        # tiny-imagenet's val_annotations.txt
        ("".join(f"val_{i}.JPEG\t{WNIDS[i]}\t0\t{i}\t32\t44\n" for i in (2, 0, 1, 3)), [*WNIDS]),
        # Kaggle
        ("id,label\nval_0,cat\nval_1,dog\nval_2,cat\nval_3,dog\n", ["cat", "dog", "cat", "dog"]),
        ("label,image_id\n0,val_0\n1,val_1\n0,val_2\n1,val_3\n", ["0", "1", "0", "1"]),
        ('"filename","class"\n"val_0.JPEG","kit fox, Vulpes"\nval_1.JPEG,b\nval_2.JPEG,c\nval_3.JPEG,d\n',
         ["kit fox, Vulpes", "b", "c", "d"]),
        (",id,label\n0,val_0,a\n1,val_1,b\n2,val_2,a\n3,val_3,b\n", ["a", "b", "a", "b"]),
        ("filename,width,height,class,xmin\n" + "".join(f"val_{i}.JPEG,8,8,c{i},3\n" for i in (0, 0, 1, 2, 3)),
         ["c0", "c1", "c2", "c3"]),
        ("image_id;label\nval_0;a\nval_1;b\nval_2;a\nval_3;b\n", ["a", "b", "a", "b"]),
        ("val_0.JPEG\ta b\nval_1.JPEG\tb, c\nval_2.JPEG\td;e\nval_3.JPEG\tf\n", ["a b", "b, c", "d;e", "f"]),
        ("file label\nval_0.JPEG 1\nval_1.JPEG 2\nval_2.JPEG 1\nval_3.JPEG 2\n", ["1", "2", "1", "2"]),
        # what editors and spreadsheets make of them
        ("\n val_0.JPEG   a \n\nval_1.JPEG\u00a0b\nval_2.JPEG  c\t\n\u200bval_3.JPEG d\n\n", ["a", "b", "c", "d"]),
        ("val_0.JPEG,3.0,\nval_1.JPEG,1.0,\nval_2.JPEG,2.0,\nval_3.JPEG,1.0,\n", ["3.0", "1.0", "2.0", "1.0"]),
        ("val_0.JPEG a\nval_0.JPEG a\nval_1.JPEG a\nval_2.JPEG b\nval_3.JPEG b\n", ["a", "a", "b", "b"]),
        ("label\na\nb\na\nb\n", ["a", "b", "a", "b"]),
        ('"tench, Tinca"\n"a"\n"a"\n"tench, Tinca"\n', ["tench, Tinca", "a", "a", "tench, Tinca"]),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\nn02119789 kit fox\nn01440764 tench\n", [*WNIDS]),
        ("kit fox\nred fox\nkit fox\nred fox\n", ["kit fox", "red fox"] * 2),
    ],
)  # fmt: skip
def test_spellings(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert labels_in(tmp_path, text) == expected
    for line_end in ("\r\n", "\r"):
        assert labels_in(tmp_path, text.replace("\n", line_end)) == expected
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert labels_in(tmp_path, text.encode(encoding)) == expected
    if text.isascii():
        for encoding in ("utf-16-le", "utf-16-be"):
            assert labels_in(tmp_path, text.encode(encoding)) == expected


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (("my photo 1.jpg", "it's, 2.jpg"), "my photo 1.jpg kit fox\nit's, 2.jpg red\n", ["kit fox", "red"]),
        (("my photo 1.jpg", "a 2.jpg"), '"my photo 1.jpg" 3\n"a 2.jpg" 4\n', ["3", "4"]),
        (("a, b.jpg", "c.jpg"), '"a, b.jpg",1\nc.jpg,2\n', ["1", "2"]),
        (("cat/1.jpg", "dog/1.jpg"), "x/dog/1.jpg d\nx/cat/1.jpg c\n", ["c", "d"]),
        (("a/cat/1.jpg", "a/dog/1.jpg"), "dog\\1.jpg d\ncat\\1.jpg c\n", ["c", "d"]),
        (("1.jpg", "2.jpg"), "id,label\n2,1\n1,2\n", ["2", "1"]),
        (("001.jpg", "002.jpg"), "id,label\n2.0,1.0\n1.0,5.0\n", ["5.0", "1.0"]),
        (("caf\u0301.jpg", "b.jpg"), "caf\u0301.jpg 1\nb.jpg 2\n", ["1", "2"]),
        (("cafe\u0301.jpg", "b.jpg"), "caf\u00e9.jpg 1\nb.jpg 2\n", ["1", "2"]),
        (("at 3.05.05\u202fPM.png", "b.png"), "at 3.05.05 PM.png 1\nb.png 2\n", ["1", "2"]),
        (("a.b.jpg", "a.jpg"), "a.b x\na y\n", ["x", "y"]),
        (("1.jpg",), "1.jpg\tcat\n", ["cat"]),
        (("1.jpg",), "7\n", ["7"]),
    ],
)
def test_names_of_files(tmp_path: Path, names: Sequence[str], text: str, expected: list[str]) -> None:
    assert labels_in(tmp_path, text, names) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; it must have a label for each image"),
        ("1\n2\n", "labels 2 images, but there are 4"),
        ("val_0.JPEG a\nval_1.JPEG b\nval_2.JPEG a\n", "has no label for the image val_3.JPEG"),
        ("val_0.JPEG\ta\n", r"no label for 3 images \(val_1.JPEG, val_2.JPEG, val_3.JPEG\)"),
        ("val_0 a\nval_1 a\nval_2 a\nval_3 a\nval_4.JPEG b\n", "names the file val_4.JPEG not among the 4 images"),
        ("val_0 a\nother.JPEG a\nval_2 a\nval_3 a\n",
         "no label for the image val_1.JPEG and names the file other.JPEG not among"),
        ("id,label\nval_0,a\nval_1,a\nval_2,a\nval_3,b\nval_3,a\n", "labels the image val_3.JPEG twice: 'b' and 'a'"),
        ("a.JPEG\t1\nb.JPEG\t2\nc.JPEG\t1\nd.JPEG\t2\n", "names files, such as .*, but none of the 4 images"),
        ("a,1\nb,2\nc,1\nd,2\n", "has 2 columns, between commas, none of which names the images"),
        ("a\t1\nb\t2\nc\t1\nd\t2\n", "has 2 columns, between tabs, none of which names the images"),
        ("img1 cat\nimg2 dog\nimg3 cat\nimg4 dog\n", "has 2 columns, between spaces"),
        ("val_0,a,b\nval_1,a,b\nval_2,a,b\nval_3,a,b\n", "has 3 columns, and it is not clear which is the label"),
        ("val_0,\nval_1,a\nval_2,a\nval_3,a\n", "has an image without a label"),
        ("val_0\nval_1\nval_2\nval_3\n", "names the images but has no labels"),
        ("Id,PredictionString\nval_0,n01440764 1 2 3 4 n01443537 1 2 3 4\nval_1,n01440764 1 2 3 4\n"
         "val_2,n01440764 1 2 3 4\nval_3,n01440764 1 2 3 4\n", "gives one image several classes"),
        (b"caf\xe9\na\na\na\n", "is no text file in UTF-8: line 1 has the byte 0xe9"),
        (b"a\0\0\0b\n\n\n\n", "is no text file: it has zero bytes"),
        ("unknown,image\nval_0,a\nval_1,a\nval_2,a\nval_3,a\nval_9,b\n", r"names 2 files \(unknown, val_9\) not among"),
    ],
)  # fmt: skip
def test_lists_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels_in(tmp_path, text)


def test_a_file_in_another_folder_is_another_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no label for the image dog/1\.jpg"):
        labels_in(tmp_path, "cat/1.jpg a\nbird/1.jpg b\n", ["cat/1.jpg", "dog/1.jpg"])
    with pytest.raises(DataError, match="no label"):
        labels_in(tmp_path, "cat/1.jpg a\n1.jpg b\n", ["cat/1.jpg", "dog/1.jpg"])


def test_labels_may_be_classes_that_look_like_columns(tmp_path: Path) -> None:
    classes = ["tench, Tinca tinca", "goldfish, Carassius auratus"]
    text = "".join(f"{classes[number]}\n" for number in (0, 1, 1, 0))
    assert labels_in(tmp_path, text, classes=classes) == [classes[number] for number in (0, 1, 1, 0)]
    with pytest.raises(DataError, match="between commas"):
        labels_in(tmp_path, text)


def test_what_is_no_file_of_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="FIFO"):
        read_lines(tmp_path / "pipe")
    with pytest.raises(OSError, match="device"):
        read_lines("/dev/zero")


NAMES = st.lists(
    st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\\/'\"")), min_size=2, max_size=8
).map(lambda stems: [f"{number} {stem}.jpg" for number, stem in enumerate(stems)])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES, st.data())
def test_what_the_csv_module_writes_is_read(tmp_path: Path, names: list[str], data: st.DataObject) -> None:
    kind = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="'\""), min_size=1)
    labels = data.draw(st.lists(kind, min_size=len(names), max_size=len(names)))
    delimiter = data.draw(st.sampled_from("\t;,"))
    quoting = data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    line_end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    writer.writerow(["filename", "label"])
    order = data.draw(st.permutations(range(len(names))))
    writer.writerows([names[number], labels[number]] for number in order)
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    found = labels_in(tmp_path, text.getvalue().encode(encoding), names)
    assert found == labels


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_content_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    try:
        texts = labels_in(tmp_path, content)
        names, numbers = number_labels(texts, None, tmp_path / "labels.txt")
    except DataError:
        return
    assert len(numbers) == len(IMAGES)
    assert set(numbers) == set(range(len(names)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b\na\nc\n", ("b", "a", "c")),
        ("n02119789 kit fox, Vulpes macrotis\nn01440764 tench, Tinca tinca\n", ("n02119789", "n01440764")),
        ("n01440764\ttench\nn02119789\tkit fox\n", ("n01440764", "n02119789")),
        ("n02119789 1 kit_fox\nn02100735 2 English_setter\n", ("n02119789", "n02100735")),
        ("n02100735 2 English_setter\nn02119789 1 kit_fox\n", ("n02119789", "n02100735")),
        ("n01440764\nn02119789\n", ("n01440764", "n02119789")),
        ("1 dog\n0 cat, tabby\n", ("cat, tabby", "dog")),
        ("1: dog\n2: cat\n", ("dog", "cat")),
        ("id,name\n2,dog\n1,cat\n", ("cat", "dog")),
        ("class,index\nkit fox,1\ncat,0\n", ("cat", "kit fox")),
        ("dog\t1\ncat\t0\n", ("cat", "dog")),
        ("class 1\nclass 2\nclass 3\n", ("class 1", "class 2", "class 3")),
        ("tench, Tinca tinca\ngoldfish\n", ("tench, Tinca tinca", "goldfish")),
        ('"a, b",\n"c",\n', ("a, b", "c")),
        ("0\n1\n2\n", ("0", "1", "2")),
        ("cafe\u0301\nb\n", ("caf\u00e9", "b")),
        ("  a\u00a0b \r\n\r\nc\r\n", ("a b", "c")),
    ],
)
def test_class_lists(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "classes.txt").write_bytes(text.encode(encoding))
        assert read_classes_list(tmp_path / "classes.txt") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "is empty; it must have a class name a line"),
        ("a\nb\na\n", "names the class 'a' 2 times"),
        ("cafe\u0301\ncaf\u00e9\n", "names the class 'café' as"),
        ("cat\tCat\ndog\tDog\n", "has several columns, between tabs; it must have a class name a line"),
        ("cat;x\ndog;y\n", "has several columns, between semicolons"),
    ],
)
def test_class_lists_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_classes_list(tmp_path / "classes.txt")


@pytest.mark.parametrize(
    ("texts", "classes", "first", "expected"),
    [
        (["0", "2", "1"], "abc", None, [0, 2, 1]),
        (["3", "1", "2"], "abc", None, [2, 0, 1]),
        (["3.0", "1.0", "2.00"], "abc", None, [2, 0, 1]),
        (["1", "2", "2"], "abc", 1, [0, 1, 1]),
        (["1", "2", "2"], "abc", 0, [1, 2, 2]),
        (["b", "a"], "abc", None, [1, 0]),
        (["002", "001"], ("001", "002"), None, [1, 0]),
        (["cafe\u0301", "a\u00a0b"], ("a b", "caf\u00e9"), None, [1, 0]),
        (["n01440764", "n02119789"], ("n02119789", "n01440764"), None, [1, 0]),
        (["2", "1"], ("n02119789", "n01440764"), None, [1, 0]),
        (["10", "9", "10"], None, None, [1, 0, 1]),
        (["b", "a"], None, None, [1, 0]),
    ],
)
def test_numbers_and_names(
    texts: list[str], classes: Sequence[str] | None, first: int | None, expected: list[int]
) -> None:
    names, numbers = number_labels(texts, classes, "list", first)
    assert numbers == expected
    assert names == (tuple(classes) if classes else {"10": ("9", "10"), "b": ("a", "b")}[texts[0]])


@pytest.mark.parametrize(
    ("texts", "classes", "first", "message"),
    [
        (
            ["1", "2", "2"],
            "abc",
            None,
            r"numbers from 1 to 2 for 3 classes, .* from 0 or from 1; say which by first_label",
        ),
        (["1", "2", "3", "4"], "abc", None, "has the label 4, but there are 3 classes"),
        (["0", "3"], "abc", None, "has the label 3, but there are 3 classes"),
        (["3"], "abc", 0, "has the label 3, but there are 3 classes"),
        (["-1", "1"], "abc", None, "has the label '-1'; numbers must be whole and count from 0"),
        (["0", "1"], "abc", 1, "has the label '0'; numbers must be whole and count from 1"),
        (["1.5", "1"], "abc", None, "has the label '1.5'; numbers must be whole"),
        (["1e400", "1"], "abc", None, "numbers must be whole"),
        (["9" * 400, "1"], "abc", None, "numbers must be whole"),
        (["a", "z"], "abc", None, "has the label 'z', which is not among the 3 classes given"),
        (["a", "b"], "abc", 1, "first_label is 1; it must be left out, as the labels of list are names"),
        (["a", "1"], "abc", None, "has the label '1', which is not among"),
        (["1", "2"], ("n01440764", "n02119789"), None, "numbers classes from 1, as ILSVRC does in an order of its own"),
        (["1", "2"], ("n01440764", "n02119789"), 1, "numbers classes from 1, as ILSVRC does in an order of its own"),
    ],
)
def test_numbers_and_names_that_are_refused(
    texts: list[str], classes: Sequence[str], first: int | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        number_labels(texts, tuple(classes), "list", first)


def test_number_of() -> None:
    assert [number_of(text) for text in ("3", "3.0", "3.", "-2", "+4", "3e2", "003")] == [3, 3, 3, -2, 4, 300, 3]
    assert [number_of(text) for text in ("", "a", "3.5", "1e999", "٣", "0x3", "1_0", "nan")] == [None] * 8
