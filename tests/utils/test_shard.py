from itertools import chain

import pytest

from drfpn.utils.errors import UsageError
from drfpn.utils.shard import Shard


@pytest.mark.parametrize("length", [0, 1, 5, 12])
@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_every_item_belongs_to_one_shard_and_the_parts_are_equal(length, count) -> None:
    items = list(range(length))
    shards = [Shard(number, count) for number in range(1, count + 1)]
    slices = [items[shard.slice_of(items)] for shard in shards]
    assert list(chain(*slices)) == items
    turns = [shard.every_nth(items) for shard in shards]
    assert sorted(chain(*turns)) == items
    for parts in (slices, turns):
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_shards_are_read_as_they_are_printed() -> None:
    assert Shard.parse("2/8") == Shard(2, 8)
    assert str(Shard.parse(" 08/08")) == "8/8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/4", "K from 1 to N, not '0/4'; shards are numbered from 1."),
        ("5/4", "K from 1 to N, not '5/4'."),
        ("0/0", "K from 1 to N, not '0/0'."),
        ("2", "such as 2/8 for the second of 8 shards, not '2'."),
        ("-1/4", "not '-1/4'"),
        ("1/2/3", "not '1/2/3'"),
        ("²/4", "not '²/4'"),
    ],
)
def test_other_shards_are_refused(text, message) -> None:
    with pytest.raises(UsageError) as error:
        Shard.parse(text)
    assert message in str(error.value)
