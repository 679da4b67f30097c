"""Runs one program and takes care of the processes that it leaves behind. FOR LABORATORIES ONLY.

``swtpm_setup`` waits for a grandchild to vanish, which happens only when somebody collects its exit code. Where the
first process of a container does not, it waits half a second for nothing; this process does the collecting.

Run as a script, without the project's packages, so that it starts in a few milliseconds: ``reaper.py PROGRAM ARGUMENT…``
"""

import ctypes
import os
import sys

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2), since Linux 3.4


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code (128 and more: a signal, as shells count)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.posix_spawnp(arguments[0], arguments, os.environ)
    while True:
        process, status = os.wait()
        if process == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
