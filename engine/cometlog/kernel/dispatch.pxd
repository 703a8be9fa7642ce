"""From a stream's name to its appender without a Python frame."""


cdef class Dispatch:
    cdef dict extenders
