"""One table's reader: snapshots and tail together become batches in watermark order."""
