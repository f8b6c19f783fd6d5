"""The command line: `python -m comprehend_phi`, or the script `comprehend-phi`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line and exit. If one of its libraries is missing, name its extra."""
    try:
        from .cli import commands
    except ModuleNotFoundError as error:
        if sys.stderr is not None:
            sys.stderr.write(
                f"comprehend-phi: the command line needs the module {error.name}, which the extra"
                " `cli` of comprehend_phi installs\n"
            )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    code = commands.main()
    # Nothing is left to print, so another Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


if __name__ == "__main__":
    main()
