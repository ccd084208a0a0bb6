from collections import Counter

import numpy as np

from drfpn.data.stratification import ImageGroup, stratify

FRACTIONS = {"train": 0.7, "val": 0.2, "test": 0.1}


def random_groups(count: int = 600, classes: int = 12, seed: int = 0) -> list[ImageGroup]:
    """Groups of one to three images, with several classes each; class k is twice as frequent as k + 1."""
    rng = np.random.default_rng(seed)
    groups, first = [], 0
    for number in range(count):
        images = tuple(range(first, first + int(rng.integers(1, 4))))
        first += len(images)
        present = np.flatnonzero(rng.random(classes) < 0.5 ** np.arange(1, classes + 1) * 1.5)
        counts = {int(label): int(rng.integers(1, len(images) + 1)) for label in present} or {99: len(images)}
        groups.append(ImageGroup(images, f"{number}.jpg", counts))
    return groups


def share_errors(groups: list[ImageGroup], parts: dict[str, list[int]]) -> dict[int, float]:
    """Return for each class the largest deviation of its share of a part from the fraction of that part."""
    part_of = {index: name for name, indices in parts.items() for index in indices}
    counts: dict[int, Counter[str]] = {}
    for group in groups:
        for label, count in group.counts.items():
            counts.setdefault(label, Counter())[part_of[group.images[0]]] += count
    return {
        label: max(abs(of_class[name] / of_class.total() - fraction) for name, fraction in FRACTIONS.items())
        for label, of_class in counts.items()
    }


def test_every_image_is_in_one_part_and_groups_stay_together() -> None:
    groups = random_groups()
    parts = stratify(groups, FRACTIONS)
    assert sorted(index for part in parts.values() for index in part) == list(range(groups[-1].images[-1] + 1))
    for group in groups:
        assert sum(set(group.images) <= set(part) for part in parts.values()) == 1


def test_shares_of_classes_and_images_are_closer_than_at_random() -> None:
    groups = random_groups()
    parts = stratify(groups, FRACTIONS)
    images = groups[-1].images[-1] + 1
    for name, fraction in FRACTIONS.items():
        assert abs(len(parts[name]) - fraction * images) <= 6
    errors = share_errors(groups, parts)
    random_errors = []
    for seed in range(10):
        names = np.random.default_rng(seed).choice(list(FRACTIONS), len(groups), p=list(FRACTIONS.values()))
        random_parts = {
            name: [i for g, n in zip(groups, names, strict=True) if n == name for i in g.images] for name in FRACTIONS
        }
        random_errors.append(share_errors(groups, random_parts))
    for label, error in errors.items():
        assert error <= np.mean([of_seed[label] for of_seed in random_errors]) + 1e-9
    sizes = Counter(label for group in groups for label, count in group.counts.items() for _ in range(count))
    frequent = [label for label in errors if sizes[label] >= 30]
    assert len(frequent) >= 6
    assert max(errors[label] for label in frequent) < 0.03
    assert np.mean([max(of_seed[label] for label in frequent) for of_seed in random_errors]) > 0.06


def test_the_seed_and_not_the_order_of_the_groups_determines_the_parts() -> None:
    groups = random_groups(60)
    parts = stratify(groups, FRACTIONS, seed=3)
    assert stratify(groups[::-1], FRACTIONS, seed=3) == parts
    assert stratify(groups, FRACTIONS, seed=4) != parts
    # Fixed values, which are to be the same on every machine.
    tiny = [ImageGroup((i,), f"{i}.jpg", {i % 2: 1}) for i in range(10)]
    assert stratify(tiny, {"train": 0.8, "val": 0.2}, seed=0)["val"] == EXPECTED_VAL


EXPECTED_VAL = [6, 7]


def test_no_part_is_left_empty() -> None:
    groups = [ImageGroup((i,), str(i), {1: 1}) for i in range(3)]
    assert [len(part) for part in stratify(groups, {"train": 0.98, "val": 0.01, "test": 0.01}).values()] == [1, 1, 1]


def test_a_class_of_one_image_is_trained_on() -> None:
    groups = [ImageGroup((i,), str(i), {1: 1} | ({2: 1} if i == 5 else {})) for i in range(10)]
    assert 5 in stratify(groups, {"train": 0.8, "val": 0.2})["train"]
