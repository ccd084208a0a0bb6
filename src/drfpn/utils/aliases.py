"""Former names of settings and fields, through which files of earlier versions are read."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drfpn.utils.errors import UsageError

logger = logging.getLogger(__name__)

SETTINGS: Mapping[str, str] = {
    "lr_per_16": "base_lr",
    "accumulate": "grad_accum_steps",
    "decay": "lr_schedule",
    "flip": "hflip_prob",
    "first": "max_train_images",
    "detector_options.centre_sampling": "detector_options.center_sampling_radius",
    "detector_options.region_pool": "detector_options.roi_pool",
}
"""Settings of a run, former name -> name; a key inside of another is written with a dot (``detector_options.KEY``)."""

METRICS: Mapping[str, str] = {"engine": "backend", "analysis.engine": "analysis.backend", "pyramid": "neck"}
"""Fields of ``metrics.json``."""


def rename_keys(values: Mapping[str, Any], aliases: Mapping[str, str], *, note: bool = False) -> dict[str, Any]:
    """Return a mapping with former keys replaced by the present ones, in the same order.

    Args:
        values: by name, perhaps with mappings inside.
        aliases: former name -> name, one of the tables of this module.
        note: log a warning for each key that is replaced.

    Raises:
        UsageError: a former name is given beside the present one.
    """
    return _rename(values, aliases, "", note)


def check_spellings(given: Iterable[Mapping[str, Any]], aliases: Mapping[str, str]) -> None:
    """Check that nothing is given under its former name in one place and under its present name in another.

    Args:
        given: values by name, perhaps with mappings inside, from each place.
        aliases: former name -> name, one of the tables of this module.

    Raises:
        UsageError: something is; the message has both names.
    """
    spellings: dict[str, str] = {}
    for values in given:
        for key in _paths(values):
            name = aliases.get(key, key)
            if spellings.setdefault(name, key) != key:
                raise _given_twice(next(old for old in (key, spellings[name]) if old != name), name)


def _paths(values: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    """Yield all keys, those inside of others with dots."""
    for key, value in values.items():
        yield f"{parent}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{parent}{key}.")


def _given_twice(former: str, name: str) -> UsageError:
    return UsageError(f"'{former}' is the former name of '{name}': give one of them.")


def _rename(values: Mapping[str, Any], aliases: Mapping[str, str], parent: str, note: bool) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        name = aliases.get(f"{parent}{key}", f"{parent}{key}").removeprefix(parent)
        if name != key:
            if name in values:
                raise _given_twice(f"{parent}{key}", f"{parent}{name}")
            if note:
                logger.warning("'%s%s' is now called '%s%s'.", parent, key, parent, name)
        inside = f"{parent}{name}."
        nested = isinstance(value, Mapping) and any(old.startswith(inside) for old in aliases)
        renamed[name] = _rename(value, aliases, inside, note) if nested else value
    return renamed
