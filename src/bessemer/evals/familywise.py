"""Many hypotheses, one error: orders of testing that keep the chance of any false rejection at most a stated level.

P-values come lazily: what is not tested is not computed, so its items are not looked at. The order must be fixed before
any of the items is seen.
"""

from collections.abc import Iterable, Sequence


def fixed_sequence(p_values: Iterable[float], level: float) -> int:
    """Return how many hypotheses are rejected: each is tested at the whole level, until the first that stands.

    Maurer, Hothorn & Lehmacher 1995; for thresholds, Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052).
    """
    return graphical([p_values], level)[0]


def graphical(chains: Sequence[Iterable[float]], level: float) -> list[int]:
    """Return how many hypotheses of each chain are rejected (Bretz et al. 2009, with edges from a chain to the next).

    Each of the m chains starts with level/m and is tested in order at what it has. One that is rejected to its end
    gives that to the next one that is not (in a circle), which goes on from where it stood, at the sum.
    """
    waiting = [iter(chain) for chain in chains]
    current = [next(chain, None) for chain in waiting]
    mass = [level / len(waiting)] * len(waiting)
    rejected = [0] * len(waiting)
    moved = True
    while moved:
        moved = False
        for index, chain in enumerate(waiting):
            while (p := current[index]) is not None and p <= mass[index]:
                rejected[index] += 1
                current[index] = next(chain, None)
                moved = True
            if current[index] is None and mass[index]:
                heir = next(
                    (
                        other % len(waiting)
                        for other in range(index + 1, index + len(waiting))
                        if current[other % len(waiting)] is not None
                    ),
                    None,
                )
                if heir is not None:
                    mass[heir] += mass[index]
                    moved = True
                mass[index] = 0.0
    return rejected
