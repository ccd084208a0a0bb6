import torch
from torch.testing import assert_close
from torchvision.ops import MultiScaleRoIAlign

from drfpn.detectors.roi_heads import RoIPool
from drfpn.necks.base import Level

STRIDES = (4, 8, 16, 32)
LEVELS = [Level(str(i), stride) for i, stride in enumerate(STRIDES)]


def levels(height: int, width: int) -> dict[str, torch.Tensor]:
    return {str(i): torch.randn(2, 2, height // stride, width // stride) for i, stride in enumerate(STRIDES)}


def test_pooling_equals_torchvisions_where_that_infers_the_true_strides() -> None:
    """RoIs of every level, up to the right and lower border, of two images."""
    features = levels(256, 320)
    corner = torch.rand(2, 60, 2) * torch.tensor([320, 256])
    size = 2 ** (torch.rand(2, 60, 2) * 8)
    boxes = torch.cat([corner, torch.minimum(corner + size, torch.tensor([320.0, 256]))], dim=-1)
    boxes[:, 0] = torch.tensor([0, 0, 320, 256])
    boxes[:, 1] = 0  # padding
    theirs, ours = MultiScaleRoIAlign(list(features), 7, sampling_ratio=2), RoIPool(LEVELS, 7)
    inputs = features, list(boxes), [(256, 320)] * 2
    assert_close(ours(*inputs), theirs(*inputs))


def test_gradients_reach_every_level() -> None:
    features = {name: level.requires_grad_() for name, level in levels(128, 128).items()}
    sides = torch.tensor([20.0, 120, 300, 500])
    boxes = torch.stack((torch.zeros(4), torch.zeros(4), sides, sides), dim=1)
    RoIPool(LEVELS, 7)(features, [boxes], [(128, 128)]).sum().backward()
    assert all(level.grad.any() for level in features.values())


def test_nan_and_infinite_coordinates_cause_no_out_of_bounds_reads() -> None:
    """Diverged weights predict such proposals; torchvision's operator would crash the process."""
    features = {name: level.requires_grad_() for name, level in levels(128, 128).items()}
    nan, inf = torch.nan, torch.inf
    boxes = torch.tensor([[nan, nan, nan, nan], [0, nan, 50, nan], [-inf, 0, inf, inf], [0, 0, 50, 50]])
    pooled = RoIPool(LEVELS, 7)(features, [boxes], [(128, 128)])
    pooled[3].sum().backward()
    assert_close(pooled[3:], RoIPool(LEVELS, 7)(features, [boxes[3:]], [(128, 128)]))


def test_scales_do_not_depend_on_the_first_batch() -> None:
    """torchvision would infer half of the true stride from an image of 10 rows in a padded batch of 32."""
    features = levels(32, 320)
    boxes = [torch.tensor([[0.0, 0, 100, 10]])]
    pool = RoIPool(LEVELS, 7)
    assert_close(pool(features, boxes, [(10, 320)]), pool(features, boxes, [(32, 320)]))
    assert pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_rois_are_assigned_to_the_level_of_their_size() -> None:
    """FPN, Eq. 1: 224 px belong to P4, half of that to P3."""
    mapper = RoIPool(LEVELS, 7).map_levels
    sides = torch.tensor([1.0, 111, 112, 224, 448, 5000])
    boxes = torch.stack((torch.zeros(6), torch.zeros(6), sides, sides), dim=1)
    assert mapper([boxes]).tolist() == [0, 0, 1, 2, 3, 3]
