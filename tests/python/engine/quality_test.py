"""The quality bench: what codes nothing loses nothing, and what breaks a cache is seen by every test of it."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

ROOT = pathlib.Path(os.environ["CXLSPECKV_ROOT"])
sys.path.insert(0, str(ROOT / "tests/quality"))

import coders
import long_context
import losses
import models
import quality_bench
import summary

TEXT = (ROOT / "data/northanger.txt").read_text(encoding="utf-8")[:12000]


class Plain:
    """Gives back what it got."""

    name = "plain"

    def __call__(self, k, v, layer, first):
        return k, v

    def ratio(self):
        return 1.0


class Forgetful(Plain):
    """Loses all that the values said."""

    name = "forgetful"

    def __call__(self, k, v, layer, first):
        return k, np.zeros_like(v)


@pytest.fixture(scope="module", autouse=True)
def settings():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    yield
    torch.set_grad_enabled(True)


@pytest.fixture(scope="module")
def small():
    return models.Small(ROOT / "data")


@pytest.fixture(scope="module")
def smollm2():
    done = subprocess.run([sys.executable, ROOT / "python/tools/vllm_engine.py", "model"],
                          stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("the model cannot be had here")
    assert done.returncode == 0
    return models.SmolLM2(done.stdout.strip(), ROOT / "data")


def test_losses_are_those_of_the_coder(small, tmp_path):
    """Nothing, little, all: in both protocols, and one query's own block makes them differ."""
    rows = summary.Rows(tmp_path / "rows")
    codec = coders.Shipped("hx4096")
    codec.use(len(small.layers), b"")
    losses.measure(small, [Plain(), codec, Forgetful()], ["A", "B"], [("novel", TEXT[:1600])], 400,
                   "losses", rows)
    kl = {(row["coder"], row["protocol"]): row["kl"] for row in rows.all}
    for protocol in "AB":
        assert abs(kl["plain", protocol]) < 1e-9
        assert 1e-6 < kl["hx4096", protocol] < 1e-3 < 0.03 < kl["forgetful", protocol]
    assert kl["hx4096", "B"] < kl["hx4096", "A"]
    again = summary.Rows(tmp_path / "rows")
    assert again.all == rows.all
    assert {key: rows.all[0][key] for key in summary.SAID} in again
    assert rows.all[0] | {"coder": "another"} not in again


def test_protocol_b_is_what_a_cache_does(small):
    """Token by token, after whole blocks were coded, comes what one pass over all gives."""
    codec = coders.Shipped("hx3072")
    codec.use(len(small.layers), b"")
    ids = small.tokens(TEXT[:1200])[:150]
    attention = small.attention
    attention.coder, attention.protocol = codec, "B"
    at_once = small.logits(ids)[models.SINK + 128 :]
    attention.past, attention.grows = {}, True
    small.logits(ids[: models.SINK + 128])
    single = [small.logits(ids[at : at + 1], first=at)[0] for at in range(models.SINK + 128, 150)]
    attention.past = None
    assert torch.allclose(torch.stack(single), at_once, atol=1e-3)


def test_the_writing_of_a_broken_cache_differs(small):
    ids = small.tokens(TEXT[:900])[:196]
    written = long_context.greedy(small, ids, 40)
    assert long_context.agreement(small, Plain(), ids, written) == 40
    assert long_context.agreement(small, Forgetful(), ids, written) < 40
    wrong = [*written[:7], written[7] ^ 1, *written[8:]]
    assert long_context.agreement(small, Plain(), ids, wrong) == 7


def test_needles_are_lost_with_what_held_them(smollm2):
    ids, places = long_context.hidden(smollm2, TEXT, 0, tokens=700, count=4)
    assert 600 < len(ids) <= 700 and [at for at, _, _ in places] == sorted(at for at, _, _ in places)
    exact = long_context.found(smollm2, None, ids, places)
    assert sum(exact) >= 2
    assert long_context.found(smollm2, Plain(), ids, places) == exact
    assert not any(long_context.found(smollm2, Forgetful(), ids, places))


def test_ratios_are_paired_by_document(capsys):
    """With an interval that holds the truth, and of the longer context in parts."""
    rows = [{"test": "long", "model": "m", "document": d, "coder": coder, "protocol": "B", "ratio": 4.0,
             "kl": scale * share, "kl_early": scale, "kl_late": scale * share**2, "nll": 1.0, "nll_exact": 1.0,
             "top1": 1.0}
            for d, scale in (("a", 1.0), ("b", 5.0)) for coder, share in ((summary.YARDSTICK, 1), ("x", 0.5))]
    figures = {figure["name"]: figure for figure in summary.summary(rows)}
    assert figures["quality_m_long_B_x_over_kivi4"]["value"] == pytest.approx(0.5)
    assert figures["quality_m_long_B_x_over_kivi4"]["interval"] == pytest.approx([0.5, 0.5])
    assert figures["quality_m_long_B_x_late_over_kivi4"]["value"] == pytest.approx(0.25)
    assert "ratio  4.00 (3.66 in 2,048 tokens, 3.98 in 32,768)" in capsys.readouterr().out


def test_what_was_found_counts_only_what_could_be(capsys):
    rows = [{"test": "needles", "model": "m", "document": "d", "coder": "x", "found": [True, False, True, False],
             "found_exact": [True, True, False, False]}]
    (figure,) = summary.summary(rows)
    assert (figure["value"], figure["baseline"]) == (1, 2)
    assert "2 of 4 found (float16: 2); 1 of those 2" in capsys.readouterr().out


def test_documents_are_long_enough():
    texts = list(quality_bench.documents())
    assert len(texts) == 8
    for _, text in quality_bench.long_documents(texts):
        assert len(text) > 4 * quality_bench.LONG_TOKENS
    assert dict(texts)["novel_0"] == TEXT
