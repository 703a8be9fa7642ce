/* Allocate a file ahead of its readers and writers, and fault its pages in without risking SIGBUS. */
#ifndef COMETLOG_GROWTH_H
#define COMETLOG_GROWTH_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Allocate bytes [from, to) of the file; 0 or errno. Blocks that exist already stay as they are. */
static inline int allocate_range(int fd, uint64_t from, uint64_t to)
{
    int result;
    do {
        result = fallocate(fd, 0, (off_t)from, (off_t)(to - from));
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

/* Bring bytes [from, to) of a file that nobody else has seen yet into the page cache as zeros; 0 or errno. On ext4 this makes large
 * folios, which populate_range then maps more cheaply than page by page. Never for a published file: it would
 * overwrite what others appended. */
static inline int write_zeros(int fd, uint64_t from, uint64_t to)
{
    static const char zeros[1 << 16];
    while (from < to) {
        size_t length = to - from < sizeof zeros ? (size_t)(to - from) : sizeof zeros;
        ssize_t written = pwrite(fd, zeros, length, (off_t)from);
        if (written > 0) {
            from += (uint64_t)written;
        } else if (written == 0 || errno != EINTR) {
            return written == 0 ? EIO : errno;
        }
    }
    return 0;
}

/* Map bytes [from, to), page-aligned, for writing in this process; 0 or errno. An old kernel leaves it to page faults. */
static inline int populate_range(uint8_t *map, uint64_t from, uint64_t to)
{
    int result;
    do {
        result = madvise(map + from, to - from, MADV_POPULATE_WRITE);
    } while (result != 0 && (errno == EINTR || errno == EAGAIN));
    return result == 0 || errno == EINVAL ? 0 : errno;
}

#endif
