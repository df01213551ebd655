"""The log, the metrics, the traces, and the records that the status page shows."""
