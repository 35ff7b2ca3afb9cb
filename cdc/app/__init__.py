"""What runs a replication, from validated settings: a command, a service or a test may."""
