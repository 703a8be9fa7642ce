# cython: binding=False
"""The position of a consumer group in one shard: one shared word, raised by acknowledgements in order.

Thread safety: the GIL serialises the threads of a process; processes meet in the CAS on the position word. Every entry below the
position is acknowledged and nothing else is published with it, so acquire and release are enough, and a holder may die anywhere: the
word is the old position or the new one.

Invariants: an acknowledgement raises the word by CAS from the value this handle knows, so it never undoes a reset: a word that
somebody lowered is left alone and ``moved_back`` says so. A checkpoint that was written to its end is none from before a reset.
"""

cimport cython
from libc.stdint cimport uint64_t

from cometlog.errors import ClosedError

from cometlog.kernel.atomics cimport compare_and_swap_acq_rel, fence_seq_cst, load_acquire, store_release
from cometlog.kernel.layout cimport (
    GROUP_CHECKPOINT, GROUP_COUNT, GROUP_POSITION, GROUP_SIZE_BYTES, OFFSETS_GROUPS, OFFSETS_SIZE_BYTES,
    POSITION_CHECK_BITS,
)
from cometlog.kernel.mapping cimport Mapping

cdef extern from "position_word.h" nogil:
    void position_word_initialise()
    uint64_t position_word(uint64_t number)
    bint position_word_holds(uint64_t word)

position_word_initialise()


def encode_position(uint64_t number):
    """Return the position word of an entry number; ValueError for more than 56 bits."""
    if number >> (64 - POSITION_CHECK_BITS):
        raise ValueError(f"a group's position has at most {64 - POSITION_CHECK_BITS} bits, got {number}")
    return position_word(number)


def decode_position(uint64_t word):
    """Return the entry number in a position word, or None for a word that is free or damaged."""
    return word >> POSITION_CHECK_BITS if position_word_holds(word) else None


@cython.final
cdef class GroupPosition:
    """Line ``index`` of a mapped offsets file, which has been made. Call ``follow`` before the first acknowledgement.

    ``settle(start, stop)`` is called for an acknowledgement that is not the next in order or not known to exist; it decides and
    calls ``advance``, or raises.
    """

    def __init__(self, Mapping offsets not None, size_t index, *, object settle):
        cdef size_t line = OFFSETS_GROUPS + index * GROUP_SIZE_BYTES
        if index >= <size_t>GROUP_COUNT:
            raise IndexError(f"group line {index} of {GROUP_COUNT}")
        offsets.check_writable()
        offsets.check_range(0, OFFSETS_SIZE_BYTES)
        self.mapping = offsets
        self.word = offsets.word_at(line + GROUP_POSITION)
        self.checkpoint_word = offsets.word_at(line + GROUP_CHECKPOINT)
        self.settle = settle

    def follow(self):
        """Take up the shared position as it is now and return it; where it is damaged, that of the last checkpoint.

        Raises ValueError where both are damaged.
        """
        cdef uint64_t word
        cdef uint64_t known
        self.check_open()
        known = word = load_acquire(self.word)
        if not position_word_holds(known):
            known = load_acquire(self.checkpoint_word)
            if not position_word_holds(known):
                raise ValueError(f"position word {word:#018x} and its checkpoint {known:#018x} are both damaged")
        self.seen = word
        self.floor = self.following = self.plain_stop = known >> POSITION_CHECK_BITS
        self.moved_back = False
        return self.following

    cdef int check_open(self) except -1:
        if self.mapping.base == NULL:
            raise ClosedError("the consumer of this position is closed")
        return 0

    def settle_from(self, uint64_t stop):
        """Say that acknowledgements in order are plain below ``stop``: those entries were delivered and none is settled already."""
        self.plain_stop = stop

    def ack(self, uint64_t number):
        """Acknowledge one entry. Raises ClosedError where the consumer was closed."""
        if number == self.following and number < self.plain_stop:
            self.raise_to(number + 1)
        elif number >= self.following:
            self.settle(number, number + 1)

    def ack_range(self, uint64_t start, uint64_t stop):
        """Acknowledge the entries ``start`` to ``stop - 1``."""
        if start <= self.following < stop <= self.plain_stop:
            self.raise_to(stop)
        elif stop > self.following and stop > start:
            self.settle(start, stop)

    def advance(self, uint64_t number):
        """Raise the position to ``number``: everything below it is acknowledged."""
        if number > self.following:
            self.raise_to(number)

    cdef int raise_to(self, uint64_t number) except -1:
        cdef uint64_t raised = position_word(number)
        cdef uint64_t word
        self.check_open()
        self.following = number
        if number <= self.floor:
            return 0
        while not compare_and_swap_acq_rel(self.word, self.seen, raised):
            word = load_acquire(self.word)
            self.seen = word
            if not position_word_holds(word):
                continue
            if word >> POSITION_CHECK_BITS < self.floor:
                # A reset by somebody else: what was acknowledged here counted for the old position.
                self.moved_back = True
                return 0
            self.floor = word >> POSITION_CHECK_BITS
            if self.floor >= number:
                return 0
        self.seen = raised
        self.floor = number
        return 0

    def write_checkpoint(self):
        """Copy the position to the checkpoint word and return it; the caller syncs the file."""
        cdef uint64_t word
        cdef uint64_t again
        self.check_open()
        again = word = load_acquire(self.word)
        while position_word_holds(again):
            word = again
            store_release(self.checkpoint_word, word)
            # A reset stores the position, fences, and stores the checkpoint once more: this look sees it, or that store comes second.
            fence_seq_cst()
            again = load_acquire(self.word)
            if again >= word:
                break
        return word >> POSITION_CHECK_BITS
