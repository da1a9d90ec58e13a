"""HTML pages that need no other file: templates filled, figures inside."""

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(package: str, **values: Any) -> str:
    """The page `page.html.j2` of a package, which extends `base.html.j2` of this one."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("earmark.report", "")]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(**values)


def embed(figure: "Figure") -> str:
    """A figure as the address of an image that lies in the page itself."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return embed_png(content.getvalue())


def embed_png(content: bytes) -> str:
    """A finished PNG as the address of an image that lies in the page itself."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
