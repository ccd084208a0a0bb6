from pathlib import Path

import pytest

from drfpn.utils.errors import UserError
from drfpn.utils.runs import name_runs


def test_a_run_is_called_by_its_folder_also_where_its_weights_are_named() -> None:
    assert name_runs([Path("runs/a"), Path("runs/b/best.safetensors"), Path("c.safetensors")]) == ["a", "b", "c"]


def test_runs_of_one_name_are_told_apart_by_the_folder_above() -> None:
    assert name_runs([Path("x/a"), Path("y/a/last.safetensors")]) == ["x/a", "y/a"]


def test_the_same_run_twice_is_a_mistake() -> None:
    with pytest.raises(UserError, match="Two of the runs are called 'x/a'"):
        name_runs([Path("x/a"), Path("x/a")])
