"""Sessions that requests name: what is staged for them in a pause, and words that make no sense."""

import contextlib
import logging
import math
import time

import cxlspeckv
import pytest
from cxlspeckv.vllm import core, sessions
from cxlspeckv.vllm.settings import ConfigError, parse
from vllm_support import Client, context, keys_of, page_facts, pool, pushed_down, until_staged

BLOCK = page_facts().chunk_bytes


def hinted(one):
    return one.manager.sessions.stats().hinted


@pytest.mark.parametrize("by", ["its own request", "another's"])
def test_a_session_that_is_spoken_for_is_there_when_it_returns(side, tmp_path, by):
    one, keys = pushed_down(side, tmp_path), keys_of(*range(4))
    client = Client(one)
    if by == "its own request":
        client.request(keys, session="chat 17", eta=0.2)
    else:
        client.request(keys, session="chat 17")
        client.request([], hints=[{"session": "nobody", "eta": 1}, {"session": "chat 17", "eta": 0.2}])
    until_staged(one, keys)
    assert hinted(one).unread == hinted(one).staged == 4 * BLOCK
    again = client.comes(keys, session="chat 17")
    assert hinted(one).useful == hinted(one).staged == 4 * BLOCK
    client.goes(again)
    assert one.load(keys, range(20, 24)) == set()
    assert one.manager.sessions.stats().learned.staged == 0


def test_a_session_that_nobody_speaks_for_stays_where_it_is(side, tmp_path):
    one = pushed_down(side, tmp_path)
    silent, returns = keys_of(0, 1), keys_of(2, 3)
    client = Client(one)
    client.request(silent, session="silent")
    client.request(returns, session="returns", eta=0.2)
    until_staged(one, returns)
    assert set(one.core.lookup(silent).tolist()) == {1}
    client.request(returns, session="returns", ended=True)
    told = one.manager.sessions.stats()
    assert told.sessions == 1 and told.hinted.useful == told.hinted.staged == 2 * BLOCK


def test_what_nobody_comes_for_is_wasted(side, tmp_path):
    one, keys = pushed_down(side, tmp_path, speculation={"hint_life": 3}), keys_of(0, 1)
    Client(one).request(keys, session="s", eta=0.2)
    until_staged(one, keys)
    deadline = time.monotonic() + 10
    while hinted(one).unread:
        assert time.monotonic() < deadline
        time.sleep(0.01)  # sleeps: time passes, and nobody comes
    assert hinted(one).wasted == hinted(one).staged == 2 * BLOCK


def test_what_learns_is_told_of_every_request(side, tmp_path):
    one = pushed_down(side, tmp_path, speculation={"learned": True, "hinted": False})
    client = Client(one)
    client.request(keys_of(0, 1), session="s", eta=0.1, tool_result=True, sub_agent=True)
    client.request(keys_of(0, 1, 2), session="s")
    told = one.manager.sessions.stats()
    assert (told.sessions, told.blocks, told.hinted.staged) == (1, 3, 0)


def test_off_is_off_and_still_recorded(side, tmp_path, monkeypatch):
    monkeypatch.setenv("CXLSPECKV_TRACE", str(tmp_path / "trace"))
    one = pushed_down(side, tmp_path, speculation=False)
    client, keys = Client(one), keys_of(*range(4))
    client.request(keys, session="s", eta=0.1)
    client.request(keys, session="s", ended=True)
    assert one.manager.sessions.stats().sessions == 0
    assert set(one.core.lookup(keys).tolist()) == {1}
    one.close()
    lines = (tmp_path / "trace").read_text(encoding="utf-8").splitlines()
    assert [line.split()[4:6] for line in lines if line.startswith("R ")] == [["300", "20"]] * 2


def test_one_tier_has_nothing_to_stage_and_words_do_no_harm(side):
    one = side()
    Client(one).request(keys_of(1), session="s", eta=1, hints=[{"session": "t", "eta": 1}])
    assert one.manager.sessions.stats().sessions == 0


def test_more_than_is_to_be_remembered_is_told_and_nothing_else(side, tmp_path, caplog):
    one = pushed_down(side, tmp_path, speculation={"blocks": 2})
    client = Client(one)
    with caplog.at_level(logging.WARNING, logger=core.logger.name):
        client.request(keys_of(0, 1, 2), session="s", eta=0.1)
    assert "a session is not remembered" in caplog.text
    client.request(keys_of(0, 1), session="t", eta=0.1)
    until_staged(one, keys_of(0, 1))


@pytest.mark.parametrize(("word", "says"), [
    ("chat", "it is no object"),
    ({5: 1}, "it is no object"),
    ({"session": "s", "etta": 1}, "there is no 'etta'"),
    ({"session": None}, '"session" is a string or a whole number'),
    ({"session": True}, '"session" is a string or a whole number'),
    ({"session": 1.5}, '"session" is a string or a whole number'),
    ({"session": "s", "eta": -1}, '"eta" is a number from 0'),
    ({"session": "s", "eta": math.nan}, '"eta" is a number from 0'),
    ({"session": "s", "eta": math.inf}, '"eta" is a number from 0'),
    ({"session": "s", "eta": "1"}, '"eta" is a number from 0'),
    ({"session": "s", "eta": 1, "confidence": 1.5}, '"confidence" is a number from 0 to 1'),
    ({"session": "s", "ended": 1}, '"ended" is true or false'),
    ({"session": "s", "tool_result": "no"}, '"tool_result" is true or false'),
    ({"eta": 1}, '"eta" needs a "session"'),
    ({"hints": "s"}, '"hints" is a list'),
    ({"hints": [{"session": "s", "eta": 1}] * 1025}, '"hints" is a list of at most 1024'),
    ({"hints": ["s"]}, "it is no object"),
    ({"hints": [{"session": "s"}]}, 'a hint needs "eta"'),
    ({"hints": [{"eta": 1}]}, 'a hint needs "session"'),
    ({"hints": [{"session": "s", "eta": 1, "ended": True}]}, "there is no 'ended'"),
])
def test_words_that_make_no_sense_are_told_and_ignored(side, tmp_path, caplog, word, says):
    with pytest.raises(ValueError) as told:
        sessions.read({"cxlspeckv": word})
    assert says in str(told.value) and "\n" not in str(told.value)
    one = side({"tiers": [{"uri": "dram:1M"}] + pool(tmp_path)["tiers"]})
    asked = context("r", keys_of(1))
    asked.kv_transfer_params = {"cxlspeckv": word}
    with caplog.at_level(logging.WARNING, logger=core.logger.name):
        one.manager.on_new_request(asked)
        one.manager.on_request_finished(asked)
    assert says in caplog.text
    assert one.manager.sessions.stats().sessions == 0


def test_words_of_others_are_not_ours():
    assert sessions.read(None) is None
    assert sessions.read({"do_remote_decode": True}) is None
    assert sessions.read({"cxlspeckv": {"session": 5}}).session == sessions.read(
        {"cxlspeckv": {"session": "5"}}).session
    assert sessions.read({"cxlspeckv": {"session": "\ud800"}}).session  # as JSON may have it


TIERS = {"tiers": [{"uri": "dram:16M"}, {"uri": "file:/pool?size=1M"}]}


@pytest.mark.parametrize(("given", "says"), [
    (True, '"speculation" is false or an object'),
    ([], '"speculation" is false or an object'),
    ({"learnt": True}, '"speculation" has no "learnt"; there are: blocks, '),
    ({"learned": 1}, '"learned" is true or false, not 1'),
    ({"chunk_bytes": "lots"}, '"chunk_bytes"'),
    ({"hint_life": 0}, '"hint_life" is a number of seconds above 0'),
    ({"sessions": 0}, '"sessions" is a whole number above 0'),
    ({"blocks": "5"}, '"blocks" is a whole number above 0'),
    ({"bytes_per_second": [1e9]}, '"bytes_per_second" is a list of 2 numbers'),
    ({"bytes_per_second": "28G"}, '"bytes_per_second" is a list of 2 numbers'),
    ({"bytes_per_second": [1e9, 0]}, "numbers above 0, not of 0"),
])
def test_settings_that_are_wrong(given, says):
    with pytest.raises(ConfigError) as told:
        parse(TIERS | {"speculation": given})
    assert says in str(told.value) and "\n" not in str(told.value)


def test_settings_that_a_prefetcher_refuses(tmp_path):
    config = {"tiers": [{"uri": "dram:1M"}] + pool(tmp_path)["tiers"]}
    with pytest.raises(ConfigError, match="there is only one"):
        parse({"tiers": TIERS["tiers"][:1], "speculation": {"learned": True}})
    made = core.share("mistaken", parse(config | {"speculation": {"sessions": 1 << 20}}),
                      page_facts())
    with pytest.raises(ConfigError, match='"speculation": sessions must be 1 to 2'):
        sessions.Sessions(made)
    core.release(made)
    with contextlib.suppress(cxlspeckv.Error):
        cxlspeckv.remove_store(str(tmp_path / "pool"))
