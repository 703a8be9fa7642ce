"""Waiting for the loop of a connection to NATS; no server is needed."""

from concurrent.futures import Future

import pytest

from cometlog.forward.nats_connection import NatsConnection


class DoneInBetween(Future[str]):
    """A future that gets its outcome right after the wait for it has timed out."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self._outcome = error

    def result(self, timeout: float | None = None) -> str:
        if self.done():
            return super().result(timeout)
        if self._outcome is None:
            self.set_result("an answer")
        else:
            self.set_exception(self._outcome)
        raise TimeoutError("the wait")


@pytest.mark.parametrize("error", [None, TimeoutError("the work"), OSError("the work")])
def test_what_ends_as_the_wait_for_it_times_out_counts(monkeypatch, error):
    connection = NatsConnection(["127.0.0.1:4222"], {})
    with monkeypatch.context() as patch:
        patch.setattr(connection, "begin", lambda _work: DoneInBetween(error))
        if error is None:
            assert connection.run(None) == "an answer"
        else:
            with pytest.raises(type(error), match="the work"):
                connection.run(None)
    connection.close()
