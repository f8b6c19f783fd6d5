"""`python -m comprehend_phi`; the script `comprehend-phi` is the same."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line and exit; where its libraries are missing, say what brings them."""
    try:
        from .cli import commands
    except ModuleNotFoundError as cause:
        missing = cause.name
    except KeyboardInterrupt:
        missing = None
    else:
        code = commands.main()
        # Nothing is left to tell: another Ctrl-C ends the process without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.exit(code)
    if missing is None:  # interrupted, before there was anything to tell of
        sys.exit(130)
    if sys.stderr is not None:
        sys.stderr.write(
            f"comprehend-phi: there is no {missing};"
            " install it: pip install 'comprehend_phi[cli]'\n"
        )
    sys.exit(2)


if __name__ == "__main__":
    main()
