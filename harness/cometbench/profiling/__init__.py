"""Where a thread's time goes: the kernel's own accounts first, py-spy's samples beside them, and how far the two agree."""
