"""Nodes that are processes of this machine: each pod's command, as it stands in the TrainJob, under a real torchrun."""

import os
import socket
import subprocess
import sys
import threading
import time


class NodeProcesses:
    """Of a `TrainerStub`: starts what its pods would start, with the variables that they would have."""

    def __init__(self):
        self.running, self.lines, self.threads = {}, {}, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def begin(self, stub, job, pods):
        stub.phase(job, *(["Running"] * len(pods)))
        for pod in pods:
            name, (container,) = pod["metadata"]["name"], pod["spec"]["containers"]
            told = {one["name"]: one["value"] for one in container["env"] if "value" in one}
            environment = {key: value for key, value in os.environ.items() if not key.startswith("DDPM_")}
            environment |= {**told, "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(self.port)}
            assert container["command"][0] == "python"
            self.running[name] = subprocess.Popen(
                [sys.executable, *container["command"][1:], *container["args"]],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            self.lines[name] = []
            self._beside(self._read, name)
        self._beside(self._watch, stub, job, [pod["metadata"]["name"] for pod in pods])

    def end(self, job):
        """As Kubernetes ends pods, by SIGTERM; the last of them is gone a moment later."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(60)
        return True

    def log(self, pod):
        return "".join(self.lines.get(pod, []))

    def close(self):
        for process in self.running.values():
            process.kill()
        for thread in self.threads:
            thread.join(60)

    def _beside(self, work, *arguments):
        self.threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self.threads[-1].start()

    def _read(self, name):
        for line in self.running[name].stdout:
            moment = time.time_ns()
            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 10**9))
            self.lines[name].append(f"{at}.{moment % 10**9:09d}Z {line}")

    def _watch(self, stub, job, pods):
        """As the Job's controller: one that fails ends all."""
        status = {name: self.running[name].wait() for name in pods}
        with stub.lock:
            phases = ["Succeeded" if status[name] == 0 else "Failed" for name in pods]
            if job["metadata"]["name"] in stub.jobs:
                stub.phase(job, *phases, ended=("Error", 1))
                stub.say(job, "Failed" if "Failed" in phases else "Complete")
