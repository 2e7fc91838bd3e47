"""A real SLURM cluster on this machine, for tests: two nodes, slurmdbd and MariaDB, all on loopback.

Needs root and Debian's `munge slurm-wlm slurmdbd slurm-wlm-mysql-plugin mariadb-server`. All its files are in
one folder, and it is stopped by process id, so that clusters of several tests do not interfere.
"""

import os
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
SchedulerParameters=sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.socket
KillWait=2
OverTimeLimit=0
InactiveLimit=0
MinJobAge=30
ReturnToService=2
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname={host} Port={node1} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname={host} Port={node2} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=small Nodes=n1 MaxTime=INFINITE State=UP
"""

DBD = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for listener in sockets:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


class Cluster:
    """The cluster; SLURM's commands need its `env`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes = []
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self, *command, **options):
        with (self.folder / f"{Path(command[0]).name}.out").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        self.processes.append(process)
        return process

    def run(self, *command, **options):
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, **options).stdout

    def wait(self, condition, *command, patience_s=60):
        """Wait until the output of a command meets a condition."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                if condition(self.run(*command)):
                    return
            except subprocess.CalledProcessError as error:
                problem = error.stderr
            else:
                problem = "timed out"
            assert time.monotonic() < deadline, (command, problem, self.logs())
            time.sleep(0.1)

    def logs(self):
        return {path.name: path.read_text()[-1500:] for path in self.folder.glob("*.[lo][ou][gt]")}

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def cluster(folder: Path):
    """Yield a running cluster, and stop it at the end of the block."""
    folder.mkdir(parents=True)
    for name in ("state", "mysql"):
        (folder / name).mkdir()
    ctld, dbd, sql, node1, node2 = free_ports(5)
    host = socket.gethostname()
    names = {
        "folder": folder,
        "host": host,
        "ctld": ctld,
        "dbd": dbd,
        "sql": sql,
        "node1": node1,
        "node2": node2,
    }
    (folder / "slurm.conf").write_text(CONF.format(**names))
    (folder / "slurmdbd.conf").write_text(DBD.format(**names))
    (folder / "slurmdbd.conf").chmod(0o600)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    running = Cluster(folder)
    try:
        running.start(
            *("munged", "-F", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"),
            *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log"),
            *(f"--seed-file={folder}/munged.seed", "--force"),
        )
        database(running, sql)
        env = {**os.environ, **running.env}
        running.start("slurmdbd", "-D", env={**env, "SLURM_CONF": str(folder / "slurm.conf")})
        running.wait(lambda output: "Cluster" in output, "sacctmgr", "-p", "show", "cluster")
        running.run("sacctmgr", "-i", "add", "cluster", "test")
        running.start("slurmctld", "-D", "-i", env=env)
        for node in ("n1", "n2"):
            running.start("slurmd", "-D", "-N", node, env=env)
        running.wait(
            lambda output: output.split() == ["idle", "idle"], "sinfo", "-h", "-N", "-p", "main", "-o", "%t"
        )
        yield running
    finally:
        running.stop()


def database(running, port):
    """Start MariaDB with an empty database for slurmdbd."""
    folder = running.folder / "mysql"
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={folder}", "--user=root", "--skip-test-db"]
    subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    running.start(
        *("mariadbd", "--no-defaults", "--user=root", f"--datadir={folder}", f"--port={port}"),
        *("--bind-address=127.0.0.1", f"--socket={folder}/sock", f"--pid-file={folder}/pid"),
        *("--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--innodb-flush-method=fsync"),
    )
    sql = "create database slurm; create user slurm@'%' identified by 'slurm';"
    sql += "grant all on slurm.* to slurm@'%';"
    mariadb = ["mariadb", "--no-defaults", f"--socket={folder}/sock", "-u", "root"]
    running.wait(lambda output: True, *mariadb, "-e", "select 1")
    running.run(*mariadb, "-e", sql)
