"""One `/metrics`, `/readyz` and `/statusz` for several workers.

Each worker makes reports (`reporter`). The supervisor asks for them (`report_poller`)
and keeps the newest (`worker_reports`), whose merged readiness, metrics and snapshot
are what `AdminPages` serves. Only the worker's part needs gRPC.
"""
