"""The sources of runs, which return the answer to a query.

Each wraps another source. They cache, coalesce, retry, rate-limit and watch.
"""
