"""The helper thread: grows and populates segments ahead of their writers, prepares the next, keeps the index.

Thread safety: the thread holds no GIL. ``mutex`` guards the list and every Watch; the thread holds it for one look at each shard,
at most one step of growth per shard, so a caller waits for one step. ``open_word`` is shared with the appender: the helper only
turns OPEN into HELPER_ASLEEP, by CAS, and the appender's owner turns it back.

Invariants: ``backed`` is raised only after the bytes below it are allocated and populated; nothing here shrinks a file. A helper that
died or lags costs time, never correctness: whoever needs the bytes first does the same steps.
"""

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport strlen

import os

from cometlog.kernel.atomics cimport (
    compare_and_swap_acq_rel, compare_and_swap_seq_cst, load_acquire, raise_to_at_least,
)
from cometlog.kernel.index_writer cimport IndexWriter, index_checkpoint
from cometlog.kernel.fork_guard cimport GUARD_HELPER_ASLEEP, GUARD_OPEN, ForkGuard
from cometlog.kernel.layout cimport (
    SEGMENT_BACKED, SEGMENT_HEADER_BYTES, SEGMENT_TAIL, UNIT_BYTES, tail_sealed, tail_units,
)
from cometlog.kernel.mapping cimport Mapping, adopt_mapping, surrender_mapping

cdef extern from "<pthread.h>" nogil:
    """
    #include <fcntl.h>
    #include <pthread.h>
    #include <stdint.h>
    #include <sys/mman.h>
    #include <time.h>
    #include <unistd.h>

    static inline void initialise_condition(pthread_cond_t *condition)
    {
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(condition, &attributes);
        pthread_condattr_destroy(&attributes);
    }

    static inline void wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns)
    {
        struct timespec deadline = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
        pthread_cond_timedwait(condition, mutex, &deadline);
    }
    """
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_signal(pthread_cond_t *condition)
    void initialise_condition(pthread_cond_t *condition)
    void wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int unlinkat(int directory, const char *path, int flags)

cdef extern from "<fcntl.h>" nogil:
    int openat(int directory, const char *path, int flags, int mode)
    int O_RDWR, O_CREAT, O_EXCL, O_CLOEXEC, O_NOFOLLOW

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED

cdef extern from "clock.h" nogil:
    uint64_t monotonic_clock_ns()

cdef extern from "growth.h" nogil:
    int allocate_range(int fd, uint64_t start, uint64_t stop)
    int write_zeros(int fd, uint64_t start, uint64_t stop)
    int populate_range(uint8_t *map, uint64_t start, uint64_t stop)

cdef enum:
    STEP_BYTES = 1024 * 1024            # one step of growth; what an idle shard costs on disk
    LEAD_BYTES_MIN = 512 * 1024
    LEAD_BYTES_MAX = 32 * 1024 * 1024
    LEAD_ROUNDS = 8                     # appends of this many rounds at the present rate are kept ready
    ROUND_NS = 250_000                  # between two looks while somebody appends
    IDLE_ROUNDS_MAX = 400               # after 100 ms without an append the thread sleeps until one comes
    SLEEP_NS_MAX = 3_600_000_000_000


cdef uint64_t rounded_up(uint64_t length, uint64_t limit) noexcept nogil:
    cdef uint64_t rounded = (length + STEP_BYTES - 1) // STEP_BYTES * STEP_BYTES
    return min(rounded, limit)


cdef int grow_step(Watch *watch, uint64_t wanted) noexcept nogil:
    """Make one more step of the file usable, towards ``wanted`` bytes; 0 or errno."""
    cdef uint64_t *backed = <uint64_t *>(watch.map + SEGMENT_BACKED)
    cdef uint64_t backed_bytes = SEGMENT_HEADER_BYTES + load_acquire(backed) * UNIT_BYTES
    cdef uint64_t start = watch.populated
    cdef uint64_t stop = rounded_up(min(wanted, start + STEP_BYTES), watch.length)
    cdef int error
    if stop > backed_bytes:
        # From `backed` on, so that a file another process left short has no hole below what is raised here.
        error = allocate_range(watch.fd, backed_bytes, stop)
        if error:
            return error
        start = min(start, backed_bytes)
    if watch.populate:
        error = populate_range(watch.map, start // 4096 * 4096, stop)
        if error:
            return error
    watch.populated = stop
    raise_to_at_least(backed, (stop - SEGMENT_HEADER_BYTES) // UNIT_BYTES)
    return 0


cdef bint tend_growth(Watch *watch) noexcept nogil:
    """Keep ``lead`` bytes ready ahead of the tail; True while there is a reason to look again soon."""
    cdef uint64_t tail = load_acquire(<uint64_t *>(watch.map + SEGMENT_TAIL))
    cdef uint64_t units = tail_units(tail)
    cdef uint64_t moved = (units - watch.last_units) * UNIT_BYTES
    cdef uint64_t position = SEGMENT_HEADER_BYTES + units * UNIT_BYTES
    cdef uint64_t wanted
    watch.last_units = units
    if moved:
        watch.failed = False
        watch.lead = min(max(moved * LEAD_ROUNDS, watch.lead - watch.lead // 16), <uint64_t>LEAD_BYTES_MAX)
    wanted = min(position + max(watch.lead, <uint64_t>LEAD_BYTES_MIN), watch.length)
    if wanted > watch.populated and not tail_sealed(tail) and not watch.failed:
        watch.failed = grow_step(watch, wanted) != 0
        return True
    return moved != 0


cdef int prepare_step(Helper helper, Watch *watch, uint64_t wanted) noexcept nogil:
    """Create the file of the next segment, or make one more step of it usable; 0 or errno."""
    cdef uint64_t stop
    cdef void *address
    cdef int error
    if watch.next_fd < 0:
        helper.file_counter += 1
        snprintf(watch.next_name, sizeof(watch.next_name), b"next.tmp.%llu.%llu",
                 <unsigned long long>helper.process, <unsigned long long>helper.file_counter)
        watch.next_fd = openat(
            watch.directory_fd, watch.next_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600
        )
        if watch.next_fd < 0:
            return errno
        watch.next_backed = 0
    stop = rounded_up(min(wanted, watch.next_backed + STEP_BYTES), watch.length)
    error = allocate_range(watch.next_fd, watch.next_backed, stop)
    if error:
        return error
    if watch.next_map == NULL:
        address = mmap(NULL, watch.length, PROT_READ | PROT_WRITE, MAP_SHARED, watch.next_fd, 0)
        if address == MAP_FAILED:
            return errno
        watch.next_map = <uint8_t *>address
    if watch.populate:
        error = write_zeros(watch.next_fd, watch.next_backed, stop)
        if error:
            return error
        error = populate_range(watch.next_map, watch.next_backed // 4096 * 4096, stop)
        if error:
            return error
    watch.next_backed = stop
    return 0


cdef bint tend_next(Helper helper, Watch *watch) noexcept nogil:
    """Have the next segment ready in time; True while there is more to do.

    It begins when a quarter of this one is left, or what two leads at the present rate would fill.
    """
    cdef uint64_t wanted = min(max(2 * watch.lead, <uint64_t>STEP_BYTES), watch.length)
    cdef uint64_t left = (watch.capacity - watch.last_units) * UNIT_BYTES
    if not watch.prepare or watch.failed or left > max(watch.capacity * UNIT_BYTES // 4, 2 * watch.lead):
        return False
    if watch.next_backed >= wanted:
        return False
    watch.failed = prepare_step(helper, watch, wanted) != 0
    return not watch.failed


cdef void tend_checkpoint(Watch *watch, uint64_t now_ns) noexcept nogil:
    if watch.index != NULL and now_ns >= watch.checkpoint_due_ns:
        index_checkpoint(watch.index)
        watch.checkpoint_due_ns = now_ns + watch.checkpoint_interval_ns


cdef bint tend_retired(Watch *watch) noexcept nogil:
    """Finish the index of the segment before and unmap it; True if there was one."""
    cdef bint found = watch.retired_map != NULL or watch.retired_index != NULL
    if watch.retired_index != NULL:
        index_checkpoint(watch.retired_index)
        watch.retired_index = NULL
    if watch.retired_map != NULL:
        munmap(watch.retired_map, watch.retired_length)
        watch.retired_map = NULL
    return found


cdef class Helper:
    """One thread for all shards that a client writes; ``run`` is its body."""

    def __cinit__(self):
        pthread_mutex_init(&self.mutex, NULL)
        initialise_condition(&self.woken)
        self.process = os.getpid()

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
        while watch != NULL:
            more = tend_retired(watch) or more
            if watch.map != NULL:
                more = tend_growth(watch) or more
                more = tend_next(self, watch) or more
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
                index_checkpoint(watch.index)
            watch = watch.following
        wait_until(&self.woken, &self.mutex, deadline_ns)


cdef class ShardWatch:
    """One shard under a helper's care.

    ``directory_fd`` stays open for the life of the watch. ``populate`` is for paths that store into the map; ``prepare`` for those
    that want the next segment's file ready. ``guard`` is the guard of the shard's appender, or None.
    """

    def __cinit__(self, Helper helper not None, int directory_fd, *, ForkGuard guard=None, bint populate, bint prepare,
                  uint64_t checkpoint_interval_ns):
        self.watch = <Watch *>calloc(1, sizeof(Watch))
        if self.watch == NULL:
            raise MemoryError(f"a watch takes {sizeof(Watch)} bytes")
        self.retired_indexes = []
        self.helper = helper
        self.guard = guard
        self.watch.directory_fd = directory_fd
        self.watch.next_fd = -1
        self.watch.populate = populate
        self.watch.prepare = prepare
        self.watch.open_word = guard.word if guard is not None else NULL
        self.watch.checkpoint_interval_ns = checkpoint_interval_ns
        self.lock()
        self.watch.following = helper.first
        helper.first = self.watch
        pthread_mutex_unlock(&helper.mutex)

    def __dealloc__(self):
        # Reached open only where the process was forked or the owner failed half-way: then the thread is not this process's.
        self.watch = NULL

    cdef int lock(self) except -1:
        if self.closed:
            raise ValueError("the shard's watch is closed")
        with nogil:
            pthread_mutex_lock(&self.helper.mutex)
        return 0

    def follow(self, Mapping segment not None, int fd, uint64_t capacity_units, IndexWriter index):
        """Look after this segment from now on; ``index`` is None where another process keeps the shard's index.

        The thread finishes the index of the segment before and unmaps that segment.
        """
        cdef Mapping before = self.mapping
        cdef list finished = self.retired_indexes
        self.lock()
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
        self.watch.last_units = tail_units(load_acquire(<uint64_t *>(segment.base + SEGMENT_TAIL)))
        self.watch.populated = SEGMENT_HEADER_BYTES + self.watch.last_units * UNIT_BYTES
        self.watch.failed = False
        pthread_cond_signal(&self.helper.woken)
        pthread_mutex_unlock(&self.helper.mutex)
        finished.clear()

    def note_populated(self, uint64_t populated_bytes):
        """Say that this process has faulted in the file up to a byte (a prepared segment that was just adopted)."""
        self.lock()
        self.watch.populated = max(self.watch.populated, populated_bytes)
        pthread_mutex_unlock(&self.helper.mutex)

    def grow(self, uint64_t units):
        """Back ``units`` now, in this thread. Raises OSError (a full disk, a limit) with nothing changed for readers."""
        cdef int error = 0
        cdef uint64_t wanted = SEGMENT_HEADER_BYTES + units * UNIT_BYTES
        self.lock()
        with nogil:
            while error == 0 and load_acquire(<uint64_t *>(self.watch.map + SEGMENT_BACKED)) < units:
                error = grow_step(self.watch, wanted)
            self.watch.failed = error != 0
            pthread_mutex_unlock(&self.helper.mutex)
        if error:
            raise OSError(error, f"cannot back {wanted} bytes of a segment: {os.strerror(error)}")

    def wake(self):
        """Wake the thread after it slept; called by the first append that finds the guard word HELPER_ASLEEP."""
        if self.watch.open_word != NULL:
            compare_and_swap_acq_rel(self.watch.open_word, GUARD_HELPER_ASLEEP, GUARD_OPEN)
        with nogil:
            self.helper.wake()

    def growth_failed(self):
        """True if the thread's last attempt to grow failed, so that waiting for it is in vain."""
        return self.watch.failed

    def take_next(self, uint64_t length):
        """Return (fd, Mapping, backed bytes, temporary name) of the prepared segment if it maps ``length`` bytes, or None."""
        self.lock()
        result = None
        if self.watch.next_map != NULL and self.watch.length == length and self.watch.next_backed > 0:
            result = (
                self.watch.next_fd, adopt_mapping(self.watch.next_map, length), self.watch.next_backed,
                os.fsdecode(self.watch.next_name[:strlen(self.watch.next_name)]),
            )
            self.watch.next_fd = -1
            self.watch.next_map = NULL
            self.watch.next_backed = 0
        pthread_mutex_unlock(&self.helper.mutex)
        return result

    cdef void drop_prepared(self) noexcept nogil:
        if self.watch.next_map != NULL:
            munmap(self.watch.next_map, self.watch.length)
            self.watch.next_map = NULL
        if self.watch.next_fd >= 0:
            close(self.watch.next_fd)
            unlinkat(self.watch.directory_fd, self.watch.next_name, 0)
            self.watch.next_fd = -1

    def close(self):
        """Finish the index, take the shard out of the thread's care, remove what was prepared. Closing twice is harmless."""
        cdef Watch **link
        if self.closed:
            return
        self.lock()
        self.closed = True
        link = &self.helper.first
        while link[0] != NULL and link[0] != self.watch:
            link = &link[0].following
        if link[0] != NULL:
            link[0] = self.watch.following
        self.drop_prepared()
        tend_retired(self.watch)
        if self.watch.index != NULL:
            index_checkpoint(self.watch.index)
        pthread_mutex_unlock(&self.helper.mutex)
        free(self.watch)
        self.watch = NULL
        self.mapping = None
        self.index = None
        self.retired_indexes = []
