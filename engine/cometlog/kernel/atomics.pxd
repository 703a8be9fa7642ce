"""Atomics on shared words; the memory order is in the name (see ``atomics.h``)."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "atomics.h" nogil:
    uint64_t load_relaxed(const uint64_t *word)
    uint64_t load_acquire(const uint64_t *word)
    uint64_t load_seq_cst(const uint64_t *word)
    void store_relaxed(uint64_t *word, uint64_t value)
    void store_release(uint64_t *word, uint64_t value)
    bint compare_and_swap_acq_rel(uint64_t *word, uint64_t expected, uint64_t desired)
    bint compare_and_swap_seq_cst(uint64_t *word, uint64_t expected, uint64_t desired)
    uint64_t fetch_or_acq_rel(uint64_t *word, uint64_t bits)
    uint64_t fetch_and_acq_rel(uint64_t *word, uint64_t bits)
    uint64_t fetch_add_relaxed(uint64_t *word, uint64_t value)
    uint32_t fetch_add_acq_rel_u32(uint32_t *word, uint32_t value)
    uint32_t load_acquire_u32(const uint32_t *word)
    void store_release_u32(uint32_t *word, uint32_t value)
    void fence_release()
    void fence_seq_cst()
    void spin_pause()
    void raise_to_at_least(uint64_t *word, uint64_t value)
