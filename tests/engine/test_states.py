"""A language model's states of texts: those of its network, whatever stands beside a text."""

import numpy as np
import pytest
import torch
from tests.engine.tiny_model import ByteTokens, CausalAttention, tiny_engine, tiny_network

from bessemer.engine.states import states


class Chat(ByteTokens):
    """Tokens with a chat template."""

    def encode_chat(self, messages):
        return self.encode("".join(f"<{one['role']}>{one['content']}</>" for one in messages))


TEXTS = ["a", "what is this about?", "", "x" * 300, "a"]


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def test_they_are_the_network_s_mean_and_last(network):
    found = states(network, Chat(), TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        prompt = Chat().encode_chat([{"role": "user", "content": text}])
        with torch.inference_mode():
            hidden = network.forward_hidden(
                torch.tensor(prompt), torch.arange(len(prompt)), CausalAttention(network.config, [len(prompt)])
            )
        expected = torch.cat([hidden.float().mean(dim=0), hidden.float()[-1]]).numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-4)


def test_a_running_engine_gives_them_between_two_steps(network):
    engine = tiny_engine(network)
    engine.tokenizer = Chat()
    engine.start()
    try:
        np.testing.assert_allclose(engine.states(TEXTS[:2]), states(network, engine.tokenizer, TEXTS[:2]), atol=1e-5)
    finally:
        engine.close()
