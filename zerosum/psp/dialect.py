"""Settlement files: which PSP writes which dialect. A dialect is a row here and a module beside its adapter.

Invariant: every PSP that is reconciled has a row.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from zerosum.ports import Dialect
from zerosum.psp.stripe import PSP as STRIPE
from zerosum.psp.stripe import settlement as stripe

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({STRIPE: Dialect(stripe.read_lines, stripe.read_manifest)})
"""PSP -> its dialect."""
