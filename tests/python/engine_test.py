"""Engines and the controller of block allocators (cxlspeckv.engine), on the engine in software."""

import random

import pytest

import cxlspeckv as kv

SIZE = 64


@pytest.fixture
def engine():
    return kv.Engine("soft:")


@pytest.fixture
def controller(engine):
    return kv.BlockController(engine)


def test_an_engine_says_what_it_is(engine):
    assert engine.name == "soft:1M" and engine.simulated and engine.block_tokens == SIZE


@pytest.mark.parametrize("name", ["", "dram:1M", "fd:x", "pid:-1", "soft:0", "soft:1M?throttle=cxl"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(kv.InvalidArgument):
        kv.Engine(name)


def test_no_card_is_no_engine(tmp_path):
    with pytest.raises(kv.NotFound):
        kv.Engine("/dev/speckv63")
    with open(tmp_path / "file", "wb") as file, pytest.raises(kv.Unsupported):
        kv.Engine(f"fd:{file.fileno()}")
    with pytest.raises(kv.Error):
        kv.Engine("fd:999")


def test_blocks_are_held_hinted_and_counted(engine):
    for position in range(0, 5 * SIZE, SIZE):
        engine.hold(7, SIZE, position=position)
    assert engine.telemetry()["blocks"] == 5
    assert engine.hint(kv.Hint.HOT, 7, 2 * SIZE, position=SIZE // 2) == 3
    engine.use(7, SIZE)
    engine.use(8, SIZE)
    told = engine.telemetry()
    assert told["hits"] >= 1 and told["misses"] >= 1 and told["inserted"] == 5
    assert engine.hint(kv.Hint.FORGET, 7, SIZE) == 1
    with pytest.raises(kv.NotFound):
        engine.hint(kv.Hint.FORGET, 7, SIZE)
    assert engine.telemetry()["blocks"] == 4


def test_arguments_are_checked(engine):
    for arguments in ({"tokens": 0}, {"tokens": 65536}, {"tokens": 2, "position": 2**32 - 1}):
        with pytest.raises(kv.InvalidArgument):
            engine.hint(kv.Hint.HOT, 1, **arguments)
    with pytest.raises(kv.InvalidArgument):
        engine.hint(kv.Hint.HOT, 1, 1, due=5)
    with pytest.raises(kv.InvalidArgument):
        engine.hint(7, 1, 1)
    with pytest.raises(kv.InvalidArgument):
        engine.hold(1, SIZE, position=1)
    with pytest.raises(kv.InvalidArgument):
        engine.hold(1, SIZE + 1)
    with pytest.raises(TypeError):
        engine.hold(-1, SIZE)


def test_weights_are_set_whole_or_not_at_all(engine):
    assert engine.telemetry()["weights"] == kv.Weights()
    engine.set_weights(kv.Weights(recency=1, evict=10, prefetch=50, hysteresis=20))
    kept = engine.telemetry()["weights"]
    assert kept.recency == 1 and kept.frequency == 64
    for bad in (kv.Weights(evict=0), kv.Weights(evict=90, prefetch=91), kv.Weights(0, 0, 0, 0)):
        with pytest.raises(kv.InvalidArgument):
            engine.set_weights(bad)
    assert engine.telemetry()["weights"] == kept


def test_a_paused_request_is_given_up_and_a_running_one_is_not(controller):
    controller.grow("runs", 3 * SIZE)
    controller.grow("waits", 2 * SIZE + 1)
    controller.pause("waits")
    controller.run(["runs"])
    plan = controller.advance()
    assert set(plan.evict) == {kv.Block("waits", n) for n in range(3)}
    assert controller.advance().evict == [], "each is told once"
    assert all(controller.evicted(block) for block in plan.evict)
    assert controller.blocks("waits") == []
    controller.fetched(kv.Block("waits", 1))
    assert controller.blocks("waits") == [kv.Block("waits", 1)]


@pytest.mark.parametrize(("weights", "due", "lead"), [(kv.Weights(), 100, range(1, 8)),
                                                      (kv.Weights(proximity=192), 600, range(40, 90))])
def test_what_is_wanted_at_a_step_is_fetched_before_it(controller, engine, weights, due, lead):
    engine.set_weights(weights)
    controller.grow("waits", 2 * SIZE)
    controller.pause("waits", resume_step=due)
    seen = {}
    while controller.step < due:
        for block in controller.advance().prefetch:
            seen[block] = due - controller.step  # perhaps already while it is fresh; then again
    assert set(seen) == {kv.Block("waits", 0), kv.Block("waits", 1)}
    assert set(seen.values()) <= set(lead), seen


def test_what_a_child_inherited_outlives_its_parent(controller, engine):
    controller.grow("parent", 4 * SIZE)
    controller.fork("parent", "child", 2 * SIZE)
    controller.grow("child", SIZE)
    controller.pause("parent")
    plan = controller.advance()
    assert set(plan.evict) == {kv.Block("parent", 2), kv.Block("parent", 3)}
    assert not controller.evicted(kv.Block("parent", 0))
    controller.release("parent")
    assert engine.telemetry()["blocks"] >= 3
    controller.run(["child"])
    controller.release("child")
    assert engine.telemetry()["blocks"] == 0 and engine.telemetry()["shared"] == 0


def test_a_grandchild_keeps_what_its_ancestors_had(controller, engine):
    controller.grow("a", SIZE)
    controller.fork("a", "b", SIZE)
    controller.grow("b", SIZE)
    controller.fork("b", "c", SIZE)
    controller.grow("c", 1)
    controller.release("b")
    controller.release("a")
    assert not controller.advance().evict and engine.telemetry()["blocks"] == 3
    controller.run(["c"])
    controller.release("c")
    assert engine.telemetry()["blocks"] == 0


def test_mistakes_are_told(controller):
    controller.grow("a", 2 * SIZE)
    with pytest.raises(kv.InvalidArgument):
        controller.grow("a", SIZE)
    with pytest.raises(kv.InvalidArgument):
        controller.grow("b", 0)
    with pytest.raises(kv.InvalidArgument):
        controller.fork("a", "b", SIZE + 1)
    with pytest.raises(kv.InvalidArgument):
        controller.fork("a", "b", 3 * SIZE)
    with pytest.raises(kv.InvalidArgument):
        controller.fork("a", "a", SIZE)
    with pytest.raises(kv.InvalidArgument):
        controller.fetched(kv.Block("a", 2))
    assert controller.evicted(kv.Block("a", 1))
    with pytest.raises(kv.NotFound):
        controller.fork("a", "b", 2 * SIZE)
    for call in (controller.pause, controller.release, controller.blocks):
        with pytest.raises(kv.NotFound):
            call("nobody")


def test_a_long_request_takes_several_hints(controller, engine):
    controller.grow("long", 70000)
    controller.run(["long"])
    controller.pause("long")
    told = 0
    while plan := controller.advance().evict:
        told += sum(controller.evicted(block) for block in plan)
    assert told == -(-70000 // SIZE)
    assert engine.telemetry()["blocks"] == 0


def test_an_allocator_lives_on_its_advice():
    """Requests come, decode, pause, fork and end at random in a pool that is too small: whatever
    is advised may be given up, and never belongs to what runs or is shared."""
    dice = random.Random(5)
    engine = kv.Engine("soft:")
    controller = kv.BlockController(engine)
    lengths, running, parents = {}, set(), {}
    evicted = 0
    for number in range(1500):
        choice = dice.random()
        if choice < 0.3 or not lengths:
            lengths[number] = dice.randrange(1, 6 * SIZE)
            controller.grow(number, lengths[number])
            running.add(number)
        elif choice < 0.5:
            request = dice.choice(sorted(lengths))
            running.discard(request)
            controller.pause(request)
        elif choice < 0.6:
            request = dice.choice(sorted(lengths))
            if lengths[request] >= SIZE and not controller._find(request).gone:
                controller.fork(request, number, SIZE)
                lengths[number], parents[number] = 1, request
                controller.grow(number, 1)
                running.add(number)
        elif choice < 0.8:
            request = dice.choice(sorted(lengths))
            controller.release(request)
            running.discard(request)
            del lengths[request]
            parents.pop(request, None)
        for request in running:
            lengths[request] += dice.randrange(3)
            controller.grow(request, lengths[request])
        controller.run(sorted(running))
        for block in controller.advance().evict:
            shared = block.number == 0 and block.request in parents.values()
            assert block.request in lengths and block.request not in running and not shared
            assert controller.evicted(block)
            evicted += 1
    assert evicted > 50
    for request in list(lengths):
        controller.release(request)
    told = engine.telemetry()
    assert (told["blocks"], told["shared"]) == (0, 0), told
