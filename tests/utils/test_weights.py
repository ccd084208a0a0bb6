import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from drfpn.utils.errors import UserError
from drfpn.utils.weights import abbreviate_names, check_state_dict, load_strict, read_weights


def test_both_kinds_of_files_give_the_same_tensors(tmp_path) -> None:
    state = nn.Linear(2, 3).state_dict()
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert_close(read_weights(tmp_path / name), dict(state), rtol=0, atol=0)


def test_what_fits_is_loaded() -> None:
    a, b = nn.Linear(2, 3), nn.Linear(2, 3)
    load_strict(a, b.state_dict(), "a line")
    assert_close(a.weight, b.weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bias": None}, "The weights in a.pth lack 'bias', which a line needs."),
        ({"more": torch.zeros(1)}, "The weights in a.pth hold 'more', which a line does not have."),
        ({"bias": torch.zeros(4)}, "The weights in a.pth do not fit a line: 'bias' is (4,) but must be (3,)."),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change, said) -> None:
    module = nn.Linear(2, 3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    given = {name: value for name, value in (nn.Linear(2, 3).state_dict() | change).items() if value is not None}
    with pytest.raises(UserError) as caught:
        load_strict(module, given, "a line", "a.pth")
    assert str(caught.value) == said
    assert_close(dict(module.state_dict()), before, rtol=0, atol=0)


def test_many_names_are_counted() -> None:
    assert abbreviate_names("abc") == "'a', 'b', 'c'"
    assert abbreviate_names("abcde") == "'a', 'b', 'c' and 2 more"
    with pytest.raises(UserError, match="The weights lack 'a', 'b', 'c' and 1 more, which it needs"):
        check_state_dict(dict.fromkeys("abcd", torch.zeros(1)), {}, "it")
