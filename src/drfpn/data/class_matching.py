"""Names as the identity of classes: one class a name, and matching of a split to another or to a detector."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drfpn.data.annotations import Annotations
from drfpn.data.validation.issues import Issue, IssueHandler
from drfpn.utils.errors import UserError


def merge_same_names(annotations: Annotations, on_issue: IssueHandler) -> Annotations:
    """Return annotations whose classes of one name are one class, with the id of the first.

    Args:
        annotations: of a split.
        on_issue: called once for each name that several classes have.
    """
    ids_of: dict[str, list[int]] = {}
    for name, category_id in zip(annotations.classes, annotations.category_ids.tolist(), strict=True):
        ids_of.setdefault(name, []).append(category_id)
    if len(ids_of) == len(annotations.classes):
        return annotations
    for name, ids in ids_of.items():
        if len(ids) > 1:
            listed = f"{', '.join(map(str, ids[:-1]))} and {ids[-1]}"
            observed = f"the categories {listed} are all called '{name}'; they are one class, with the id {ids[0]}"
            on_issue(Issue("same-class-name", str(annotations.source), observed, "one category a name", fatal=False))
    labels = {name: label for label, name in enumerate(ids_of, start=1)}
    by_label = np.array([0, *(labels[name] for name in annotations.classes)], dtype=np.int64)
    return replace(
        annotations,
        classes=tuple(ids_of),
        category_ids=np.array([ids[0] for ids in ids_of.values()], dtype=np.int64),
        labels=by_label[annotations.labels],
        merged_category_ids={other: ids[0] for ids in ids_of.values() for other in ids[1:]},
    )


def unmatched_classes(annotations: Annotations, classes: Sequence[str]) -> list[str]:
    """Return the classes of a split that have objects in it but are not among ``classes``.

    Args:
        annotations: of the split.
        classes: names of classes.
    """
    counts = np.bincount(annotations.labels, minlength=len(annotations.classes) + 1)[1:].tolist()
    known = set(classes)
    return [name for name, count in zip(annotations.classes, counts, strict=True) if count and name not in known]


def match_classes(annotations: Annotations, classes: Sequence[str]) -> Annotations:
    """Return annotations whose labels 1..K stand for ``classes``, whatever the ids and the order in the file.

    Category ids stay those of the file; classes that are not in it get new ones, and those of it without objects that
    are not among ``classes`` are left out.

    Args:
        annotations: of a split.
        classes: names of the K classes.

    Raises:
        UserError: the split has objects of another class, or no class in common.
    """
    classes = tuple(classes)
    if annotations.classes == classes:
        return annotations
    others = unmatched_classes(annotations, classes)
    own = set(annotations.classes)
    repeated = len(own) < len(annotations.classes) or len(set(classes)) < len(classes)
    if others or repeated or not own & set(classes):
        hint = f" (it has objects of '{others[0]}')" if others else ""
        raise UserError(
            f"{annotations.source} has the classes {', '.join(annotations.classes)}, expected {', '.join(classes)} as "
            f"in the training data{hint}."
        )
    ids = dict(zip(annotations.classes, annotations.category_ids.tolist(), strict=True))
    free = max(ids.values(), default=0) + 1
    labels = {name: label for label, name in enumerate(classes, start=1)}
    by_label = np.array([0, *(labels.get(name, 0) for name in annotations.classes)], dtype=np.int64)
    return replace(
        annotations,
        classes=classes,
        category_ids=np.array([ids.get(name, free + i) for i, name in enumerate(classes)], dtype=np.int64),
        labels=by_label[annotations.labels],
        merged_category_ids={
            merged: kept for merged, kept in annotations.merged_category_ids.items() if kept in _kept(ids, classes)
        },
    )


def _kept(ids: dict[str, int], classes: Sequence[str]) -> set[int]:
    return {ids[name] for name in classes if name in ids}
