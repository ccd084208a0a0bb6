import torch
from torch import Tensor
from torch.testing import assert_close

from drfpn.detectors.samplers import SAMPLERS, BalancedSampler, IoUBalancedSampler
from drfpn.utils import distributed


def labels(positives: int, negatives: int, ignored: int) -> Tensor:
    return torch.cat([torch.full((positives,), 2.0), torch.zeros(negatives), torch.full((ignored,), -1.0)])


def sample(sampler: BalancedSampler, batch: list[Tensor], seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(seed)
    return list(zip(*sampler(batch), strict=True))


def test_counts_and_kinds_are_those_that_were_requested() -> None:
    sampler = BalancedSampler(8, 0.25)
    for positives, negatives, expected in ((5, 50, (2, 6)), (1, 50, (1, 7)), (0, 50, (0, 8)), (5, 3, (2, 3))):
        matched = labels(positives, negatives, 4)
        ((positive, negative),) = sample(sampler, [matched])
        assert (int(positive.sum()), int(negative.sum())) == expected
        assert (matched[positive.bool()] >= 1).all()
        assert (matched[negative.bool()] == 0).all()


def test_every_candidate_is_chosen_equally_often() -> None:
    matched = labels(4, 12, 0)
    torch.manual_seed(0)
    drawn = [BalancedSampler(4, 0.5)([matched]) for _ in range(3000)]
    frequency = torch.stack([positive[0] + negative[0] for positive, negative in drawn]).float().mean(0)
    expected = torch.cat([torch.full((4,), 2 / 4), torch.full((12,), 2 / 12)])
    assert_close(frequency, expected, atol=0.05, rtol=0)  # five standard deviations


def test_the_choice_for_an_image_does_not_depend_on_what_the_others_hold() -> None:
    sampler, image = BalancedSampler(8, 0.25), labels(5, 50, 0)
    for other in (labels(0, 3, 0), labels(40, 50, 0)):
        assert_close(sample(sampler, [other, image])[1], sample(sampler, [image, image])[1])
    first, second = sample(sampler, [image, image])
    assert not torch.equal(first[1], second[1])  # yet each image has a choice of its own
    sample(sampler, [image])
    after_one = torch.rand(1)
    sample(sampler, [image, other])
    assert_close(torch.rand(1), after_one)  # the global generator moves by one number, whatever the batch


def test_a_process_chooses_for_its_part_of_the_batch_what_one_alone_would(monkeypatch) -> None:
    sampler, batch = BalancedSampler(8, 0.25), [labels(5 + i, 50, 0) for i in range(4)]
    whole = sample(sampler, batch)
    assert_close(sample(sampler, batch[:2]), whole[:2])
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert_close(sample(sampler, batch[2:]), whole[2:])


def overlapping(*ious: float) -> tuple[Tensor, Tensor]:
    """Return RoIs with the given IoUs with one box, and the box."""
    box = torch.tensor([[0.0, 0, 100, 10]])
    rois = torch.tensor([[0.0, 0, 100 * iou, 10] if iou else [200.0, 0, 300, 10] for iou in ious])
    return rois, box


def draw(sampler: IoUBalancedSampler, labels: Tensor, matched: Tensor, rois: Tensor, boxes: Tensor):
    positive, negative = sampler([labels], [matched], [rois], [boxes])
    return positive[0].bool(), negative[0].bool()


def test_a_third_of_the_negatives_comes_from_each_third_of_their_overlaps() -> None:
    """100 apart from the object, 20 at IoU 0.2 (second third of 0 to 0.5), 20 at 0.4 (last), and 6 positives."""
    rois, boxes = overlapping(*[0.0] * 100, *[0.2] * 20, *[0.4] * 20, *[0.9] * 6)
    labels = torch.cat([torch.zeros(140), torch.ones(6)]).long()
    sampler = SAMPLERS["iou_balanced"](32, 0.25, 0.5)
    positive, negative = draw(sampler, labels, torch.zeros(146, dtype=int), rois, boxes)
    assert positive.sum() == 6
    counts = [int(negative[part].sum()) for part in (slice(100), slice(100, 120), slice(120, 140))]
    assert min(counts) >= 8  # int(26 / 3) of each
    assert sum(counts) == 26  # the other two from any


def test_the_release_splits_overlaps_up_to_one_and_so_fills_up_at_random() -> None:
    """0.2 and apart are both in the first third of 0 to 1, 0.4 in the second, the last is empty."""
    rois, boxes = overlapping(*[0.0] * 100, *[0.2] * 20, *[0.4] * 8)
    sampler = SAMPLERS["iou_balanced_release"](24, 0.25, 0.5)
    drawn = []
    for seed in range(200):
        torch.manual_seed(seed)
        _, negative = draw(sampler, torch.zeros(128, dtype=int), torch.zeros(128, dtype=int), rois, boxes)
        assert negative.sum() == 24
        assert negative[120:].all()  # all 8 of the second third
        drawn.append(negative[100:120].sum())
    mean = torch.stack(drawn).float().mean()
    assert_close(mean, torch.tensor(16 * 20 / 120), atol=0.5, rtol=0)  # four standard deviations


def test_each_object_gets_as_many_positives() -> None:
    """40 positives of one object, 3 of another, 1 of a third: round(12 / 3) + 1 = 5 of each come first."""
    matched = torch.tensor([0] * 40 + [1] * 3 + [2] + [0] * 60)
    labels = torch.tensor([1] * 44 + [0] * 60)
    rois, boxes = torch.zeros(104, 4), torch.rand(3, 4)
    positive, negative = draw(IoUBalancedSampler(48, 0.25, 0.5), labels, matched, rois, boxes)
    counts = [int(positive[part].sum()) for part in (slice(40), slice(40, 43), slice(43, 44))]
    assert counts == [8, 3, 1]  # 5 of the first, and three more to fill up
    assert negative.sum() == 36
    few = draw(IoUBalancedSampler(16, 0.25, 0.5), labels, matched, rois, boxes)[0]
    assert few.sum() == 4  # round(4 / 3) + 1 = 2 of each at most are five: one of them is left out
    assert few[:40].sum() <= 2


def test_where_there_are_too_few_all_are_taken() -> None:
    rois, boxes = overlapping(0.9, 0.8, 0.2, 0.0, 0.45)
    labels, matched = torch.tensor([1, 1, 0, 0, -1]), torch.zeros(5, dtype=int)
    positive, negative = draw(IoUBalancedSampler(512, 0.25, 0.5), labels, matched, rois, boxes)
    assert positive.tolist() == [True, True, False, False, False]
    assert negative.tolist() == [False, False, True, True, False]


def test_an_image_without_objects_gives_negatives_alone() -> None:
    no_labels = torch.zeros(50, dtype=int)
    positive, negative = draw(
        IoUBalancedSampler(8, 0.25, 0.5), no_labels, no_labels, torch.rand(50, 4), torch.zeros(0, 4)
    )
    assert not positive.any()
    assert negative.sum() == 8


def test_within_a_third_every_negative_is_chosen_equally_often() -> None:
    rois, boxes = overlapping(*[0.0] * 12, *[0.2] * 4, *[0.4] * 4)
    labels = torch.zeros(20, dtype=int)
    drawn = [draw(IoUBalancedSampler(6, 0.25, 0.5), labels, labels, rois, boxes)[1] for _ in range(1000)]
    frequency = torch.stack(drawn).float().mean(0)
    expected = torch.cat([torch.full((12,), 2 / 12), torch.full((8,), 2 / 4)])
    assert_close(frequency, expected, atol=0.08, rtol=0)  # five standard deviations
