"""Checks of the classes of a data set: names that are empty or nearly the same, and splits with other classes."""

from collections.abc import Iterator, Mapping
from itertools import combinations

from drfpn.data.annotations import Annotations
from drfpn.data.class_matching import unmatched_classes
from drfpn.data.validation.issues import Issue


def class_issues(splits: Mapping[str, Annotations]) -> Iterator[Issue]:
    """Yield the issues of the classes of each split, and those between splits.

    Args:
        splits: annotations by split; labels of the others are matched to those of the first by name.
    """
    for annotations in splits.values():
        yield from similar_name_issues(annotations)
    for (first, a), (second, b) in combinations(splits.items(), 2):
        if first != next(iter(splits)):
            break
        if others := unmatched_classes(b, a.classes):
            observed = f"{second} has objects of '{others[0]}', which is no class of {first}"
            observed += f", and of {len(others) - 1} others" if len(others) > 1 else ""
            near = [name for name in a.classes if _folded(name) == _folded(others[0])]
            observed += f" ({near[0]!r} is)" if near else ""
            yield Issue("classes-differ", str(b.source), observed, "the same classes")
        elif a.classes and b.classes and not set(a.classes) & set(b.classes):
            observed = f"{second} has none of the classes of {first}"
            yield Issue("classes-differ", str(b.source), observed, "the same classes")
        elif a.classes != b.classes or a.category_ids.tolist() != b.category_ids.tolist():
            differing = _first_difference(a, b)
            observed = f"the classes of {first} and {second} are matched by name ({differing})"
            yield Issue("classes-matched", str(b.source), observed, "the same classes with the same ids")


def similar_name_issues(annotations: Annotations) -> Iterator[Issue]:
    """Yield an issue for each class whose name is empty, or that of an earlier one but for letter case and spaces.

    Args:
        annotations: of a split.
    """
    first: dict[str, str] = {}
    for name in annotations.classes:
        if not name.strip():
            observed = f"the name of a class is {name!r}"
            yield Issue("empty-class-name", str(annotations.source), observed, "a name for each class")
        other = first.setdefault(_folded(name), name)
        if other != name:
            observed = f"the classes {other!r} and {name!r} differ in letter case or spaces only"
            yield Issue("similar-class-name", str(annotations.source), observed, "one name for one class")


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _first_difference(a: Annotations, b: Annotations) -> str:
    ids = [dict(zip(one.classes, one.category_ids.tolist(), strict=True)) for one in (a, b)]
    for name in a.classes:
        if name not in ids[1]:
            return f"the second has no '{name}'"
        if ids[0][name] != ids[1][name]:
            return f"'{name}' has the ids {ids[0][name]} and {ids[1][name]}"
    others = [name for name in b.classes if name not in ids[0]]
    return f"the first has no '{others[0]}'" if others else "in another order"
