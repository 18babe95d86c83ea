"""SeaweedFS as the manifest runs it, here as a process on ports of this machine."""

import json
import subprocess

from processes import environment, free_ports, held, pods, running


class Seaweed:
    """The pod's one process, its disk, and the script that makes the buckets."""

    def __init__(self, folder, objects):
        self.folder, self.log = folder, folder / "log"
        self.master, self.volume, self.filer, self.s3 = free_ports(4, beside=10_000)  # gRPC's are 10,000 above
        (folder / "data").mkdir()
        (container,) = pods(objects, "object-store").spec["containers"]
        identities = held(objects, "Secret", "object-store")["s3.json"]
        (folder / "s3.json").write_text(identities)
        self.keys = {one["name"]: one["credentials"][0] for one in json.loads(identities)["identities"]}
        told = {
            "-dir": folder / "data",
            "-s3.config": folder / "s3.json",
            "-s3.port": self.s3,
            "-s3.ip.bind": "127.0.0.1",
            "-s3.localSocket": folder / "s3.sock",
            "-filer.localSocket": folder / "filer.sock",
        }
        given = [word.partition("=") for word in [*container["command"], *container["args"]]]
        self.words = [f"{flag}={told.get(flag, value)}" if equals else flag for flag, equals, value in given]
        self.words += [
            f"-{name}.port={port}"
            for name, port in (("master", self.master), ("volume", self.volume), ("filer", self.filer))
        ]
        self.script = held(objects, "ConfigMap", "object-store-buckets")["buckets.sh"]
        self.endpoint = f"http://127.0.0.1:{self.s3}"

    def up(self):
        return running(self.words, self.log, f"{self.endpoint}/status", cwd=self.folder / "data", env=environment())

    def make_buckets(self):
        told = environment(MASTER=f"127.0.0.1:{self.master}", FILER=f"127.0.0.1:{self.filer}")
        subprocess.run(["sh", "-c", self.script], env=told, check=True, capture_output=True, timeout=120)
