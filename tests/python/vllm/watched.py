"""`CxlSpecKVConnector` over a store that tells a test what it does, and dies when it is told to.

The environment's SPECKV_WATCHED is {"folder": where `flushed` and `keys` are written, "dies_after":
blocks, "death": FIFO} as JSON. After each flush `flushed` holds how many blocks were saved before
it; `keys` has those of all blocks that were saved, in their order. The save that follows after so many blocks ends the engine: half of its blocks are stored by then, and
the store is about to read the others.
"""

import json
import os
import pathlib
import signal

from cxlspeckv import BlockStore
from cxlspeckv.vllm import core
from cxlspeckv.vllm.connector import CxlSpecKVConnector as CxlSpecKVConnector

ASKED = json.loads(os.environ["SPECKV_WATCHED"])


class WatchedStore(BlockStore):
    """One thread saves, another flushes."""

    saved = 0

    def save(self, keys, segments, **options):
        if 0 < ASKED.get("dies_after", 0) <= self.saved:
            half = len(segments) // 2
            super().save(keys[:16 * half], segments[:half], **options).wait()
            options["fence"] = lambda: die(half, len(segments))
            keys, segments = keys[16 * half:], segments[half:]
        operation = super().save(keys, segments, **options)
        operation.wait()
        self.saved += len(segments)
        with open(pathlib.Path(ASKED["folder"]) / "keys", "ab") as file:
            file.write(keys)
        return operation

    def flush(self):
        before = self.saved
        super().flush()
        new = pathlib.Path(ASKED["folder"]) / "flushed.new"
        new.write_text(str(before), encoding="utf-8")
        new.rename(new.with_suffix(""))


def die(stored, blocks):
    """A FIFO's readers learn of the end of the process by the end of what it wrote."""
    fifo = open(ASKED["death"], "w", encoding="utf-8")
    print(stored, blocks, file=fifo, flush=True)
    os.killpg(0, signal.SIGKILL)


core.BlockStore = WatchedStore
