"""The compiled kernel: format, atomics, checksum, encode, decode, claim and commit."""
