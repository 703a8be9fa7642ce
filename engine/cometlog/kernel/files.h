/* What the kernel asks of a file that it opens or creates by itself; the rules are those of files.py. */
#ifndef COMETLOG_FILES_H
#define COMETLOG_FILES_H

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether an open file is a regular one of this user's, or of anybody's where this user is root. */
static inline int is_own_regular_file(int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return 0;
    return S_ISREG(info.st_mode) && (geteuid() == 0 || geteuid() == info.st_uid);
}

/* Give a file that was just created exactly this mode, whatever the umask; 0 or errno. */
static inline int set_exact_mode(int fd, int mode)
{
    return fchmod(fd, (mode_t)mode) == 0 ? 0 : errno;
}

#endif
