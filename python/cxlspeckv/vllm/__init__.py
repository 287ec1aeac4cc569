"""vLLM's KV blocks in a cxlspeckv store: one core, three thin adapters.

`connector.CxlSpecKVConnector` is what to use: vLLM's offloading connector, with failed loads
reported so that their requests are recomputed. `spec.CxlSpecKVOffloadingSpec` is the same for
users who keep the stock `OffloadingConnector`, `tier.CxlSpecKVTier` a secondary tier below vLLM's
own host memory. docs/vllm.md has the configuration and the versions that were tested.

Importing this package imports neither torch nor vLLM; its modules do.
"""
