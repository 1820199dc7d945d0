"""Exit status of the command beside 0."""

FAILED, WRONG_INPUT = 1, 2
INTERRUPTED, TERMINATED = 130, 143
"""After Ctrl-C and SIGTERM: 128 and the signal's number, as shells have it."""
