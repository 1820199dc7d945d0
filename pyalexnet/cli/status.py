"""Exit status of the command beside 0."""

import signal

FAILED, WRONG_INPUT = 1, 2


def ended_by(number: signal.Signals) -> int:
    """As shells have it: 130 after Ctrl-C, 143 after SIGTERM, 141 where nobody reads on."""
    return 128 + number
