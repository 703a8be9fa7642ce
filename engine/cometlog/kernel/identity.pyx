"""Whether a name still leads to a file that is held open: a question of every sync, so without an object of what stat says.

Thread safety: any thread. The GIL is held: the answer comes from the kernel's cache of names.
"""

from libc.errno cimport EACCES, ENOENT, ENOTDIR, EPERM, errno
from libc.stdint cimport uint64_t

import os

cdef extern from "<fcntl.h>" nogil:
    int AT_FDCWD, AT_SYMLINK_NOFOLLOW

cdef extern from "<sys/stat.h>" nogil:
    cdef struct stat_result "stat":
        unsigned long st_dev
        unsigned long st_ino
    int fstatat(int directory_fd, const char *name, stat_result *info, int flags)


def leads_to(bytes name not None, int directory_fd, uint64_t device, uint64_t inode):
    """Return whether ``name``, a link there not followed, is the file (device, inode); True also where this process may not look.

    ``directory_fd``: what a relative name starts from, or -1 for the working directory. Raises OSError where the kernel cannot say.
    """
    cdef stat_result info
    cdef int start = directory_fd if directory_fd >= 0 else AT_FDCWD
    if fstatat(start, name, &info, AT_SYMLINK_NOFOLLOW) == 0:
        return <uint64_t>info.st_dev == device and <uint64_t>info.st_ino == inode
    if errno == EACCES or errno == EPERM:
        return True
    if errno == ENOENT or errno == ENOTDIR:
        return False
    raise OSError(errno, os.strerror(errno), os.fsdecode(name))
