"""Invalid inputs of the command line, with the expected error messages."""

import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from drfpn.data import convert
from drfpn.training import resolve
from tests.cli.conftest import TINY

TINY_TRAIN = f"--epochs 1 {' '.join(TINY)} --out run --data"
TRAIN = f"train faster_rcnn_lite0_drfpn {TINY_TRAIN}"
COCO, MASKS = f"{TRAIN} coco", f"train mask_rcnn_lite0_drfpn {TINY_TRAIN} coco"
SHAPES = "train faster_rcnn_lite0_drfpn --data shapes --out run"

TRAIN_JSON = Path("coco/annotations/instances_train2017.json")
VAL_JSON = Path("coco/annotations/instances_val2017.json")
BYTES, LINE = "b.safetensors", "Annotations/000000000001.xml"

Make = Callable[[], object]


class Bad(NamedTuple):
    """An invalid input, in a folder with a valid data set ``coco``."""

    name: str
    make: Make
    command: str
    message: str
    code: int = 1
    skipped: str | None = None
    """For training data: what '--on-bad skip' logs when it leaves the data out, "" if it cannot."""


def nothing() -> None:
    pass


def text(file: str | Path, content: str | bytes) -> Make:
    def write() -> None:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def edit(change: Callable[[dict[str, Any]], object], file: Path = TRAIN_JSON) -> Make:
    def rewrite() -> None:
        record = json.loads(file.read_text())
        change(record)
        file.write_text(json.dumps(record))

    return rewrite


def first(kind: str, **values: object) -> Make:
    """Change values of the first image, annotation or category."""
    return edit(lambda record: record[kind][0].update(values))


def box(*numbers: object) -> Make:
    return first("annotations", bbox=list(numbers))


def again(kind: str) -> Make:
    """Give two records one id."""
    return edit(lambda record: record[kind][1].update(id=record[kind][0]["id"]))


def image() -> Path:
    return sorted(Path("coco/train2017").iterdir())[0]


def cut_image() -> None:
    image().write_bytes(image().read_bytes()[:-200])


def image_is_folder() -> None:
    file = image()
    file.unlink()
    file.mkdir()


def remove_images() -> None:
    for file in Path("coco/train2017").iterdir():
        file.unlink()


def float_image() -> None:
    Image.fromarray(np.zeros((256, 256), np.float32)).save(image(), format="TIFF")


def bomb() -> None:
    """Write a picture of 14 GB in a hundred bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 70000, 70000, 8, 2, 0, 0, 0)
    image().write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def broken_chunk() -> None:
    content = bytearray(image().read_bytes())
    middle = len(content) // 2
    content[middle : middle + 10] = bytes(10)
    image().write_bytes(content)


def normalize(record: dict[str, Any]) -> None:
    for annotation in record["annotations"]:
        annotation["bbox"] = [value / 1000 for value in annotation["bbox"]]


def corners(record: dict[str, Any]) -> None:
    for annotation in record["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


def without_masks(record: dict[str, Any]) -> None:
    for annotation in record["annotations"]:
        del annotation["segmentation"]


def converted(to: str, file: str, old: str, new: str) -> Make:
    """Write the data set in another format, with a change in the first file that ``file`` fits."""

    def write() -> None:
        convert("coco", to, Path(to))
        path = sorted(Path(to).glob(file))[0]
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return write


def yolo_line(line: str) -> Make:
    def write() -> None:
        convert("coco", "yolo", Path("yolo"))
        path = sorted(Path("yolo/labels/train").glob("*.txt"))[0]
        path.write_text(f"{line}\n{path.read_text()}")

    return write


class Hostile:
    """Leaves a file ``executed`` when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def hostile(file: str, *, bare: bool = False) -> Make:
    def write() -> None:
        Path(file).parent.mkdir(exist_ok=True)
        value = {"model": Hostile(Path("executed").absolute())}
        if bare:
            Path(file).write_bytes(pickle.dumps(value))
        else:
            torch.save(value, file)

    return write


def hostile_state() -> None:
    hostile("run/state.pt")()
    config = resolve("faster_rcnn_lite0_drfpn", "coco", epochs=1, overrides=TINY[1::2])
    Path("run/config.yaml").write_text(config.to_yaml())


def hostile_yaml() -> None:
    Path("evil.yaml").write_text("!!python/object/apply:os.system [touch executed]")


def hostile_config() -> None:
    hostile_yaml()
    text("run/state.pt", "")()
    Path("evil.yaml").rename("run/config.yaml")


def results(**values: object) -> Make:
    """Write one detection with some values changed."""

    def write() -> None:
        truth = json.loads(VAL_JSON.read_text())
        row = {"image_id": truth["images"][0]["id"], "category_id": 7, "bbox": [0, 0, 1, 1], "score": 1}
        Path("results.json").write_text(json.dumps([{k: v for k, v in (row | values).items() if v is not ...}]))

    return write


def other_classes() -> None:
    def rename(record: Any) -> None:
        used = record["annotations"][0]["category_id"]
        next(row for row in record["categories"] if row["id"] == used).update(name="unheard of")

    edit(rename, VAL_JSON)()


EVAL_RESULTS = "eval results.json --data coco"

EVERY_COMMAND = {
    "eval": "eval {file} --data coco",
    "predict": "predict {file} coco/val2017 --out out",
    "backbone": COCO + " -o weights_backbone={file}",
    "weights": f"train retinanet_r50_fpn {TINY_TRAIN} coco --weights {{file}}",
}
"""Commands that read a file of weights."""

TABLE = [
    # images
    Bad("cut image", cut_image, COCO, ".png", skipped="left out"),
    Bad("empty image", lambda: image().write_bytes(b""), COCO, ".png", skipped="left out"),
    Bad("text called .png", lambda: image().write_text("not a picture"), COCO, ".png", skipped="left out"),
    Bad("image missing", lambda: image().unlink(), COCO, ".png is missing", skipped="left out"),
    Bad("folder called .png", image_is_folder, COCO, ".png is a folder", skipped="left out"),
    Bad("image of floats", float_image, COCO, "floats", skipped="left out"),
    Bad("decompression bomb", bomb, COCO, "DRFPN_MAX_IMAGE_PIXELS", skipped="left out"),
    Bad("broken chunk", broken_chunk, COCO, "cannot be decoded", skipped="left out"),
    Bad("image of another size", lambda: Image.new("RGB", (50, 60)).save(image()), COCO, "50 x 60", skipped="left out"),
    Bad("no image at all", remove_images, COCO, "train2017 holds none", skipped=""),
    # JSON
    Bad("annotations missing", lambda: TRAIN_JSON.unlink(), COCO, "no split 'train'", skipped=""),
    Bad("empty JSON", text(TRAIN_JSON, ""), COCO, "train2017.json: it is not JSON", skipped=""),
    Bad("cut JSON", text(TRAIN_JSON, '{"images": ['), COCO, "train2017.json: it is not JSON", skipped=""),
    Bad("bytes for JSON", text(TRAIN_JSON, b"\xff\xfe\x00\x80"), COCO, "train2017.json: it is not JSON", skipped=""),
    Bad("deeply nested JSON", text(TRAIN_JSON, "[" * 200_000), COCO, "train2017.json: it is not JSON", skipped=""),
    Bad("list for JSON", text(TRAIN_JSON, "[1, 2]"), COCO, "it holds a JSON list", skipped=""),
    Bad("list 'images' missing", edit(lambda r: r.pop("images")), COCO, "no list 'images'", skipped=""),
    Bad("annotations in a dict", edit(lambda r: r.update(annotations={})), COCO, "no list 'annotations'", skipped=""),
    Bad("no images listed", edit(lambda r: r.update(images=[])), COCO, "'images' is empty", skipped=""),
    Bad("no categories listed", edit(lambda r: r.update(categories=[])), COCO, "'categories' is empty", skipped=""),
    Bad("images share an id", again("images"), COCO, "belongs to '000000000001.png' already", skipped=""),
    Bad("classes share an id", again("categories"), COCO, "id 7 is taken by", skipped=""),
    Bad("annotations share an id", again("annotations"), COCO, "belongs to an earlier", skipped="left out"),
    Bad("unknown image", first("annotations", image_id=99999), COCO, "image_id is 99999", skipped="left out"),
    Bad("unknown class", first("annotations", category_id=999), COCO, "category_id is 999", skipped="left out"),
    Bad("image id in words", first("images", id="one"), COCO, "its id is 'one'", skipped=""),
    Bad("huge image id", first("images", id=2**70), COCO, "its id is 1180591620717411303424", skipped=""),
    Bad("no file name", first("images", file_name=None), COCO, "its file_name None", skipped=""),
    Bad("class called 5", first("categories", name=5), COCO, "its name 5", skipped=""),
    Bad("annotation is a number", edit(lambda r: r["annotations"].append(3)), COCO, "JSON number", skipped="left out"),
    Bad("crowd of 7", first("annotations", iscrowd=7), COCO, "its iscrowd is 7", skipped="left out"),
    Bad("splits of other classes", other_classes, COCO, "has the classes"),
    # boxes
    Bad("three numbers", box(1, 2, 3), COCO, "its bbox is [1, 2, 3]", skipped="left out"),
    Bad("words in a box", box("a", "2", "3", "4"), COCO, "its bbox is ['a'", skipped="left out"),
    Bad("null in a box", box(1, 2, None, 4), COCO, "its bbox is [1, 2, None, 4]", skipped="left out"),
    Bad("no box", first("annotations", bbox=None, segmentation=None), COCO, "its bbox is None", skipped="left out"),
    Bad("negative width", box(10, 10, -5, 5), COCO, "width -5", skipped="dropped 1 box"),
    Bad("no width", box(10, 10, 0, 5), COCO, "width 0", skipped="dropped 1 box"),
    Bad("box outside", box(5000, 10, 20, 20), COCO, "x 5000", skipped="dropped 1 box"),
    Bad("box half outside", box(200, 100, 2000, 20), COCO, "width 2000", skipped="dropped 1 box"),
    Bad("NaN in a box", box(float("nan"), 1, 2, 3), COCO, "x nan", skipped="dropped 1 box"),
    Bad("infinity in a box", box(1, 1, float("inf"), 3), COCO, "width inf", skipped="dropped 1 box"),
    Bad("integer of 400 digits", box(1, 1, 10**400, 3), COCO, "width inf", skipped="dropped 1 box"),
    Bad("area in words", first("annotations", area="large"), COCO, "its area is 'large'", skipped="left out"),
    Bad("normalized boxes", edit(normalize), COCO, "fractions of the image", skipped=""),
    Bad("corners for sizes", edit(corners), COCO, "inside of it as x1, y1, x2, y2", skipped=""),
    # masks
    Bad("polygon of two points", first("annotations", segmentation=[[1, 1, 5, 5]]), MASKS, "polygon", 1, "dropped 1"),
    Bad("polygon of odd length", first("annotations", segmentation=[[1] * 7]), MASKS, "polygon", 1, "dropped 1"),
    Bad("polygon in words", first("annotations", segmentation="round"), MASKS, "'round'", skipped="dropped 1"),
    Bad(
        *("RLE of another image", first("annotations", segmentation={"size": [2, 3], "counts": [6]}), MASKS, "[2, 3]"),
        skipped="dropped 1",
    ),
    Bad(
        *("RLE of rubbish", first("annotations", segmentation={"size": [1, 1], "counts": "\u00e9"}), MASKS, "RLE"),
        skipped="dropped 1",
    ),
    Bad("no masks", edit(without_masks), MASKS, "none of its", skipped=""),
    # VOC and YOLO
    Bad("XML cut off", converted("voc", "Annotations/*.xml", "</annotation>", ""), f"{TRAIN} voc", "it is not XML"),
    Bad("VOC without a box", converted("voc", "Annotations/*.xml", "bndbox", "bounds"), f"{TRAIN} voc", "not XML"),
    Bad("VOC box in words", converted("voc", "Annotations/*.xml", "<xmin>", "<xmin>a"), f"{TRAIN} voc", "<xmin> is 'a"),
    Bad("VOC turned box", converted("voc", "Annotations/*.xml", "<xmax>", "<xmax>-9"), f"{TRAIN} voc", "width -"),
    Bad("VOC image without XML", converted("voc", "ImageSets/Main/train.txt", "", "x\n"), f"{TRAIN} voc", "x.xml"),
    Bad("YOLO line of four", yolo_line("0 0.5 0.5 0.1"), f"{TRAIN} yolo/data.yaml", ".txt"),
    Bad("YOLO class unknown", yolo_line("99 0.5 0.5 0.1 0.1"), f"{TRAIN} yolo/data.yaml", "99"),
    Bad("YOLO box in pixels", yolo_line("0 50 50 10 10"), f"{TRAIN} yolo/data.yaml", "50"),
    Bad("YOLO box in words", yolo_line("0 a b c d"), f"{TRAIN} yolo/data.yaml", ".txt"),
    Bad("data set is a file", text("data.zip", ""), f"{TRAIN} data.zip", "data.zip is a file"),
    Bad("data set is not there", nothing, f"{TRAIN} cocoo", "Did you mean 'coco'?"),
    Bad("YAML is not there", nothing, f"{TRAIN} nowhere.yaml", "nowhere.yaml does not exist"),
    Bad("folder without a layout", lambda: Path("empty").mkdir(), f"{TRAIN} empty", "empty is"),
    Bad("check nowhere", nothing, "data check nowhere", "nowhere does not exist"),
    Bad("show nowhere", nothing, "data show nowhere", "nowhere does not exist"),
    Bad("stats of no split", nothing, "data stats coco --split vall", "Did you mean 'val'?"),
    Bad("stats as text", nothing, "data stats coco --out stats.txt", "--out is stats.txt", 2),
    Bad("stats in no folder", nothing, "data stats coco --out none/stats.png", "stats.png could not be written"),
    Bad("stats of no model", nothing, "data stats coco --model yolo", "Unknown model 'yolo'", 2),
    Bad("convert nowhere", nothing, "data convert nowhere --to coco --out out", "nowhere"),
    Bad("convert to what", nothing, "data convert shapes --to voca --out out", "Did you mean 'voc'?", 2),
    Bad("images how", nothing, "data convert shapes --to voc --out out --transfer move", "copy, hardlink, symlink", 2),
    # settings
    Bad("unknown setting", nothing, f"{SHAPES} -o learning_rate=1", "Unknown setting 'learning_rate'", 2),
    Bad("setting without value", nothing, f"{SHAPES} -o width", "An override is -o key=value", 2),
    Bad("setting that is no YAML", nothing, f"{SHAPES} -o 'milestones=[1'", "milestones", 2),
    Bad("width too small", nothing, f"{SHAPES} -o width=-1", "Setting 'width' is -1", 2),
    Bad("flip above 1", nothing, f"{SHAPES} -o hflip_prob=2", "Setting 'hflip_prob' is 2", 2),
    Bad("no batch", nothing, f"{SHAPES} -o batch_size=0", "Setting 'batch_size' is 0", 2),
    Bad("rate is NaN", nothing, f"{SHAPES} -o base_lr=.nan", "Setting 'base_lr' is nan", 2),
    Bad("epochs in words", nothing, f"{SHAPES} -o epochs=many", "Setting 'epochs' is 'many'", 2),
    Bad("unknown option of the pyramid", nothing, f"{SHAPES} -o neck_options.contxt=x", "'context'", 2),
    Bad("unknown option of the detector", nothing, f"{SHAPES} -o detector_options.nms=1", "'nms' is not an option", 2),
    Bad("unknown policy", nothing, f"{SHAPES} --on-bad ignore", "Setting 'on_bad' is 'ignore'", 2),
    Bad("unknown schedule", nothing, f"{SHAPES} --schedule 3x", "1x, 2x", 2),
    Bad("unknown scale", nothing, f"{SHAPES} --scale tiny", "small", 2),
    Bad("unknown split", nothing, f"{COCO} --val-split vall", "Did you mean 'val'?"),
    Bad("unknown device", nothing, f"{SHAPES} --device tpu9", "tpu9", 2),
    # models
    Bad("unknown pyramid", nothing, "train fcos_r50_drfpm --data shapes", "Did you mean 'fcos_r50_drfpn'?", 2),
    Bad("unknown backbone", nothing, "train faster_rcnn_nonet_fpn --data shapes", "Unknown backbone 'nonet'", 2),
    Bad("unknown model", nothing, "info yolo", "Unknown model 'yolo'", 2),
    Bad("size of one number", nothing, "info faster_rcnn_r50_fpn --size 800", "HEIGHTxWIDTH", 2),
    # files of weights, states and runs
    *(
        Bad(f"{kind} as {file} to {what}", hostile(file, bare=kind == "bare pickle"), command.format(file=file), file)
        for kind, file in (
            *(("hostile archive", "evil.pt"), ("hostile archive", "evil.pth"), ("hostile archive", "evil.safetensors")),
            *(("bare pickle", "evil.pt"), ("bare pickle", "evil.safetensors")),
        )
        for what, command in EVERY_COMMAND.items()
    ),
    Bad("hostile results", hostile("results.json", bare=True), EVAL_RESULTS, "results.json is not JSON"),
    Bad("hostile state", hostile_state, f"{COCO} --resume", "run/state.pt is not a training state"),
    Bad("hostile state alone", hostile_state, "train --resume --out run", "run/state.pt is not a training state"),
    Bad("hostile settings", hostile_config, "train --resume --out run", "run/config.yaml cannot be read"),
    Bad("hostile YAML", hostile_yaml, "data check evil.yaml", "evil.yaml"),
    Bad("cut weights", text(BYTES, b"\x10\0\0\0\0\0\0\0{"), f"eval {BYTES} --data coco", "not a safetensors file"),
    Bad("no weights", nothing, "eval nothing --data shapes", "no run or weights file nothing"),
    Bad("folder is no run", nothing, "eval coco --data coco", "coco is not a run"),
    Bad("detector of other classes", other_classes, "eval {trained} --data coco", "has the classes"),
    Bad("nothing to resume", nothing, f"{COCO} --resume", "no run to resume"),
    Bad("folder in use", text("run/thesis.tex", ""), COCO, "run exists and is not empty"),
    Bad("file for a folder", text("run", ""), COCO, "run exists and is not empty"),
    Bad("demo in a folder in use", text("run/thesis.tex", ""), "demo --out run", "is not a run"),
    Bad("nothing to predict", nothing, "predict {trained} nothing.jpg --out out", "nothing.jpg"),
    # results
    Bad("results missing", nothing, EVAL_RESULTS, "no file results.json"),
    Bad("results are not JSON", text("results.json", "{"), EVAL_RESULTS, "not JSON"),
    Bad("results are a dict", text("results.json", "{}"), EVAL_RESULTS, "must hold a list"),
    Bad("results of numbers", text("results.json", "[1]"), EVAL_RESULTS, "entry 0 must have"),
    Bad("result without score", results(score=...), EVAL_RESULTS, "entry 0 must have"),
    Bad("result of no image", results(image_id=-4), EVAL_RESULTS, "image -4"),
    Bad("result of no class", results(category_id=8), EVAL_RESULTS, "category 8"),
    Bad("result of three numbers", results(bbox=[0, 0, 1]), EVAL_RESULTS, "4 numbers"),
    Bad("result at NaN", results(bbox=[0, 0, 1, float("nan")]), EVAL_RESULTS, "4 numbers"),
    Bad("score is NaN", results(score=float("nan")), EVAL_RESULTS, "finite number"),
    Bad("score in words", results(score="high"), EVAL_RESULTS, "'high'"),
    Bad("result with a polygon", results(segmentation=[[1, 1, 5, 1, 5, 5]]), EVAL_RESULTS, "[[1, 1, 5, 1, 5, 5]]"),
    Bad("result of another size", results(segmentation={"size": [2, 3], "counts": [6]}), EVAL_RESULTS, "RLE is [2, 3]"),
    Bad("result with text for a mask", results(segmentation="a"), EVAL_RESULTS, "its segmentation is 'a'"),
]  # fmt: skip
