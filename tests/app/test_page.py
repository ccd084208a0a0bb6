"""The web page in a browser."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from drfpn.app import SHIPPED_WEIGHTS
from drfpn.data import open_dataset

pytest.importorskip("gradio", reason="the page needs the extra app")
sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")

from drfpn.app.callbacks import Callbacks, DownloadFolder  # noqa: E402
from drfpn.app.page import MAX_UPLOAD_BYTES, build_page, serve  # noqa: E402
from drfpn.app.predictors import PredictorPool  # noqa: E402
from drfpn.inference import Predictor, load_predictor  # noqa: E402
from drfpn.utils.errors import UserError  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
TIMEOUT = 90_000  # milliseconds; the machine may be busy


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("examples")
    files = [folder / f"scene-{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        to_pil_image(open_dataset("shapes", "test").image(i)).save(file)
    return files


@pytest.fixture(scope="module")
def pool(small_predictor: Callable[[str], Predictor]) -> PredictorPool:
    return PredictorPool(
        {"shapes": load_predictor(SHIPPED_WEIGHTS), "untrained": small_predictor("faster_rcnn_lite0_fpn")}
    )


@pytest.fixture(scope="module")
def address(pool: PredictorPool, examples: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    downloads = DownloadFolder(tmp_path_factory.mktemp("downloads"))
    page = build_page(Callbacks(pool, examples, downloads), "about the detectors")
    yield serve(page, "127.0.0.1", None)
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1300, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(address)
    page.wait_for_selector("#examples img")
    yield page
    context.close()


def upload(page: Any, *files: Path) -> None:
    page.set_input_files("#upload input[type=file]", [str(file) for file in files])


def wait_for_message(page: Any, text: str) -> None:
    sync_api.expect(page.locator("#message")).to_contain_text(text, timeout=TIMEOUT)


def download(page: Any, button: str) -> Path:
    page.wait_for_selector(f"{button}:not([disabled])")
    with page.expect_download() as waiting:
        page.click(button)
    return waiting.value.path()


def results(page: Any) -> dict[str, Any]:
    return json.loads(download(page, "#json").read_text())


def result_boxes(content: dict[str, Any], name: str) -> torch.Tensor:
    boxes = [result["bbox"] for result in content["detectors"][name]["results"]]
    return torch.tensor(boxes).reshape(-1, 4)


def expected_boxes(file: Path, threshold: float) -> torch.Tensor:
    detections = load_predictor(SHIPPED_WEIGHTS)(file).above(threshold)
    x1, y1, x2, y2 = detections.boxes.unbind(1)
    return torch.stack([x1, y1, x2 - x1, y2 - y1], dim=1)


def set_threshold(page: Any, value: str) -> None:
    number = page.locator("#score-threshold input[type=number]")
    number.fill(value)
    number.press("Enter")
    number.blur()


def wait_for_counts(page: Any, threshold: float, **counts: int) -> None:
    text = ", ".join(f"{count} by {name}" for name, count in counts.items())
    sync_api.expect(page.locator("#counts")).to_have_text(
        f"Detections with a score of at least {threshold}: {text}", timeout=TIMEOUT
    )


def test_an_upload_is_detected_and_its_results_are_downloaded(tab: Any, examples: list[Path]) -> None:
    upload(tab, examples[0])
    wait_for_message(tab, "scene-0.png")
    wait_for_counts(tab, 0.5, shapes=len(expected_boxes(examples[0], 0.5)))
    sync_api.expect(tab.locator("#table")).to_contain_text("cross")
    content = results(tab)
    assert content["image"] == "scene-0.png"
    torch.testing.assert_close(result_boxes(content, "shapes"), expected_boxes(examples[0], 0.5), atol=0.06, rtol=0)
    with Image.open(download(tab, "#png")) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 480


def test_the_threshold_changes_the_boxes(tab: Any, examples: list[Path]) -> None:
    upload(tab, examples[0])
    counts = []
    for threshold in (0.5, 0.95, 0.1):
        set_threshold(tab, str(threshold))
        counts.append(len(expected_boxes(examples[0], threshold)))
        wait_for_counts(tab, threshold, shapes=counts[-1])
        assert len(result_boxes(results(tab), "shapes")) == counts[-1]
    assert counts[1] < counts[0] < counts[2]


def test_an_example_and_another_detector_can_be_selected(tab: Any, pool: PredictorPool, examples: list[Path]) -> None:
    tab.locator("#examples button").nth(1).click()
    wait_for_message(tab, "scene-1.png")
    count, others = (
        len(pool.detect(pool.load_image(examples[1]), name).above(0.5)) for name in ("shapes", "untrained")
    )
    wait_for_counts(tab, 0.5, shapes=count)
    tab.locator("#second input").click()
    tab.get_by_role("option", name="untrained").click()
    wait_for_counts(tab, 0.5, shapes=count, untrained=others)
    assert list(results(tab)["detectors"]) == ["shapes", "untrained"]
    tab.locator("#first input").click()
    tab.get_by_role("option", name="untrained").click()
    wait_for_counts(tab, 0.5, untrained=others)


def test_features_offsets_and_gates_are_shown(tab: Any, examples: list[Path]) -> None:
    upload(tab, examples[2])
    wait_for_message(tab, "scene-2.png")
    pictures = {}
    for name in ("Features", "Offsets", "Gates"):
        tab.get_by_role("tab", name=name).click()
        tab.wait_for_selector(f"#{name.lower()} img")
        pictures[name] = tab.locator(f"#{name.lower()} img").get_attribute("src")
    assert len(set(pictures.values())) == 3
    sync_api.expect(tab.locator("#gate-diagnoses")).to_contain_text("gates C2-C3: gates from")
    tab.get_by_role("tab", name="Features").click()
    tab.get_by_label("most active channel").click()
    tab.wait_for_function(f"document.querySelector('#features img').src != {json.dumps(pictures['Features'])}")


def test_a_broken_upload_shows_an_error_and_clears_the_last_image(
    tab: Any, examples: list[Path], tmp_path: Path
) -> None:
    upload(tab, examples[0])
    wait_for_message(tab, "scene-0.png")
    tab.wait_for_selector("#picture img")
    for name, content in {"notes.txt": b"hello", "half.png": examples[0].read_bytes()[:9000]}.items():
        file = tmp_path / name
        file.write_bytes(content)
        tab.get_by_label("Clear").first.click()
        wait_for_message(tab, "Drop an image")
        upload(tab, file)
        wait_for_message(tab, name)
        sync_api.expect(tab.locator("#message strong")).to_have_count(1)
        assert str(tmp_path) not in tab.locator("#message").inner_text()
        assert tab.locator("#picture img").count() == 0
        assert tab.locator("#json[disabled]").count() == 1


def test_an_upload_of_too_many_bytes_is_refused(tab: Any, tmp_path: Path) -> None:
    file = tmp_path / "large.bmp"
    file.write_bytes(b"BM" + bytes(MAX_UPLOAD_BYTES))
    upload(tab, file)
    sync_api.expect(tab.locator("body")).to_contain_text("exceed the maximum allowed size of 20.0 Mb", timeout=TIMEOUT)


def test_visitors_get_results_of_their_own_images(browser: Any, tab: Any, address: str, examples: list[Path]) -> None:
    context = browser.new_context()
    context.set_default_timeout(TIMEOUT)
    other = context.new_page()
    other.goto(address)
    other.wait_for_selector("#examples img")
    upload(tab, examples[0])
    upload(other, examples[2])
    wait_for_message(tab, "scene-0.png")
    wait_for_message(other, "scene-2.png")
    for page, file in ((tab, examples[0]), (other, examples[2])):
        content = results(page)
        assert content["image"] == file.name
        torch.testing.assert_close(result_boxes(content, "shapes"), expected_boxes(file, 0.5), atol=0.06, rtol=0)
    context.close()


def test_the_page_sends_no_request_to_another_machine(tab: Any, address: str, examples: list[Path]) -> None:
    upload(tab, examples[0])
    wait_for_message(tab, "scene-0.png")
    assert len(tab.requested) > 5
    assert {url for url in tab.requested if not url.startswith((address, "data:", "blob:"))} == set()


def test_the_error_of_a_port_in_use_is_one_sentence(
    address: str, pool: PredictorPool, examples: list[Path], tmp_path: Path
) -> None:
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    page = build_page(Callbacks(pool, examples, DownloadFolder(tmp_path)), "")
    with pytest.raises(UserError, match=f"cannot be served on 127.0.0.1 at port {port}"):
        serve(page, "127.0.0.1", port)


def test_downloads_are_deleted_after_an_hour(tmp_path: Path) -> None:
    downloads = DownloadFolder(tmp_path)
    picture = Image.new("RGB", (8, 8))
    old, _ = downloads.write("a.jpg", picture, {})
    recent, _ = downloads.write("a.jpg", picture, {})
    os.utime(old.parent, (time.time() - 3700,) * 2)
    png, json_file = downloads.write("a.jpg", picture, {"image": "a.jpg"})
    assert [file.is_file() for file in (old, recent, png)] == [False, True, True]
    assert json.loads(json_file.read_text()) == {"image": "a.jpg"}
    assert png.name == "a-detections.png"
