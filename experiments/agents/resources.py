"""What a client may attach to a conversation: pages of runs, their metrics and settings, and the guides."""

from __future__ import annotations

from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from data.errors import InputError
from experiments.agents.reading import read
from experiments.agents.run_places import place_of
from experiments.agents.toolbox import Toolbox

#: Guides beside the packages of a checkout; an installed package has none.
DOCS = Path(__file__).parents[2] / "docs"
#: Largest page of a run that is given out, bytes.
MOST_BYTES = 4_000_000


def add_resources(server: MCPServer, box: Toolbox) -> None:
    """Offer the resources of a root."""

    @server.resource(
        "understudy://runs/{+run}/report", mime_type="text/html", description="The HTML page of a run, self-contained"
    )
    def report(run: str) -> str:
        path = _place(box, run) / "report.html"
        if not path.is_file() or not box.root.holds(path.resolve()):
            raise ResourceNotFoundError(f"the run {run} has no report.html")
        if path.stat().st_size > MOST_BYTES:
            raise ResourceNotFoundError(f"the page of {run} is larger than {MOST_BYTES:,} bytes; open it in a browser")
        return path.read_text(encoding="utf-8", errors="replace")

    @server.resource(
        "understudy://runs/{+run}/metrics", mime_type="application/json", description="Flat metrics, unit in the key"
    )
    def metrics(run: str) -> str:
        return _page(box, run, "metrics")

    @server.resource(
        "understudy://runs/{+run}/configuration", mime_type="text/plain", description="The settings of a run, as YAML"
    )
    def configuration(run: str) -> str:
        return _page(box, run, "configuration")

    @server.resource("understudy://docs", mime_type="text/plain", description="Names of the guides")
    def guides() -> str:
        return "\n".join(_guides()) or "This installation has no guides; describe has the help of each stage."

    @server.resource("understudy://docs/{+name}", mime_type="text/markdown", description="A guide")
    def guide(name: str) -> str:
        if name not in _guides():
            raise ResourceNotFoundError(f"no guide {name[:100]!r}; understudy://docs lists them")
        return (DOCS / name).read_text(encoding="utf-8")


def _guides() -> list[str]:
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob("**/*.md"))


def _place(box: Toolbox, run: str) -> Path:
    try:
        return place_of(run, box.root, box.jobs).directory
    except InputError as error:
        raise ResourceNotFoundError(str(error)) from error


def _page(box: Toolbox, run: str, what: str) -> str:
    try:
        return read(place_of(run, box.root, box.jobs), what, 0, box.root, box.jobs).content
    except InputError as error:
        raise ResourceNotFoundError(str(error)) from error
