"""What the project's pages have in common: one style (base.html.j2), and no request to anywhere.

A page is one file that holds all of itself. Its template stands beside the code that fills it, and extends
`base.html.j2`.
"""

from __future__ import annotations

import base64

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

from ddpm.legible import on_page


def template(package: str, name: str) -> Template:
    """The template `name` of a package. What it is given is made legible and escaped; a name that it lacks is an error."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("ddpm.page", ".")]),
        autoescape=True, undefined=StrictUndefined, finalize=on_page, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def data_uri(png: bytes) -> str:
    """A PNG file's bytes as an address that a page can hold."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
