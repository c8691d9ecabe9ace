"""Compare a contract with a running release: which senders and consumers it would break, and why.

A *baseline* is read from a lock, a directory, a file or a git revision (`baseline`, `revision`, `lock`). It becomes a
*release*: plain values, with each schema in *normal form* (`releases`, `normal_form`). Two releases are compared event
type by event type, in both directions (`comparison`): does the new schema accept old events, and the old schema new
ones? Only events that a schema describes are compared, not all that it happens to accept (`views`).

Three methods decide, and `verdicts` combines them:

- a proof that all events are accepted, by the engine's algebra or part by part (`parts`, `unions`, `merging`,
  `patterns`);
- a counterexample: an event that one schema accepts and the other rejects (`targeted`, `counterexamples`, `samples`,
  `texts`);
- rules that compare the text of the schemas (`changes`, `narrowing`).

The results give the order of deployment (`order`) and the findings (`findings`, `wording`, `locations`, `dropped`).
This package knows no layer, imports no user code, and prints nothing.
"""

from channelmap.check.compare.baseline import BaselineUnreadable, read_baseline
from channelmap.check.compare.comparison import Comparison, TypeComparison, compare
from channelmap.check.compare.findings import findings
from channelmap.check.compare.lock import LockUnusable, lock_of, read_lock, write_lock
from channelmap.check.compare.order import DeployOrder
from channelmap.check.compare.releases import Release, ReleasedChannel, ReleasedType, release_of
from channelmap.check.compare.verdicts import Compatibility

__all__ = [
    "BaselineUnreadable",
    "Comparison",
    "Compatibility",
    "DeployOrder",
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
