"""The gateway's metrics for Prometheus, one registry for each gateway.

Counters and histograms are bound to their labels once, at the start, so that a call
only increments them. State, such as the length of a queue, is read when the metrics are
requested.
"""
