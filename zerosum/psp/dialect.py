"""Settlement files: which PSP writes which dialect. A dialect is a row here and a module beside its adapter.

Invariant: every PSP that is reconciled has a row.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from zerosum.ports import Dialect
from zerosum.psp.stripe import PSP as STRIPE
from zerosum.psp.stripe.settlement import read_lines
from zerosum.psp.stripe.settlement_manifest import read_manifest

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({STRIPE: Dialect(read_lines, read_manifest)})
"""PSP -> its dialect."""
