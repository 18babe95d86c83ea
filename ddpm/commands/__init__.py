"""The commands of `ddpm`: the flags of each, and what it does, in terms of the steps that the pipeline takes too.

table.py     what a command is, and the flags that several of them have
data.py      ingest, datasets, verify, gc
models.py    train, search, sample, export, serve
figures.py   evaluate, judge, compare, rank, page, dashboard
registry.py  register, promote, rollback, history
"""

from ddpm.commands import data, models, figures, registry  # noqa: I001, F401 (in the order in which they are listed)
from ddpm.commands.table import COMMANDS, TEXT, Facts

__all__ = ["COMMANDS", "TEXT", "Facts"]
