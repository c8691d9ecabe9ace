"""Compare a contract with a running release: which senders and consumers it would break, and why.

The story: a *baseline* is read from a lock, a directory, a file or a git revision (`baseline`, `revision`, `lock`) and
becomes a *release*, plain values with each schema in one form (`releases`, `normal`). Two releases are compared
event type by event type in both directions (`comparison`): do old events pass the new schema, and new events the
old one? What is asked is what the schemas describe, not all that they happen to accept (`views`). The answer is a
proof by the engine's algebra or part by part (`parts`, `unions`, `merging`, `patterns`), a proof by an event that is
looked for and judged by both (`targeted`, `witness`, `samples`, `texts`), or what rules make of the text (`changes`,
`limits`); all three meet in `verdicts`.
From the answers follow the order of deployment (`order`) and the findings (`findings`, `wording`, `places`, `dropped`).

Knows no layer, imports no user code, and prints nothing.
"""

from channelmap.check.compare.baseline import BaselineUnreadable, read_baseline
from channelmap.check.compare.comparison import Comparison, TypeComparison, compare
from channelmap.check.compare.findings import findings
from channelmap.check.compare.lock import LockUnusable, lock_of, read_lock, write_lock
from channelmap.check.compare.order import DeployOrder
from channelmap.check.compare.releases import Release, ReleasedChannel, ReleasedType, release_of
from channelmap.check.compare.verdicts import Judgement

__all__ = [
    "BaselineUnreadable",
    "Comparison",
    "DeployOrder",
    "Judgement",
    "LockUnusable",
    "Release",
    "ReleasedChannel",
    "ReleasedType",
    "TypeComparison",
    "compare",
    "findings",
    "lock_of",
    "read_baseline",
    "read_lock",
    "release_of",
    "write_lock",
]
