import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from drfpn.data import open_dataset, stats
from drfpn.utils.errors import UserError


def test_target_is_torchvisions_without_crowds(folder: Any, coco_dict: Any) -> None:
    dataset = open_dataset(folder.coco(coco_dict))
    image, target = dataset[2]
    assert image.shape == (3, 20, 30)
    assert image.dtype == torch.uint8
    expected = {
        "boxes": torch.tensor([[1.5, 2, 4.75, 6]]),
        "labels": torch.tensor([3]),
        "image_id": torch.tensor(12),
        "area": torch.tensor([7.5]),
        "iscrowd": torch.tensor([0]),
    }
    torch.testing.assert_close(target, expected)
    assert dataset[0][1]["labels"].tolist() == [1]  # without the crowd
    assert dataset.ground_truth()["annotations"][1]["iscrowd"] == 1


def test_image_without_objects_has_empty_tensors(folder: Any, coco_dict: Any) -> None:
    target = open_dataset(folder.coco(coco_dict))[1][1]
    shapes = {name: tuple(value.shape) for name, value in target.items()}
    assert shapes == {"boxes": (0, 4), "labels": (0,), "image_id": (), "area": (0,), "iscrowd": (0,)}
    dtypes = {name: value.dtype for name, value in target.items()}
    assert dtypes["boxes"] == dtypes["area"] == torch.float32
    assert dtypes["labels"] == dtypes["iscrowd"] == dtypes["image_id"] == torch.int64


def test_names_ids_and_sizes(folder: Any, coco_dict: Any) -> None:
    dataset = open_dataset(folder.coco(coco_dict))
    assert dataset.classes == ("car", "bottle", "toothbrush")
    assert dataset.category_ids == (3, 44, 90)
    assert dataset.name(0) == str(folder.root / "train2017" / "30.png")
    assert [dataset.image_id(i) for i in range(3)] == [30, 7, 12]
    assert dataset.sizes().tolist() == [[20, 30]] * 3
    with pytest.raises(IndexError):
        dataset[3]


def test_overhang_is_clipped_in_the_target_only(folder: Any, coco_dict: Any) -> None:
    coco_dict["annotations"][0]["bbox"] = [-0.5, 10, 31.25, 11]
    dataset = open_dataset(folder.coco(coco_dict))
    assert dataset[2][1]["boxes"].tolist() == [[0, 10, 30, 20]]
    assert dataset.ground_truth()["annotations"][2]["bbox"] == [-0.5, 10, 31.25, 11]


def test_invalid_boxes_raise_or_are_reported(folder: Any, coco_dict: Any) -> None:
    coco_dict["annotations"][0]["bbox"] = [1, 2, 3, math.nan]
    data = folder.coco(coco_dict)
    with pytest.raises(UserError, match=r"annotation 5 of image '12\.png'"):
        open_dataset(data)
    lines: list[str] = []
    dataset = open_dataset(data, on_bad="skip", warn=lines.append)
    assert len(dataset[2][1]["boxes"]) == 0
    assert len(lines) == 1
    assert len(open_dataset(data, max_images=2)) == 2  # the bad box belongs to the third image


def test_sizes_that_are_not_annotated_come_from_the_images(folder: Any, coco_dict: Any) -> None:
    for image in coco_dict["images"]:
        del image["height"]
    coco_dict["annotations"][0]["bbox"] = [28, 2, 5, 5]
    data = folder.coco(coco_dict)
    with pytest.raises(UserError, match=r"\(30 x 20 px\)"):
        open_dataset(data)
    dataset = open_dataset(data, on_bad="fix")
    assert dataset.sizes().tolist() == [[20, 30]] * 3
    assert dataset.ground_truth()["images"][0]["height"] == 20
    assert dataset[2][1]["boxes"].tolist() == [[28, 2, 30, 7]]


def test_image_of_another_size_is_refused(folder: Any, coco_dict: Any) -> None:
    dataset = open_dataset(folder.coco(coco_dict))
    folder.image("train2017/7.png", 21, 30)
    with pytest.raises(UserError, match=r"7\.png: the image is 30 x 21 px, expected 30 x 20 px as .*json"):
        dataset[1]


def test_missing_and_damaged_images_are_refused(folder: Any, coco_dict: Any) -> None:
    dataset = open_dataset(folder.coco(coco_dict))
    Path(dataset.name(0)).unlink()
    Path(dataset.name(1)).write_bytes(b"?")
    for index, message in ((0, r"30\.png is missing"), (1, r"7\.png cannot be decoded")):
        with pytest.raises(UserError, match=message):
            dataset[index]


@pytest.mark.parametrize("folder_of_images", ["images", "images/val"])
def test_plain_layout_is_read(folder: Any, coco_dict: Any, folder_of_images: str) -> None:
    folder.json("annotations/val.json", coco_dict)
    for image in coco_dict["images"]:
        folder.image(f"{folder_of_images}/{image['file_name']}")
    assert open_dataset(str(folder.root), "val")[2][1]["labels"].tolist() == [3]


def test_voc_layout_is_read(folder: Any) -> None:
    box = folder.voc_object
    objects = box("dog", (2, 3, 11, 20)) + box("cat", (1, 1, 9, 9), "<difficult>1</difficult>")
    dataset = open_dataset(folder.voc({"a": objects}, test=["a"]), "test")
    assert dataset[0][1]["boxes"].tolist() == [[1, 2, 11, 20]]
    assert [record["iscrowd"] for record in dataset.ground_truth()["annotations"]] == [0, 1]


def test_data_set_that_cannot_be_opened_is_refused(folder: Any, coco_dict: Any) -> None:
    data = folder.coco(coco_dict)
    (folder.root / "apples").mkdir()
    for name, split, message in (
        (f"{data}/aples", "train", r"aples does not exist.*Did you mean 'apples'\?"),
        (f"{data}/apples", "train", r"neither in COCO nor in VOC nor in YOLO layout.*instances_train2017\.json"),
        (f"{data}/x.yaml", "train", r"x\.yaml does not exist, expected the YAML file of a YOLO data set"),
        (f"{data}/train2017/7.png", "train", r"is a file, expected"),
        ("shape", "train", r"Did you mean 'shapes'"),
        (data, "test", r"no split 'test', expected one that is there: train"),
        (data, "trian", r"Did you mean 'train'"),
        ("shapes", "dev", r"expected one of train, val, test"),
    ):
        with pytest.raises(UserError, match=message):
            open_dataset(name, split)
    for options in ({"max_images": 0}, {"max_images": -3}, {"on_bad": "ignore"}):
        with pytest.raises(UserError, match=str(next(iter(options.values())))):
            open_dataset(data, **options)


def test_folder_without_the_images_is_refused(folder: Any, coco_dict: Any) -> None:
    folder.json("annotations/instances_train2017.json", coco_dict)
    with pytest.raises(UserError, match=r"train2017 holds none .*no such folder.*'30\.png'"):
        open_dataset(str(folder.root))


def unbatched(batch: list[Any]) -> Any:
    return batch[0]


def test_spawned_workers_give_the_same(folder: Any, coco_dict: Any) -> None:
    dataset = open_dataset(folder.coco(coco_dict))
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context="spawn", collate_fn=unbatched)
    for index, (image, target) in enumerate(loader):
        torch.testing.assert_close(image, dataset[index][0])
        torch.testing.assert_close(target, dataset[index][1])


def test_stats_count_by_class_and_size(folder: Any, coco_dict: Any) -> None:
    counted = stats(open_dataset(folder.coco(coco_dict), segmentations=True))
    expected = {
        "images": 3,
        "images_without_objects": 1,
        "objects": 2,
        "crowd": 1,
        "objects_per_class": {"car": 1, "bottle": 0, "toothbrush": 1},
        "small": 2,
        "medium": 0,
        "large": 0,
        "with_polygons": 1,
        "with_rle": 0,
    }
    assert counted.items() >= expected.items()
    assert counted["objects_per_image"] == {"mean": 2 / 3, "max": 1}
    assert counted["quantiles"]["width"]["0.5"] == (3.25 + 30) / 2
    assert counted["quantiles"]["aspect"]["0.5"] == (3.25 / 4 + 30 / 20) / 2
    assert counted["quantiles"]["relative_side"]["0.5"] == pytest.approx(((3.25 * 4 / 600) ** 0.5 + 1) / 2)
    shapes = open_dataset("shapes", "val", max_images=10)
    counted = stats(shapes)
    assert counted["objects"] == counted["with_rle"] == sum(len(shapes[i][1]["labels"]) for i in range(10))


def test_every_real_image_opens(assets: Path) -> None:
    for name, split in (("coco", "val"), ("voc", "test")):
        dataset = open_dataset(str(assets / name), split)
        for index in range(len(dataset)):
            image, target = dataset[index]
            height, width = image.shape[1:]
            assert (target["boxes"] <= torch.tensor([width, height, width, height])).all()
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
            assert image.shape[1:] == tuple(dataset.sizes()[index])
