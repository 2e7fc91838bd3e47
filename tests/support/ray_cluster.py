"""A real Ray cluster on this machine, for tests: two nodes, each a process tree of its own."""

import os
import subprocess
import time
from contextlib import contextmanager, suppress

import psutil
from slurm_cluster import free_ports


class Cluster:
    """The cluster: `address` for drivers, `env` to separate it from other clusters."""

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

    def lose_node(self):
        """Kill all processes of the second node at once, as a loss of power does."""
        node = psutil.Process(self.nodes[-1].pid)
        for process in [node, *node.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def nodes_alive(self):
        """Return the number of nodes that answer."""
        status = ["ray", "status", "--address", self.address]
        output = subprocess.run(status, env=self.env, capture_output=True, text=True).stdout
        return output.partition("Pending:")[0].count(" node_")

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
    """Yield a running cluster of two nodes with one core each, and stop it at the end of the block."""
    folder.mkdir(parents=True)
    running = Cluster(folder)
    _, port = running.address.split(":")
    try:
        running.start(
            *("--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"),
            *("--object-store-memory=100000000", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}/t"),
        )
        running.wait_for(1)
        running.start(f"--address={running.address}", "--num-cpus=1", "--object-store-memory=100000000")
        running.wait_for(2)
        yield running
    finally:
        running.stop()
