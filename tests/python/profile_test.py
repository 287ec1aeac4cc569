"""Profiles of models: made, told, refused, and what `python -m cxlspeckv profile` computes."""

import numpy as np
import pytest

import cxlspeckv as kv
from cxlspeckv import _core, calibrate, codecs

LAYERS, HEADS, DIM = 2, 1, 64
LAYOUT = kv.BlockLayout(layers=LAYERS, kv_heads=HEADS, head_dim=DIM, tokens=64, dtype="f16")


def profile(means=0.0, slot=4096, losses=True):
    count = LAYERS * 2 * HEADS
    sizes = np.array([2048, 4096, 7168], "<u2")
    # Of the first layer's K eight times as much as of anything else.
    logs = -256 * (sizes / 512 - 6) + 768 * (np.arange(count) == 0)[:, None]
    parts = (np.zeros(32, "<u4"), np.array([4096], "<u2"), np.full(count, slot, "<u2"),
             np.zeros(count * DIM, np.int8), np.full(count * DIM, means, "<f2"),
             np.zeros(count * 4, np.int8), np.zeros(count * (4 + 2 * DIM), "<i2"),
             *((sizes, logs.astype("<i2")) if losses else ()))
    return _core.write_profile(LAYERS, HEADS, DIM, 10000, "a model", b"a tokenizer",
                               [part.tobytes() for part in parts])


def test_a_profile_tells_its_model():
    shape = codecs.profile_shape(profile())
    assert shape == {"layers": LAYERS, "kv_heads": HEADS, "head_dim": DIM, "pairs": 32, "targets": 1,
                     "rope_base": 10000, "sizes": 3,
                     "model": codecs.profile_model("a model", b"a tokenizer")}


def test_what_is_damaged_or_of_another_model_is_refused():
    good = profile()
    values = np.ones(codecs.layer_shape(LAYOUT), np.float16)
    for bad in (good[:-1], good[:-1] + b"x", b"x"):
        with pytest.raises(kv.Corrupted):
            codecs.profile_shape(bad)
        with pytest.raises(kv.Corrupted):
            codecs.encode("hxp4096", LAYOUT, values, first_position=0, profile=bad)
        with pytest.raises(kv.Corrupted):
            kv.BlockStore([LAYOUT], ["dram:1M"], profile=bad)
    other = kv.BlockLayout(layers=LAYERS + 1, kv_heads=HEADS, head_dim=DIM, tokens=64, dtype="f16")
    with pytest.raises(kv.InvalidArgument):
        kv.BlockStore([other], ["dram:1M"], profile=good)
    with pytest.raises(kv.InvalidArgument):
        profile(slot=4095)


def test_means_of_the_profile_save_what_they_take():
    """Values around 8: with their mean in the profile, the step can be finer."""
    values = (8 + np.random.default_rng(1).normal(size=codecs.layer_shape(LAYOUT))).astype("f2")
    lost = {}
    for mean in (0.0, 8.0):
        known = {"first_position": 64, "profile": profile(means=mean)}
        coded = codecs.encode("hxp4096", LAYOUT, values, **known)
        back = codecs.decode("hxp4096", LAYOUT, coded, **known)
        lost[mean] = float(((back.astype(float) - values) ** 2).sum())
        assert len(coded) == values.nbytes // 4
    assert lost[8.0] < lost[0.0]
    with pytest.raises(kv.Corrupted):
        codecs.decode("hxp4096", LAYOUT, coded, first_position=65, profile=known["profile"])


def test_a_plan_spends_where_it_helps_most():
    file = profile()
    values = LAYERS * 2 * HEADS * DIM
    plan = codecs.profile_plan(file, f"hxp?bytes_per_token={values // 2}")
    uniform = codecs.profile_plan(file, "hxp?slot=4096")
    assert plan.bytes_per_token == uniform.bytes_per_token == values / 2
    assert (uniform.slots == 4096).all() and uniform.slots.shape == (LAYERS, 2, HEADS)
    assert plan.slots[0, 0, 0] == 4096 + 1152 and set(plan.slots.ravel()[1:]) == {3712}
    assert plan.loss < uniform.loss
    assert uniform.loss == pytest.approx(2**-2 * (3 + 8), rel=1e-4)
    cheap = codecs.profile_plan(file, f"hxp?loss={plan.loss + 1e-6:.6f}")
    assert (cheap.slots == plan.slots).all()
    assert codecs.profile_plan(file, "hxp4096").slots.tolist() == uniform.slots.tolist()
    with pytest.raises(kv.NotFound):
        codecs.profile_plan(file, "hx4096")
    with pytest.raises(kv.InvalidArgument):
        codecs.profile_plan(file, "hxp?bytes_per_token=1")
    with pytest.raises(kv.Unsupported):
        codecs.profile_plan(profile(losses=False), "hxp4096")


def test_a_target_is_a_codec():
    values = np.random.default_rng(1).normal(size=codecs.layer_shape(LAYOUT)).astype("f2")
    known = {"first_position": 64, "profile": profile()}
    lost = []
    for loss in (8, 1):
        coded = codecs.encode(f"hxp?loss={loss}", LAYOUT, values, **known)
        back = codecs.decode("hxp4096", LAYOUT, coded, **known)
        lost.append(float(((back.astype(float) - values) ** 2).sum()))
    assert lost[1] < lost[0]
    with pytest.raises(kv.InvalidArgument, match="losses"):
        codecs.encode("hxp?loss=1", LAYOUT, values, first_position=64,
                      profile=profile(losses=False))
    with kv.BlockStore([LAYOUT], [{"uri": "dram:1M", "codec": "hxp?loss=8"}],
                       profile=profile()) as store:
        store.set_codec(0, "hxp?loss=1")
        with pytest.raises(kv.InvalidArgument, match="at least"):
            store.set_codec(0, "hxp?loss=0.000001")


def test_losses_are_shares_of_the_yardsticks():
    tables = np.array([[[4.0, 1.0]], [[1.0, 0.5]]])  # two ways, one head, two slots
    logs = calibrate.logs_over(tables, np.array([2.0, 1.0]))
    assert np.allclose(np.exp2(logs / 256), [[1.5, 0.5]], rtol=0.002)
    assert calibrate.logs_over(tables * 0, np.array([2.0, 1.0])).max() < -25000


def test_kivi_is_off_by_half_a_step_at_most():
    values = np.random.default_rng(6).normal(size=(2, 64, 64)).astype(np.float16)
    for axis in (1, 2):
        squares = np.moveaxis(calibrate.kivi4(values, axis), axis, -1).reshape(2, 64, 2, 32)
        cut = np.moveaxis(values.astype(float), axis, -1).reshape(2, 64, 2, 32)
        step = (cut.max(-1) - cut.min(-1)) / 15
        assert (squares.max(-1) <= (0.51 * step) ** 2).all()
        assert squares.mean() == pytest.approx((step**2).mean() / 12, rel=0.15)


def test_keys_are_turned_back():
    turns = 10000.0 ** (-np.arange(32) / 32) / (2 * np.pi)
    before = np.random.default_rng(3).normal(size=64)
    position = np.arange(10) + calibrate.SINK
    angle = 2 * np.pi * np.outer(position, turns)
    a, b = before[:32], before[32:]
    after = np.concatenate([a * np.cos(angle) - b * np.sin(angle),
                            b * np.cos(angle) + a * np.sin(angle)], axis=1)
    assert np.allclose(calibrate.unrotated(after, turns), before)


def test_gains_find_the_tokens_that_matter():
    """What depends on one channel of V is predicted from it, and survives 16 bits."""
    random = np.random.default_rng(4)
    k, v = random.normal(size=(2, 640, DIM))
    weights = calibrate.predictor([(k, v)], [np.exp(2 * v[:, 5])])
    rows = calibrate.away(calibrate.features(k, v))
    assert np.corrcoef(rows @ weights, v[:, 5])[0, 1] > 0.98
    exponents, numbers = calibrate.gain_weights(weights)
    logs = [calibrate.log_energy(x) for x in (v, k)]
    parts = (np.stack(logs, 1), np.stack([logs[0] ** 2, 0 * logs[0]], 1), k, v)
    at, total = 0, 0
    for exponent, part in zip(exponents, parts, strict=True):
        total = total + part @ numbers[at : at + part.shape[1]] * 2.0**exponent
        at += part.shape[1]
    wanted = rows @ weights * calibrate.STRENGTH / 2 / np.log(2) * 2**14
    assert np.abs(calibrate.away(total) - wanted).max() < 0.02 * np.abs(wanted).max()


def test_without_pytorch_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (tmp_path / "text").write_text("words", encoding="utf-8")
    words = ["model", str(tmp_path / "text"), "-o", str(tmp_path / "out")]
    assert calibrate.main(words) == 1
    told = capsys.readouterr().err
    assert "pip install torch" in told and told.count("\n") == 1
