"""What the gateway reports about itself: the log and the audit log."""
