/* Records what a process writes below one directory: loaded with LD_PRELOAD, switched on by recorder_start.
 *
 * Every call that creates, names, grows, writes or syncs a file there becomes an event of the trace. Before it and after it, each file
 * is compared with what was seen of it last, and pages that differ go into the trace: so stores through a map are seen as they
 * were at each event, and what a sync covered is what stood in the file when it began.
 *
 * Thread safety: an event holds `mutex` (threads) and a lock on the trace (processes) from its first look to its last record, the
 * call itself included. The trace is read by page_recorder.py, which states its format.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define FILES_MAX 512
#define PATH_BYTES 1024

#define REAL(name) ((__typeof__(&name))real_of(#name))

struct seen_file {
    ino_t inode;
    int fd;
    char *copy;
    size_t copy_bytes;
    int64_t size;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int active;
static int trace_fd = -1;
static char root[PATH_BYTES];
static struct seen_file files[FILES_MAX];
static char *pending;
static size_t pending_bytes, pending_room;
static long events_left = -1;

static void *real_of(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static void give_up(const char *what)
{
    dprintf(2, "recorder: %s: %s\n", what, strerror(errno));
    abort();
}

static void add_record(char kind, const void *head, uint32_t head_bytes, const void *body, uint32_t body_bytes)
{
    uint32_t length = head_bytes + body_bytes;
    size_t needed = pending_bytes + 5 + length;
    if (needed > pending_room) {
        pending_room = 2 * needed + (1 << 16);
        pending = realloc(pending, pending_room);
        if (pending == NULL)
            give_up("memory");
    }
    pending[pending_bytes] = kind;
    memcpy(pending + pending_bytes + 1, &length, 4);
    memcpy(pending + pending_bytes + 5, head, head_bytes);
    if (body_bytes)
        memcpy(pending + pending_bytes + 5 + head_bytes, body, body_bytes);
    pending_bytes = needed;
}

static void end_event(void)
{
    size_t done = 0;
    add_record('E', "", 0, "", 0);
    while (done < pending_bytes) {
        ssize_t written = REAL(write)(trace_fd, pending + done, pending_bytes - done);
        if (written <= 0)
            give_up("trace");
        done += (size_t)written;
    }
    pending_bytes = 0;
}

static void capture_file(struct seen_file *file)
{
    struct stat info;
    struct { uint64_t inode, value; } head = {file->inode, 0};
    char page[PAGE_BYTES];
    if (fstat(file->fd, &info) != 0)
        give_up("fstat");
    if ((size_t)info.st_size > file->copy_bytes) {
        size_t room = ((size_t)info.st_size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
        file->copy = realloc(file->copy, room);
        if (file->copy == NULL)
            give_up("memory");
        memset(file->copy + file->copy_bytes, 0, room - file->copy_bytes);
        file->copy_bytes = room;
    }
    if (info.st_size != file->size) {
        file->size = head.value = (uint64_t)info.st_size;
        add_record('Z', &head, sizeof head, "", 0);
    }
    for (off_t start = 0; start < info.st_size; start += PAGE_BYTES) {
        ssize_t found = pread(file->fd, page, PAGE_BYTES, start);
        if (found < 0)
            give_up("pread");
        memset(page + found, 0, PAGE_BYTES - (size_t)found);
        if (memcmp(page, file->copy + start, PAGE_BYTES) != 0) {
            memcpy(file->copy + start, page, PAGE_BYTES);
            head.value = (uint64_t)start / PAGE_BYTES;
            add_record('P', &head, sizeof head, page, PAGE_BYTES);
        }
    }
}

static void capture(void)
{
    for (int index = 0; index < FILES_MAX; index++)
        if (files[index].fd > 0)
            capture_file(&files[index]);
}

static void lock_trace(void)
{
    pthread_mutex_lock(&mutex);
    while (flock(trace_fd, LOCK_EX) != 0)
        if (errno != EINTR)
            give_up("flock");
}

static void unlock_trace(void)
{
    flock(trace_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
}

/* Begin an event: what the call finds is in the trace before it is made. */
static void begin(void)
{
    lock_trace();
    if (events_left > 0 && --events_left == 0)
        REAL(kill)(getpid(), SIGKILL);
    capture();
    end_event();
}

static void finish(void)
{
    int error = errno;
    capture();
    end_event();
    unlock_trace();
    errno = error;
}

static int is_inside(const char *path)
{
    size_t length = strlen(root);
    return active && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* Write the absolute path of `name` beside `directory` into `path`; return whether it is recorded. */
static int resolve(char *path, int directory, const char *name)
{
    char link[64];
    ssize_t length = 0;
    if (!active)
        return 0;
    if (name[0] != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        length = readlink(directory == AT_FDCWD ? "/proc/self/cwd" : link, path, PATH_BYTES - 1);
        if (length < 0)
            return 0;
        path[length++] = '/';
    }
    snprintf(path + length, PATH_BYTES - (size_t)length, "%s", name);
    return is_inside(path);
}

/* Say whether `fd` is recorded; for a directory, write its path. */
static int resolve_fd(char *path, int fd, struct stat *info)
{
    char link[64];
    ssize_t length;
    if (!active)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_BYTES - 1);
    if (length < 0 || fstat(fd, info) != 0)
        return 0;
    path[length] = 0;
    return is_inside(path);
}

static struct seen_file *see_file(const char *path, ino_t inode, int created)
{
    struct seen_file *room = NULL;
    for (int index = 0; index < FILES_MAX; index++) {
        if (files[index].fd > 0 && files[index].inode == inode)
            return &files[index];
        if (files[index].fd <= 0 && room == NULL)
            room = &files[index];
    }
    if (room == NULL)
        give_up("too many files");
    uint64_t head = inode;
    room->inode = inode;
    room->size = 0;
    room->fd = REAL(open)(path, O_RDONLY | O_CLOEXEC);
    if (room->fd < 0)
        give_up(path);
    add_record(created ? 'C' : 'O', &head, sizeof head, path, (uint32_t)strlen(path));
    return room;
}

static void forget_unlinked(void)
{
    struct stat info;
    for (int index = 0; index < FILES_MAX; index++)
        if (files[index].fd > 0 && fstat(files[index].fd, &info) == 0 && info.st_nlink == 0) {
            close(files[index].fd);
            free(files[index].copy);
            memset(&files[index], 0, sizeof files[index]);
        }
}

static void record_paths(char kind, const char *first, const char *second)
{
    add_record(kind, first, (uint32_t)strlen(first) + 1, second, (uint32_t)strlen(second));
}

static int see_existing(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)where;
    if (kind == FTW_D)
        record_paths('D', path, "");
    else if (S_ISREG(info->st_mode))
        see_file(path, info->st_ino, 0);
    return 0;
}

/* ---- what the workload calls ---- */

/* Record everything below `directory` into `trace` from now on; what is there already counts as seen, not as created. */
int recorder_start(const char *directory, const char *trace)
{
    trace_fd = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    snprintf(root, sizeof root, "%s", directory);
    if (trace_fd < 0)
        return errno;
    active = 1;
    lock_trace();
    nftw(root, see_existing, 16, FTW_PHYS);
    finish();
    return 0;
}

/* Kill this process when it is about to make its `count`-th recorded call from now on. */
void recorder_die_at(long count)
{
    events_left = count;
}

/* Put a line of the workload's own into the trace, with what the files hold at this moment. */
void recorder_note(const char *text)
{
    lock_trace();
    capture();
    add_record('N', text, (uint32_t)strlen(text), "", 0);
    end_event();
    unlock_trace();
}

/* ---- what the workload's calls become ---- */

static int record_open(int directory, const char *name, int flags, mode_t mode)
{
    char path[PATH_BYTES];
    struct stat info;
    int fd, existed;
    if (!resolve(path, directory, name))
        return REAL(openat)(directory, name, flags, mode);
    if (flags & O_DIRECTORY)
        return REAL(openat)(directory, name, flags, mode);
    begin();
    existed = stat(path, &info) == 0;
    fd = REAL(openat)(directory, name, flags, mode);
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode))
        see_file(path, info.st_ino, !existed);
    finish();
    return fd;
}

#define OPEN_MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *name, int flags, ...)
{
    OPEN_MODE(flags, flags)
    return record_open(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
    OPEN_MODE(flags, flags)
    return record_open(AT_FDCWD, name, flags, mode);
}

int openat(int directory, const char *name, int flags, ...)
{
    OPEN_MODE(flags, flags)
    return record_open(directory, name, flags, mode);
}

int openat64(int directory, const char *name, int flags, ...)
{
    OPEN_MODE(flags, flags)
    return record_open(directory, name, flags, mode);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    char old_path[PATH_BYTES], new_path[PATH_BYTES];
    int result;
    if (!resolve(old_path, from, old) || !resolve(new_path, to, new))
        return REAL(linkat)(from, old, to, new, flags);
    begin();
    result = REAL(linkat)(from, old, to, new, flags);
    if (result == 0)
        record_paths('L', old_path, new_path);
    finish();
    return result;
}

int link(const char *old, const char *new)
{
    return linkat(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int renameat(int from, const char *old, int to, const char *new)
{
    char old_path[PATH_BYTES], new_path[PATH_BYTES];
    int result;
    if (!resolve(old_path, from, old) || !resolve(new_path, to, new))
        return REAL(renameat)(from, old, to, new);
    begin();
    result = REAL(renameat)(from, old, to, new);
    if (result == 0) {
        record_paths('R', old_path, new_path);
        forget_unlinked();
    }
    finish();
    return result;
}

int rename(const char *old, const char *new)
{
    return renameat(AT_FDCWD, old, AT_FDCWD, new);
}

int unlinkat(int directory, const char *name, int flags)
{
    char path[PATH_BYTES];
    int result;
    if (!resolve(path, directory, name))
        return REAL(unlinkat)(directory, name, flags);
    begin();
    result = REAL(unlinkat)(directory, name, flags);
    if (result == 0) {
        record_paths('U', path, "");
        forget_unlinked();
    }
    finish();
    return result;
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int mkdirat(int directory, const char *name, mode_t mode)
{
    char path[PATH_BYTES];
    int result;
    if (!resolve(path, directory, name))
        return REAL(mkdirat)(directory, name, mode);
    begin();
    result = REAL(mkdirat)(directory, name, mode);
    if (result == 0)
        record_paths('D', path, "");
    finish();
    return result;
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

#define RECORDED_WRITE(type, name, parameters, arguments) \
    type name parameters \
    { \
        char path[PATH_BYTES]; \
        struct stat info; \
        type result; \
        if (!resolve_fd(path, fd, &info)) \
            return REAL(name) arguments; \
        begin(); \
        result = REAL(name) arguments; \
        finish(); \
        return result; \
    }

RECORDED_WRITE(ssize_t, write, (int fd, const void *data, size_t length), (fd, data, length))
RECORDED_WRITE(ssize_t, pwrite, (int fd, const void *data, size_t length, off_t offset), (fd, data, length, offset))
RECORDED_WRITE(ssize_t, pwrite64, (int fd, const void *data, size_t length, off64_t offset), (fd, data, length, offset))
RECORDED_WRITE(int, ftruncate, (int fd, off_t length), (fd, length))
RECORDED_WRITE(int, ftruncate64, (int fd, off64_t length), (fd, length))
RECORDED_WRITE(int, fallocate, (int fd, int mode, off_t start, off_t length), (fd, mode, start, length))
RECORDED_WRITE(int, fallocate64, (int fd, int mode, off64_t start, off64_t length), (fd, mode, start, length))
RECORDED_WRITE(int, posix_fallocate, (int fd, off_t start, off_t length), (fd, start, length))
RECORDED_WRITE(int, posix_fallocate64, (int fd, off64_t start, off64_t length), (fd, start, length))

static int record_sync(int fd, int (*real)(int))
{
    char path[PATH_BYTES];
    struct stat info;
    int result;
    if (!resolve_fd(path, fd, &info))
        return real(fd);
    begin();
    result = real(fd);
    if (result == 0 && S_ISDIR(info.st_mode)) {
        record_paths('Y', path, "");
    } else if (result == 0) {
        uint64_t head = info.st_ino;
        add_record('F', &head, sizeof head, "", 0);
    }
    /* No look between call and record: what is stored meanwhile is not covered. */
    int error = errno;
    end_event();
    unlock_trace();
    errno = error;
    return result;
}

int fsync(int fd)
{
    return record_sync(fd, REAL(fsync));
}

int fdatasync(int fd)
{
    return record_sync(fd, REAL(fdatasync));
}

/* Find what is mapped at an address: the inode of the file, and where in it the address lies; 0 where no recorded file is. */
static int resolve_address(uint64_t address, uint64_t *inode, uint64_t *offset)
{
    char line[PATH_BYTES];
    unsigned long start, stop, from, found;
    int is_there = 0;
    FILE *maps = active ? fopen("/proc/self/maps", "re") : NULL;
    if (maps == NULL)
        return 0;
    while (!is_there && fgets(line, sizeof line, maps) != NULL)
        is_there = sscanf(line, "%lx-%lx %*s %lx %*s %lu", &start, &stop, &from, &found) == 4 && address >= start && address < stop;
    fclose(maps);
    *inode = found;
    *offset = address - start + from;
    for (int index = 0; is_there && index < FILES_MAX; index++)
        if (files[index].fd > 0 && files[index].inode == found)
            return 1;
    return 0;
}

int msync(void *address, size_t length, int flags)
{
    struct { uint64_t inode, first, last; } head;
    uint64_t offset;
    if (!(flags & MS_SYNC) || length == 0 || !resolve_address((uint64_t)address, &head.inode, &offset))
        return REAL(msync)(address, length, flags);
    begin();
    int result = REAL(msync)(address, length, flags);
    int error = errno;
    head.first = offset / PAGE_BYTES;
    head.last = (offset + length - 1) / PAGE_BYTES;
    if (result == 0)
        add_record('M', &head, sizeof head, "", 0);
    end_event();
    unlock_trace();
    errno = error;
    return result;
}

/* A numbered step of the kernel's debug build that sends SIGUSR1 is a moment to look at the files, in the middle of an append. */
int kill(pid_t process, int number)
{
    if (active && process == getpid() && number == SIGUSR1) {
        lock_trace();
        capture();
        end_event();
        unlock_trace();
        return 0;
    }
    return REAL(kill)(process, number);
}
