"""Random packed trees for tests."""

import random

from bessemer.tuning.backend import Tree


def random_trees(seed: int, count: int = 5) -> list[Tree]:
    """Prompts with a common beginning; branches that share beginnings, end inside each other, or stand alone."""
    draw = random.Random(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(draw.randrange(256) for _ in range(length))

    common = ids(6)
    trees = []
    for i in range(count):
        stem = ids(3)
        branches = ((*stem, *ids(2), 257), (*stem, 257), (*ids(1 + i), 257), (257,))
        trees.append(Tree(common + ids(1 + 3 * i), branches))
    return trees
