"""A real Ray cluster on this machine, for tests: a head and a second node, each a process tree of its own."""

import os
import subprocess
import time
from contextlib import contextmanager

from slurm_cluster import free_ports


class Cluster:
    """`address` is for drivers; `env` keeps this cluster apart from others."""

    def __init__(self, folder):
        self.folder = folder
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        self.nodes = []

    def start(self, *arguments):
        command = ["ray", "start", "--block", "--disable-usage-stats", *arguments]
        log = (self.folder / f"node{len(self.nodes)}.log").open("wb")
        with log:
            node = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)
        self.nodes.append(node)

    def nodes_alive(self):
        """How many nodes answer."""
        asked = ["ray", "status", "--address", self.address]
        said = subprocess.run(asked, env=self.env, capture_output=True, text=True).stdout
        return said.partition("Pending:")[0].count(" node_")

    def wait_for(self, nodes, patience_s=90):
        deadline = time.monotonic() + patience_s
        while self.nodes_alive() != nodes:
            assert time.monotonic() < deadline, [path.read_text() for path in self.folder.glob("*.log")]
            time.sleep(0.5)

    def stop(self):
        for node in reversed(self.nodes):
            node.terminate()
        for node in self.nodes:
            try:
                node.wait(20)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()


@contextmanager
def cluster(folder):
    """A cluster of two nodes, one core each, for the length of a `with`."""
    folder.mkdir(parents=True)
    here = Cluster(folder)
    _, port = here.address.split(":")
    try:
        here.start(
            *("--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"),
            *("--object-store-memory=100000000", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}/t"),
        )
        here.wait_for(1)
        here.start(f"--address={here.address}", "--num-cpus=1", "--object-store-memory=100000000")
        here.wait_for(2)
        yield here
    finally:
        here.stop()
