"""Explore the models outside the test suite: ``python tests/model/run.py [--full] [NAME ...]``.

Without ``--full`` the settings of the test suite, a few seconds. With it the larger ones too; --help lists what each costs. A name
is a part of a setting's name. Each line gives states, transitions and seconds; a violation is printed with its shortest interleaving.
"""

import argparse
import sys
import time

from checker import explore, find_stuck
from settings import FULL, SUITE, Search


def run(search: Search) -> bool:
    """Explore one setting and print what was found; True where it is what the table says."""
    started = time.monotonic()
    model = search.make()
    found = explore(model)
    seconds = time.monotonic() - started
    print(
        f"{search.name}: {found.states} states, {found.transitions} transitions, {seconds:.0f} s", flush=True
    )
    violations = [found.violation, *(find_stuck(model, stopped) for stopped in search.stopped)]
    for violation in filter(None, violations):
        print(violation)
    if found.states != search.states:
        print(f"  the table says {search.states}")
    return not any(violations) and found.states == search.states


def main() -> int:
    """Return 0 where every setting holds."""
    costs = "\n".join(f"  {search.states:>9} states  {search.name}" for search in FULL)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"--full adds, at about 20,000 states a second and 1 KB each:\n{costs}",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="the larger settings too")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="only settings whose name contains one of these"
    )
    options = parser.parse_args()
    searches = [*SUITE, *FULL] if options.full else [*SUITE]
    chosen = [s for s in searches if not options.names or any(name in s.name for name in options.names)]
    results = [run(search) for search in chosen]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
