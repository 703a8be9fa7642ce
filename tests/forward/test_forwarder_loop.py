"""The loop of a forwarder, before a target that does what the test says."""

import threading

import pytest

import cometlog
from cometlog.cli import main
from cometlog.errors import ForwardPositionError, TargetError
from cometlog.forward import Forwarder
from cometlog.forward.target import KeepWaiting, Position
from fake_target import FakeTarget
from kafka_side import stream

TO = "kafka://127.0.0.1:1/{namespace}"
BAD, GOOD = "bad:v1:shard:0000", "good:v1:shard:0000"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are looked for before each chunk."""
    monkeypatch.setattr("cometlog.forward.feed.DISCOVERY_S", 0.0)


class Steps:
    """Called when a chunk is about to be confirmed: the first time the first function, and so on."""

    def __init__(self, *steps) -> None:
        self._steps = list(steps)

    def __call__(self, _keep_waiting) -> None:
        if self._steps:
            self._steps.pop(0)()


def fail() -> None:
    raise TargetError("a cut")


@pytest.mark.parametrize("appears_later", [False, True])
def test_a_log_that_is_older_than_what_the_target_has_ends_the_forwarder(
    root, target: FakeTarget, appears_later
) -> None:
    """Waiting would not help: once the log had grown past the position, what was appended meanwhile would count as forwarded."""
    target.keep(GOOD, Position(1, 3))
    with cometlog.open(root) as client:
        client.append(BAD, [b"0"])
        if appears_later:
            target.at_finish = Steps(lambda: client.append(GOOD, [b"0", b"1"]))
        else:
            client.append(GOOD, [b"0", b"1"])
        said = f"the target has {GOOD} up to entry 2, but the log ends before 2: it is an older copy"
        with (
            Forwarder(client, to=TO, mode="exactly-once") as forwarder,
            pytest.raises(ForwardPositionError, match=said),
        ):
            forwarder.run()
        assert GOOD not in target.arrived


def test_a_stream_that_cannot_be_taken_up_keeps_out_no_other_and_stops_none_after_a_failure(
    root, target: FakeTarget
) -> None:
    target.cannot_take = {"bad"}
    with cometlog.open(root) as client:
        client.append(stream(0), [b"0"])

        def appear() -> None:
            client.append(BAD, [b"bad"])
            client.append(GOOD, [b"good"])
            client.append(stream(0), [b"1"])

        target.at_finish = Steps(appear, fail, lambda: client.append(GOOD, [b"better"]))
        with Forwarder(client, to=TO) as forwarder:
            with pytest.raises(
                TargetError,
                match=r"1 of 3 streams were left out, the first bad:v1:shard:0000: there is no bad",
            ):
                forwarder.run(until_caught_up=True)
            done = forwarder.stats()
        assert target.arrived == {stream(0): [b"0", b"1"], GOOD: [b"good", b"better"]}
        assert (done.forwarded, done.failures, done.lag) == (4, 1, 0)
        assert (done.streams, done.left_out) == ([stream(0), GOOD], [BAD])
        target.cannot_take = set()
        with Forwarder(client, to=TO) as forwarder:
            forwarder.run(until_caught_up=True)
            assert forwarder.stats().left_out == []
        assert target.arrived[BAD] == [b"bad"]


def test_a_stream_that_was_left_out_is_taken_up_once_the_target_takes_it(
    root, target: FakeTarget, caplog
) -> None:
    target.cannot_take = {"bad"}
    with cometlog.open(root) as client:
        client.append(stream(0), [b"0"])

        def more() -> None:
            client.append(stream(0), [b"more"])

        def mend() -> None:
            target.cannot_take = set()
            more()

        target.at_finish = Steps(lambda: client.append(BAD, [b"bad"]) and more(), more, mend)
        with Forwarder(client, to=TO) as forwarder:
            forwarder.run(until_caught_up=True)
            assert forwarder.stats().left_out == []
    assert target.arrived == {stream(0): [b"0", b"more", b"more", b"more"], BAD: [b"bad"]}
    assert [record.getMessage() for record in caplog.records] == [
        "there is no bad; bad:v1:shard:0000 is left out for now"
    ]


def test_the_command_ends_with_2_where_a_stream_was_left_out(root, target: FakeTarget, capsys) -> None:
    target.cannot_take = {"bad"}
    with cometlog.open(root) as client:
        client.append(stream(0), [b"0"])
        target.at_finish = Steps(lambda: client.append(BAD, [b"bad"]))
        words = ["forward", str(root), "--to", TO, "--until-caught-up", "--json"]
        assert main(words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.splitlines()[-1] == (
            "cometlog forward: 1 of 2 streams were left out, the first bad:v1:shard:0000: there is no bad"
        )


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("when", ["before it is acknowledged", "at a cut", "between runs"])
def test_exactly_once_the_target_says_where_to_go_on_when_the_group_is_reset(
    root, target: FakeTarget, when: str, number: int
) -> None:
    with cometlog.open(root) as client:
        client.append(stream(0), [b"0", b"1", b"2"])
        client.append(GOOD, [b"good"])

        def reset() -> None:
            with client.consumer("forward") as group:
                group.reset(stream(0), number)

        def append() -> None:
            client.append(stream(0), [b"3"])

        def reset_and_fail() -> None:
            reset()
            fail()

        with Forwarder(client, to=TO, mode="exactly-once") as forwarder:
            if when == "before it is acknowledged":
                target.at_finish = Steps(append, reset)
            elif when == "at a cut":
                target.at_finish = Steps(append, reset_and_fail)
            forwarder.run(until_caught_up=True)
            if when == "between runs":
                append()
                reset()
                forwarder.run(until_caught_up=True)
            assert forwarder.stats().forwarded == 5
        with client.consumer("forward") as group:
            assert [group.lag(name) for name in (stream(0), GOOD)] == [0, 0]
    assert target.arrived == {stream(0): [b"0", b"1", b"2", b"3"], GOOD: [b"good"]}


def test_at_least_once_a_group_that_is_reset_sends_again(root, target: FakeTarget) -> None:
    with cometlog.open(root) as client:
        client.append(stream(0), [b"0", b"1"])

        def reset() -> None:
            with client.consumer("forward") as group:
                group.reset(stream(0), 1)

        target.at_finish = Steps(lambda: client.append(stream(0), [b"2"]), reset)
        with Forwarder(client, to=TO) as forwarder:
            forwarder.run(until_caught_up=True)
    assert target.arrived == {stream(0): [b"0", b"1", b"2", b"1", b"2"]}


def test_stats_take_no_lock_so_a_signal_handler_may_ask(root, target: FakeTarget) -> None:
    with cometlog.open(root) as client, Forwarder(client, to=TO) as forwarder:
        client.append(stream(0), [b"0"])
        forwarder.run(until_caught_up=True)
        asked = threading.Thread(target=forwarder.stats, daemon=True)
        with client._reader(stream(0))._lock:  # as where a signal comes while the loop reads
            asked.start()
            asked.join(10)
            assert not asked.is_alive()


def test_the_lag_is_told_while_the_target_waits_backs_off_and_after_close(
    root, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cometlog.forward.forwarder.LAG_S", 0.0)
    told: list[int] = []
    with cometlog.open(root) as client:
        client.append(stream(0), [b"0"])
        with Forwarder(client, to=TO) as forwarder:

            def wait(keep_waiting: KeepWaiting) -> None:
                if client.next_entry(stream(0)) < 4:
                    client.append(stream(0), [b"1"])
                    assert keep_waiting()
                    told.append(forwarder.stats().lag)
                    fail()

            target.at_finish = wait
            monkeypatch.setattr(forwarder._sleeper, "pause", lambda _s: told.append(forwarder.stats().lag))
            assert forwarder.stats().lag == 0
            forwarder.run(until_caught_up=True)
            assert forwarder.stats().lag == 0
        assert told == [2, 2, 3, 3, 4, 4]
        assert (forwarder.stats().lag, forwarder.stats().streams) == (0, [stream(0)])
