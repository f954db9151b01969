"""What runs the tests side by side keeps those together that share a server, a browser, or a run of the service."""

import pytest


@pytest.mark.xdist_group("grouped")
def test_a_test_is_told_apart_by_its_group(request: pytest.FixtureRequest) -> None:
    """Where the runner and pytest do not fit each other, marks of groups do nothing, and nobody says so."""
    if request.config.getoption("loadgroup", default=False):
        assert request.node.nodeid.endswith("@grouped")
