import unicodedata
from pathlib import Path
from typing import Any

import pytest

from drfpn.data import check_dataset, open_dataset
from drfpn.data.annotations import Annotations
from drfpn.data.formats.voc import read_voc
from drfpn.data.formats.voc_files import read_list, voc_sources
from drfpn.utils.errors import UserError


def counts(annotations: Annotations) -> dict[str, int]:
    sizes = (annotations.starts[1:] - annotations.starts[:-1]).tolist()
    return dict(zip(annotations.file_names.tolist(), sizes, strict=True))


def write(folder: Any, xml: str, image: str | None = None, stated: str = "", name: str = "dog") -> None:
    """Write an XML file with one object, and an image."""
    record = f"<filename>{stated}</filename>{folder.voc_object(name, (2, 3, 11, 20))}"
    folder.json(xml, f"<annotation>{record}</annotation>")
    if image is not None:
        folder.image(image)


def lists(folder: Any, **splits: str) -> Path:
    for split, text in splits.items():
        folder.json(f"ImageSets/Main/{split}.txt", text)
    return folder.root


def test_images_and_xml_files_may_be_in_subfolders(folder: Any) -> None:
    for stem in ("top", "site1/a", "site2/a"):
        write(folder, f"Annotations/{stem}.xml", f"JPEGImages/{stem}.jpg", f"{stem.rpartition('/')[2]}.jpg")
    root = lists(folder, train="top\nsite1/a\n", val="site2\\a.jpg\n")
    assert counts(read_voc(root, "train")) == {"top.jpg": 1, "site1/a.jpg": 1}
    val = read_voc(root, "val")
    assert counts(val) == {"site2/a.jpg": 1}
    assert val.annotation_file(0) == root / "Annotations/site2/a.xml"
    assert val.image_ids.tolist() == [2]


@pytest.mark.parametrize(("xml", "image"), [("site/a", "a"), ("a", "site/a")])
def test_only_one_of_the_folders_may_have_subfolders(folder: Any, xml: str, image: str) -> None:
    write(folder, f"Annotations/{xml}.xml", f"JPEGImages/{image}.jpg")
    write(folder, "Annotations/b.xml", "JPEGImages/b.jpg")
    assert sum(counts(read_voc(lists(folder, train="a\nb\n"), "train")).values()) == 2
    write(folder, "Annotations/other/a.xml", "JPEGImages/other/a.jpg")
    with pytest.raises(UserError, match=r"a\.xml: there is no such file|a\.jpg: it is missing"):
        open_dataset(str(folder.root))[0]


def test_a_listed_image_without_an_xml_file_is_named_with_the_nearest(folder: Any) -> None:
    write(folder, "Annotations/a_b.xml", "JPEGImages/a b.jpg")
    root = lists(folder, train="a b\n")
    with pytest.raises(UserError, match=r"Annotations/a b\.xml: there is no such file, only 'a_b\.xml', expected"):
        read_voc(root, "train")


@pytest.mark.parametrize(
    ("text", "names", "is_flagged"),
    [
        ("a\nb c d\n", ["a", "b c d"], False),
        ("cam 1\ncam 2\n", ["cam 1", "cam 2"], False),
        ("a  1\nb -1\n\nc  0\n", ["a", "b", "c"], True),
        ("line 2 cam 1\n", ["line 2 cam 1"], False),  # there is a file of this name
        ('"b c"  1\na 0\n', ["b c", "a"], True),  # as CVAT writes
        ("\ufeffa\r\nb  \r\n", ["a", "b"], False),
        ("./a.jpg\nb\\c.jpg\n", ["a.jpg", "b/c.jpg"], False),
    ],
)
def test_lines_of_lists_are_names_or_names_with_a_flag(
    tmp_path: Path, text: str, names: list[str], is_flagged: bool
) -> None:
    (tmp_path / "list.txt").write_bytes(text.encode())
    assert read_list(tmp_path / "list.txt", lambda name: name == "line 2 cam 1") == (names, is_flagged)


def test_names_with_spaces_are_whole_lines(folder: Any) -> None:
    for stem in ("plain", "line 1 cam 2", "line", "line 2 cam 1"):
        write(folder, f"Annotations/{stem}.xml", f"JPEGImages/{stem}.jpg")
    root = lists(folder, train="plain\nline 1 cam 2\n", val="line 2 cam 1\n")
    assert list(counts(read_voc(root, "train"))) == ["plain.jpg", "line 1 cam 2.jpg"]
    assert list(counts(read_voc(root, "val"))) == ["line 2 cam 1.jpg"]


def test_lists_of_a_class_are_no_splits_but_a_list_with_flags_may_be(folder: Any) -> None:
    for stem in "ab":
        write(folder, f"Annotations/{stem}.xml", f"JPEGImages/{stem}.jpg")
    root = lists(folder, train="a  1\nb -1\n", dog_train="a  1\nb -1\n", default="a\n", dog_default="a 1\n")
    assert tuple(voc_sources(root)) == ("default", "train")
    assert list(counts(read_voc(root, "train"))) == ["a.jpg", "b.jpg"]


def test_the_stated_image_decides_between_two_of_one_name(folder: Any) -> None:
    write(folder, "Annotations/a.xml", "JPEGImages/a.png", "a.png")
    folder.image("JPEGImages/a.jpg")
    root = lists(folder, train="a\n")
    assert list(counts(read_voc(root, "train"))) == ["a.png"]
    for stated in ("", "a", "other.jpg"):
        write(folder, "Annotations/a.xml", stated=stated)
        with pytest.raises(
            UserError, match=r"a\.xml: it could be of 'a\.jpg' or 'a\.png', expected one of them, or its"
        ):
            read_voc(root, "train")
    lists(folder, train="a.jpg\n")
    assert list(counts(read_voc(root, "train"))) == ["a.jpg"]
    write(folder, "Annotations/a.xml", stated="a.png")
    with pytest.raises(UserError, match=r"its <filename> is 'a\.png', but its own name is that of 'a\.jpg'"):
        read_voc(root, "train")


def test_the_stated_image_is_used_where_none_has_the_name_of_the_file(folder: Any) -> None:
    write(folder, "Annotations/0001.xml", "JPEGImages/IMG_7.jpg", "IMG_7.jpg")
    assert list(counts(read_voc(lists(folder, train="0001\n"), "train"))) == ["IMG_7.jpg"]


def test_a_file_that_states_the_image_of_another_file_keeps_its_own_with_a_warning(folder: Any) -> None:
    write(folder, "Annotations/a.xml", "JPEGImages/a.jpg", "a.jpg")
    write(folder, "Annotations/a_flipped.xml", "JPEGImages/a_flipped.jpg", "a.jpg")  # an augmented copy
    root = lists(folder, train="a\na_flipped\n")
    messages: list[str] = []
    dataset = open_dataset(str(root), warn=messages.append)
    assert [Path(dataset.name(index)).name for index in range(2)] == ["a.jpg", "a_flipped.jpg"]
    assert "a_flipped.xml: its <filename> is 'a.jpg', but its own name is that of 'a_flipped.jpg'" in messages[0]
    assert "image-name-differs" in {issue.kind for issue in check_dataset(str(root), ["train"])}


def test_a_file_that_states_another_image_without_a_file_is_refused(folder: Any) -> None:
    write(folder, "Annotations/a.xml", "JPEGImages/a.jpg", "b.jpg")
    folder.image("JPEGImages/b.jpg")
    with pytest.raises(UserError, match=r"a\.xml: its <filename> is 'b\.jpg', but its own name is that of 'a\.jpg'"):
        read_voc(lists(folder, train="a\n"), "train")


def test_two_files_for_one_image_are_refused(folder: Any) -> None:
    for stem in ("1", "2"):
        write(folder, f"Annotations/{stem}.xml", "JPEGImages/a.jpg", "a.jpg")
    with pytest.raises(UserError, match=r"2\.xml: '.*1\.xml' annotates 'a\.jpg' too"):
        read_voc(lists(folder, train="1\n2\n"), "train")


@pytest.mark.parametrize("listed", ["A", "a", "É", "é"])
def test_letter_case_and_unicode_form_may_differ_if_one_file_fits(folder: Any, listed: str) -> None:
    form = unicodedata.normalize("NFD", listed.lower())
    write(folder, f"Annotations/{form}.xml", f"JPEGImages/{form}.JPG")
    root = lists(folder, train=f"{listed}\n")
    assert counts(read_voc(root, "train")) == {f"{form}.JPG": 1}
    if listed == "A":
        write(folder, "Annotations/A.xml", "JPEGImages/A.jpg")
        assert counts(read_voc(root, "train")) == {"A.jpg": 1}


LAYOUTS = {
    "labelImg, one folder": ("{}.jpg", "{}.xml", ["all"]),
    "labelImg, classes below": ("cats/{}.jpg", "cats/{}.xml", ["all"]),
    "Kaggle": ("images/{}.jpg", "annotations/{}.xml", ["all"]),
    "Kaggle, xmls": ("images/{}.jpg", "annotations/xmls/{}.xml", ["all"]),
    "VOC without lists": ("JPEGImages/{}.jpg", "Annotations/{}.xml", ["all"]),
    "another case": ("Images/{}.JPG", "ANNOTATIONS/{}.XML", ["all"]),
    "Roboflow": ("{split}/{}.jpg", "{split}/{}.xml", ["train", "val"]),
    "splits with two folders": ("{split}/images/{}.jpg", "{split}/annotations/{}.xml", ["train", "val"]),
    "splits below": ("images/{split}/{}.jpg", "annotations/{split}/{}.xml", ["train", "val"]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_without_lists_are_read(folder: Any, name: str) -> None:
    image, xml, splits = LAYOUTS[name]
    for split, stem in (("train", "a"), ("valid", "b")):
        path = image.format(stem, split=split)
        write(folder, xml.format(stem, split=split), path, Path(path).name, name=f"class {stem}")
    for split in splits:
        dataset = open_dataset(str(folder.root), split)
        assert dataset.classes == ("class a", "class b")
        assert dataset.num_objects() == len(dataset) == (2 if splits == ["all"] else 1)


def test_images_without_an_xml_file_are_left_out_with_a_word_if_there_is_no_list(folder: Any) -> None:
    write(folder, "a.xml", "a.jpg", "a.jpg")
    folder.image("b.jpg")
    messages: list[str] = []
    dataset = open_dataset(str(folder.root), "all", warn=messages.append)
    assert len(dataset) == 1
    assert messages == [f"{folder.root}/b.jpg: no annotation or list names it."]


def test_a_folder_with_data_sets_below_it_is_none_itself(folder: Any) -> None:
    write(folder, "one/Annotations/a.xml", "one/JPEGImages/a.jpg")
    write(folder, "two/Annotations/a.xml", "two/JPEGImages/a.jpg")
    folder.json("three/Annotations/readme.xml", "<config/>")
    assert voc_sources(folder.root) == {}
    assert voc_sources(folder.root / "three") == {}
    assert list(voc_sources(folder.root / "one")) == ["all"]


def test_real_data_is_read_without_its_lists(assets: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(assets / "voc/JPEGImages")
    (tmp_path / "annotations").symlink_to(assets / "voc/Annotations")
    listed = [read_voc(assets / "voc", split) for split in voc_sources(assets / "voc")]
    assert counts(read_voc(tmp_path, "all")) == {name: count for part in listed for name, count in counts(part).items()}


@pytest.mark.parametrize("has_lists", [False, True])
def test_a_part_of_the_name_may_look_like_a_suffix(folder: Any, has_lists: bool) -> None:
    write(folder, "Annotations/a.xml", "JPEGImages/a.jpg", "a.jpg", name="cat")
    write(folder, "Annotations/a.jpg.xml", "JPEGImages/a.jpg.png", "a.jpg.png")
    if has_lists:
        lists(folder, all="a\na.jpg\n")
    annotations = read_voc(folder.root, "all")
    names = [annotations.classes[label - 1] for label in annotations.labels]
    assert dict(zip(annotations.file_names.tolist(), names, strict=True)) == {"a.jpg": "cat", "a.jpg.png": "dog"}


def test_a_file_may_have_the_name_of_its_image_with_its_suffix(folder: Any) -> None:
    for image, name in (("a.jpg", "cat"), ("a.png", "dog")):
        write(folder, f"annotations/{image}.xml", f"images/{image}", image, name=name)
    annotations = read_voc(folder.root, "all")
    assert annotations.file_names.tolist() == ["a.jpg", "a.png"]
    assert annotations.labels.tolist() == [1, 2]


def test_a_stated_path_decides_between_images_of_one_name(folder: Any) -> None:
    folder.image("images/site1/a.jpg")
    write(folder, "annotations/a.xml", "images/site2/a.jpg", "site2/a.jpg")
    assert counts(read_voc(folder.root, "all")) == {"site2/a.jpg": 1}


def test_the_folder_above_a_voc_folder_is_refused_with_a_hint(folder: Any) -> None:
    write(folder, "VOC2007/Annotations/a.xml", "VOC2007/JPEGImages/a.jpg")
    folder.json("VOC2007/ImageSets/Main/train.txt", "a\n")
    with pytest.raises(UserError, match=r"Found 'VOC2007/ImageSets': Pascal VOC"):
        open_dataset(str(folder.root))
