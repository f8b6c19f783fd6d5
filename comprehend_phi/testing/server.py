"""The local service as a command: Comprehend Medical and S3 over HTTP, until interrupted.

python -m comprehend_phi.testing.server --port 5555
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .local_server import LocalServer


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m comprehend_phi.testing.server",
        description="A local Comprehend Medical (PHI detection jobs) and S3; not for real notes.",
    )
    parser.add_argument("--port", type=int, default=5555, help="0 takes a free one (default: 5555)")
    parser.add_argument(
        "--job-seconds", type=float, default=1.0, help="how long a job runs (default: 1)"
    )
    options = parser.parse_args(arguments)
    try:
        server = LocalServer(port=options.port, job_seconds=options.job_seconds)
    except OSError as error:
        parser.error(f"port {options.port}: {error}")
    with server:
        sys.stdout.write(f"Comprehend Medical and S3 at {server.endpoint_url}; Ctrl-C stops.\n")
        sys.stdout.flush()  # whoever started it reads the URL before anything else happens
        try:
            server.wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
