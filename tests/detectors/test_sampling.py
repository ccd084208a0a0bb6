import torch
from torch import Tensor
from torch.testing import assert_close

from drfpn import processes
from drfpn.detectors.sampling import BalancedSampler


def labels(positives: int, negatives: int, neither: int) -> Tensor:
    return torch.cat([torch.full((positives,), 2.0), torch.zeros(negatives), torch.full((neither,), -1.0)])


def chosen(sampler: BalancedSampler, batch: list[Tensor], seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(seed)
    return list(zip(*sampler(batch), strict=True))


def test_counts_and_kinds_are_those_that_were_asked_for() -> None:
    sampler = BalancedSampler(8, 0.25)
    for positives, negatives, expected in ((5, 50, (2, 6)), (1, 50, (1, 7)), (0, 50, (0, 8)), (5, 3, (2, 3))):
        matched = labels(positives, negatives, 4)
        ((positive, negative),) = chosen(sampler, [matched])
        assert (int(positive.sum()), int(negative.sum())) == expected
        assert (matched[positive.bool()] >= 1).all()
        assert (matched[negative.bool()] == 0).all()


def test_every_candidate_is_chosen_equally_often() -> None:
    matched = labels(4, 12, 0)
    torch.manual_seed(0)
    drawn = [BalancedSampler(4, 0.5)([matched]) for _ in range(3000)]
    share = torch.stack([positive[0] + negative[0] for positive, negative in drawn]).float().mean(0)
    expected = torch.cat([torch.full((4,), 2 / 4), torch.full((12,), 2 / 12)])
    assert_close(share, expected, atol=0.05, rtol=0)  # five standard deviations


def test_the_choice_for_an_image_does_not_depend_on_what_the_others_hold() -> None:
    sampler, image = BalancedSampler(8, 0.25), labels(5, 50, 0)
    for other in (labels(0, 3, 0), labels(40, 50, 0)):
        assert_close(chosen(sampler, [other, image])[1], chosen(sampler, [image, image])[1])
    first, second = chosen(sampler, [image, image])
    assert not torch.equal(first[1], second[1])  # yet each image has a choice of its own
    chosen(sampler, [image])
    after_one = torch.rand(1)
    chosen(sampler, [image, other])
    assert_close(torch.rand(1), after_one)  # the global generator moves by one number, whatever the batch


def test_a_process_chooses_for_its_part_of_the_batch_what_one_alone_would(monkeypatch) -> None:
    sampler, batch = BalancedSampler(8, 0.25), [labels(5 + i, 50, 0) for i in range(4)]
    whole = chosen(sampler, batch)
    assert_close(chosen(sampler, batch[:2]), whole[:2])
    monkeypatch.setattr(processes, "rank", lambda: 1)
    assert_close(chosen(sampler, batch[2:]), whole[2:])
