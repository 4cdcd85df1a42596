"""The backend in this process: torch on one adapter, and the built-in engine sampling from it while it is trained."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
from torch import Tensor

from bessemer.engine.engine import Engine, LoadedModel, load_model
from bessemer.engine.lora import Adapter, LoraConfig
from bessemer.engine.request import Constraint, GenerateRequest, Generation
from bessemer.engine.tokens import Tokens
from bessemer.tuning.backend import Adam, Candidates, LossFunction, Tree
from bessemer.tuning.spec import TuneSpec
from bessemer.tuning.trainer import Trainer

_ADAPTER = "live"


class LocalBackend:
    """See `backend.Backend`."""

    def __init__(
        self, spec: TuneSpec, model: LoadedModel | None = None, heed: Callable[[], None] = lambda: None
    ) -> None:
        """Load the base model, or take one that is in memory, with a fresh adapter or the one that the spec names.

        `heed` is called in each layer of a pass and between turns; what it raises breaks the work off.
        """
        self._model = model or load_model(Path(spec.base))
        self._base, self._threads = Path(spec.base).name, spec.threads
        network = self._model.network
        self.trainer = Trainer(
            network,
            _adapter(spec, self._model),
            tokens_per_pass=spec.tokens_per_pass,
            heed=heed,
        )
        self._heed = heed

    @property
    def tokens(self) -> Tokens:
        """See `Backend`."""
        return self._model.tokens

    @property
    def context_length(self) -> int:
        """See `Backend`."""
        return self._model.network.config.context_length

    @property
    def vocab_size(self) -> int:
        """See `Backend`."""
        return self._model.network.config.vocab_size

    @property
    def trained_tokens(self) -> int:
        """See `Backend`."""
        return self.trainer.tokens

    @trained_tokens.setter
    def trained_tokens(self, tokens: int) -> None:
        self.trainer.tokens = tokens

    def score(self, trees: Sequence[Tree]) -> list[list[Tensor]]:
        """See `Backend`."""
        return self.trainer.forward(trees)

    def forward_backward(
        self,
        trees: Sequence[Tree],
        loss: LossFunction,
        *,
        among: Tensor | None = None,
        candidates: Candidates | None = None,
    ) -> float:
        """See `Backend`."""
        return self.trainer.forward_backward(trees, loss, among=among, candidates=candidates)

    def gradient_norm(self) -> float:
        """See `Backend`."""
        return self.trainer.gradient_norm()

    def zero_grad(self) -> None:
        """See `Backend`."""
        self.trainer.zero_grad()

    def optim_step(self, adam: Adam) -> float:
        """See `Backend`."""
        return self.trainer.optim_step(adam)

    def sample(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """See `Backend`: the ratio of the trained policy to the sampled one is exactly 1."""
        asked = [msgspec.structs.replace(request, adapter=_ADAPTER) for request in requests]
        return self._engine.generate_many(asked, between=self._heed)

    def candidates(
        self, constraint: Constraint | None, answers: Sequence[Generation]
    ) -> list[tuple[Tensor | None, ...]]:
        """See `Backend`."""
        if constraint is None:
            return [(None,) * len(answer.tokens) for answer in answers]
        grammars = self._engine.grammars
        return [grammars.candidates(constraint, answer.tokens, answer.forced) for answer in answers]

    def save_state(self) -> dict[str, Tensor]:
        """See `Backend`."""
        return self.trainer.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Backend`."""
        self.trainer.load_state(state)

    def save_weights(self) -> dict[str, Tensor]:
        """See `Backend`."""
        return {"adapter": self.trainer.adapter.flat.clone()}

    def export(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """See `Backend`."""
        flat = self.trainer.adapter.flat
        current = flat.clone()
        if weights is not None:
            flat.copy_(weights["adapter"])
        self.trainer.export(folder, self._base)
        flat.copy_(current)

    @cached_property
    def _engine(self) -> Engine:
        engine = Engine(self._model, threads=self._threads)
        engine.add_adapter(_ADAPTER, self.trainer.adapter)
        return engine


def _adapter(spec: TuneSpec, model: LoadedModel) -> Adapter:
    config = model.network.config
    if spec.adapter is not None:
        return Adapter.load(Path(spec.adapter), config, model.network.dtype)
    lora = LoraConfig(rank=spec.rank, alpha=spec.alpha or float(spec.rank), first_layer=spec.first_layer)
    adapter = Adapter(config, lora, model.network.dtype)
    adapter.initialise(spec.seed)
    return adapter
