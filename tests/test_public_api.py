"""The public names are documented, in their docstrings and on the page of the public API."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs/api.md").read_text(encoding="utf-8")
PUBLIC = dict(re.findall(r"^\| `(drfpn[.\w]*)` \| (.*) \|$", PAGE, flags=re.MULTILINE))


@pytest.mark.parametrize("package", PUBLIC)
def test_the_page_lists_the_names_that_a_package_exports(package) -> None:
    assert sorted(re.findall(r"`(\w+)`", PUBLIC[package])) == sorted(import_module(package).__all__)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_class_and_function_has_a_docstring(package) -> None:
    module = import_module(package)
    objects = {name: getattr(module, name) for name in module.__all__}
    assert not [name for name, x in objects.items() if (inspect.isclass(x) or inspect.isfunction(x)) and not x.__doc__]
