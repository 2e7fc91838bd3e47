"""A W&B server on this machine, for tests: what clients say is kept in memory, to be looked at.

It speaks the part of the protocol that the real client needs to record a run: GraphQL for what the
run is, `file_stream` for its rows, PUT for its files. What it does not know it answers with 4xx,
which the client does not try again, as it would a dropped connection.
"""

import json
import re
import threading
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product

import yaml

KEY = "0123456789abcdef" * 2 + "01234567"  # the client wants 40 characters
AUTHORIZATION = "Basic " + b64encode(f"api:{KEY}".encode()).decode()
HISTORY, EVENTS, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json"
ENTITY = {"id": "e", "name": "me"}


class WandbRun:
    """One run, as far as the server was told."""

    def __init__(self, name):
        self.name = name
        self.told = {}  # what UpsertBucket said: groupName, jobType, tags, …
        self.config = {}
        self.lines = {HISTORY: [], EVENTS: [], SUMMARY: []}
        self.files = {}  # name -> bytes
        self.exit_code = None  # until a client says that the run is complete

    @property
    def history(self):
        return [json.loads(line) for line in self.lines[HISTORY]]

    @property
    def summary(self):
        return json.loads((self.lines[SUMMARY] or ["{}"])[-1])

    def bucket(self):
        """The run in GraphQL's words; a client that resumes it goes on from these."""
        telemetry = self.config.get("_wandb", {}).get("value", {}).get("t")
        return {
            "id": f"id-{self.name}",
            "name": self.name,
            "displayName": self.told.get("displayName"),
            "tags": self.told.get("tags", []),
            "config": json.dumps(self.config),
            "wandbConfig": json.dumps({"t": telemetry}),
            "summaryMetrics": json.dumps(self.summary),
            "historyTail": json.dumps(self.lines[HISTORY][-1:]),
            "eventsTail": json.dumps(self.lines[EVENTS][-1:]),
            "historyLineCount": len(self.lines[HISTORY]),
            "eventsLineCount": len(self.lines[EVENTS]),
            "logLineCount": 0,
            "project": {"id": "p", "name": self.told["project"], "entity": ENTITY},
        }


class WandbServer(ThreadingHTTPServer):
    """`url` is for WANDB_BASE_URL; `runs` and `requests` are what happened."""

    daemon_threads = True
    request_queue_size = 128  # files are uploaded many at once

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs = {}
        self.sweeps, self.points = {}, {}
        self.views = {}  # saved workspaces: name -> what UpsertView2 said
        self.requests = []  # operations and paths, in order
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def stop(self):
        """Refuse connections from now on."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A killed client does not wait for its answer."""

    # --- GraphQL: a method for each operation, from its variables to its data ---------------------

    def viewer(self, _):
        return {
            "viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
        }

    def server_features_query(self, _):
        return {"serverInfo": {"features": []}}

    def organization_core_weave_organization_id(self, _):
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def run_resume_status(self, asked):
        run = self.runs.get(asked["name"])
        bucket = run.bucket() if run else None
        return {"model": {"id": "p", "name": asked["project"], "entity": ENTITY, "bucket": bucket}}

    def upsert_bucket(self, asked):
        new = asked["name"] not in self.runs
        run = self.runs.setdefault(asked["name"], WandbRun(asked["name"]))
        run.told |= {key: value for key, value in asked.items() if value is not None}
        run.config = json.loads(run.told["config"])
        return {"upsertBucket": {"bucket": run.bucket(), "inserted": new}}

    def list_runs(self, asked):
        """Those with one of some ids; of a project that there is not, nothing is known."""
        if asked["project"] not in {run.told["project"] for run in self.runs.values()}:
            return {"project": None}
        names = json.loads(asked["filters"])["name"]["$in"]
        found = [run for run in self.runs.values() if run.name in names]
        found = [run for run in found if run.told["project"] == asked["project"]]
        nodes = [run.bucket() | {"projectId": 1, "state": "finished", "historyKeys": None} for run in found]
        edges = [{"node": node, "cursor": node["id"]} for node in nodes]
        listed = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": listed}}

    def run_history_keys(self, asked):
        steps = [row["_step"] for row in self.runs[asked["name"]].history]
        return {"project": {"run": {"historyKeys": {"lastStep": max(steps, default=-1), "keys": {}}}}}

    def create_run_files(self, asked):
        where = f"{self.url}/put/{asked['run']}"
        files = [{"name": name, "uploadUrl": f"{where}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    # --- sweeps: the server says what to try, agents ask for it -----------------------------------

    def upsert_sweep(self, asked):
        config = yaml.safe_load(asked["config"])
        name = f"sweep{len(self.sweeps)}"
        parameters = {}
        for key, space in config["parameters"].items():
            ends = [space[end] for end in ("value", "min", "max") if end in space]
            parameters[key] = space.get("values") or ends
        # What is tried: all of a grid; of anything else the two corners of the space.
        points = list(product(*parameters.values()))
        points = points if config["method"] == "grid" else [points[0], points[-1]]
        self.sweeps[name] = {"config": asked["config"], "method": config["method"]}
        self.points[name] = [dict(zip(parameters, point, strict=True)) for point in points]
        project = {"id": "p", "name": asked["projectName"], "entity": ENTITY}
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def sweep_with_runs(self, asked):
        sweep = {"id": asked["sweep"], "name": asked["sweep"], "state": "RUNNING", "runs": {"edges": []}}
        return {"project": {"sweep": sweep | self.sweeps[asked["sweep"]]}}

    def create_agent(self, asked):
        return {"createAgent": {"agent": {"id": asked["sweep"]}}}

    def heartbeat(self, asked):
        """An agent's id is its sweep's name here: one agent a sweep, one run at a time."""
        commands, points = [], self.points[asked["id"]]
        if not json.loads(asked["runState"]):
            commands = [{"type": "exit"}]
            if points:
                args = {key: {"value": value} for key, value in points.pop(0).items()}
                commands = [{"type": "run", "run_id": f"agent{len(points)}", "program": "x", "args": args}]
        return {"agentHeartbeat": {"agent": {"id": asked["id"]}, "commands": json.dumps(commands)}}

    def create_artifact(self, _):
        """Say that it is here already: a table's file is uploaded with the run's files, too."""
        known = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": known}}

    # --- saved workspaces -------------------------------------------------------------------------

    def get_default_entity(self, _):
        return {"viewer": {"id": "v", "entity": "me"}}

    def upsert_view2(self, asked):
        """One that exists is found by its id, as nobody can know two by the same name."""
        known = {f"view-{name}": name for name in self.views}
        name = known[asked["id"]] if asked.get("id") else asked["name"]
        new = name not in self.views
        self.views[name] = asked
        return {"upsertView": {"view": {"id": f"view-{name}", "name": name}, "inserted": new}}

    def view(self, asked):
        view = self.views.get(asked["viewName"])
        node = view and {key: view[key] for key in ("displayName", "spec")}
        edges = [{"node": node | {"id": f"view-{asked['viewName']}"}}] if node else []
        return {"project": {"allViews": {"edges": edges}}}


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.0, a connection for each request: after `stop` there is none left."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        *_, run, last = self.path.split("/")
        with self.server.lock:
            if last == "graphql":
                self.answer(*self.graphql(json.loads(body)))
            elif last == "file_stream" and run in self.server.runs:
                self.server.requests.append(self.path)
                self.answer(*self.file_stream(self.server.runs[run], json.loads(body)))
            else:
                self.server.requests.append(self.path)
                self.answer(404, {})  # usage statistics, for one

    def graphql(self, said):
        name = re.search(r"(?:query|mutation)\s+(\w+)", said["query"])[1]
        self.server.requests.append(name)
        if self.headers["Authorization"] != AUTHORIZATION:
            return 401, {"errors": [{"message": "wrong API key"}]}
        method = {"Runs": "list_runs"}.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
        operation = getattr(self.server, method, None)
        if operation is None:
            return 400, {"errors": [{"message": f"{name}: unknown operation"}]}
        return 200, {"data": operation(said.get("variables"))}

    def file_stream(self, run, said):
        for name, chunk in (said.get("files") or {}).items():
            lines, offset = run.lines.setdefault(name, []), chunk["offset"]
            if offset > len(lines):
                return 400, {"error": f"{name}: the lines before {offset} are missing"}
            lines[offset : offset + len(chunk["content"])] = chunk["content"]
        if said.get("complete"):
            run.exit_code = said["exitcode"]
        return 200, {}

    def do_PUT(self):
        _, _, run, name = self.path.split("/", 3)
        self.server.requests.append(self.path)
        self.server.runs[run].files[name] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, {})

    def answer(self, code, said):
        body = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The terminal is the tests'."""


@contextmanager
def serving():
    """A server for the length of a `with`, unless it is stopped before."""
    server = WandbServer()
    try:
        yield server
    finally:
        server.stop()
