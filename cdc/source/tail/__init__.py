"""The log's tail: what the newest commits changed, at the price of those commits alone."""
