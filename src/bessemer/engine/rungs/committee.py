"""Several rungs asked together, and one probability stacked on what they say: agreement is part of the evidence.

A label's logit is the sum over members of weight x log-probability and vote x "it is the member's first", plus what
unanimity adds, plus a shift between two labels (stacked generalisation, Wolpert 1992). A member that cannot read an
item has no say in it; an item that is outside the scope of any is outside the committee's.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import numpy as np

from bessemer.core.errors import EngineError
from bessemer.core.types import JSON, Frozen
from bessemer.engine.rungs.artefact import FORMAT, AnyArray, Artefact, RungManifest, Scope
from bessemer.engine.rungs.rung import Flags, Floats, Prediction, Rung, RungItem, nothing, parameters_of, softmax

KIND = "committee"
_LEAST = 1e-4
"""Probability below which a member's word counts no more against a label."""
_Weight = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]


class Member(Frozen, frozen=True):
    """A rung inside; its arrays are the committee's whose names begin with its place and a dot."""

    kind: Annotated[str, msgspec.Meta(max_length=64)]
    parameters: JSON
    scope: Scope
    weight: _Weight
    """Of its log-probabilities."""
    vote: _Weight
    """Of its first label."""


class CommitteeParameters(Frozen, frozen=True):
    """The members, and what is added to their sum."""

    members: Annotated[tuple[Member, ...], msgspec.Meta(min_length=1, max_length=8)]
    unanimity: _Weight = 0.0
    """Of a label that all members hold for the first."""
    shift: _Weight = 0.0
    """Of two labels: added to the second's logit."""


class Committee(Rung):
    """Asks its members, and stacks what they say."""

    def __init__(self, artefact: Artefact, open_member: Callable[[Artefact], Rung]) -> None:
        """Raises EngineError for members that cannot be opened, arrays of nobody, a committee among the members."""
        super().__init__(artefact)
        self._parameters = parameters_of(artefact, CommitteeParameters)
        left = dict(artefact.arrays)
        self.members: list[Rung] = []
        for place, member in enumerate(self._parameters.members):
            if member.kind == KIND:
                raise EngineError("A committee is no member of a committee.")
            prefix = f"{place}."
            arrays = {name[len(prefix) :]: left.pop(name) for name in [*left] if name.startswith(prefix)}
            manifest = RungManifest(FORMAT, member.kind, self.labels, member.parameters, "0" * 64, scope=member.scope)
            self.members.append(open_member(Artefact(manifest, arrays)))
        if left:
            raise EngineError(f"A committee has arrays that belong to no member: {sorted(left)[:3]}.")

    def told(self) -> list[str]:
        """See `Rung`."""
        return [f"{one.kind}: weight {one.weight:.2f}, vote {one.vote:.2f}" for one in self._parameters.members]

    def predict(self, items: Sequence[RungItem]) -> Prediction:
        """See `Rung`."""
        said = [member.predict(items) for member in self.members]
        read = np.array([~one.unread for one in said])
        outside = np.array([member.outside(one) for member, one in zip(self.members, said, strict=True)])
        told = np.array([one.probabilities for one in said])
        n = len(items)
        stacked = softmax(stack(told, read, stacking(self._parameters)))
        return Prediction(stacked, nothing(n), nothing(n), np.asarray(outside.any(axis=0)))


def stacking(parameters: CommitteeParameters) -> Floats:
    """Return the numbers that `stack` takes: weights, votes, unanimity, shift."""
    members = parameters.members
    return np.array(
        [*(one.weight for one in members), *(one.vote for one in members), parameters.unanimity, parameters.shift]
    )


def evidence(told: Floats, read: Flags) -> Floats:
    """Return what the stack weighs: [2 m + 2, n, k], of m members' probabilities [m, n, k] and who read what [m, n].

    By member the log-probabilities, and 1 at its first label; 1 at the label that all hold for the first; 1 at the
    second of two labels.
    """
    m, n, k = told.shape
    logs = np.log(np.maximum(told, _LEAST))
    logs -= logs.mean(axis=2, keepdims=True)
    firsts = np.zeros((m, n, k))
    np.put_along_axis(firsts, told.argmax(axis=2)[:, :, None], 1.0, axis=2)
    heard = read[:, :, None]
    all_ = np.all(np.where(heard, firsts, 1.0) > 0, axis=0) & np.any(read, axis=0)[:, None]
    second = np.zeros((n, k))
    if k == 2:
        second[:, 1] = 1.0
    return np.concatenate([np.where(heard, logs, 0.0), np.where(heard, firsts, 0.0), [all_], [second]])


def stack(told: Floats, read: Flags, numbers: Floats) -> Floats:
    """Return the stacked logits [n, k]."""
    logits: Floats = np.tensordot(numbers, evidence(told, read), axes=1)
    return logits


def pack(members: Sequence[Artefact]) -> dict[str, AnyArray]:
    """Return the members' arrays as the committee's."""
    return {f"{place}.{name}": array for place, one in enumerate(members) for name, array in one.arrays.items()}
