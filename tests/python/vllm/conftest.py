"""Fixtures of the tests of the vLLM adapters."""

import contextlib

import cxlspeckv
import pytest
from vllm_support import EngineRun, Side, model, page_facts


@pytest.fixture
def side(tmp_path):
    """Makes sides; all of them are closed in the end."""
    made = []

    def make(config=None, pages=40, **facts):
        made.append(Side(page_facts(**facts), config or {"tiers": [{"uri": "dram:16M"}]}, pages))
        return made[-1]

    yield make
    for one in made:
        if not one.core.store.closed:
            one.close()
        with contextlib.suppress(cxlspeckv.Error):
            cxlspeckv.remove_store(one.core.settings.name)


@pytest.fixture
def engine(tmp_path):
    """Starts runs; whatever still runs in the end is killed."""
    runs = []

    def start(rounds, transfer=None, **job):
        run = EngineRun(tmp_path / f"run{len(runs)}",
                        {"model": model(), "rounds": rounds, "transfer": transfer} | job)
        runs.append(run)
        return run

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.kill()
