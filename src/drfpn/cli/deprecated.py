"""Former names of options and tables, which are still accepted with a note."""

from collections.abc import Mapping, Sequence

from drfpn.utils.errors import UsageError

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "predict": {"--score": "--score-threshold", "--every": "--frame-stride"},
    "train": {"--first": "--max-train-images"},
    "data convert": {"--first": "--max-images"},
    "view gates": {"--first": "--max-images"},
    "bench": {"--batch": "--batch-size"},
}
"""Options by command: former name -> name."""

TABLES: Mapping[str, str] = {"rivals": "baselines"}
"""Tables of ``drfpn ablate`` and ``drfpn bench``: former name -> name."""


def rename_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Replace former names of options.

    Args:
        arguments: command line without the name of the program.

    Returns:
        The arguments with the names of today, and a note for each replaced name.

    Raises:
        UsageError: an option is given by both names.
    """
    names = OPTIONS.get(" ".join(arguments[:2])) or OPTIONS.get(" ".join(arguments[:1]), {})
    end = arguments.index("--") if "--" in arguments else len(arguments)
    renamed, notes = list(arguments), []
    for i, argument in enumerate(arguments[:end]):
        option, equals, value = argument.partition("=")
        if option in names:
            if any(other.partition("=")[0] == names[option] for other in arguments[:end]):
                raise UsageError(f"{option} is the former name of {names[option]}: give one of them.")
            renamed[i] = f"{names[option]}{equals}{value}"
            notes.append(f"{option} is now {names[option]}")
    return renamed, notes


def rename_table(name: str) -> tuple[str, str | None]:
    """Replace the former name of a table.

    Args:
        name: name of a table.

    Returns:
        The name of today, and a note if it differs.
    """
    if name not in TABLES:
        return name, None
    return TABLES[name], f"{name} is now {TABLES[name]}"
