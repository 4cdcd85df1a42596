"""Keys and values in blocks of tokens: allocation, sharing of common prompt prefixes, eviction of the least recent.

A full block of prompt tokens is named by a hash chain over everything that its content depends on: the version of the
weights and all tokens up to its end. Requests with the same prefix share blocks; a block that nobody uses stays cached
until its room is needed. The pool is [layer, key or value, slot, key-value head, head width], slot = block * BLOCK +
offset.
"""

import hashlib
import math
from array import array
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bessemer.core.errors import EngineError
from bessemer.engine.family import ModelConfig

BLOCK = 16
"""Tokens per block."""
SCRATCH = 0
"""This block takes the writes of padding rows and is never handed out."""


def block_hashes(version: str, tokens: Sequence[int]) -> tuple[bytes, ...]:
    """Return the names of the full blocks of a prompt: each covers the version and all tokens up to the block's end."""
    name = version.encode()
    names = []
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        name = hashlib.blake2b(name + array("q", tokens[start : start + BLOCK]).tobytes(), digest_size=16).digest()
        names.append(name)
    return tuple(names)


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that the system backs with memory only once they are written (torch.zeros writes them at once)."""
    if device.type != "cpu":
        return torch.zeros(*shape, dtype=dtype, device=device)
    raw = np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(*shape)


class BlockCache:
    """Owner of the key-value memory. Not thread-safe: the engine's thread alone uses it."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device, tokens: int) -> None:
        self.n_blocks = tokens // BLOCK + 1
        shape = (config.n_layers, 2, self.n_blocks * BLOCK, config.n_kv_heads, config.head_dim)
        self.pool: Tensor = _zeros(shape, dtype, device)
        self._free = list(range(self.n_blocks - 1, SCRATCH, -1))
        self._users = [0] * self.n_blocks
        self._named: dict[bytes, int] = {}
        self._name_of: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that can be had, idle cached ones included."""
        return len(self._free) + len(self._idle)

    def match(self, names: Sequence[bytes]) -> list[int]:
        """Return the cached blocks of the longest known prefix, without taking them."""
        blocks = []
        for name in names:
            block = self._named.get(name)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def take(self, shared: Sequence[int], new: int) -> list[int] | None:
        """Take shared blocks and `new` fresh ones; None (and nothing taken) when there is no room."""
        idle_shared = sum(1 for block in shared if self._users[block] == 0)
        if new > self.available - idle_shared:
            return None
        for block in shared:
            if self._users[block] == 0:
                del self._idle[block]
            self._users[block] += 1
        fresh = [self._fresh() for _ in range(new)]
        return [*shared, *fresh]

    def _fresh(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            del self._named[self._name_of.pop(block)]
        self._users[block] = 1
        return block

    def publish(self, block: int, name: bytes) -> None:
        """Offer a computed block for reuse under its name."""
        if name not in self._named and block not in self._name_of:
            self._named[name] = block
            self._name_of[block] = name

    def give_back(self, blocks: Sequence[int]) -> None:
        """Release blocks; those with a name stay cached while there is room, the first of a chain longest."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if self._users[block] < 0:
                raise EngineError("a cache block was released twice")
            if self._users[block] == 0:
                if block in self._name_of:
                    self._idle[block] = None
                else:
                    self._free.append(block)

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` tokens of one block into another."""
        start, stop = source * BLOCK, target * BLOCK
        self.pool[:, :, stop : stop + tokens] = self.pool[:, :, start : start + tokens]

    def forget(self) -> None:
        """Drop all cached prefixes that nobody uses."""
        for block in self._idle:
            del self._named[self._name_of.pop(block)]
            self._free.append(block)
        self._idle.clear()
