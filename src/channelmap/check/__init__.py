"""What only `channelmap check` needs; a worker or a sender imports nothing of it.

- `rules`: what is wrong with a contract, its schemas and its consumers; for a new rule, begin there.
- `compare`: what a contract would break that is released.
- `senders`: what Python code sends.
- `stored_events`: events and dead letters in a layer that the contract rejects.
- `suppressions`: findings that the user or the contract leaves out or turns into warnings.
- `pages`: an explanation of each code.
- `report`: findings in the formats of terminals and CI services.
"""
