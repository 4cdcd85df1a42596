"""The block cache: nothing is lost, nothing is shared wrongly, the least recently used prefix goes first."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.tiny_model import tiny_network

from bessemer.engine.cache import BLOCK, SCRATCH, BlockCache, block_hashes

CONFIG = tiny_network().config


def cache_of(blocks: int) -> BlockCache:
    return BlockCache(CONFIG, torch.float32, torch.device("cpu"), blocks * BLOCK)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans()), max_size=40))
def test_blocks_are_conserved(actions: list[tuple[int, int, bool]]) -> None:
    cache = cache_of(12)
    held: list[list[int]] = []
    for prompt, size, release in actions:
        names = block_hashes("v", [prompt] * (size * BLOCK))
        shared = cache.match(names)
        blocks = cache.take(shared, size - len(shared))
        if blocks is not None:
            assert len(set(blocks)) == size
            assert SCRATCH not in blocks
            for block, name in zip(blocks, names, strict=True):
                cache.publish(block, name)
            held.append(blocks)
        if held and (release or blocks is None):
            cache.give_back(held.pop(0))
        in_use = {block for blocks in held for block in blocks}
        assert cache.available == 12 - len(in_use)
    for blocks in held:
        cache.give_back(blocks)
    assert cache.available == 12
    cache.forget()
    assert not any(cache.match(block_hashes("v", [prompt] * BLOCK)) for prompt, _, _ in actions)


def test_names_cover_all_that_came_before() -> None:
    a = block_hashes("v", [1] * 40)
    assert len(a) == 2
    assert a == block_hashes("v", [1] * 47)
    assert a[0] == block_hashes("v", [1] * 16 + [2] * 16)[0]
    assert a[1] != block_hashes("v", [2] + [1] * 31)[1]
    assert not set(a) & set(block_hashes("w", [1] * 40))


def test_the_least_recently_used_prefix_is_evicted() -> None:
    cache = cache_of(4)
    old, new = (block_hashes("v", [n] * (2 * BLOCK)) for n in (1, 2))
    for names in (old, new, old):
        shared = cache.match(names)
        blocks = cache.take(shared, 2 - len(shared))
        assert blocks is not None
        for block, name in zip(blocks, names, strict=True):
            cache.publish(block, name)
        cache.give_back(blocks)
    assert cache.take([], 2) is not None
    assert (len(cache.match(old)), len(cache.match(new))) == (2, 0)
    assert cache.take([], 1) is not None
    assert len(cache.match(old)) == 1  # the end of a chain goes before its beginning
    assert cache.take([], 2) is None
