import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torchvision.ops import batched_nms

from drfpn.ops import PADDING_SCORE, padded_nms, padded_topk


def random_boxes(count: int, groups: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([1200.0, 700])
    boxes = torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 150], dim=1)
    scores = torch.randperm(count, generator=generator) / count  # no ties
    return boxes, scores, torch.randint(0, groups, (count,), generator=generator)


@given(st.integers(1, 300), st.integers(1, 90), st.integers(0, 1000), st.sampled_from([0.3, 0.5, 0.7]))
def test_remaining_boxes_equal_those_of_torchvision(count, groups, seed, iou) -> None:
    boxes, scores, group = random_boxes(count, groups, seed)
    real = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.7
    expected = real.nonzero().flatten()[batched_nms(boxes[real], scores[real], group[real], iou)[:100]]
    kept, index = padded_nms(boxes, torch.where(real, scores, PADDING_SCORE), group, iou, 100)
    assert index[kept > PADDING_SCORE].tolist() == expected.tolist()
    assert_close(kept[kept > PADDING_SCORE], scores[expected])


def test_no_boxes_give_no_boxes() -> None:
    boxes, _, group = random_boxes(7, 2)
    kept, _ = padded_nms(boxes, torch.full((7,), PADDING_SCORE), group, 0.5, 5)
    assert kept.tolist() == [PADDING_SCORE] * 5


def test_a_box_does_not_suppress_its_equal_of_another_group() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1)
    kept, index = padded_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 31, 32]), 0.5, 3)
    assert index.tolist() == [0, 1, 2]
    kept, _ = padded_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([4, 4, 4]), 0.5, 3)
    assert kept.tolist() == [pytest.approx(0.9), PADDING_SCORE, PADDING_SCORE]


def test_scores_are_in_descending_order_and_never_more_than_there_are() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
    best, index = padded_topk(scores, 2)
    assert index.tolist() == [[1, 2], [0, 1]]
    assert_close(best, torch.tensor([[0.9, 0.5], [0.3, 0.2]]))
    assert padded_topk(scores, 9)[0].shape == (2, 3)


def test_a_traced_graph_pads_missing_scores() -> None:
    class Top(torch.nn.Module):
        def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
            return padded_topk(scores, 4)

    size = torch.export.Dim("n", min=1, max=100)
    graph = torch.export.export(Top(), (torch.rand(6),), dynamic_shapes=({0: size},)).module()
    for count in (1, 3, 4, 50):
        scores = torch.rand(count)
        best, index = graph(scores)
        assert best.shape == index.shape == (4,)
        assert index.max() < count
        real = best > PADDING_SCORE
        assert_close(best[real], padded_topk(scores, 4)[0])
        assert_close(scores[index[real]], best[real])


def test_a_traced_graph_suppresses_also_where_no_or_one_box_is_left() -> None:
    class Suppress(torch.nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
            return padded_nms(boxes, scores, groups, 0.5, 10)

    boxes, scores, groups = random_boxes(20, 3)
    graph = torch.export.export(Suppress(), (boxes, scores, groups)).module()
    nothing = torch.full((20,), PADDING_SCORE)
    one = nothing.index_fill(0, torch.tensor([7]), 0.5)
    for some in (scores, nothing, one):
        kept, index = graph(boxes, some, groups)
        expected, where = padded_nms(boxes, some, groups, 0.5, 10)
        assert_close(kept, expected)
        assert_close(index[kept > PADDING_SCORE], where[kept > PADDING_SCORE])
    same = graph(boxes[:1].expand(20, 4), scores, torch.zeros(20, dtype=torch.int64))[0]
    assert (same > PADDING_SCORE).sum() == 1
