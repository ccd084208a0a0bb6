import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drfpn.data.formats import json_stream
from drfpn.data.formats.json_stream import NotAnObjectError, read_lists

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def read(file: Path, *keys: str) -> tuple[dict[str, list[Any]], dict[str, str]]:
    records: dict[str, list[Any]] = {key: [] for key in keys}
    indices: dict[str, list[int]] = {key: [] for key in keys}

    def consumer(key: str):
        return lambda index, value: (indices[key].append(index), records[key].append(value))

    types = read_lists(file, {key: consumer(key) for key in keys})
    assert all(values == list(range(len(values))) for values in indices.values())
    return records, types


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    data=st.dictionaries(st.sampled_from(["a", "b", "other", 'ü"\\']), VALUES | st.lists(VALUES, max_size=6)),
    chunk=st.integers(1, 40),
    indent=st.none() | st.integers(0, 2),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_records_are_those_of_the_whole_file_for_any_chunk_size(
    data, chunk, indent, encoding, tmp_path_factory
) -> None:
    file = tmp_path_factory.mktemp("json") / "a.json"
    file.write_text(json.dumps(data, indent=indent, ensure_ascii=False), encoding=encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", max(chunk, 4))
        records, types = read(file, "a", "b")
    for key in ("a", "b"):
        value = data.get(key)
        assert records[key] == (value if isinstance(value, list) else [])
    assert set(types) == set(data)
    assert {key for key, value_type in types.items() if value_type == "list"} == {
        k for k, v in data.items() if isinstance(v, list)
    }


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cut=st.integers(0, 200), junk=st.sampled_from(["", "x", "}", "]", ",", '"', "1e"]), chunk=st.integers(4, 50))
def test_a_file_is_refused_if_json_refuses_it(cut, junk, chunk, tmp_path_factory) -> None:
    whole = json.dumps({"a": [{"x": 1.5, "y": [1, 2]}, 12345, -1e-3], "b": [], "c": {"d": "text"}, "a2": None})
    text = whole[:cut] + junk + (whole[cut:] if junk else "")
    file = tmp_path_factory.mktemp("json") / "a.json"
    file.write_text(text)
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        if isinstance(expected, dict):
            records, _ = read(file, "a", "b")
            assert records["a"] == expected.get("a", [])
        else:
            with pytest.raises(ValueError, match=r"at character|it holds a JSON|a key is"):
                read(file, "a", "b")


def test_another_value_than_an_object_is_refused(tmp_path) -> None:
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(NotAnObjectError, match="it holds a JSON list"):
        read(tmp_path / "a.json", "a")


def test_a_list_that_is_there_twice_is_refused(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1], "a": [2]}')
    with pytest.raises(ValueError, match="its list 'a' is there twice"):
        read(tmp_path / "a.json", "a")


def test_deep_nesting_is_refused(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"a": [' + "[" * 200_000)
    with pytest.raises((RecursionError, ValueError)):
        read(tmp_path / "a.json", "a")
