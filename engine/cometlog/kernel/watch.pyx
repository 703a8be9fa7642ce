"""What the helper thread does for one shard: grow its segment ahead of the tail, prepare the next, keep the index.

Thread safety: every function here runs without the GIL, under the mutex of the helper that owns the Watch.

Invariants: ``backed`` is raised only after the bytes below it are allocated and populated; nothing here shrinks a file. A helper that
died or lags costs time, never correctness: whoever needs the bytes first does the same steps. Loads of tail and ``backed`` here decide
how far to grow, no more; the raise of ``backed`` is what others rest on. Every order is argued in ARCHITECTURE.md, "Memory orders".
"""

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from libc.stdio cimport snprintf

from cometlog.kernel.atomics cimport load_acquire, raise_to_at_least
from cometlog.kernel.fork_guard cimport this_process
from cometlog.kernel.index_writer cimport IndexWriter
from cometlog.kernel.layout cimport (
    SEGMENT_BACKED, SEGMENT_HEADER_BYTES, SEGMENT_TAIL, UNIT_BYTES, tail_sealed, tail_units,
)
from cometlog.kernel.step cimport *

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int unlinkat(int directory, const char *path, int flags)

cdef extern from "<fcntl.h>" nogil:
    int openat(int directory, const char *path, int flags, int mode)
    int O_RDWR, O_CREAT, O_EXCL, O_CLOEXEC, O_NOFOLLOW

cdef extern from "<sys/stat.h>" nogil:
    struct stat_t "stat":
        uint64_t st_dev
        uint64_t st_ino
    int fstat(int fd, stat_t *status)

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED

cdef extern from "files.h" nogil:
    int set_exact_mode(int fd, int mode)

cdef extern from "invariant.h" nogil:
    void invariant(bint condition)

cdef extern from "growth.h" nogil:
    int allocate_range(int fd, uint64_t start, uint64_t stop)
    int write_zeros(int fd, uint64_t start, uint64_t stop)
    int populate_range(uint8_t *map, uint64_t start, uint64_t stop)

cdef enum:
    STEP_BYTES = 256 * 1024             # one step of growth
    PAGE_BYTES_MAX = 64 * 1024
    FIRST_BYTES = 1024 * 1024           # of a file prepared at a low rate: what an idle shard costs on disk
    LEAD_BYTES_MIN = 512 * 1024
    LEAD_BYTES_BEHIND_KEEPER = 128 * 1024
    LEAD_BYTES_MAX = 32 * 1024 * 1024
    LEAD_ROUNDS = 64                    # appends of this many rounds (16 ms) at the present rate are kept ready

cdef unsigned long long file_counter = 0


cdef uint64_t rounded_up(uint64_t length, uint64_t limit) noexcept nogil:
    cdef uint64_t rounded = (length + STEP_BYTES - 1) // STEP_BYTES * STEP_BYTES
    return min(rounded, limit)


cdef uint64_t page_start(uint64_t position) noexcept nogil:
    """Return the start of a page of any size that there is."""
    return position // PAGE_BYTES_MAX * PAGE_BYTES_MAX


cdef void pass_over_backed(Watch *watch) noexcept nogil:
    """Leave pages that only a sync has protected to page faults: somebody waits for the file to grow."""
    cdef uint64_t backed_bytes = SEGMENT_HEADER_BYTES + load_acquire(<uint64_t *>(watch.map + SEGMENT_BACKED)) * UNIT_BYTES
    watch.populated = max(watch.populated, page_start(backed_bytes))


cdef int allocate_ahead(Watch *watch, uint64_t backed_bytes, uint64_t stop) noexcept nogil:
    """Have blocks up to ``stop``, and where there is room as far again as half the lead, or as was written; 0 or errno.

    Each time a file grows, the next sync has to wait for the journal, so at a high rate it grows seldom.
    """
    cdef uint64_t ahead = min(watch.lead // 2, watch.last_units * UNIT_BYTES) // STEP_BYTES * STEP_BYTES
    cdef uint64_t reach = stop if watch.cramped else rounded_up(stop + ahead, watch.length)
    # From `backed` on, so that a file another process left short has no hole below what is raised later.
    cdef int error = allocate_range(watch.fd, backed_bytes, reach)
    if error and reach > stop:
        watch.cramped = True
        reach = stop
        error = allocate_range(watch.fd, backed_bytes, reach)
    if error == 0:
        watch.allocated = reach
    return error


cdef int grow_step(Watch *watch, uint64_t wanted) noexcept nogil:
    """Make one more step of the file usable, towards ``wanted`` bytes; 0 or errno."""
    cdef uint64_t *backed = <uint64_t *>(watch.map + SEGMENT_BACKED)
    cdef uint64_t backed_bytes = SEGMENT_HEADER_BYTES + load_acquire(backed) * UNIT_BYTES
    cdef uint64_t start = watch.populated
    cdef uint64_t stop = rounded_up(min(wanted, start + STEP_BYTES), watch.length)
    cdef int error
    if stop > backed_bytes:
        if stop > watch.allocated:
            error = allocate_ahead(watch, backed_bytes, stop)
            if error:
                return error
            step(STEP_FILE_LONGER)
        start = min(start, backed_bytes)
    if watch.populate:
        error = populate_range(watch.map, page_start(start), stop)
        if error:
            return error
    step(STEP_PAGES_THERE)
    invariant(stop <= watch.length and stop > SEGMENT_HEADER_BYTES)
    watch.populated = stop
    # acq_rel, after both calls returned: a writer that loads this value (acquire, B4) may store below it.
    raise_to_at_least(backed, (stop - SEGMENT_HEADER_BYTES) // UNIT_BYTES)
    step(STEP_BACKED)
    return 0


cdef bint tend_growth(Watch *watch) noexcept nogil:
    """Keep ``lead`` bytes ready ahead of the tail; True while there is a reason to look again soon."""
    cdef uint64_t tail = load_acquire(<uint64_t *>(watch.map + SEGMENT_TAIL))
    cdef uint64_t units = tail_units(tail)
    cdef uint64_t moved = (units - watch.last_units) * UNIT_BYTES
    cdef uint64_t position = SEGMENT_HEADER_BYTES + units * UNIT_BYTES
    cdef uint64_t wanted, backed
    watch.last_units = units
    if moved:
        watch.failed = False
        watch.lead = min(max(moved * LEAD_ROUNDS, watch.lead - watch.lead // 16), <uint64_t>LEAD_BYTES_MAX)
    # What the tail has passed needs no more care.
    watch.populated = max(watch.populated, page_start(position))
    wanted = min(position + max(watch.lead, <uint64_t>LEAD_BYTES_MIN), watch.length)
    if not watch.keeper:
        # The keeper's process grows the file for all; here its pages are only mapped, unless the keeper falls behind.
        backed = SEGMENT_HEADER_BYTES + load_acquire(<uint64_t *>(watch.map + SEGMENT_BACKED)) * UNIT_BYTES
        wanted = min(wanted, max(backed, position + LEAD_BYTES_BEHIND_KEEPER))
    if wanted > watch.populated and not tail_sealed(tail) and not watch.failed:
        watch.failed = grow_step(watch, wanted) != 0
        return True
    return moved != 0


cdef int prepare_step(Watch *watch, uint64_t wanted) noexcept nogil:
    """Create the file of the next segment, or make one more step of it usable; 0 or errno."""
    global file_counter
    cdef uint64_t stop
    cdef void *address
    cdef int error
    cdef stat_t status
    if watch.next_fd < 0:
        file_counter += 1
        snprintf(watch.next_name, sizeof(watch.next_name), b"next.tmp.%d.%llu", <int>this_process(), file_counter)
        watch.next_fd = openat(
            watch.directory_fd, watch.next_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, watch.file_mode
        )
        if watch.next_fd < 0:
            return errno
        watch.next_backed = 0
        watch.next_length = watch.length
        error = set_exact_mode(watch.next_fd, watch.file_mode)
        if error:
            return error
        # Asked for here, because whoever publishes the file makes no system call for it.
        if fstat(watch.next_fd, &status) != 0:
            return errno
        watch.next_device = status.st_dev
        watch.next_inode = status.st_ino
    stop = rounded_up(min(wanted, watch.next_backed + STEP_BYTES), watch.next_length)
    error = allocate_range(watch.next_fd, watch.next_backed, stop)
    if error:
        return error
    if watch.next_map == NULL:
        address = mmap(NULL, watch.next_length, PROT_READ | PROT_WRITE, MAP_SHARED, watch.next_fd, 0)
        if address == MAP_FAILED:
            return errno
        watch.next_map = <uint8_t *>address
    if watch.populate:
        error = write_zeros(watch.next_fd, watch.next_backed, stop)
        if error:
            return error
        error = populate_range(watch.next_map, page_start(watch.next_backed), stop)
        if error:
            return error
    watch.next_backed = stop
    return 0


cdef bint tend_next(Watch *watch) noexcept nogil:
    """Have the next segment ready in time; True while there is more to do.

    It begins when a quarter of this one is left, or what two leads at the present rate would fill.
    """
    cdef uint64_t wanted = min(max(2 * watch.lead, <uint64_t>FIRST_BYTES), watch.length)
    cdef uint64_t left = (watch.capacity - watch.last_units) * UNIT_BYTES
    if not watch.keeper or watch.failed or left > max(watch.capacity * UNIT_BYTES // 4, 2 * watch.lead):
        return False
    if watch.next_backed >= wanted:
        return False
    watch.failed = prepare_step(watch, wanted) != 0
    return not watch.failed


cdef void tend_checkpoint(Watch *watch, uint64_t now_ns) noexcept nogil:
    if watch.index != NULL and now_ns >= watch.checkpoint_due_ns:
        (<IndexWriter>watch.index).checkpoint()
        watch.checkpoint_due_ns = now_ns + watch.checkpoint_interval_ns


cdef bint tend_retired(Watch *watch) noexcept nogil:
    """Finish the index of the segment before and unmap it; True if there was one."""
    cdef bint found = watch.retired_map != NULL or watch.retired_index != NULL
    if watch.retired_index != NULL:
        (<IndexWriter>watch.retired_index).checkpoint()
        watch.retired_index = NULL
    if watch.retired_map != NULL:
        munmap(watch.retired_map, watch.retired_length)
        watch.retired_map = NULL
    return found


cdef void drop_prepared(Watch *watch) noexcept nogil:
    """Remove the prepared file."""
    if watch.next_map != NULL:
        munmap(watch.next_map, watch.next_length)
        watch.next_map = NULL
        watch.next_backed = 0
    if watch.next_fd >= 0:
        close(watch.next_fd)
        unlinkat(watch.directory_fd, watch.next_name, 0)
        watch.next_fd = -1
