"""The page of ``drfpn export --format web``, in headless Chromium."""

import base64
import functools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from drfpn.data import load_image
from drfpn.detectors.postprocess import paste_masks
from drfpn.export import compare_outputs, smooth_test_images
from drfpn.export.web import RUNTIME_VERSION, WEB_MODEL, to_web
from drfpn.utils.errors import UserError
from tests.export.test_files import assert_same

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SOFTWARE_GPU = (
    "--enable-unsafe-webgpu",
    "--enable-features=Vulkan",
    "--use-webgpu-adapter=swiftshader",
    "--use-vulkan=swiftshader",
)
TIMEOUT = 90_000  # milliseconds; the machine may be busy
HOSTILE = "<img src=x onerror=document.title='run'>"
METADATA = {
    "library": "drfpn",
    "version": "0",
    "model": "faster_rcnn_lite0_drfpn",
    "classes": json.dumps([HOSTILE, "円", "star"]),
    "category_ids": "[1, 5, 7]",
    "score_threshold": "0.05",
}
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture
def without_onnx(monkeypatch) -> None:
    """Write an empty file in place of the graph, which takes most of the time of an export."""
    monkeypatch.setattr("drfpn.export.web.to_onnx", lambda model, file, *_, **__: file.write_bytes(b""))


def test_the_folder_has_the_page_the_runtime_and_its_licenses(without_onnx, tmp_path) -> None:
    folder = tmp_path / "new" / "page"
    to_web(None, folder, METADATA)
    assert {file.name for file in folder.iterdir()} == {
        *("index.html", "page.js", "detector.js", "style.css", "detector.json", WEB_MODEL, "ort")
    }
    modules = sorted(folder.glob("ort/*.wasm"))
    assert len(modules) == 2
    assert all(module.read_bytes()[:4] == b"\0asm" and module.with_suffix(".js").is_file() for module in modules)
    for api in ("ort.wasm.min.js", "ort.webgpu.min.js"):
        assert f"ONNX Runtime Web v{RUNTIME_VERSION}" in (folder / "ort" / api).read_text()[:100]
    assert "MIT License" in (folder / "ort/LICENSE").read_text()
    assert "emscripten" in (folder / "ort/ThirdPartyNotices.txt").read_text(errors="replace").lower()
    info = json.loads((folder / "detector.json").read_text())
    assert info["classes"] == [HOSTILE, "円", "star"]
    assert (info["score_threshold"], info["min_side"], info["max_side"]) == (0.05, 32, 8192)


def test_the_page_names_no_other_address(without_onnx, tmp_path) -> None:
    to_web(None, tmp_path, METADATA)
    for name in ("index.html", "page.js", "detector.js", "style.css"):
        assert "://" not in (tmp_path / name).read_text(encoding="utf-8")


def test_a_page_is_written_over_but_other_files_are_not(without_onnx, tmp_path) -> None:
    to_web(None, tmp_path / "page", METADATA)
    to_web(None, tmp_path / "page", METADATA | {"model": "other"})
    assert json.loads((tmp_path / "page/detector.json").read_text())["model"] == "other"
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("mine")
    with pytest.raises(UserError, match="site has files of something else"):
        to_web(None, site, METADATA)
    assert [file.name for file in site.iterdir()] == ["index.html"]
    with pytest.raises(UserError, match="is a file"):
        to_web(None, site / "index.html", METADATA)


class Site(NamedTuple):
    folder: Path
    address: str

    def add(self, name: str, onnx: Path) -> str:
        """Add a detector and return the name of its description."""
        shutil.copy(onnx, self.folder / f"{name}.onnx")
        info = json.loads((self.folder / "detector.json").read_text())
        (self.folder / f"{name}.json").write_text(json.dumps(info | {"file": f"{name}.onnx"}))
        return f"{name}.json"


@pytest.fixture(scope="module")
def site(tmp_path_factory, onnx_file) -> Iterator[Site]:
    """A folder of an export, served."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        onnx = onnx_file("faster_rcnn")
        patch.setattr("drfpn.export.web.to_onnx", lambda model, file, *_, **__: shutil.copy(onnx, file))
        to_web(None, folder, METADATA)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(folder, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def open_page(site) -> Iterator[Callable[..., Any]]:
    """Open the page in a browser with further arguments."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
    with sync_api.sync_playwright() as playwright:

        @functools.cache
        def browser(*arguments: str) -> Any:
            return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])

        def open_(*arguments: str) -> Any:
            page = browser(*arguments).new_context(viewport={"width": 1000, "height": 1200}).new_page()
            page.set_default_timeout(TIMEOUT)
            page.problems, page.requested = [], []
            page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            page.on("request", lambda request: page.requested.append(request.url))
            page.goto(site.address)
            says(page, "Choose an image.")
            return page

        yield open_


def says(page: Any, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_contain_text(text, timeout=TIMEOUT)


@pytest.fixture(scope="module")
def page(open_page) -> Any:
    return open_page()


_DETECT = """async ({ description, provider, height, width, data }) => {
    const module = await import("./detector.js");
    const key = `${description} ${provider}`;
    globalThis.loaded ??= {};
    const detector = (loaded[key] ??= await module.loadDetector(description, provider));
    const pixels = { height, width, data: Uint8Array.from(atob(data), (c) => c.charCodeAt(0)) };
    const { detections } = await detector.detect(pixels);
    return detections.map((each) => ({ ...each, crop: each.crop && Array.from(each.crop) }));
}"""


class InBrowser(NamedTuple):
    """A detector that runs in a page, with the method of other detectors."""

    page: Any
    description: str
    provider: str
    masks: bool

    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        (image,) = images
        pixels = {
            "height": image.shape[1],
            "width": image.shape[2],
            "data": base64.b64encode(image.numpy().tobytes()).decode(),
        }
        rows = self.page.evaluate(_DETECT, pixels | {"description": self.description, "provider": self.provider})
        result = {
            "boxes": torch.tensor([row["box"] for row in rows]).reshape(-1, 4),
            "scores": torch.tensor([row["score"] for row in rows]),
            "labels": torch.tensor([row["label"] for row in rows], dtype=torch.int64),
        }
        if self.masks:
            crops = torch.tensor([row["crop"] for row in rows])
            side = round(crops[:1].numel() ** 0.5)
            result["crops"] = crops.view(-1, 1, side, side)
        return [result]


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "retinanet", "fcos"])
def test_a_detector_predicts_the_same_in_the_browser(name, traced, onnx_file, site, page) -> None:
    description = site.add(name, onnx_file(name))
    assert_same(traced(name).model, InBrowser(page, description, "wasm", masks="mask" in name))


@pytest.mark.slow
@needs_chromium
def test_a_detector_predicts_the_same_on_a_gpu_in_the_browser(traced, onnx_file, site, open_page) -> None:
    """One image, since a GPU in software compiles its programs for a minute."""
    page, name = open_page(*SOFTWARE_GPU), "cascade_mask_rcnn"
    if not page.evaluate("import('./detector.js').then(({ hasWebGPU }) => hasWebGPU())"):
        pytest.skip("this Chromium has no software GPU")
    detector = InBrowser(page, site.add(name, onnx_file(name)), "webgpu", masks=True)
    differences = compare_outputs(traced(name).model, detector, smooth_test_images()[:1])
    assert differences.matched >= 0.95 * differences.detections > 0
    assert differences.boxes < 1e-2
    assert differences.scores < 1e-4
    assert differences.masks is not None
    assert differences.masks < 1e-3


@pytest.mark.slow
@needs_chromium
def test_the_page_shows_detections_of_a_file_that_reach_the_threshold(page, traced, tmp_path) -> None:
    image, other = smooth_test_images()[:2]
    file = tmp_path / "image.png"
    to_pil_image(image).save(file)
    page.set_input_files("#file", file)
    says(page, f"in {image.shape[2]} x {image.shape[1]} pixels (CPU, ")
    with torch.inference_mode():
        (expected,) = traced("faster_rcnn").model.detect([image])
    threshold = float(expected["scores"][4]) - 0.005
    page.evaluate(
        "t => { const e = document.getElementById('threshold'); e.min = 0; e.step = 'any'; e.value = t;"
        " e.dispatchEvent(new Event('input')); }",
        threshold,
    )
    shown = int((expected["scores"] >= threshold).sum())
    says(page, f"{shown} detections with a score of at least")
    rows = [row.split("\t") for row in page.inner_text("#detections").splitlines()]
    assert len(rows) == shown >= 5
    names = [HOSTILE, "円", "star"]
    for row, label, score, box in zip(rows, *(expected[key] for key in ("labels", "scores", "boxes")), strict=False):
        assert row[0] == names[label - 1]
        assert float(row[1]) == pytest.approx(float(score), abs=1e-3)
        assert [float(value) for value in row[2].split(", ")] == pytest.approx(box.tolist(), abs=0.1)
    assert page.title() == "faster_rcnn_lite0_drfpn"

    page.context.set_offline(True)  # all has been loaded
    to_pil_image(other).save(file)
    page.set_input_files("#file", file)
    says(page, f"in {other.shape[2]} x {other.shape[1]} pixels")
    page.context.set_offline(False)
    assert not page.problems
    assert all(address.startswith(page.url) for address in page.requested)


@pytest.mark.slow
@needs_chromium
def test_images_that_cannot_be_used_are_told_in_a_sentence(page, tmp_path) -> None:
    Image.new("RGB", (400, 31)).save(tmp_path / "low.png")
    page.set_input_files("#file", tmp_path / "low.png")
    says(page, "Nothing was detected: the image has 400 x 31 pixels; each side must have 32 to 8192.")
    (tmp_path / "text.png").write_text("no image")
    page.set_input_files("#file", tmp_path / "text.png")
    says(page, "text.png is not an image that this browser can read.")
    assert not page.problems


def write_images(folder: Path) -> dict[str, int]:
    """Write images and return by file name the greatest difference of a value that rounding may make."""
    rgb = to_pil_image(smooth_test_images()[0])
    rgb.save(folder / "plain.png")
    gamma = PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))
    rgb.save(folder / "gamma.png", pnginfo=gamma)
    rgb.convert("L").save(folder / "gray.png")
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(rgb.size))
    rgba.save(folder / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "rotated.jpg", exif=exif, quality=95, subsampling=0)
    return {"plain.png": 0, "gamma.png": 0, "gray.png": 0, "transparent.png": 2, "rotated.jpg": 2}


@pytest.mark.slow
@needs_chromium
def test_the_page_decodes_images_as_predict_does(page, site) -> None:
    for name, tolerance in write_images(site.folder).items():
        pixels = page.evaluate(
            """async (name) => {
                const { readPixels } = await import("./detector.js");
                const { data, height, width } = await readPixels(await (await fetch(name)).blob());
                return { data: Array.from(data), height, width };
            }""",
            name,
        )
        actual = torch.tensor(pixels["data"]).view(3, pixels["height"], pixels["width"])
        torch.testing.assert_close(actual, load_image(site.folder / name).long(), atol=tolerance, rtol=0)


@pytest.mark.slow
@needs_chromium
def test_the_page_pastes_masks_as_predict_does(page) -> None:
    generator = torch.Generator().manual_seed(0)
    height, width = 90, 140
    crops = torch.rand(8, 1, 28, 28, generator=generator)
    corners = torch.rand(8, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
    boxes = corners.reshape(8, 4)
    boxes[0] = torch.tensor([0.0, 0.0, width, height])
    boxes[1] = torch.tensor([5.2, 7.9, 5.9, 8.3])
    masks = page.evaluate(
        """async ({ boxes, crops, height, width }) => {
            const { pasteMask } = await import("./detector.js");
            return boxes.map((box, i) => {
                const part = pasteMask({ box, crop: crops[i] }, { height, width });
                return { ...part, bits: Array.from(part.bits) };
            });
        }""",
        {"boxes": boxes.tolist(), "crops": crops.flatten(1).tolist(), "height": height, "width": width},
    )
    for mask, expected in zip(masks, paste_masks(crops, boxes, (height, width)), strict=True):
        actual = torch.zeros_like(expected)
        part = actual[mask["top"] :, mask["left"] :][: mask["height"], : mask["width"]]
        part[:] = torch.tensor(mask["bits"]).view_as(part)
        assert (actual != expected).sum() <= 1e-3 * expected.numel()
        assert expected.any()
