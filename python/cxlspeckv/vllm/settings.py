"""What a user writes in `kv_connector_extra_config`, checked before anything is opened.

    {"tiers": [{"uri": "dram:4G"}, {"uri": "file:/var/cache/kv?size=64G", "codec": "kvq4"}],
     "name": "", "model_id": "", "profile": "", "max_store_bytes": "1G", "load_timeout": 30,
     "speculation": {"hinted": true, "learned": false}}

Every mistake is a ValueError of one line that says which key and what would be right.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cxlspeckv._core import parse_size

# Read by vLLM's connector from the same dictionary.
VLLM_KEYS = frozenset(
    {"spec_name", "spec_module_path", "block_size", "blocks_per_chunk", "offload_prompt_only",
     "self_describing_kv_events", "lookup_rank"}
)
TIER_TEXTS = frozenset({"uri", "codec", "policy", "name", "admission"})
TIER_KEYS = TIER_TEXTS | {"capacity", "layers"}
LAYER_KEYS = frozenset({"first", "count", "codec"})
# Of "speculation", as Prefetcher takes them.
SPECULATION = {"hinted": "flag", "learned": "flag", "stage": "flag", "retain": "flag",
               "chunk_bytes": "size", "most_in_flight": "size", "learning_bytes": "size",
               "hint_life": "seconds", "unread_life": "seconds", "sessions": "count",
               "blocks": "count", "bytes_per_second": "rates"}
LAYERS = '[{"first": 0, "count": 2, "codec": "int8"}]'


class ConfigError(ValueError):
    """A mistake in the configuration, told in one line."""

    def __init__(self, text: str) -> None:
        super().__init__(f"cxlspeckv: {text}")


@dataclass(frozen=True)
class Settings:
    """The store that an engine uses, and how. Immutable.

    tiers: as BlockStore takes them, fastest first. name: of a store that several processes
    share; "" for one of this process alone. model_id: names the weights instead of the files of
    the model. profile: a file of `python -m cxlspeckv profile`, "" for none. max_store_bytes: plain
    bytes of stores in flight; what comes on top is refused. load_timeout: seconds that a load may
    take before it counts as failed, and that a request waits for blocks that somebody is storing.
    speculation: options of the Prefetcher for the sessions that requests name.
    """

    tiers: tuple[Mapping[str, Any], ...]
    name: str = ""
    model_id: str = ""
    profile: str = ""
    max_store_bytes: int = 1 << 30
    load_timeout: float = 30.0
    speculation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_persistent_tier(self) -> bool:
        """Whether a tier may outlive the process."""
        return any(t["uri"].partition(":")[0] in ("file", "dax", "shm") for t in self.tiers)


def _text(config: Mapping[str, Any], key: str, default: str = "") -> str:
    value = config.get(key, default)
    if not isinstance(value, str):
        raise ConfigError(f'"{key}" is a string, not {value!r}')
    return value


def _bytes(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key, default)
    if isinstance(value, str):
        try:
            value = parse_size(value)
        except ValueError as error:
            raise ConfigError(f'"{key}": {error}') from None
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ConfigError(f'"{key}" is a size such as "1G", not {value!r}')
    return value


def _seconds(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not (
            0 < value < math.inf):
        raise ConfigError(f'"{key}" is a number of seconds above 0, not {value!r}')
    return float(value)


def _refuse_unknown(given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(f'{where} has no "{unknown[0]}"; there are: {", ".join(sorted(known))}')


def _tiers(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    tiers = config.get("tiers")
    if not isinstance(tiers, Sequence) or isinstance(tiers, str) or not tiers:
        raise ConfigError('"tiers" is a list such as [{"uri": "dram:4G"}]')
    for number, tier in enumerate(tiers):
        _refuse_tier(tier, f'"tiers"[{number}]')
    return tuple(dict(tier) for tier in tiers)


def _refuse_tier(tier: object, where: str) -> None:
    if not isinstance(tier, Mapping):
        raise ConfigError(f'{where} is an object such as {{"uri": "dram:4G"}}')
    _refuse_unknown(tier, TIER_KEYS, where)
    if not tier.get("uri"):
        raise ConfigError(f'{where} needs a "uri" such as "dram:4G"')
    for key in sorted(TIER_TEXTS & set(tier)):
        if not isinstance(tier[key], str):
            raise ConfigError(f'{where}: "{key}" is a string, not {tier[key]!r}')
    if "capacity" in tier:
        _bytes(tier, "capacity", 0)
    layers = tier.get("layers", ())
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise ConfigError(f'{where}: "layers" is a list such as {LAYERS}, not {layers!r}')
    for choice in layers:
        _refuse_layers(choice, where)


def _refuse_layers(choice: object, where: str) -> None:
    if not isinstance(choice, Mapping):
        raise ConfigError(f'{where}: "layers" is a list such as {LAYERS}, not of {choice!r}')
    _refuse_unknown(choice, LAYER_KEYS, f'{where}: "layers"')
    if not isinstance(choice.get("codec"), str):
        raise ConfigError(f'{where}: "layers" need a "codec" such as "int8", not '
                          f'{choice.get("codec")!r}')
    for key in ("first", "count"):
        value = choice.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ConfigError(f'{where}: "layers": "{key}" is a number of layers, not {value!r}')


def _rates(given: Mapping[str, Any], tiers: Sequence[Mapping[str, Any]]) -> list[float]:
    rates = given["bytes_per_second"]
    if not isinstance(rates, Sequence) or isinstance(rates, str) or len(rates) != len(tiers):
        raise ConfigError(f'"bytes_per_second" is a list of {len(tiers)} numbers, one for each '
                          f"tier, not {rates!r}")
    for rate in rates:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
            raise ConfigError(f'"bytes_per_second" is a list of numbers above 0, not of {rate!r}')
    return [float(rate) for rate in rates]


def _speculation(config: Mapping[str, Any], tiers: Sequence[Mapping[str, Any]]
                 ) -> Mapping[str, Any]:
    given = config.get("speculation", {})
    if given is False:
        given = {"hinted": False}
    if not isinstance(given, Mapping):
        raise ConfigError('"speculation" is false or an object such as {"learned": true}, not '
                          f"{given!r}")
    _refuse_unknown(given, frozenset(SPECULATION), '"speculation"')
    found: dict[str, Any] = {}
    for key, value in given.items():
        kind = SPECULATION[key]
        if kind == "flag" and not isinstance(value, bool):
            raise ConfigError(f'"{key}" is true or false, not {value!r}')
        if kind == "count" and (isinstance(value, bool) or not isinstance(value, int)
                                or value < 1):
            raise ConfigError(f'"{key}" is a whole number above 0, not {value!r}')
        found[key] = (_bytes(given, key, 0) if kind == "size" else
                      _seconds(given, key, 0.0) if kind == "seconds" else
                      _rates(given, tiers) if kind == "rates" else value)
    if len(tiers) < 2 and (found.get("hinted") or found.get("learned")):
        raise ConfigError('"speculation" moves blocks to a faster tier, and there is only one')
    return found


def _default_name(tiers: Sequence[Mapping[str, Any]]) -> str:
    """Engines that use one pool must share its index, so a pool's path names the store."""
    for tier in tiers:
        scheme, _, rest = tier["uri"].partition(":")
        if scheme in ("file", "dax"):
            return rest.partition("?")[0]
    return ""


OWN_KEYS = frozenset(
    {"tiers", "name", "model_id", "profile", "max_store_bytes", "load_timeout", "speculation"})


def parse(config: Mapping[str, Any], also: frozenset[str] = VLLM_KEYS) -> Settings:
    """Reads the dictionary. ConfigError says what is wrong with it; `also` are keys that it may
    have besides ours.
    """
    _refuse_unknown(config, OWN_KEYS | also, "the configuration")
    tiers = _tiers(config)
    return Settings(
        tiers=tiers,
        name=_text(config, "name") or _default_name(tiers),
        model_id=_text(config, "model_id"),
        profile=_text(config, "profile"),
        max_store_bytes=_bytes(config, "max_store_bytes", 1 << 30),
        load_timeout=_seconds(config, "load_timeout", 30.0),
        speculation=_speculation(config, tiers),
    )
