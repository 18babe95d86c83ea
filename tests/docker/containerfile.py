"""docker/Containerfile, by its stages."""

import re

from compose_file import ROOT

TEXT = (ROOT / "docker" / "Containerfile").read_text()


def stages():
    """The stages of docker/Containerfile, by name: their lines, those of the stages that they stand on first."""
    found = {}
    for line in re.sub(r"\\\n", " ", TEXT).splitlines():
        if opened := re.match(r"FROM (\S+) AS (\S+)", line):
            lines = found[opened[2]] = list(found.get(opened[1], []))
        elif found and line and not line.startswith("#"):
            lines.append(line)
    return found
