/* Allocate a file ahead of its readers and writers, and fault its pages in without risking SIGBUS. */
#ifndef COMETLOG_GROWTH_H
#define COMETLOG_GROWTH_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>

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
