"""The words that the glossary replaces occur neither in the code nor in the docs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLD_NAMES = {"aliases.py", "deprecated.py"}
"""Tables that map old names to new ones."""
CODE = [file for file in sorted((ROOT / "src").rglob("*.py")) if file.name not in OLD_NAMES]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GLOSSARY = ROOT / "docs/glossary.md"
BRITISH = (
    "behaviour|catalogue|centr(?:e[sd]?|ing)|colour|favour|flavour|grey|labell|modell(?:ed|ing)|neighbour|travell"
    "|artefact|(?:analy|recogni|normali|initiali|optimi|summari|visuali|organi|generali|serial?i|quanti|minimi|maximi|speciali"
    "|regulari|locali|utili)s(?:e[sd]?|ing|ation)"
)


def replaced() -> tuple[list[str], list[str]]:
    """Return the identifiers and the phrases in the last column of the glossary."""
    cells = re.findall(r"^\|[^|\n]+\|[^|\n]+\|([^|\n]+)\|$", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)
    words = [word.strip() for cell in cells for word in cell.split(",")]
    words = [word for word in words if word and word != "not" and set(word) != {"-"}]
    return [word.strip("`") for word in words if "`" in word], [word for word in words if "`" not in word]


IDENTIFIERS, PHRASES = replaced()


def definitions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names that a module defines: functions, classes, arguments, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def test_the_glossary_names_words_to_search_for() -> None:
    assert {"wanted", "found", "PYRAMIDS"} <= set(IDENTIFIERS)
    assert {"rival", "least score"} <= set(PHRASES)


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT / "src")))
def test_no_identifier_is_one_that_the_glossary_replaces(file) -> None:
    bad = [
        f"{file.name}:{line} {name}"
        for name, line in definitions(ast.parse(file.read_text(encoding="utf-8")))
        if name in IDENTIFIERS or set(name.split("_")) & set(IDENTIFIERS) or re.search(BRITISH, name, re.IGNORECASE)
    ]
    assert not bad


@pytest.mark.parametrize("file", [*CODE, *DOCS], ids=lambda file: str(file.relative_to(ROOT)))
def test_no_sentence_has_a_word_that_the_glossary_replaces(file) -> None:
    if file == GLOSSARY:
        return
    pattern = "|".join([rf"\b{re.escape(phrase)}\b" for phrase in PHRASES] + [BRITISH])
    lines = file.read_text(encoding="utf-8").splitlines()
    bad = [
        f"{file.name}:{n} {m[0]}" for n, line in enumerate(lines, 1) for m in re.finditer(pattern, line, re.IGNORECASE)
    ]
    assert not bad
