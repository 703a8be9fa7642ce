"""The helper thread and the shards in its care.

Thread safety: the thread holds no GIL. ``mutex`` guards the list and every Watch; the thread holds it for one look at each shard,
at most one step of growth per shard, so a caller waits for one step. ``open_word`` is shared with the appender: the helper only
turns OPEN into HELPER_ASLEEP, by CAS, and the appender's owner turns it back.
"""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport strlen

import os

from cometlog.kernel.atomics cimport (
    compare_and_swap_acq_rel, compare_and_swap_seq_cst, load_acquire,
)
from cometlog.kernel.index_writer cimport IndexWriter
from cometlog.kernel.fork_guard cimport GUARD_HELPER_ASLEEP, GUARD_OPEN, ForkGuard, this_process
from cometlog.kernel.layout cimport (
    SEGMENT_BACKED, SEGMENT_HEADER_BYTES, SEGMENT_TAIL, UNIT_BYTES, tail_units,
)
from cometlog.kernel.mapping cimport Mapping, adopt_mapping, surrender_mapping
from cometlog.kernel.wall_clock cimport counter_is_steady, process_clock, take_clock_sample
from cometlog.kernel.watch cimport (
    Watch, drop_prepared, grow_step, page_start, pass_over_backed, tend_checkpoint, tend_growth, tend_next, tend_retired,
)

cdef extern from "<pthread.h>" nogil:
    """
    #include <pthread.h>
    #include <stdint.h>
    #include <time.h>

    static inline void initialise_condition(pthread_cond_t *condition)
    {
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(condition, &attributes);
        pthread_condattr_destroy(&attributes);
    }

    /* Recursive, because the garbage collector may close one shard's watch in a thread that is busy with another's. */
    static inline void initialise_mutex(pthread_mutex_t *mutex)
    {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init(mutex, &attributes);
        pthread_mutexattr_destroy(&attributes);
    }

    static inline void wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns)
    {
        struct timespec deadline = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
        pthread_cond_timedwait(condition, mutex, &deadline);
    }
    """
    void initialise_mutex(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_signal(pthread_cond_t *condition)
    void initialise_condition(pthread_cond_t *condition)
    void wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns)

cdef extern from "<sys/mman.h>" nogil:
    int munmap(void *address, size_t length)

cdef extern from "clock.h" nogil:
    uint64_t monotonic_clock_ns()

cdef enum:
    ROUND_NS = 250_000                  # between two looks while somebody appends
    IDLE_ROUNDS_MAX = 400               # after 100 ms without an append the thread sleeps until one comes
    SLEEP_NS_MAX = 3_600_000_000_000


cdef class Helper:
    """One thread for all shards that a client writes; ``run`` is its body."""

    def __cinit__(self):
        initialise_mutex(&self.mutex)
        initialise_condition(&self.woken)
        self.process = this_process()

    def run(self):
        """Look after the shards until ``stop``. Releases the GIL for the whole of its life."""
        cdef int idle_rounds = 0
        with nogil:
            pthread_mutex_lock(&self.mutex)
            while not self.stopping:
                if self.tend_all():
                    idle_rounds = 0
                else:
                    idle_rounds += 1
                    self.doze(idle_rounds)
                    if idle_rounds > IDLE_ROUNDS_MAX:
                        idle_rounds = 0
                # Between two looks the mutex is free for whoever rotates, grows or closes.
                pthread_mutex_unlock(&self.mutex)
                pthread_mutex_lock(&self.mutex)
            pthread_mutex_unlock(&self.mutex)

    def stop(self):
        """Make ``run`` return soon."""
        with nogil:
            pthread_mutex_lock(&self.mutex)
            self.stopping = True
            pthread_cond_signal(&self.woken)
            pthread_mutex_unlock(&self.mutex)

    cdef void wake(self) noexcept nogil:
        pthread_mutex_lock(&self.mutex)
        pthread_cond_signal(&self.woken)
        pthread_mutex_unlock(&self.mutex)

    cdef bint tend_all(self) noexcept nogil:
        cdef Watch *watch = self.first
        cdef uint64_t now_ns = monotonic_clock_ns()
        cdef bint more = False
        if counter_is_steady:
            take_clock_sample(process_clock)
        while watch != NULL:
            more = tend_retired(watch) or more
            if watch.map != NULL:
                more = tend_growth(watch) or more
                more = tend_next(watch) or more
                tend_checkpoint(watch, now_ns)
            watch = watch.following
        return more

    cdef void doze(self, int idle_rounds) noexcept nogil:
        """Wait for the next round, or, when nobody has appended for long, for an append or a checkpoint that is due."""
        cdef uint64_t now_ns = monotonic_clock_ns()
        cdef uint64_t deadline_ns = now_ns + SLEEP_NS_MAX
        cdef Watch *watch = self.first
        if idle_rounds <= IDLE_ROUNDS_MAX:
            wait_until(&self.woken, &self.mutex, now_ns + ROUND_NS)
            return
        while watch != NULL:
            if watch.open_word != NULL:
                compare_and_swap_seq_cst(watch.open_word, GUARD_OPEN, GUARD_HELPER_ASLEEP)
            elif watch.index != NULL:
                deadline_ns = min(deadline_ns, now_ns + watch.checkpoint_interval_ns)
            if watch.index != NULL:
                (<IndexWriter>watch.index).checkpoint()
            watch = watch.following
        wait_until(&self.woken, &self.mutex, deadline_ns)


@cython.no_gc_clear
cdef class ShardWatch:
    """One shard under a helper's care.

    ``directory_fd`` stays open for the life of the watch. ``populate`` is for paths that store into the map. ``guard`` is the guard of
    the shard's appender, or None.
    """

    def __cinit__(self, Helper helper not None, int directory_fd, *, ForkGuard guard=None, bint populate,
                  uint64_t checkpoint_interval_ns, int file_mode):
        self.watch = <Watch *>calloc(1, sizeof(Watch))
        if self.watch == NULL:
            raise MemoryError(f"a watch takes {sizeof(Watch)} bytes")
        self.retired_indexes = []
        self.helper = helper
        self.guard = guard
        self.watch.directory_fd = directory_fd
        self.watch.next_fd = -1
        self.watch.file_mode = file_mode
        self.watch.populate = populate
        self.watch.open_word = guard.word if guard is not None else NULL
        self.watch.checkpoint_interval_ns = checkpoint_interval_ns
        self.lock()
        self.watch.following = helper.first
        helper.first = self.watch
        pthread_mutex_unlock(&helper.mutex)

    def __dealloc__(self):
        # Reached open where nobody closed the client, or where the process was forked: then the thread is not this one's.
        # no_gc_clear keeps mapping, index and guard alive until the thread cannot look at them any more.
        if self.watch != NULL and self.helper.process == this_process():
            with nogil:
                pthread_mutex_lock(&self.helper.mutex)
                self.unlink()
                drop_prepared(self.watch)
                if self.watch.retired_map != NULL:
                    munmap(self.watch.retired_map, self.watch.retired_length)
                pthread_mutex_unlock(&self.helper.mutex)
            free(self.watch)
        self.watch = NULL

    cdef int lock(self) except -1:
        if self.closed:
            raise ValueError("the shard's watch is closed")
        with nogil:
            pthread_mutex_lock(&self.helper.mutex)
        return 0

    def follow(self, Mapping segment not None, int fd, uint64_t capacity_units, IndexWriter index, bint keeper):
        """Look after this segment from now on; ``keeper`` where this process grows it for all; ``index`` may be None.

        The thread finishes the index of the segment before and unmaps that segment.
        """
        cdef Mapping before = self.mapping
        cdef list finished = self.retired_indexes
        self.lock()
        if self.watch.next_fd >= 0 and self.watch.next_length != segment.length:
            drop_prepared(self.watch)
        if before is not None:
            tend_retired(self.watch)
            self.retired_indexes = [self.index]
            self.watch.retired_index = self.watch.index
            self.watch.retired_length = before.length
            self.watch.retired_map = surrender_mapping(before, 1 if self.index is not None else 0)
        self.mapping = segment
        self.index = index
        self.watch.index = <void *>index if index is not None else NULL
        self.watch.map = segment.base
        self.watch.length = segment.length
        self.watch.capacity = capacity_units
        self.watch.fd = fd
        self.watch.keeper = keeper
        self.watch.last_units = tail_units(load_acquire(<uint64_t *>(segment.base + SEGMENT_TAIL)))
        self.watch.populated = SEGMENT_HEADER_BYTES + self.watch.last_units * UNIT_BYTES
        self.watch.allocated = 0
        self.watch.cramped = False
        self.watch.failed = False
        pthread_cond_signal(&self.helper.woken)
        pthread_mutex_unlock(&self.helper.mutex)
        finished.clear()

    def note_populated(self, uint64_t populated_bytes):
        """Say that this process has faulted in the file up to a byte (a prepared segment that was just adopted)."""
        self.lock()
        self.watch.populated = max(self.watch.populated, populated_bytes)
        pthread_mutex_unlock(&self.helper.mutex)

    def populate_again(self, Mapping segment not None, uint64_t start):
        """Say that the pages of a segment from byte ``start`` on were written to the disk.

        The kernel protects such pages, and a store into each is a page fault: the thread has them ready again.
        """
        if self.closed or not self.watch.populate:
            return
        self.lock()
        if self.mapping is segment:
            self.watch.populated = min(self.watch.populated, page_start(start))
            pthread_cond_signal(&self.helper.woken)
        pthread_mutex_unlock(&self.helper.mutex)

    def grow(self, uint64_t units):
        """Back ``units`` now, in this thread. Raises OSError (a full disk, a limit) with nothing changed for readers."""
        cdef int error = 0
        cdef uint64_t wanted = SEGMENT_HEADER_BYTES + units * UNIT_BYTES
        self.lock()
        with nogil:
            pass_over_backed(self.watch)
            while error == 0 and load_acquire(<uint64_t *>(self.watch.map + SEGMENT_BACKED)) < units:
                error = grow_step(self.watch, wanted)
                if error and self.watch.next_fd >= 0:
                    # What was prepared for later takes the room that is needed now.
                    drop_prepared(self.watch)
                    error = 0
            self.note_failure(error != 0)
            pthread_mutex_unlock(&self.helper.mutex)
        if error:
            raise OSError(error, f"cannot back {wanted} bytes of a segment: {os.strerror(error)}")

    def wake(self):
        """Wake the thread after it slept; called by the first append that finds the guard word HELPER_ASLEEP."""
        if self.closed:
            return
        if self.watch.open_word != NULL:
            compare_and_swap_acq_rel(self.watch.open_word, GUARD_HELPER_ASLEEP, GUARD_OPEN)
        with nogil:
            self.helper.wake()

    def growth_failed(self):
        """True if the thread's last attempt to grow failed, so that waiting for it is in vain."""
        return not self.closed and self.watch.failed

    cdef void note_failure(self, bint failed) noexcept nogil:
        self.watch.failed = failed
        # Appends up to now are no reason for the thread to try again.
        self.watch.last_units = tail_units(load_acquire(<uint64_t *>(self.watch.map + SEGMENT_TAIL)))

    def give_up(self):
        """Keep the thread from trying again until somebody appends: its caller found no room either."""
        self.lock()
        self.note_failure(True)
        pthread_mutex_unlock(&self.helper.mutex)

    def take_next(self, uint64_t length):
        """Return (fd, Mapping, backed bytes, temporary name, (device, inode)) of the prepared segment, or None.

        None also where it maps other than ``length`` bytes.
        """
        self.lock()
        result = None
        if self.watch.next_map != NULL and self.watch.next_length == length and self.watch.next_backed > 0:
            result = (
                self.watch.next_fd, adopt_mapping(self.watch.next_map, length), self.watch.next_backed,
                os.fsdecode(self.watch.next_name[:strlen(self.watch.next_name)]),
                (self.watch.next_device, self.watch.next_inode),
            )
            self.watch.next_fd = -1
            self.watch.next_map = NULL
            self.watch.next_backed = 0
        pthread_mutex_unlock(&self.helper.mutex)
        return result

    cdef void unlink(self) noexcept nogil:
        """Take the shard out of the thread's list; the mutex is held."""
        cdef Watch **link = &self.helper.first
        while link[0] != NULL and link[0] != self.watch:
            link = &link[0].following
        if link[0] != NULL:
            link[0] = self.watch.following

    def close(self):
        """Finish the index, take the shard out of the thread's care, remove what was prepared. Closing twice is harmless."""
        if self.closed:
            return
        self.lock()
        self.closed = True
        self.unlink()
        drop_prepared(self.watch)
        tend_retired(self.watch)
        if self.watch.index != NULL:
            (<IndexWriter>self.watch.index).checkpoint()
        pthread_mutex_unlock(&self.helper.mutex)
        free(self.watch)
        self.watch = NULL
        self.mapping = None
        self.index = None
        self.retired_indexes = []
