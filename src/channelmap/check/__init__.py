"""The parts that only `channelmap check` needs; workers and senders import none of them.

- `rules`: the rules about a contract, its schemas and its consumers; a new rule is added there.
- `compare`: compares a contract with a release, and finds what would break.
- `senders`: finds events in Python code that the contract would reject.
- `stored_events`: events and dead letters in a layer that the contract rejects.
- `suppressions`: findings that the user or the contract leaves out or turns into warnings.
- `pages`: an explanation of each code.
- `report`: findings in the formats of terminals and CI services.
"""
