"""What holds for all tests: Ctrl-C reaches the processes that they start, also where the tests run in the background.

A shell without job control starts what ends in ``&`` with SIGINT ignored, and children inherit that through exec.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
