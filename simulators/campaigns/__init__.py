"""Campaigns: a simulator answers many requests, with limits, retries and a record of the cost."""
