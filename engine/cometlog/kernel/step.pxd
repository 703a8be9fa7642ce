"""The steps of PROTOCOL B, E and H at which tests kill or stop a process: see step.h. Free in the release build."""

cdef enum:
    STEP_BUSY = 1           # B3: the slot says BUSY
    STEP_ALLOCATED = 2      # B5: the tail is past the range
    STEP_CLAIMED = 3        # B6: the word says CLAIMED
    STEP_MARKED = 4         # B7: the slot says where
    STEP_COPIED = 5         # B8: the payload is there
    STEP_FINISHED = 6       # B8: checksum and header too
    STEP_COMMITTED = 7      # B9: the word says DATA
    STEP_IDLE = 8           # B10: the slot says IDLE
    STEP_SEALED = 9         # B4: the tail is SEALED
    STEP_FILE_LONGER = 10   # growth: the bytes are allocated
    STEP_PAGES_THERE = 11   # growth: and populated
    STEP_BACKED = 12        # growth: and `backed` says so
    STEP_WRITTEN = 13       # H: the frame is in the file behind the tail
    STEP_PUBLISHED = 14     # H: the tail is past it

cdef extern from "step.h" nogil:
    void step(int number)
