"""See into workers from outside: metrics, health, and the status of a layer.

A worker reports once a second what it measures (`measuring`, `reports`). The monitor of a process, a thread with an
event loop of its own, answers HTTP requests from these reports, so it answers while a handler blocks the worker's loop.
"""
