"""Damage for `fuzz.py` and the tests, as hypothesis strategies: of bytes, of JSON values, and of texts."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Change = tuple[str, int, int, bytes]
_RAW = ("1e999", "-1e999", "NaN", "Infinity", "1e-999", "-0.0", "9" * 5000, "[" * 5000, '"\\ud800"', '"\\u0000"')
_TOKENS = (
    *(
        "{",
        "}",
        "{}",
        "=>",
        "\\{",
        "\\}",
        "\\=>",
        "\\",
        " ",
        "|",
        " | ",
        '"',
        "'",
        ",",
        ";",
        "\t",
        "\n",
        "\r",
        "\x00",
        "\x1b[2J",
    ),
    *(
        "\ud800",
        "\udcff",
        "\ufeff",
        "\u202e",
        "\x9b",
        "é",
        "e\u0301",
        "İ",
        "ß",
        "ﬁ",
        "中文",
        "𝕏",
        "\u200b",
        "\u2028",
        "France",
        "Rome",
        "?",
        ".",
    ),
)
_place = st.integers(0, 2**31)

texts = st.lists(st.sampled_from(_TOKENS) | st.text(max_size=3), max_size=12).map("".join) | st.tuples(
    st.sampled_from(_TOKENS), st.sampled_from((100, 3000, 30000))
).map(lambda pair: pair[0] * pair[1])
"""Texts made of what readers treat specially, some of them very long."""

values: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        (
            None,
            True,
            False,
            "",
            " ",
            "0",
            [],
            {},
            [[]],
            [{}],
            "{}",
            0,
            -1,
            1,
            2,
            0.5,
            -0.5,
            1e308,
            2**31,
            2**63,
            2**64,
            -(2**63),
        )
    )
    | st.integers()
    | st.floats()
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
"""JSON values of every type, most of them not what a reader expects."""


def flipped(data: bytes, place: int) -> bytes:
    """The data with one bit changed."""
    place %= 8 * len(data)
    found = bytearray(data)
    found[place // 8] ^= 1 << place % 8
    return bytes(found)


def _spliced(data: bytes, place: int, length: int, new: bytes) -> bytes:
    place %= len(data) + 1
    return data[:place] + new + data[place + length :]


_bytes = st.binary(max_size=16) | st.sampled_from(
    (b"\x00" * 64, b"\xff" * 8, b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b'"', b"9")
)
bytes_changes: st.SearchStrategy[list[Change]] = st.lists(
    st.tuples(st.sampled_from(("flip", "cut", "splice")), _place, st.integers(0, 40), _bytes), min_size=1, max_size=3
)
"""A few changes of a file's bytes: bits that flip, parts that are lost, overwritten or inserted."""
_CHANGES: dict[str, Callable[[bytes, int, int, bytes], bytes]] = {
    "flip": lambda data, place, _length, _new: flipped(data, place) if data else data,
    "cut": lambda data, place, _length, _new: data[: place % (len(data) + 1)],
    "splice": _spliced,
}


def apply(changes: list[Change], data: bytes) -> bytes:
    """The data after all changes."""
    for change, place, length, new in changes:
        data = _CHANGES[change](data, place, length, new)
    return data


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(list or object, index or key) of everything in a JSON value."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            found += _places(inner)
    return found


_ACTIONS: dict[str, Callable[[Any, Any, Any], None]] = {
    "replace": lambda holder, key, new: holder.__setitem__(key, new),
    "delete": lambda holder, key, _new: holder.__delitem__(key),
    "wrap": lambda holder, key, _new: holder.__setitem__(key, [holder[key]]),
    "repeat": lambda holder, key, _new: (
        holder.extend(holder * 2) if isinstance(holder, list) else holder.update({f"{key}2": holder[key]})
    ),
    "unwrap": lambda holder, key, _new: holder.__setitem__(
        key, holder[key][0] if isinstance(holder[key], list) and holder[key] else None
    ),
    "raw": lambda holder, key, new: holder.__setitem__(key, f"@{len(str(new)) % len(_RAW)}@"),
}
json_changes = st.lists(st.tuples(st.sampled_from(sorted(_ACTIONS)), _place, values), min_size=1, max_size=4)
"""A few changes of a JSON value whose syntax stays right."""


def changed_json(value: Any, changes: list[tuple[str, int, Any]]) -> Any:
    """A copy of a JSON value after all changes."""
    whole = [copy.deepcopy(value)]
    for action, place, new in changes:
        places = _places(whole)
        if places:
            holder, key = places[place % len(places)]
            _ACTIONS[action](holder, key, copy.deepcopy(new))
    return whole[0] if whole else None


def as_text(value: Any) -> str:
    """JSON, with the numbers and texts that `json.dumps` does not write."""
    text = json.dumps(value)
    for i, raw in enumerate(_RAW):
        text = text.replace(f'"@{i}@"', raw)
    return text


def mixed(chance: random.Random, one: Any, other: Any) -> Any:
    """An input of the form of two others: texts and bytes are a beginning of one and an end of the other, items come from either."""
    if isinstance(one, (str, bytes)) and type(one) is type(other):
        start, end = chance.randrange(len(one) + 1), chance.randrange(len(other) + 1)
        return one[:start] + other[end:]  # pyright: ignore[reportOperatorIssue]
    return _mixed_item(chance, one, other)


def _mixed_item(chance: random.Random, one: Any, other: Any) -> Any:
    """The same inside an input, where a short text may be a name: it comes from either, unchanged."""
    if isinstance(one, bytes) and isinstance(other, bytes):
        return mixed(chance, one, other)
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return tuple(_mixed_item(chance, *pair) for pair in zip(one, other, strict=True))
    if isinstance(one, list) and isinstance(other, list):
        joined = one[: chance.randrange(len(one) + 1)] + other[chance.randrange(len(other) + 1) :]
        return [_mixed_item(chance, item, chance.choice(joined)) for item in joined]
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _mixed_item(chance, one[key], other.get(key, one[key])) for key in one}
    if type(one) is int and type(other) is int:  # a place, most often
        return chance.choice((one, other, chance.randrange(2**31)))
    return chance.choice((one, other))
