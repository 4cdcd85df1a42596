"""A tiny random model of the Llama family with a byte tokenizer: the real engine, in milliseconds."""

import json
import tarfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from bessemer.engine.engine import Engine
from bessemer.engine.lora import Adapter, LoraConfig

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_model(folder: Path) -> Path:
    """Write config, weights and tokenizer of a random two-layer model."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.5,
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        bos_token_id=tokenizer.token_to_id("<|im_start|>"),
    )
    folder.mkdir(parents=True)
    weights = LlamaForCausalLM(config).state_dict()
    weights.pop("lm_head.weight")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": TEMPLATE}))
    return folder


def open_tiny(path: Path) -> Engine:
    """Open an engine of one thread with little memory."""
    return Engine(path, threads=1, cache_tokens=4096)


def adapter_tar(engine: Engine, folder: Path, seed: int) -> Path:
    """Write a random adapter as a tar of its peft folder."""
    adapter = Adapter(engine.network.config, LoraConfig(rank=2, alpha=64.0), engine.network.dtype)
    adapter.initialise(seed)
    adapter.save(folder / "adapter", "tiny")
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    changed = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in weights.items()}
    save_file(changed, folder / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    with tarfile.open(folder / "adapter.tar", "w") as tar:
        for file in sorted((folder / "adapter").iterdir()):
            tar.add(file, arcname=file.name)
    return folder / "adapter.tar"
