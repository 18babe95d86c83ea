"""Where pictures come from. A source is a text; `parse` makes a `Spec` of it, which can be checked, opened and named.

digits · flowers102 · dalle-dogs · celeba · cifar10   by name (named.py); all but digits are downloaded, once
NAME:/path                       the same from files already on disk: the distribution's own, or plain pictures
NAME@REVISION                    another revision than the pinned one (dalle-dogs)
folder:/path, or /path           any pictures: a folder a class, or all in one (folders.py)
archive:/file.zip, or /file.zip  the same in a zip, a tar or a compressed tar (archives.py)
parquet:/path/*.parquet          a column of encoded pictures, found by its type (parquet.py)
s3://bucket/prefix               pictures that lie in a bucket (buckets.py)
STORE/datasets/NAME/DIGEST.json  a data set that is published already: used as it is (published.py); commands that know
                                 a store take NAME@latest and NAME@DIGEST for it (ddpm/data/catalogue.py)

A named source of one's own is one function and one row of NAMED; another kind of source is one class, a Spec (spec.py),
and one row of KINDS (kinds.py).
"""

from __future__ import annotations

from ddpm.data.sources.kinds import KINDS, check, parse, recognise, said_of
from ddpm.data.sources.named import NAMED
from ddpm.data.sources.source import Picture, Source
from ddpm.data.sources.spec import Spec

__all__ = ["KINDS", "NAMED", "Picture", "Source", "Spec", "check", "parse", "recognise", "said_of"]
