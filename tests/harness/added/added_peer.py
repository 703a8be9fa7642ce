"""A peer in a file of its own: entries in a list that is written as one file at the end."""

from cometbench.subjects.contract import Chunk, Subject


class ListFile(Subject):
    """Keeps entries in memory until it closes: lost on kill."""

    def open(self):
        self._entries = []

    def append_call(self, batch):
        return self._entries.append if batch == 1 else self._entries.extend

    def close(self):
        (self.directory / "list").write_bytes(b"\n".join(self._entries))

    def read_back(self):
        yield Chunk(None, (self.directory / "list").read_bytes().split(b"\n"))
