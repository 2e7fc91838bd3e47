"""The process that runs the commands in which faults happen."""

import pytest
from faults import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()
