"""Dequantises a model: gguf_to_safetensors.py SOURCE FOLDER

SOURCE is a GGUF file, or an installed Python package that carries exactly one. FOLDER gets
config.json, the tokenizer and bfloat16 safetensors, as Hugging Face and vLLM load them. Needs
transformers, torch, gguf and accelerate; reads nothing from the network.
"""

import importlib.util
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: E402


def find_gguf(source):
    path = pathlib.Path(source)
    if path.is_file():
        return path
    package = importlib.util.find_spec(source)
    if package is None or not package.submodule_search_locations:
        sys.exit(f"{source} is neither a file nor an installed package")
    found = sorted(pathlib.Path(package.submodule_search_locations[0]).rglob("*.gguf"))
    if len(found) != 1:
        sys.exit(f"the package {source} carries {len(found)} GGUF files, not one")
    return found[0]


def main(source, folder):
    gguf = find_gguf(source)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
