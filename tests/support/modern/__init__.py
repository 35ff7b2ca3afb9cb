"""What stands in for a current ClickHouse server in tests: chdb's engine behind the two wire protocols.

`python -m tests.support.modern --path DIR --native-port 0 --http-port 0` serves one data directory from a
process of its own; `fixture.ModernServer` starts, kills and restarts that process. The engine, and so every
type, setting, error text and merge, is ClickHouse's own; only the wire is ours.
"""
