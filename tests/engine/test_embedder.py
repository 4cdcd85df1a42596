"""Embeddings of sentences: equal to transformers' encoder with the mean of its tokens, whatever the texts."""

from pathlib import Path

import pytest
import torch
from tests.engine.tiny_encoder import tiny_encoder
from tokenizers import Tokenizer
from transformers import BertModel

from bessemer.core.errors import EngineError
from bessemer.engine.embedder import Embedder

TEXTS = ["the cat sits", "the dog runs", "", "unheard of", "cat " * 600]


def test_vectors_are_those_of_transformers(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path)
    model = BertModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(64)
    found = torch.tensor(Embedder(folder).embed(TEXTS))
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
        expected = torch.nn.functional.normalize(hidden.mean(dim=0), dim=0)
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)


def test_what_is_no_such_model_is_refused_by_its_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="embedding model"):
        Embedder(tmp_path)
