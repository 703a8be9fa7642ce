"""CRC32C for the other modules of the kernel; ``crc32c.h`` states the contract.

Only C declarations: a module that cimports them links its own ``crc32c.c`` and calls
``crc32c_initialise`` at import.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "crc32c.h" nogil:
    const uint32_t CRC32C_START

    uint32_t crc32c_update(uint32_t state, const void *data, size_t length) noexcept
    uint32_t crc32c_update_frame(
        uint32_t state, const void *data, size_t length, uint64_t unit, uint64_t word, uint64_t timestamp_ns, uint32_t meta
    ) noexcept
    uint32_t crc32c_finish(uint32_t state) noexcept
    void crc32c_initialise() noexcept
    const char *crc32c_implementation() noexcept
    const char *crc32c_available(size_t index) noexcept
    int crc32c_force(const char *name) noexcept
