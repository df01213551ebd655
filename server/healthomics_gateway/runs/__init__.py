"""The sources of runs, which return the answer to a query.

Each wraps another source, and adds caching, coalescing, retries, a rate limit or watches.
"""
