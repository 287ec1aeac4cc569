"""What decides the bytes of an engine's pages: the model, the page layout, the rank.

Two engines may exchange blocks only if all of it is equal, so all of it goes into every key.
"""

import hashlib
import json
import pathlib
from dataclasses import asdict, dataclass

from huggingface_hub import snapshot_download
from vllm.config import VllmConfig
from vllm.platforms import current_platform
from vllm.v1.kv_offload.config import OffloadingConfig

from cxlspeckv import BlockLayout
from cxlspeckv.vllm.settings import ConfigError, Settings

KEYS_VERSION = 3  # of what a key covers; another number, and nothing of before matches
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
# Read of a weight file: so much of its front, headers and all, then a sample in every stride.
FRONT_BYTES, STRIDE_BYTES, SAMPLE_BYTES = 16 << 20, 1 << 20, 4096
HEAD_MAJOR = ("LBHNC", "BLHNC")  # vLLM's names of layouts whose pages lie head by head
# How vLLM's kernels for CPUs order a head's part of a page; "" where no such kernel is at work.
KERNELS = {"": "interleaved", "vec": "transposed", "vec16": "transposed", "amx": "tiled"}
DTYPES = {"bfloat16": ("bf16", 2), "float16": ("f16", 2), "half": ("f16", 2), "float32": ("f32", 4)}


@dataclass(frozen=True)
class PageFacts:
    """One engine's pages, equal in all of its processes. Immutable.

    page_bytes: of one layer and block, in bytes. kv_layout: vLLM's name for the order, and on a
    CPU that of the kernel. kind: BlockLayout's name of the order within a head's part of a page.

    kv_heads and head_dim are 0 where the engine packs its pages in another way; such pages are
    kept as opaque rows, a token each.
    """

    model: str
    dtype: str
    layers: int
    kv_heads: int
    head_dim: int
    tokens: int
    blocks_per_chunk: int
    page_bytes: int
    world_size: int
    replicated: bool
    kv_layout: str
    kind: str = "interleaved"

    @property
    def chunk_bytes(self) -> int:
        """Plain bytes of one chunk on one worker."""
        return self.page_bytes * self.layers * self.blocks_per_chunk

    @property
    def ranks(self) -> int:
        """Different blocks there are for one engine key."""
        return 1 if self.replicated else self.world_size

    def block_layout(self) -> BlockLayout:
        """Our layout of one chunk: its pages one after another, each layer by layer."""
        layers = self.layers * self.blocks_per_chunk
        if self.kv_heads == 0:
            return BlockLayout(layers=layers, kv_heads=1, head_dim=self.page_bytes // self.tokens,
                               tokens=self.tokens, dtype="f8e4m3", kind="latent")
        return BlockLayout(layers=layers, kv_heads=self.kv_heads, head_dim=self.head_dim,
                           tokens=self.tokens, dtype=DTYPES[self.dtype][0], kind=self.kind)

    def namespace(self, rank: int) -> bytes:
        """16 bytes that differ wherever blocks of equal engine keys may differ."""
        text = json.dumps({"version": KEYS_VERSION, "rank": rank} | asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16, person=b"speckv vllm").digest()


def _fingerprint(*texts: str) -> str:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()


def _content(path: pathlib.Path) -> str:
    """A hash of a file's size and bytes: all of them, or of a large file its front and samples
    so close together that no matrix lies between two.
    """
    hashed = hashlib.blake2b(digest_size=16)
    size = path.stat().st_size
    hashed.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        hashed.update(file.read(FRONT_BYTES))
        for place in (*range(FRONT_BYTES, size, STRIDE_BYTES), max(0, size - SAMPLE_BYTES)):
            file.seek(place)
            hashed.update(file.read(SAMPLE_BYTES))
    return hashed.hexdigest()


def _weights(model: str, revision: str | None) -> list[str]:
    """The files of a model by name and content, and the commit of a hub's snapshot."""
    path = pathlib.Path(model).absolute()
    try:
        if path.is_file():
            return [_content(path)]
        folder = path if path.is_dir() else pathlib.Path(
            snapshot_download(model, revision=revision, local_files_only=True))
        found = [f"{p.relative_to(folder).as_posix()} {_content(p)}"
                 for p in sorted(folder.rglob("*")) if p.suffix in WEIGHTS and p.is_file()]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f'the files of "{model}" are not found ({reason}); give a "model_id" '
                          "that names these weights") from None
    if not found:
        raise ConfigError(f'"{model}" holds no weights that are known; give a "model_id" '
                          "that names them")
    return [folder.name, *found] if folder.parent.name == "snapshots" else found


def model_identity(config: VllmConfig, settings: Settings) -> str:
    """Changes whenever the KV of equal tokens may change."""
    model, cache = config.model_config, config.cache_config
    shape = model.hf_config.to_json_string(use_diff=False)
    run = json.dumps([str(model.dtype), model.quantization, cache.cache_dtype,
                      str(config.load_config.load_format)], default=str)
    weights = [settings.model_id] if settings.model_id else _weights(model.model, model.revision)
    return _fingerprint(shape, run, *weights)


def refuse_unsafe(config: VllmConfig, settings: Settings) -> None:
    """Raises where equal keys would not mean equal blocks, or where keys could never be equal."""
    if config.lora_config is not None:
        raise ConfigError("LoRA is on, and vLLM's keys cover an adapter's name but not its weights")
    algorithm = config.cache_config.prefix_caching_hash_algo
    if "xxhash" in str(algorithm) and (settings.name or settings.has_persistent_tier):
        raise ConfigError(f"prefix_caching_hash_algo {algorithm} is seeded anew in every process, "
                          "so that shared or persistent tiers would never hit; use sha256")
    if not config.cache_config.enable_prefix_caching:
        raise ConfigError("prefix caching is off, so that vLLM gives blocks no keys; turn it on")


def _refuse_parallel(offloading: OffloadingConfig) -> None:
    parallel = offloading.parallel
    for name in ("pp_size", "pcp_size", "dcp_size"):
        if getattr(parallel, name) != 1:
            raise ConfigError(f"{name} is {getattr(parallel, name)}; only tensor and data "
                              "parallelism are supported")
    if offloading.canonical_layout:
        raise ConfigError('"canonical_layout" is not supported')
    if len(offloading.groups) != 1:
        raise ConfigError(f"the model has {len(offloading.groups)} groups of KV caches, and one is "
                          "supported: try --disable-hybrid-kv-cache-manager")


def _kernel(config: VllmConfig, tokens: int) -> str:
    """The attention kernel that writes pages in this process, "" where vLLM's layout says all.

    On a CPU it decides what a head's part of a page looks like, and vLLM tells it to nobody.
    """
    model = config.model_config
    if model.use_mla or not current_platform.is_cpu():
        return ""
    from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

    return _get_attn_isa(model.dtype, tokens, model.get_head_size(),
                         config.cache_config.cache_dtype)


def _heads(config: VllmConfig, dtype: str, kv_layout: str, kernel: str, tokens: int,
           page_bytes: int) -> tuple[int, int, str]:
    """(heads, channels, kind) of a page, without heads where it is not plainly K and V."""
    packed = 0, 0, "interleaved"
    latent = bool(config.model_config.use_mla)
    if dtype not in DTYPES or kernel not in KERNELS:
        return packed
    if not latent and kv_layout not in HEAD_MAJOR:
        return packed
    size = DTYPES[dtype][1]
    heads = 1 if latent else config.model_config.get_num_kv_heads(config.parallel_config)
    channels = config.model_config.get_head_size()
    rows = tokens * (1 if latent else 2)
    if heads * rows * channels * size != page_bytes:
        return packed
    return heads, channels, "latent" if latent else KERNELS[kernel]


def page_facts(config: VllmConfig, offloading: OffloadingConfig, settings: Settings) -> PageFacts:
    """What this engine's pages are. ConfigError: they cannot be kept, or not safely."""
    refuse_unsafe(config, settings)
    _refuse_parallel(offloading)
    group = offloading.groups[0]
    layers, tokens = len(group.layer_names), group.tokens_per_block
    page_bytes, rest = divmod(offloading.worker_kv_bytes_per_block, layers)
    if rest or page_bytes == 0 or page_bytes % tokens:
        raise ConfigError(f"pages of {offloading.worker_kv_bytes_per_block} bytes for {layers} "
                          f"layers of {tokens} tokens are not all of one size")
    kv_layout, kernel = str(offloading.kv_cache_layout), _kernel(config, tokens)
    heads, channels, kind = _heads(config, offloading.model.dtype, kv_layout, kernel, tokens,
                                    page_bytes)
    facts = PageFacts(
        model=model_identity(config, settings), dtype=offloading.model.dtype, layers=layers,
        kv_heads=heads, head_dim=channels, tokens=tokens,
        blocks_per_chunk=offloading.cache.blocks_per_chunk, page_bytes=page_bytes,
        world_size=offloading.parallel.world_size, replicated=offloading.replicated_layout,
        kv_layout=f"{kv_layout} {kernel}".rstrip(), kind=kind)
    _refuse_codecs(facts, settings)
    return facts


def _refuse_codecs(facts: PageFacts, settings: Settings) -> None:
    plain = facts.kv_heads > 0 and DTYPES.get(facts.dtype, ("", 0))[1] == 2
    layers = facts.block_layout().layers
    for tier in settings.tiers:
        choices = tier.get("layers", ())
        codecs = [tier.get("codec", "raw")] + [c.get("codec") for c in choices]
        lossy = [codec for codec in codecs if codec not in ("", "raw", None)]
        if lossy and not plain:
            raise ConfigError(f'codec "{lossy[0]}" takes bfloat16 and float16, and the pages of '
                              f"this engine are {facts.dtype}"
                              + ("" if facts.kv_heads else f", packed ({facts.kv_layout})"))
        for choice in choices:
            first, count = choice.get("first", 0), choice.get("count", 0)
            if first + max(count, 1) > layers:
                raise ConfigError(f'"layers" {choice} of tier "{tier["uri"]}" goes beyond the '
                                  f"{layers} layers of a block")
