"""What a person and a monitoring system can see of a replicator: log, metrics, status file, page.

Import its modules, not this package: `log` and `status` serve commands that must start without the rest.
"""
