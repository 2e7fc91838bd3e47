"""A local W&B server for tests, which keeps what clients send in memory for inspection.

It implements what the real client needs to record a run: GraphQL for the run itself, `file_stream` for
its rows, PUT for its files. Unknown requests are answered with 4xx, which the client does not retry as it
would a dropped connection.
"""

import json
import re
import threading
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product

import yaml
from bad_server import BadHandler, BadServer

KEY = "0123456789abcdef" * 2 + "01234567"  # the client requires 40 characters
AUTHORIZATION = "Basic " + b64encode(f"api:{KEY}".encode()).decode()
HISTORY, EVENTS, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json"
ENTITY = {"id": "e", "name": "me"}


class WandbRun:
    """One run, as far as clients have sent it."""

    def __init__(self, name):
        self.name = name
        self.told = {}  # variables of UpsertBucket: groupName, jobType, tags, …
        self.config = {}
        self.lines = {HISTORY: [], EVENTS: [], SUMMARY: []}
        self.files = {}  # name -> bytes
        self.exit_code = None  # set once a client reports the end of the run

    @property
    def history(self):
        return [json.loads(line) for line in self.lines[HISTORY]]

    @property
    def summary(self):
        return json.loads((self.lines[SUMMARY] or ["{}"])[-1])

    def bucket(self):
        """Return the run as a GraphQL object, from which a client resumes it."""
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


class WandbServer(BadServer, ThreadingHTTPServer):
    """The server: `url` for WANDB_BASE_URL; `runs` and `requests` for inspection; `be` for its bad days."""

    daemon_threads = True
    request_queue_size = 128  # many files are uploaded at once

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs = {}
        self.sweeps, self.points = {}, {}
        self.views = {}  # saved workspaces: name -> variables of UpsertView2
        self.requests = []  # operations and paths, in order
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def stop(self):
        """Refuse connections from now on."""
        self.be("well")
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Ignore killed clients, which do not wait for a response."""

    # --- GraphQL: one method for each operation, from its variables to its data -------------------

    def viewer(self, _):
        return {
            "viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
        }

    def server_features_query(self, _):
        return {"serverInfo": {"features": []}}

    def organization_core_weave_organization_id(self, _):
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def run_resume_status(self, variables):
        run = self.runs.get(variables["name"])
        bucket = run.bucket() if run else None
        return {"model": {"id": "p", "name": variables["project"], "entity": ENTITY, "bucket": bucket}}

    def upsert_bucket(self, variables):
        new = variables["name"] not in self.runs
        run = self.runs.setdefault(variables["name"], WandbRun(variables["name"]))
        run.told |= {key: value for key, value in variables.items() if value is not None}
        run.config = json.loads(run.told["config"])
        return {"upsertBucket": {"bucket": run.bucket(), "inserted": new}}

    def list_runs(self, variables):
        """List runs by id; a project exists once a run has been sent to it."""
        if variables["project"] not in {run.told["project"] for run in self.runs.values()}:
            return {"project": None}
        names = json.loads(variables["filters"])["name"]["$in"]
        runs = [run for run in self.runs.values() if run.name in names]
        runs = [run for run in runs if run.told["project"] == variables["project"]]
        nodes = [run.bucket() | {"projectId": 1, "state": "finished", "historyKeys": None} for run in runs]
        edges = [{"node": node, "cursor": node["id"]} for node in nodes]
        listed = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": listed}}

    def run_history_keys(self, variables):
        steps = [row["_step"] for row in self.runs[variables["name"]].history]
        return {"project": {"run": {"historyKeys": {"lastStep": max(steps, default=-1), "keys": {}}}}}

    def create_run_files(self, variables):
        prefix = f"{self.url}/put/{variables['run']}"
        files = [{"name": name, "uploadUrl": f"{prefix}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    # --- sweeps: agents request one point after another ------------------------------------------

    def upsert_sweep(self, variables):
        config = yaml.safe_load(variables["config"])
        name = f"sweep{len(self.sweeps)}"
        parameters = {}
        for key, space in config["parameters"].items():
            ends = [space[end] for end in ("value", "min", "max") if end in space]
            parameters[key] = space.get("values") or ends
        # All points of a grid; of any other space its two corners.
        points = list(product(*parameters.values()))
        points = points if config["method"] == "grid" else [points[0], points[-1]]
        self.sweeps[name] = {"config": variables["config"], "method": config["method"]}
        self.points[name] = [dict(zip(parameters, point, strict=True)) for point in points]
        project = {"id": "p", "name": variables["projectName"], "entity": ENTITY}
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def sweep_with_runs(self, variables):
        name = variables["sweep"]
        sweep = {"id": name, "name": name, "state": "RUNNING", "runs": {"edges": []}}
        return {"project": {"sweep": sweep | self.sweeps[name]}}

    def create_agent(self, variables):
        return {"createAgent": {"agent": {"id": variables["sweep"]}}}

    def heartbeat(self, variables):
        """Return the next command of an agent, whose id is its sweep's name: each sweep has one agent."""
        commands, points = [], self.points[variables["id"]]
        if not json.loads(variables["runState"]):
            commands = [{"type": "exit"}]
            if points:
                args = {key: {"value": value} for key, value in points.pop(0).items()}
                commands = [{"type": "run", "run_id": f"agent{len(points)}", "program": "x", "args": args}]
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}

    def create_artifact(self, _):
        """Report the artifact as known, since a table's file is uploaded with the run's files, too."""
        known = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": known}}

    # --- saved workspaces -------------------------------------------------------------------------

    def get_default_entity(self, _):
        return {"viewer": {"id": "v", "entity": "me"}}

    def upsert_view2(self, variables):
        """Create a workspace, or replace the one with the given id."""
        known = {f"view-{name}": name for name in self.views}
        name = known[variables["id"]] if variables.get("id") else variables["name"]
        new = name not in self.views
        self.views[name] = variables
        return {"upsertView": {"view": {"id": f"view-{name}", "name": name}, "inserted": new}}

    def view(self, variables):
        view = self.views.get(variables["viewName"])
        node = view and {key: view[key] for key in ("displayName", "spec")}
        edges = [{"node": node | {"id": f"view-{variables['viewName']}"}}] if node else []
        return {"project": {"allViews": {"edges": edges}}}


class Handler(BadHandler, BaseHTTPRequestHandler):
    """Handler of HTTP/1.0 requests, one connection each, so that none is left after `stop`."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.misbehaves(body):
            return
        *_, run, last = self.path.split("/")
        with self.server.lock:
            if last == "graphql":
                self.answer(*self.graphql(json.loads(body)))
            elif last == "file_stream" and run in self.server.runs:
                self.server.requests.append(self.path)
                self.answer(*self.file_stream(self.server.runs[run], json.loads(body)))
            else:
                self.server.requests.append(self.path)
                self.answer(404, {})  # such as usage statistics

    def graphql(self, message):
        name = re.search(r"(?:query|mutation)\s+(\w+)", message["query"])[1]
        self.server.requests.append(name)
        if self.headers["Authorization"] != AUTHORIZATION:
            return 401, {"errors": [{"message": "wrong API key"}]}
        method = {"Runs": "list_runs"}.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
        operation = getattr(self.server, method, None)
        if operation is None:
            return 400, {"errors": [{"message": f"{name}: unknown operation"}]}
        return 200, {"data": operation(message.get("variables"))}

    def file_stream(self, run, message):
        for name, chunk in (message.get("files") or {}).items():
            lines, offset = run.lines.setdefault(name, []), chunk["offset"]
            if offset > len(lines):
                return 400, {"error": f"{name}: the lines before {offset} are missing"}
            lines[offset : offset + len(chunk["content"])] = chunk["content"]
        if message.get("complete"):
            run.exit_code = message["exitcode"]
        return 200, {}

    def do_PUT(self):
        _, _, run, name = self.path.split("/", 3)
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.misbehaves(content):
            return
        self.server.requests.append(self.path)
        self.server.runs[run].files[name] = content
        self.answer(200, {})

    def answer(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep the terminal free for the tests."""


@contextmanager
def serving():
    """Yield a running server, and stop it at the end of the block."""
    server = WandbServer()
    try:
        yield server
    finally:
        server.stop()
