"""A workload in a file of its own."""


def numbered(index, source):
    """Make entry `index`."""
    return b"%d of %d" % (index, source.getrandbits(32))
