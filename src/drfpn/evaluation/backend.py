"""The library that evaluates as COCO does: hotcoco, or pycocotools where hotcoco cannot be imported."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any, Literal

from drfpn.utils.console import say
from drfpn.utils.errors import UserError

Kind = Literal["bbox", "segm"]


def choose_backend() -> str:
    """Return the library there is, and say so on stderr where it is not hotcoco.

    Raises:
        UserError: There is none.
    """
    try:
        import_module("hotcoco")
        return "hotcoco"
    except ImportError as error:
        reason = str(error)
    try:
        import_module("pycocotools.cocoeval")
    except ImportError as error:
        raise UserError(
            "Evaluation needs hotcoco, which cannot be imported, nor can pycocotools: pip install 'hotcoco>=1.3'."
        ) from error
    _announce(reason)
    return "pycocotools"


@cache
def _announce(reason: str) -> None:
    say(f"hotcoco cannot be imported ({reason}): evaluating with pycocotools, which takes longer")


def with_version(engine: str) -> str:
    """Return name and version of a library."""
    return f"{engine} {version(engine)}"


def make_cocoeval(engine: str, truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: Kind) -> Any:
    """Return the ``COCOeval`` of either library, before it evaluates. Neither argument is changed."""
    if engine == "hotcoco":
        import hotcoco

        known = hotcoco.COCO(dict(truth))
        return hotcoco.COCOeval(known, known.load_res([dict(row) for row in results]), kind)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints, and stdout is the caller's
        known = _index(COCO(), truth)
        # It writes into the records, and cannot load an empty list.
        rows = [dict(row) for row in results]
        found = known.loadRes(rows) if rows else _index(COCO(), {**truth, "annotations": []})
        return COCOeval(known, found, kind)


def _index(coco: Any, truth: Mapping[str, Any]) -> Any:
    coco.dataset = {**truth, "annotations": [dict(row) for row in truth["annotations"]]}
    coco.createIndex()
    return coco


def coco_stats(evaluation: Any) -> list[float]:
    """Evaluate, and return COCO's twelve numbers in pycocotools' order."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]
